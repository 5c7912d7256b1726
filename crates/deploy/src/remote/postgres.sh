# What the scripts below share: Postgres is asked inside its container, by its local socket, where
# its own user needs no password.
# Arguments of each: project, …
set -eu -o pipefail
umask 077
container=$(docker ps --quiet --filter "label=com.docker.compose.project=$1" \
  --filter label=com.docker.compose.service=dagster-postgres)
[ -n "$container" ] || {
  echo "Postgres of $1 is not running" >&2
  exit 1
}
# The connections for work on databases as a whole stand on template1: it is always there.
inside() { docker exec --interactive "$container" sh -c "$@"; }
sql() { # database; statements come by standard input
  inside 'exec psql --username "$POSTGRES_USER" --dbname "$0" --no-psqlrc --quiet --no-align \
    --tuples-only --set ON_ERROR_STOP=1 --field-separator "	"' "$1"
}
exists() { echo 'SELECT datname FROM pg_database' | sql template1 | grep -Fx -- "$1" >/dev/null; }
size() { echo 'SELECT pg_database_size(current_database())' | sql "$1"; } # in bytes
drop() {
  inside 'exec dropdb --username "$POSTGRES_USER" --maintenance-db template1 --if-exists --force -- "$0"' \
    "$1" </dev/null
}
load() { # database, made anew; the dump comes by standard input
  drop "$1"
  inside 'exec createdb --username "$POSTGRES_USER" --maintenance-db template1 --template template0 -- "$0"' \
    "$1" </dev/null
  inside 'exec pg_restore --username "$POSTGRES_USER" --dbname "$0" --no-owner --no-privileges --exit-on-error' "$1"
}
# One line a table: its name, rows, and a sum over the rows' hashes. What an extension brings is
# in no dump.
tables=$(
  cat <<'SQL'
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'iso_8601';
SET bytea_output = 'hex';
SET extra_float_digits = 3;
SELECT format('SELECT %L, count(*), coalesce(sum((''x'' || left(encode(sha256(convert_to(row(t.*)::text, ''UTF8'')), ''hex''), 15))::bit(60)::bigint), 0) FROM ONLY %I.%I t',
    n.nspname || '.' || c.relname, n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relpersistence <> 't'
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
  ORDER BY n.nspname, c.relname \gexec
SQL
)
copied() { # database, the name to tell it by
  printf '%s\n' "$tables" | sql "$1" | sed "s/^/copy	$2	/"
}
