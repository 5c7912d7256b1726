# What the scripts below share: secrets are read with this host's own service account.
set -eu -o pipefail
# It would write what it reads into a log of its own.
export CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1 CLOUDSDK_CORE_DISABLE_PROMPTS=1
access() { # project, or nothing for the service account's own; name, version, how it is told
  local project=$1 name=$2 version=$3
  shift 3
  command -v gcloud >/dev/null || {
    echo 'gcloud is not installed there' >&2
    return 1
  }
  gcloud secrets versions access "$version" --secret="$name" ${project:+--project="$project"} "$@" </dev/null
}
