# Tells the version of Postgres, and which databases exist with their size in bytes.
# Arguments: project, databases.
shift
printf 'postgres\t%s\n' "$(echo 'SHOW server_version_num' | sql template1)"
for database in "$@"; do
  if exists "$database"; then printf 'database\t%s\t%s\n' "$database" "$(size "$database")"; fi
done
