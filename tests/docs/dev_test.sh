#!/usr/bin/env bash
# ./dev: what it says to wrong words, and when it installs. apt, dpkg, sudo and the tools are stand-ins that write down
# how they were called.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/project"
cp "$root/dev" "$work/project/dev"
export PATH="$work/bin:$PATH" CALLS="$work/calls"

stand_in() { printf '#!/bin/sh\n%s\n' "$2" > "$work/bin/$1"; chmod +x "$work/bin/$1"; }
stand_in git ''
stand_in clang-format ''
stand_in sudo 'echo "sudo" >> "$CALLS"; exec "$@"'
stand_in dpkg-query 'printf "%s" "$INSTALLED"'
stand_in apt-get 'echo "apt-get $*" >> "$CALLS"; exit ${APT_EXIT:-0}'
stand_in id 'echo "$USER_ID"'

failed=0
# expect NAME STATUS CALLS MESSAGE COMMAND...: patterns are extended regular expressions.
expect() {
  local name=$1 status=$2 calls=$3 message=$4 got=0 output called
  shift 4
  : > "$CALLS"
  output=$(cd "$work/project" && "$@" 2>&1) || got=$?
  called=$(tr '\n' ';' < "$CALLS")
  if [[ $got != "$status" || ! $output =~ $message || ! $called =~ $calls ]]; then
    printf 'FAILED: %s\n  status %s, expected %s\n  output: %s\n  calls: %s\n' "$name" "$got" "$status" "$output" "$called"
    failed=1
  fi
}

INSTALLED=installed USER_ID=1000 expect "nothing missing: no root, no apt" 0 '^$' '' ./dev fix
INSTALLED='' USER_ID=0 expect "as root: installs, says what and why" 0 '^(apt-get update -q;)?apt-get install -qy --no-install-recommends git clang-format;$' \
  'installing what formats: git clang-format' ./dev fix
INSTALLED='' USER_ID=1000 expect "otherwise: by sudo" 0 '^(sudo;apt-get update -q;)?sudo;apt-get install .* git clang-format;$' 'installing' ./dev fix
INSTALLED='' USER_ID=0 APT_EXIT=100 expect "apt fails: one clear error" 1 'apt-get' 'dev: error: apt-get .*expected success' ./dev fix
INSTALLED='' USER_ID=0 ATTUNE_SKIP_PACKAGES=1 expect "asked to trust: no apt" 0 '^$' '' ./dev fix
INSTALLED=installed USER_ID=0 expect "no word: the list of words" 0 '^$' 'Usage: ./dev COMMAND' ./dev
INSTALLED=installed USER_ID=0 expect "a wrong word" 1 '^$' 'expected one of demo, test, .* got tset' ./dev tset
INSTALLED=installed USER_ID=0 expect "a wrong option" 1 '^$' 'test takes --full and --sanitize, got --fulll' ./dev test --fulll
INSTALLED=installed USER_ID=0 expect "no benchmarks" 1 '^$' 'found none' ./dev bench
[[ $failed == 0 ]] && echo "dev does what it says"
exit $failed
