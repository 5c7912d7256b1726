#!/bin/sh
# Stands for the Python of the linters: objects to files with `BAD` in them, as each of the four would
# say it, and writes down its calls.
here=$(dirname "$0")/..
if [ "$2" = -c ]; then
  echo "$here/lib"; cat "$here/version"; exit
fi
tool=$6
shift 6
[ ! -e "$here/crash-$tool" ] || { echo 'Traceback (most recent call last):' >&2; exit 1; }
[ ! -e "$here/stop-$tool" ] || read -r line < "$here/stop-$tool"
echo "$tool $*" >> "$here/calls"
# Some configuration switches it off.
if [ "$tool" = flake8 ] && grep -qs '^lenient' .flake8; then exit; fi
code=0
object() {
  code=1
  case $tool in
    black) echo "would reformat ${1#./}" >&2 ;;
    isort) echo "ERROR: $PWD/${1#./} Imports are incorrectly sorted and/or formatted." >&2 ;;
    flake8) printf '%s\0371\0371\037E1\037has %s\n' "$1" "$(cat .flake8 2>/dev/null)" ;;
    mypy) echo "{\"file\": \"${1#./}\", \"line\": 1, \"column\": 0, \"message\": \"bad\", \"code\": \"bad\", \"severity\": \"error\"}" ;;
  esac
}
for word in "$@"; do
  case $word in
    --check | --check-only) check=yes ;;
    -*.py) echo "no such option: $word" >&2; exit 2 ;;
    .)
      # Called on a folder it looks for all files, and not into `excluded`.
      set -f
      IFS='
'
      for file in $(find . -path ./.git -prune -o -path ./excluded -prune -o -name '*.py' -print); do
        if [ "$tool" = isort ]; then echo "$file"
        elif [ "$tool" != mypy ] || grep -q BAD "$file"; then object "$file"; fi
      done ;;
    *.py)
      [ -f "$word" ] || { echo "no such file: $word" >&2; exit 2; }
      if grep -q BAD "$word"; then
        if [ "$check$tool" = black ] && grep -q CUT "$word"; then : > "$word"; exit 1
        elif [ "$check$tool" = black ]; then sed -i s/BAD/good/ "$word"; else object "$word"; fi
      fi ;;
  esac
done
exit $code
