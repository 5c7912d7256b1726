# Stops services of the platform and waits until they are gone. Should the one who holds the lock
# die before they are started again, they are: the lock is then free. A container that Compose has
# replaced meanwhile is gone, and stays so.
# Arguments: project, the lock's file, services.
set -eu
project=$1 lock=$2
shift 2
for service in "$@"; do
  containers=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$service")
  [ -n "$containers" ] || continue
  # It does not hold the fence (descriptor 8), and outlives whoever holds the lock.
  setsid sh -c 'flock "$0" true; docker start "$@"' "$lock" $containers </dev/null >/dev/null 2>&1 8>&- &
  docker stop --time 90 $containers
done
