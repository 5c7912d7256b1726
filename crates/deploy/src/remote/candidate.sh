# Lets the webserver, and it alone, load a code server under the candidate's name: it keeps what it
# found until it is told to load again, so the file names none again at once.
# Arguments: the switch's folder, port of the UI. Input: the content of candidate.yaml.
set -eu
put() {
  new=$(mktemp "$1/.candidate.XXXXXX")
  cat >"$new"
  chmod 644 "$new"
  mv -T "$new" "$1/candidate.yaml"
}
trap 'echo "load_from: []" | put "$1"' EXIT
put "$1"
reload "$2"
