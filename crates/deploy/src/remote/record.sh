# Appends to the audit log what came of a verb that had no lock.
# Arguments: directory, as it is in the settings. Input: the entry, one line of JSON.
set -u
case $1 in /*) dir=$1 ;; *) dir=$HOME/$1 ;; esac
umask 077
mkdir -p "$dir" && IFS= read -r entry && append "$dir" "$(with "$(client)" "$entry")"
