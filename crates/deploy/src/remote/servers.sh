# Tells of code servers since when they run: `container seconds` one a line, those that run only.
# An engine that does not answer is an error, and not a host without containers.
# Arguments: containers.
set -eu
all=$(docker ps --all --format '{{.Names}}')
for container in "$@"; do
  grep -qxF "$container" <<<"$all" || continue
  state=$(docker inspect --format '{{.State.Running}} {{.State.StartedAt}}' "$container")
  case $state in
    true\ *) echo "$container $(date --date "${state#true }" +%s.%N)" ;;
  esac
done
