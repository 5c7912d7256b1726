# Holds the environment's lock for as long as our standard input gives signs of life: when its
# writer dies, is cut off or falls silent, what it was doing is ended and the lock is free.
#
# Answers `taken JSON` while somebody else holds it, and again when that changes; then `refused`,
# or `held TOKEN`, what the look under the lock says, and `end`.
# Input, a line each: nothing (a sign of life); `at JSON` (what others are told); `stop` (ends the
# script that runs, but not one that undoes); `audit JSON` (what came of it, for the audit log).
#
# Arguments: directory, seconds of silence that end it, seconds to wait for the lock, what others
# are told (an audit entry that has no outcome yet, in one line), and the look, a command.
set -u
umask 077
case $1 in /*) dir=$1 ;; *) dir=$HOME/$1 ;; esac
silence=$2 wait=$3 told=$4 token='' audited=''
shift 4
command -v flock >/dev/null || {
  echo 'lack flock'
  exit 0
}
mkdir -p "$dir/workspace" "$dir/releases" "$dir/platform" || exit
# Webserver and daemon read the switch as another user; nothing in it is secret.
chmod 755 "$dir/workspace"
exec 8>>"$dir/fence" 9>>"$dir/lock" || exit

tell() {
  with "\"token\":\"$token\",\"pid\":$$,$(client)" "$told" >"$dir/lock.new"
  mv -T "$dir/lock.new" "$dir/lock.json"
}

# Sends a signal to the scripts that have one of these marks among their arguments, and to what
# they started. (`grep` does not find itself: it has the mark in an argument with more in it.)
signal() {
  local name=$1 file pid
  shift
  grep -lszxF "${@/#/-e}" /proc/[0-9]*/cmdline | while read -r file; do
    pid=${file#/proc/} && pid=${pid%/cmdline}
    # sshd makes each a group of its own.
    kill -s "$name" -- "-$pid" 2>/dev/null || kill -s "$name" "$pid" 2>/dev/null
  done
}

# Ends what a holder's scripts are doing; they hold the fence until they are gone.
end_scripts() {
  local name
  for name in TERM KILL; do
    flock --nonblock 8 && break
    signal "$name" "$1:do" "$1:undo"
    flock --timeout 10 8 && break
  done
  flock --nonblock 8 && flock --unlock 8
}

let_go() {
  trap '' TERM HUP
  [ -n "$token" ] || exit 0
  # From here on the fence lets no script of ours begin.
  rm -f "$dir/lock.json"
  end_scripts "$token"
  [ -n "$audited" ] ||
    append "$dir" "$(with "\"outcome\":\"cut_off\",\"seconds\":$SECONDS,$(client)" "$told")"
}
trap let_go EXIT
trap 'exit 1' TERM HUP

deadline=$((SECONDS + wait)) seen=- looks=0 pause=0.1 refused=''
until flock --nonblock 9; do
  holder=$(cat "$dir/lock.json" 2>/dev/null)
  # Who has only just taken it has not told yet who it is.
  if [ "$holder" != "$seen" ] && { [ -n "$holder" ] || [ "$looks" -ge 20 ]; }; then
    seen=$holder pause=0.5
    echo "taken $holder"
  fi
  if [ "$seen" != - ] && [ "$SECONDS" -ge "$deadline" ]; then
    refused=yes
    break
  fi
  looks=$((looks + 1))
  read -r -t "$pause" _
  # The end of the input, and not of the time: nobody waits any more.
  [ $? -ne 1 ] || exit 0
done

if [ -n "$refused" ]; then
  echo refused
else
  # One that was killed tells nobody, and may have left a script behind.
  left=$(cat "$dir/lock.json" 2>/dev/null)
  before=${left#'{"token":"'} && before=${before%%\"*}
  [ -z "$left" ] || append "$dir" "{\"outcome\":\"cut_off\",\"from\"${left#*\"from\"}"
  token=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
  tell
  end_scripts "$before" || {
    echo 'a script of the deploy before does not end' >&2
    exit 1
  }
  echo "held $token"
  "$@" 8>&- 9>&- </dev/null
  echo end
fi

while IFS= read -r -t "$silence" line; do
  case $line in
    'at '*)
      told=${line#at }
      [ -z "$token" ] || tell
      ;;
    'audit '*)
      append "$dir" "$(with "$(client)" "${line#audit }")"
      audited=yes
      ;;
    stop) [ -z "$token" ] || signal TERM "$token:do" ;;
  esac
done
