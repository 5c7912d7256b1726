# Migrates the schema of Dagster's database, by the new image.
# Arguments: project, platform image, folder of dagster.yaml and the platform's environment, the
# text of `instance.py`.
set -eu
name=$1-migrate
# One that a cut-off deploy left behind runs to its end first.
docker wait "$name" >/dev/null 2>&1 || true
docker rm --force "$name" >/dev/null 2>&1 || true
{
  cat "$3/platform.env.json"
  echo
  cat "$3/dagster.yaml"
} | docker run --rm --interactive --name "$name" --network "$1" --entrypoint python "$2" \
  -W ignore -c "$4" migrate 2>&1
