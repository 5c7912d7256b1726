# Restores an archive into databases beside those that serve, and counts their tables.
# Arguments: project, working folder, then database and dump in pairs. Input: the archive.
work=$2
shift 2
rm -rf -- "$work"
mkdir -p "$work"
trap 'rm -rf -- "$work"' EXIT
tar --extract --file - --directory "$work"
while [ $# -gt 0 ]; do
  load "${1}_restored" <"$work/$2" >&2
  copied "${1}_restored" "$1"
  rm -f -- "$work/$2"
  shift 2
done
