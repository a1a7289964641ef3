#!/usr/bin/env bash
# Makes sure that there is a C++ compiler where Bazel looks for one: $CC, or gcc. As root on a Debian it installs one.
set -euo pipefail

compiles_cxx() {
  local cc
  cc="$(command -v "${CC:-gcc}")" || return 1
  # gcc without g++ has no cc1plus and answers with the bare name; clang always has C++ in it.
  [[ "$("$cc" -print-prog-name=cc1plus 2>/dev/null)" == /* || "$("$cc" --version)" == *clang* ]]
}

say() { echo "brood: $*" >&2; }

compiles_cxx && exit 0

if [[ -n ${CC:-} ]]; then
  say "CC=$CC is not a C++ compiler that can be run; unset CC, or name one"
elif ! command -v apt-get >/dev/null; then
  say "there is no C++ compiler; install g++ 12 or newer (or clang 16 or newer, and set CC=clang)"
elif ((EUID != 0)); then
  say "there is no C++ compiler; run: sudo apt-get update && sudo apt-get install --yes g++"
else
  say "there is no C++ compiler; installing g++"
  if apt-get -qq update >&2 &&
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends g++ >/dev/null && compiles_cxx; then
    exit 0
  fi
  say "that did not work; run: apt-get update && apt-get install --yes g++"
fi
exit 1
