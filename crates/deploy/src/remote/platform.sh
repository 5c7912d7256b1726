# Starts or updates Postgres, webserver and daemon. Compose recreates only what changed.
# Arguments: Compose, project, the platform's folder, the release's folder, folder of the switch.
# Input: what the switch names from then on, if that changes with the password.
platform() {
  set -eu
  umask 077
  compose=$1 project=$2 platform=$3 release=$4 workspace=$5
  switch=$(cat)
  put() {
    chmod 644 "$workspace/.new"
    mv -T "$workspace/.new" "$workspace/$1"
  }
  for file in workspace.yaml candidate.yaml; do
    [ -e "$workspace/$file" ] || {
      echo 'load_from: []' >"$workspace/.new"
      put "$file"
    }
  done
  known=
  [ ! -s "$platform/manifest.json" ] || known=$(password "$platform/platform.env.json")
  # What stands is unknown until all is done.
  rm -f "$platform/manifest.json"
  # dagster.yaml is mounted as a file: written in place, so that the mount follows it.
  for file in platform.yaml dagster.yaml platform.env.json platform.env; do
    cat "$release/$file" >"$platform/$file"
  done
  chmod 644 "$platform/dagster.yaml"
  run() {
    $compose --project-name "$project" --env-file "$platform/platform.env" \
      --file "$platform/platform.yaml" --file "$platform/platform.env.json" "$@"
  }
  if [ "$known" != "$(password "$platform/platform.env.json")" ] &&
    docker volume inspect "$project-postgres" >/dev/null 2>&1; then
    run up --detach --no-build dagster-postgres 2>&1
    await_postgres
    # Both or neither: not even who lost the lock is stopped in between.
    trap '' TERM HUP
    login
    if [ -n "$switch" ]; then
      printf '%s\n' "$switch" >"$workspace/.new"
      put workspace.yaml
    fi
    trap - TERM HUP
  fi
  run up --detach --no-build --remove-orphans 2>&1
  cp "$release/manifest.json" "$platform/.manifest"
  mv -T "$platform/.manifest" "$platform/manifest.json"
}

# Waits until Postgres lets its own user in, who needs no password at the local socket.
await_postgres() {
  container=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" \
    --filter label=com.docker.compose.service=dagster-postgres)
  limit=$((SECONDS + 120))
  until said=$(docker exec "$container" sh -c 'psql --username "$POSTGRES_USER" --dbname template1 \
    --no-psqlrc --command "SELECT"' 2>&1); do
    [ "$SECONDS" -lt "$limit" ] || {
      printf '%s\n' "$said" >&2
      return 1
    }
    sleep 0.2
  done
}

# Tells Postgres the password that its container was started with: it keeps the one that its data
# were made with. psql reads it from its input, and sends what it can be checked by, not itself.
login() {
  docker exec "$container" sh -c 'printf "%s\n" "$POSTGRES_PASSWORD" "$POSTGRES_PASSWORD" |
    psql --username "$POSTGRES_USER" --dbname template1 --no-psqlrc --quiet --command "\\password"'
}

