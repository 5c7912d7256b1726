# Removes an environment from the host: containers and network; with `data`, volumes and files.
# Arguments: environment, its directory, `data` or `keep`.
set -eu
projects=$(docker ps --all --format '{{.Label "com.docker.compose.project"}}' |
  { grep -E "^dagster-$1(-core-[0-9a-z-]+)?$" || true; } | sort -u)
for project in $projects; do
  docker ps --all --quiet --filter "label=com.docker.compose.project=$project" |
    xargs --no-run-if-empty docker rm --force >/dev/null
done
docker network ls --quiet --filter "label=com.docker.compose.project=dagster-$1" |
  xargs --no-run-if-empty docker network rm >/dev/null
# Nothing serves: the switch names nobody.
rm -f -- "$2/workspace/workspace.yaml" "$2/workspace/candidate.yaml"
[ "$3" = data ] || exit 0
docker volume ls --quiet --filter "label=com.docker.compose.project=dagster-$1" |
  xargs --no-run-if-empty docker volume rm >/dev/null
# What a deploy made there, by name: the folder may be somebody's home. The audit log stays, since
# it tells of this too, and so does the lock, which is held.
rm -rf -- "$2/workspace" "$2/releases" "$2/platform"
