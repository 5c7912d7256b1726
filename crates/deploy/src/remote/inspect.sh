# Asks the new images whether they can take over: one fact a line, a word and its value. Changes
# nothing.
# Arguments: project, platform image, Postgres image, folder of dagster.yaml and the platform's
# environment, the text of `instance.py`.
# Exit status: 43 Dagster cannot read dagster.yaml.
set -eu
project=$1 platform=$2 postgres=$3 files=$4 instance=$5

data=
if docker volume inspect "$project-postgres" >/dev/null 2>&1; then
  data="--volume=$project-postgres:/data:ro"
fi
docker run --rm --network none --user 0 $data --entrypoint sh "$postgres" -c '
  echo "postgres $(postgres --version)"
  version=$(cat /data/PG_VERSION 2>/dev/null) && echo "postgres_data $version" || true' </dev/null

running=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" \
  --filter label=com.docker.compose.service=dagster-postgres --filter health=healthy)
what=inspect network=$project
[ -n "$running" ] || what=alone network=none
{
  cat "$files/platform.env.json"
  echo
  cat "$files/dagster.yaml"
} | docker run --rm --interactive --network "$network" --entrypoint python "$platform" \
  -W ignore -c "$instance" "$what"
