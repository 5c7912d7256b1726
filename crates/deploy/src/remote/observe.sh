# Tells what is on the host: one fact a line, a word and its value. Changes nothing.
# Arguments: environment, directory, port of the UI, Compose as it was found before (it takes its
# time to tell).
set -u
case $2 in /*) dir=$2 ;; *) dir=$HOME/$2 ;; esac
echo "dir $dir"
echo "now $(date +%s)"

for tool in docker flock tar sync; do
  command -v "$tool" >/dev/null || echo "lack $tool"
done

# The engine is asked all of this at once: each answer takes its time.
containers() {
  local all
  all=$(docker ps --all --no-trunc --filter label=com.docker.compose.project \
    --format '{{.Label "com.docker.compose.project"}}	{{.Names}}	{{.Label "com.docker.compose.service"}}	{{.ID}}	{{.State}}	{{.Status}}	{{.Ports}}' 2>/dev/null |
    grep -E "^dagster-$1(-core-[0-9a-z-]+)?	")
  cut -f2-6 <<<"$all" | sed -n 's/^./container &/p'
  # Somebody else's program on the UI's port would make the webserver fail to start.
  if ! grep -q ":$2->" <<<"$all" && (exec 5<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then
    echo "ui_port_taken $2"
  fi
  # One that was told to finish its runs and stop is not to be started again by the engine.
  awk -F '\t' '$1 ~ /-core-/ && $5 == "running" { print $4 }' <<<"$all" |
    xargs --no-run-if-empty docker inspect \
      --format '{{if eq .HostConfig.RestartPolicy.Name "no"}}{{.Name}}{{end}}' | sed -n 's,^/,retired ,p'
}
exec 3< <(containers "$1" "$3")
exec 4< <([ -n "$4" ] || docker compose version --short 2>/dev/null)
if ! root=$(docker info --format '{{.DockerRootDir}}' 2>&1); then
  case $root in *'permission denied'*) echo 'lack permission' ;; *) echo 'lack engine' ;; esac
  exit 0
fi
echo "architecture $(uname -m)"
if [ -n "$4" ]; then
  echo "compose $4"
elif version=$(cat <&4) && [[ $version =~ ^v?[0-9] ]]; then
  echo "compose docker compose ${version#v}"
elif head -c 99 "$(command -v docker-compose)" 2>/dev/null | grep -q python; then
  # It takes a second to say more.
  echo 'compose docker-compose 1'
elif version=$(docker-compose version --short 2>/dev/null); then
  echo "compose docker-compose ${version#v}"
else
  echo 'lack compose'
fi
echo "disk_free_kib $(df -Pk "$root" 2>/dev/null | awk 'NR == 2 { print $4 }')"

sed -n 's/^ *host: *//p' "$dir/workspace/workspace.yaml" 2>/dev/null | while read -r live; do
  echo "live $live"
  made_of=$(cat "$dir/releases/${live#*-}/made-of.json" 2>/dev/null)
  [ -z "$made_of" ] || echo "made_of ${live#*-} $made_of"
done
if [ -s "$dir/platform/manifest.json" ]; then
  platform_of=$(cat "$dir/platform/manifest.json")
  echo "platform_of $platform_of"
  if [[ $platform_of =~ ^.\"id\":\"([0-9a-z-]+)\" ]]; then
    made_of=$(cat "$dir/releases/${BASH_REMATCH[1]}/made-of.json" 2>/dev/null)
    [ -z "$made_of" ] || echo "platform_made_of $made_of"
  fi
fi
stands=$(password "$dir/platform/platform.env.json")
for release in "$dir"/releases/*/; do
  [ -d "$release" ] || continue
  release=${release%/}
  echo "manifest ${release##*/} $(cat "$release/manifest.json" 2>/dev/null)"
  [ "$(password "$release/platform.env.json")" = "$stands" ] || echo "other_password ${release##*/}"
done

cat <&3
exit 0
