# Drops databases that a restore left beside; one that is not there is left.
# Arguments: project, databases.
shift
for database in "$@"; do drop "$database"; done
