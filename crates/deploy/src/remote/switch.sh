# Switches: replaces workspace.yaml at once and tells the webserver, in one script, so that a deployer
# who is gone half way leaves no webserver that serves the code of before. Tells when it switched.
# Arguments: the switch's folder, port of the UI. Input: the content.
set -eu
new=$(mktemp "$1/.workspace.XXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new"
chmod 644 "$new"
sync "$new"
# Both or neither: not even who lost the lock is stopped in between.
trap '' TERM HUP
date +%s.%N
mv -T "$new" "$1/workspace.yaml"
reload "$2"
