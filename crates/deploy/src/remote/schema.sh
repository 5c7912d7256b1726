# Tells the revision of Dagster's tables.
# Arguments: the platform's project.
set -eu
postgres=$(docker ps --quiet --filter "label=com.docker.compose.project=$1" \
  --filter label=com.docker.compose.service=dagster-postgres)
docker exec "$postgres" sh -c 'psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --no-align --tuples-only --command "select version_num from alembic_version"'
