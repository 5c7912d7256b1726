# Reads the secrets that a release names, and puts each where its reference stands. What is read is in no
# argument and in no other file.
# Arguments: the release's folder, then key, reference, project, name and version of each.
# Exit status: 45 when one cannot be read: its key is told, and why on standard error.
release=$1
shift

# A text as a string of JSON, without the newline that ends a file. Compose expands `$` in every file
# it reads; doubled, it is a plain `$`.
json() {
  od -An -v -tu1 | LC_ALL=C awk '
    function fail(why) { print why > "/dev/stderr"; exit 1 }
    { for (i = 1; i <= NF; i++) byte[n++] = $i + 0 }
    END {
      if (n && byte[n - 1] == 10) n--
      if (!n) fail("it is empty there")
      printf "\""
      for (i = 0; i < n; i++) {
        c = byte[i]
        if (c == 0) fail("it holds a NUL byte, which no environment can hold")
        if ((c >= 128 && c < 192) != (more > 0) || c == 192 || c == 193 || c > 244) fail("it is not UTF-8 text")
        if (more) more--
        else if (c >= 192) more = 1 + (c >= 224) + (c >= 240)
        if (c == 36) printf "$$"
        else if (c == 34 || c == 92) printf "\\%c", c
        else if (c < 32) printf "\\u%04x", c
        else printf "%c", c
      }
      if (more) fail("it is not UTF-8 text")
      printf "\""
    }'
}

# Puts $2 in place of $1, everywhere in the text; bash alone does it, since arguments can be seen.
put() {
  local before='' rest=$text
  while [[ $rest == *"$1"* ]]; do
    before=$before${rest%%"$1"*}$2
    rest=${rest#*"$1"}
  done
  text=$before$rest
}

files='core.env.json platform.env.json'
declare -A texts
for file in $files; do texts[$file]=$(cat "$release/$file"); done
while [ $# -gt 0 ]; do
  secret=$(access "$3" "$4" "$5" | json) || {
    echo "$1"
    exit 45
  }
  for file in $files; do
    text=${texts[$file]}
    put "\"$1\":\"$2\"" "\"$1\":$secret"
    texts[$file]=$text
  done
  shift 5
done
for file in $files; do
  new=$(mktemp "$release/$file.XXXXXX")
  printf %s "${texts[$file]}" >"$new"
  mv -T "$new" "$release/$file"
done
