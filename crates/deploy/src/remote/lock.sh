# Holds the environment's lock for as long as somebody holds our standard input: when the
# connection dies, so does the lock.
# Arguments: directory, who and what (one line of JSON).
set -eu
umask 077
mkdir -p "$1/workspace" "$1/releases" "$1/platform"
# Webserver and daemon read the switch as another user; nothing in it is secret.
chmod 755 "$1/workspace"
exec 9>>"$1/lock"
if ! flock --nonblock 9; then
  echo "taken $(cat "$1/lock.json" 2>/dev/null)"
  exit 0
fi
printf '%s\n' "$2" >"$1/lock.json"
echo held
cat >/dev/null || true
rm -f "$1/lock.json"
