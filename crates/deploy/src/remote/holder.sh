# Tells who holds the lock, if anybody does.
# Arguments: directory, as it is in the settings.
case $1 in /*) dir=$1 ;; *) dir=$HOME/$1 ;; esac
holder=$(cat "$dir/lock.json" 2>/dev/null)
pid=${holder#*\"pid\":} && pid=${pid%%,*}
[ -z "$pid" ] || ! kill -0 "$pid" 2>/dev/null || printf '%s\n' "$holder"
exit 0
