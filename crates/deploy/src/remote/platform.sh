# Starts or updates Postgres, webserver and daemon. Compose recreates only what changed.
# Arguments: Compose, project, the platform's folder, the release's folder, folder of the switch.
set -eu
umask 077
compose=$1 project=$2 platform=$3 release=$4 workspace=$5
for file in workspace.yaml candidate.yaml; do
  [ -e "$workspace/$file" ] || {
    echo 'load_from: []' >"$workspace/.new"
    chmod 644 "$workspace/.new"
    mv -T "$workspace/.new" "$workspace/$file"
  }
done
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
run up --detach --no-build --remove-orphans 2>&1
cp "$release/manifest.json" "$platform/.manifest"
mv -T "$platform/.manifest" "$platform/manifest.json"
