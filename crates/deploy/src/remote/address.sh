# Tells where Postgres is in the environment's network, which this host reaches.
# Arguments: project.
# Exit status: 44 when it does not run.
set -eu -o pipefail
container=$(docker ps --quiet --filter "label=com.docker.compose.project=$1" \
  --filter label=com.docker.compose.service=dagster-postgres)
[ -n "$container" ] || exit 44
docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$container"
