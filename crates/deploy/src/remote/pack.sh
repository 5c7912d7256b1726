# Makes one archive of a folder that `dump.sh` filled, and removes the folder. The archive goes to
# standard output, or beside the folder with the suffix .tar: then only the newest few stay.
# Arguments: the folder, `out` or how many stay, dumps in order. Input: the manifest.
set -eu
umask 077
work=$1 keep=$2
shift 2
trap 'rm -rf -- "$work"' EXIT
cat >"$work/manifest.json"
if [ "$keep" = out ]; then
  tar --create --file - --directory "$work" manifest.json "$@"
  exit 0
fi
tar --create --file "$work/archive" --directory "$work" manifest.json "$@"
sync "$work/archive"
mv -T "$work/archive" "$work.tar"
ls -1t -- "$(dirname "$work")"/*.tar | tail --lines "+$((keep + 1))" |
  while read -r old; do rm -f -- "$old"; done
