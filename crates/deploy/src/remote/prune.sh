# Removes what no release needs any more. What is gone already, or in use after all, is left.
# Arguments: folder of releases. Input: `container X`, `release X` or `image X`, one a line.
set -u
while read -r kind name; do
  case $kind in
    container) docker rm "$name" >/dev/null 2>&1 ;;
    release) rm -rf -- "${1:?}/$name" ;;
    image) docker image rm "$name" >/dev/null 2>&1 ;;
  esac
done
exit 0
