# Tells which version each secret has now, one a line, and nothing of what it holds. Who may read a secret
# may ask this too; `describe` would need another role.
# Arguments: project, name and version of each.
# Exit status: 45 when one cannot be read; why is told on standard error.
while [ $# -gt 0 ]; do
  version=$(access "$1" "$2" "$3" --format='value(name)') || exit 45
  printf '%s\n' "${version##*/}"
  shift 3
done
