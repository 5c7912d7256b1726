# Asks Dagster's webserver on this host: by bash alone, since no other program need be here.
# Arguments: port, query.
graphql() (
  body="{\"query\":\"$2\"}"
  exec 3<>"/dev/tcp/127.0.0.1/$1"
  printf 'POST /graphql HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
    "${#body}" "$body" >&3
  cat <&3
)

# Makes the webserver read the switch and load what it names. Argument: port.
reload() {
  local answer
  answer=$(graphql "$1" 'mutation { reloadWorkspace { __typename ... on PythonError { message } } }')
  case $answer in
    *'"Workspace"'*) ;;
    *)
      printf '%s\n' "${answer##*$'\r'}" >&2
      return 1
      ;;
  esac
}
