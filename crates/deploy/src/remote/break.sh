# Ends the process that holds the lock with this token; it ends what it was doing.
# Arguments: directory, as it is in the settings, and the token. Input: the entry for the audit log.
# Exit status: 98 if somebody else holds it by now, or nobody.
set -u
case $1 in /*) dir=$1 ;; *) dir=$HOME/$1 ;; esac
holder=$(cat "$dir/lock.json" 2>/dev/null)
case $holder in "{\"token\":\"$2\","*) ;; *) exit 98 ;; esac
pid=${holder#*\"pid\":} && pid=${pid%%,*}
# Written first: whoever loses the lock by it looks here for the reason.
IFS= read -r entry && append "$dir" "$(with "$(client)" "$entry")" || exit
kill -s TERM "$pid" 2>/dev/null
deadline=$((SECONDS + 60))
# A process that has ended has no arguments, even if nobody has noticed its end yet.
while read -r -d '' _ 2>/dev/null <"/proc/$pid/cmdline"; do
  [ "$SECONDS" -lt "$deadline" ] || kill -s KILL "$pid" 2>/dev/null
  sleep 0.05
done
exit 0
