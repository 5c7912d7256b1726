# Replaces a file at once: a reader sees the old one or the new one, whole. Tells when.
# Arguments: path, mode. Input: the content.
set -eu
umask 077
new=$(mktemp "$1.XXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new"
chmod "$2" "$new"
sync "$new"
date +%s.%N
mv -T "$new" "$1"
