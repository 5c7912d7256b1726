# Starts a release's code server and waits until it listens: it does so only when the team's code
# is imported. Prints what it said when it does not get there.
# Arguments: Compose, project, the release's folder, container, port, seconds to wait.
# Exit status: 0 listening, 41 it died, 42 it took too long, others: Compose failed.
set -eu
compose=$1 project=$2 release=$3 container=$4 port=$5 limit=$6
# One that was retired and has stopped would stay down after a restart of the host.
docker rm "$container" >/dev/null 2>&1 || true
$compose --project-name "$project" --env-file "$release/core.env" \
  --file "$release/core.yaml" --file "$release/core.env.json" up --detach --no-build 2>&1

said() { docker logs --tail 200 "$container" 2>&1 || true; }
look() { docker inspect --format "$1" "$container"; }
address=$(look '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}')
deadline=$((SECONDS + limit)) looks=0
while ! (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; do
  # To ask the engine takes longer than to knock.
  if [ $((looks % 20)) -eq 0 ]; then
    case $(look '{{.State.Status}} {{.RestartCount}}') in
      'running 0' | 'created 0') ;;
      *)
        said
        exit 41
        ;;
    esac
  fi
  if [ "$SECONDS" -ge "$deadline" ]; then
    said
    exit 42
  fi
  looks=$((looks + 1))
  sleep 0.02
done
