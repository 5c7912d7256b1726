# Removes an environment from the host: containers and network; with `data`, volumes and folder.
# Arguments: environment, its directory, `data` or `keep`.
set -u
for project in "dagster-$1" $(docker ps --all --format '{{.Label "com.docker.compose.project"}}' |
  grep -E "^dagster-$1-core-[0-9a-z-]+$" | sort -u); do
  docker ps --all --quiet --filter "label=com.docker.compose.project=$project" |
    xargs --no-run-if-empty docker rm --force >/dev/null
done
docker network ls --quiet --filter "label=com.docker.compose.project=dagster-$1" |
  xargs --no-run-if-empty docker network rm >/dev/null
if [ "$3" = data ]; then
  docker volume ls --quiet --filter "label=com.docker.compose.project=dagster-$1" |
    xargs --no-run-if-empty docker volume rm >/dev/null
  rm -rf -- "$2"
else
  # Nothing serves: the switch names nobody.
  rm -f -- "$2/workspace/workspace.yaml"
fi
