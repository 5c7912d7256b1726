# Makes the release in this folder the one that serves, from this host alone: for the day when
# `cargo xtask rollback` cannot be had.
set -eu
umask 077

case ${1-} in
  '' | --across-migration) ;;
  *)
    cat <<END
usage: bash rollback.sh [--across-migration]

Makes the release in this folder the one that serves: starts its code server from the files here
if it does not run, points webserver and daemon to it, and waits until they ask it. Takes the lock
of a deploy, and writes a line into audit.jsonl. Needs no registry.
Postgres, webserver and daemon stay as they are, unless the password of the database was another
then: it comes back with them, while no run is in flight. What runs have done and written stays.
Where \`cargo xtask rollback\` can be had, use that: it checks more, and undoes what fails.
END
    exit
    ;;
esac

release=$(cd "$(dirname "$0")" && pwd)
dir=$(dirname "$(dirname "$release")")
workspace=$dir/workspace/workspace.yaml
. "$release/core.env"
. "$dir/platform/platform.env"
location=${CORE_CONTAINER%-"$RELEASE"} && location=${location#docker_}

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# A plain text of a manifest.
told() { sed -n "s/.*\"$2\":\"\([^\"]*\)\".*/\1/p" "$1/manifest.json"; }

# The migrations that a manifest says the warehouse has, a name a line.
migrations() {
  grep -o '"migrations":\[[^]]*\]' "$1/manifest.json" | grep -o '"name":"[^"]*"' | cut -d'"' -f4 | sort
}

exec 8>>"$dir/fence" 9>>"$dir/lock"
flock --nonblock 9 || fail "somebody deploys: $(cat "$dir/lock.json" 2>/dev/null)"
outcome=failed daemon=
entry=$(printf '"verb":"rollback.sh","by":"%s@%s","at":"%s","location":"%s","release":"%s"' \
  "$(id -un)" "$(uname -n)" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$location" "$RELEASE")
printf '{"token":"%s","pid":%s,%s,%s}\n' "$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')" $$ "$(client)" \
  "$entry" >"$dir/lock.json"
ended() {
  rm -f "$dir/lock.json"
  # It was stopped, and what was to be done with it was not.
  [ -z "$daemon" ] || docker start "$daemon" >/dev/null 2>&1 || true
  append "$dir" "{$(client),$entry,\"outcome\":\"$outcome\",\"seconds\":$SECONDS}"
}
trap ended EXIT
trap 'exit 1' TERM HUP INT
# A script that a deployer left behind has seen by now that the lock is not its own, or ends.
flock --timeout 60 8 || fail 'a script of the deploy before does not end'
flock --unlock 8

[ "$(told "$release" outcome)" = deployed ] || fail "$RELEASE was never verified as what is served"
before=$(sed -n "s/^ *host: *docker_$location-//p" "$workspace")
[ -n "$before" ] || fail "$workspace names no release of $location"
then=$(told "$release" schema)
now=$(told "$dir/releases/$before" schema || true)
[ "${1-}" = --across-migration ] || [ -z "$then" ] || [ -z "$now" ] || [ "$then" = "$now" ] ||
  fail "Dagster's tables were migrated since, from $then to $now: go back with --across-migration"
if [ "${1-}" != --across-migration ] && grep -q '"migrations":' "$release/manifest.json"; then
  gained=$(comm -13 <(migrations "$release") <(migrations "$dir/releases/$before"))
  [ -z "$gained" ] ||
    fail "the warehouse was migrated since:" $gained "stays; go back with --across-migration"
fi

compose='docker compose'
docker compose version >/dev/null 2>&1 || compose=docker-compose
running=$(docker inspect --format '{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}' "$CORE_CONTAINER" 2>/dev/null || true)
case $running in
  'true no') fail "$CORE_CONTAINER was told to stop and finishes its runs: try again when it has stopped" ;;
  true*) ;;
  *)
    echo "starting $CORE_CONTAINER"
    docker rm "$CORE_CONTAINER" >/dev/null 2>&1 || true
    $compose --project-name "dagster-$ENVIRONMENT-core-$RELEASE" --env-file "$release/core.env" \
      --file "$release/core.yaml" --file "$release/core.env.json" up --detach --no-build
    ;;
esac
address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$CORE_CONTAINER")
until (exec 3<>"/dev/tcp/$address/4000") 2>/dev/null; do
  [ "$SECONDS" -lt 180 ] || fail "it does not start: docker logs $CORE_CONTAINER"
  sleep 0.2
done

echo "switching from $before to $RELEASE"
switched=$(sed "s/^\( *host: *\)docker_$location-.*/\1$CORE_CONTAINER/" "$workspace")
if [ "$(password "$release/platform.env.json")" = "$(password "$dir/platform/platform.env.json")" ]; then
  printf '%s\n' "$switched" >"$workspace.new"
  chmod 644 "$workspace.new"
  mv -T "$workspace.new" "$workspace"
else
  echo "the password of the database was another then: Postgres, webserver and daemon go back too"
  daemon=$(docker ps --quiet --filter "label=com.docker.compose.project=dagster-$ENVIRONMENT" \
    --filter label=com.docker.compose.service=dagster-daemon)
  [ -z "$daemon" ] || docker stop --time 90 "$daemon" >/dev/null
  query='{ runsOrError(filter: {statuses: [STARTING, STARTED, CANCELING]}) { ... on Runs { results { runId } } } }'
  in_flight=$(graphql "$UI_PORT" "$query" 2>/dev/null | grep -o '"runId"' | wc -l || true)
  [ "$in_flight" = 0 ] ||
    fail "$in_flight runs are in flight and would lose the database: wait for them, or cancel them"
  (platform "$compose" "dagster-$ENVIRONMENT" "$dir/platform" "$release" "$dir/workspace" <<<"$switched")
  daemon=
  . "$dir/platform/platform.env"
fi
query='{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {'
query="$query ... on RepositoryLocation { repositories { displayMetadata { value } } } } } } } }"
until reload "$UI_PORT" 2>/dev/null &&
  served=$(graphql "$UI_PORT" "$query") &&
  grep -qF "\"$CORE_CONTAINER\"" <<<"$served" && grep -qF "\"$CORE_IMAGE\"" <<<"$served"; do
  [ "$SECONDS" -lt 360 ] || fail "it is not served; go back with: bash $dir/releases/$before/rollback.sh"
  sleep 0.2
done
outcome=done
echo "$RELEASE serves"
