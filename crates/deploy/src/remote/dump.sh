# Dumps databases into a folder: each from one snapshot, in which its tables are counted too. One
# that does not exist is left out. With `check`, each dump is restored into a database beside, and
# counted there.
# Arguments: project, working folder, `check` or `trust`, databases.
work=$2 check=$3
shift 3
rm -rf -- "$work"
mkdir -p "$work"
trap 'code=$?; [ "$code" = 0 ] || rm -rf -- "$work"; exit "$code"' EXIT
printf 'postgres\t%s\n' "$(echo 'SHOW server_version_num' | sql template1)"
for database in "$@"; do
  exists "$database" || continue
  # The dump and, for the check, a second copy.
  free=$(df --output=avail --block-size 1 "$work" | tail --lines 1)
  if [ "$free" -lt "$(($(size "$database") * 2))" ]; then
    echo "no space left on device: a dump of $database needs twice its size" >&2
    exit 1
  fi
  dump=$work/$database.dump
  # psql holds the snapshot while pg_dump, its child, reads it. The dump goes to standard output,
  # what psql says to standard error.
  {
    cat <<'SQL'
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS snapshot \gset
\setenv SNAPSHOT :snapshot
\setenv DATABASE :DBNAME
\! pg_dump --username "$POSTGRES_USER" --dbname "$DATABASE" --format custom --snapshot "$SNAPSHOT" >&3 && echo dumped
SQL
    printf '%s\n' "$tables"
  } | inside 'exec psql --username "$POSTGRES_USER" --dbname "$0" --no-psqlrc --quiet --no-align \
    --tuples-only --set ON_ERROR_STOP=1 --field-separator "	" 3>&1 >&2' "$database" >"$dump" 2>"$work/said" &&
    grep -qx dumped "$work/said" || {
    cat "$work/said" >&2
    exit 1
  }
  sync "$dump"
  printf 'dump\t%s\t%s\t%s\n' "$database" "$(stat --format %s "$dump")" "$(sha256sum <"$dump" | cut -d' ' -f1)"
  awk -F '\t' -v database="$database" 'NF == 3 { print "table\t" database "\t" $0 }' "$work/said"
  rm "$work/said"
  if [ "$check" = check ]; then
    load "${database}_scratch" <"$dump" >&2
    copied "${database}_scratch" "$database"
    drop "${database}_scratch"
  fi
done
