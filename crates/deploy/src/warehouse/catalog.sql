-- What a database is made of, a thing a row: its kind, its name or its table's, its name within the
-- table, its definition. What Postgres or an extension brings is left out, and so is the list of
-- applied migrations. With an empty search path all names are told whole.
WITH
  space AS (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
  ),
  brought AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
  relation AS (
    SELECT c.oid, c.relkind, c.relpersistence, c.relispartition, c.relpartbound,
      format('%I.%I', s.nspname, c.relname) AS name
    FROM pg_class c JOIN space s ON s.oid = c.relnamespace
    WHERE c.relpersistence <> 't'
      AND (s.nspname, c.relname) <> ('public', '_sqlx_migrations')
      AND NOT EXISTS (SELECT FROM brought WHERE classid = 'pg_class'::regclass AND objid = c.oid)
  )
SELECT 'extension', extname::text, '', '' FROM pg_extension
UNION ALL
SELECT 'schema', nspname::text, '', '' FROM space
UNION ALL
SELECT 'type', format('%I.%I', s.nspname, t.typname), '',
  CASE t.typtype
    WHEN 'e' THEN (
      SELECT format('enum (%s)', string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder))
      FROM pg_enum WHERE enumtypid = t.oid)
    ELSE concat_ws(' ', format_type(t.typbasetype, t.typtypmod),
      CASE WHEN t.typnotnull THEN 'not null' END, 'default ' || t.typdefault,
      (SELECT string_agg(pg_get_constraintdef(oid), ' ' ORDER BY conname)
       FROM pg_constraint WHERE contypid = t.oid AND contype <> 'n'))
  END
FROM pg_type t JOIN space s ON s.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd')
  AND NOT EXISTS (SELECT FROM brought WHERE classid = 'pg_type'::regclass AND objid = t.oid)
UNION ALL
SELECT 'sequence', r.name, '',
  concat_ws(' ', format_type(q.seqtypid, NULL), 'start', q.seqstart, 'by', q.seqincrement,
    'from', q.seqmin, 'to', q.seqmax, CASE WHEN q.seqcycle THEN 'cycle' END)
FROM relation r JOIN pg_sequence q ON q.seqrelid = r.oid
-- One of an identity column is part of the column.
WHERE NOT EXISTS (
  SELECT FROM pg_depend
  WHERE classid = 'pg_class'::regclass AND objid = r.oid AND deptype = 'i')
UNION ALL
SELECT 'table', name, '',
  concat_ws(' ', CASE WHEN relpersistence = 'u' THEN 'unlogged' END,
    CASE WHEN relkind = 'f' THEN 'foreign' END,
    CASE WHEN relkind = 'p' THEN 'partitioned by ' || pg_get_partkeydef(oid) END,
    CASE WHEN relispartition THEN pg_get_expr(relpartbound, oid) END)
FROM relation WHERE relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'view', name, '',
  concat_ws(' ', CASE WHEN relkind = 'm' THEN 'materialized' END,
    regexp_replace(btrim(pg_get_viewdef(oid)), '\s+', ' ', 'g'))
FROM relation WHERE relkind IN ('v', 'm')
UNION ALL
SELECT 'column', r.name, quote_ident(a.attname),
  concat_ws(' ', format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attcollation <> t.typcollation THEN 'collate ' || a.attcollation::regcollation END,
    CASE WHEN a.attnotnull THEN 'not null' END,
    CASE a.attidentity WHEN 'a' THEN 'identity always' WHEN 'd' THEN 'identity by default' END,
    CASE WHEN a.attgenerated <> '' THEN 'generated' ELSE 'default' END
      || ' ' || pg_get_expr(d.adbin, d.adrelid))
FROM relation r
  JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
WHERE r.relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'constraint', r.name, quote_ident(c.conname), pg_get_constraintdef(c.oid)
FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
-- From Postgres 18 on, NOT NULL is one too: the column tells it.
WHERE c.contype NOT IN ('n', 't')
UNION ALL
SELECT 'index', r.name, quote_ident(x.relname),
  concat_ws(' ', pg_get_indexdef(i.indexrelid), CASE WHEN NOT i.indisvalid THEN '(not valid)' END)
FROM relation r
  JOIN pg_index i ON i.indrelid = r.oid
  JOIN pg_class x ON x.oid = i.indexrelid
-- One that a constraint made is told by it.
WHERE NOT EXISTS (
  SELECT FROM pg_constraint WHERE conindid = i.indexrelid AND contype IN ('p', 'u', 'x'))
UNION ALL
SELECT 'trigger', r.name, quote_ident(g.tgname),
  concat_ws(' ', pg_get_triggerdef(g.oid), CASE WHEN g.tgenabled = 'D' THEN '(disabled)' END)
FROM relation r JOIN pg_trigger g ON g.tgrelid = r.oid
WHERE NOT g.tgisinternal
UNION ALL
SELECT 'function', format('%I.%I(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
  '', concat_ws(' ', 'returns', pg_get_function_result(p.oid), 'text', md5(pg_get_functiondef(p.oid)))
FROM pg_proc p JOIN space s ON s.oid = p.pronamespace
WHERE p.prokind IN ('f', 'p')
  AND NOT EXISTS (SELECT FROM brought WHERE classid = 'pg_proc'::regclass AND objid = p.oid)
