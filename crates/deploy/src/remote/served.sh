# Tells the files that what serves is made of: a name and the content in base64, one a line. They hold
# secrets.
# Arguments: folder of the code server's release, folder of the platform.
set -eu
tell() {
  printf '%s ' "$2"
  base64 --wrap 0 "$1/$2"
  echo
}
for file in core.yaml core.env.json; do tell "$1" "$file"; done
for file in platform.yaml dagster.yaml platform.env.json; do tell "$2" "$file"; done
