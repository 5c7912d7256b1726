# Tells the password that the database was made with: the host has it, where whoever deploys does not.
# Arguments: project.
set -eu -o pipefail
container=$(docker ps --quiet --filter "label=com.docker.compose.project=$1" \
  --filter label=com.docker.compose.service=dagster-postgres)
docker exec "$container" sh -c 'printf %s "$POSTGRES_PASSWORD"'
