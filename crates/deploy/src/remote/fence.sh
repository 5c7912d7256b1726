# The beginning of every script that changes something: it goes on only while whoever started it
# holds the lock. It holds the fence to its end; who takes the lock writes down its own token first
# and then waits for the fence, so no script of a holder before runs beside one of the next.
# Arguments: directory, mark (the lock's token, `:`, `do` or `undo`); the script's own follow.
# Exit status: 97 when the lock is lost, with `lost`, who holds it and who broke it, a line each.
umask 077
exec 8>>"$1/fence" || exit 97
flock --shared 8
holder=$(cat "$1/lock.json" 2>/dev/null)
case $holder in
  "{\"token\":\"${2%:*}\","*) pid=${holder#*\"pid\":} && pid=${pid%%,*} ;;
  *) pid= ;;
esac
if [ -z "$pid" ] || ! kill -0 "$pid" 2>/dev/null; then
  echo lost
  printf '%s\n' "$holder"
  grep -sF "\"broke\":\"${2%:*}\"" "$1/audit.jsonl" | tail -n 1
  exit 97
fi
shift 2
