# The password in the platform's Compose override, as it is written there; nothing if it has none.
# Argument: the file.
password() {
  local pattern='"POSTGRES_PASSWORD":"([^"\\]|\\.)*"'
  if [[ $(cat "$1" 2>/dev/null) =~ $pattern ]]; then printf '%s' "${BASH_REMATCH[0]}"; fi
}
