# Renames databases, all of them or none. Whoever is connected still is cut off first.
# Arguments: project, then old and new name in pairs.
shift
quoted() { printf '"%s"' "$(printf %s "$1" | sed 's/"/""/g')"; }
statements='BEGIN;'
for name in "$@"; do
  statements="$statements
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$(printf %s "$name" | sed "s/'/''/g")';"
done
while [ $# -gt 0 ]; do
  statements="$statements
ALTER DATABASE $(quoted "$1") RENAME TO $(quoted "$2");"
  shift 2
done
printf '%s\nCOMMIT;\n' "$statements" | sql template1 >/dev/null
