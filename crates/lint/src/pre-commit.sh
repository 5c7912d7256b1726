#!/bin/sh
# Made by `cargo xtask hooks install`; `cargo xtask hooks uninstall` removes it.
# Git runs it at the root of the working tree.

# The hook that was here before.
before=$0.before-dagster-deploy
if [ -x "$before" ]; then
  "$before" "$@" || exit
fi
if [ ! -d xtask ]; then
  echo "lint: no xtask here (an older branch?); nothing is linted" >&2
  exit 0
fi
xtask=${CARGO_TARGET_DIR:-target}/debug/xtask
sources='xtask/src xtask/Cargo.toml'
for crate in lint exec settings; do
  sources="$sources crates/$crate/src crates/$crate/Cargo.toml"
done
if [ -x "$xtask" ] && newer=$(find $sources -newer "$xtask" -print) && [ -z "$newer" ]; then
  exec "$xtask" lint --repo .
fi
exec cargo xtask lint --repo .
