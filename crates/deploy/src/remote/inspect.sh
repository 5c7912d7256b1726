# Asks the new images whether they can take over: one fact a line, a word and its value. Changes
# nothing.
# Arguments: project, platform image, Postgres image, folder of dagster.yaml and the platform's
# environment, the text of `instance.py`, `told` if Postgres need not know the password there: then it
# is asked without.
# Exit status: 43 Dagster cannot read dagster.yaml.
set -eu
project=$1 platform=$2 postgres=$3 files=$4 instance=$5 how=$6

data=
if docker volume inspect "$project-postgres" >/dev/null 2>&1; then
  data="--volume=$project-postgres:/data:ro"
fi
docker run --rm --network none --user 0 $data --entrypoint sh "$postgres" -c '
  echo "postgres $(postgres --version)"
  version=$(cat /data/PG_VERSION 2>/dev/null) && echo "postgres_data $version" || true' </dev/null

running=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" \
  --filter label=com.docker.compose.service=dagster-postgres --filter health=healthy)
what=inspect network=$project schema=
if [ -z "$running" ]; then
  what=told network=none
elif [ "$how" = told ]; then
  what=told network=none
  schema=$(docker exec --interactive "$running" sh -c 'exec psql --username "$POSTGRES_USER" \
    --dbname "$POSTGRES_DB" --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1' <<'SQL'
SELECT to_regclass('alembic_version') IS NOT NULL AS there \gset
\if :there
SELECT version_num FROM alembic_version;
\endif
SQL
  )
fi
{
  cat "$files/platform.env.json"
  echo
  cat "$files/dagster.yaml"
} | docker run --rm --interactive --network "$network" --entrypoint python "$platform" \
  -W ignore -c "$instance" "$what" "$schema"
