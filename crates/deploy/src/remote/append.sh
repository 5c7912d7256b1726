# Appends an entry to the audit log, one writer at a time, so that lines stay whole; the newest
# 10,000 are kept.
# Arguments: directory, the entry (a JSON object in one line).
append() (
  umask 077
  log=$1/audit.jsonl
  exec 7>>"$1/audit.lock" || exit
  flock 7
  # The host may have lost power half way through a line.
  [ ! -s "$log" ] || [ -z "$(tail -c 1 "$log")" ] || echo >>"$log"
  printf '%s\n' "$2" >>"$log"
  if [ "$(wc -l <"$log")" -gt 11000 ]; then
    tail -n 10000 "$log" >"$log.new" && sync "$log.new" && mv -T "$log.new" "$log"
  fi
)

# A JSON object with more members, which come first.
with() { printf '{%s,%s' "$1" "${2#\{}"; }

# Where our connection comes from, as a member of a JSON object.
client() { set -- ${SSH_CONNECTION:-local} && printf '"from":"%s"' "$1"; }
