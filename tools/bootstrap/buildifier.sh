#!/usr/bin/env bash
# Prints the path of buildifier, of this version and no other, for another one formats otherwise. It comes from GitHub, or
# where that cannot be reached from npm's package, which carries the same files; the hashes are for both.
set -euo pipefail

readonly VERSION=8.2.1
readonly SHA256_x86_64=6ceb7b0ab7cf66fceccc56a027d21d9cc557a7f34af37d2101edb56b92fcfa1a
readonly SHA256_aarch64=3baa1cf7eb41d51f462fdd1fff3a6a4d81d757275d05b2dd5f48671284e9a1a5

readonly CACHE="${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME to a folder for downloads}/.cache}/brood"
readonly PROGRAM="$CACHE/buildifier-$VERSION"

main() {
  local machine sha256
  case "$(uname -m)" in
    x86_64) machine=amd64 sha256=$SHA256_x86_64 ;;
    aarch64) machine=arm64 sha256=$SHA256_aarch64 ;;
    *) die "there is no buildifier for this machine, $(uname -m)" ;;
  esac
  if [[ ! -x $PROGRAM ]]; then
    mkdir -p "$CACHE"
    SCRATCH="$(mktemp -d "$CACHE/buildifier.XXXXXX")"
    trap 'rm -rf "$SCRATCH"' EXIT
    from_github "$machine" && matches "$sha256" || { from_npm "$machine" && matches "$sha256"; } ||
      die "buildifier $VERSION is to be had neither from GitHub (curl) nor from npm"
    chmod +x "$SCRATCH/buildifier"
    mv "$SCRATCH/buildifier" "$PROGRAM"
  fi
  echo "$PROGRAM"
}

from_github() { # machine
  curl --fail --silent --location --connect-timeout 5 --output "$SCRATCH/buildifier" \
    "https://github.com/bazelbuild/buildtools/releases/download/v$VERSION/buildifier-linux-$1" 2>/dev/null
}

from_npm() { # machine
  (cd "$SCRATCH" && npm pack --silent "@bazel/buildifier@$VERSION" >/dev/null 2>&1) &&
    tar --extract --to-stdout --file "$SCRATCH/bazel-buildifier-$VERSION.tgz" "package/buildifier-linux_$1" >"$SCRATCH/buildifier"
}

matches() { # sha256
  sha256sum --check --status <<<"$1  $SCRATCH/buildifier"
}

die() {
  echo "$*" >&2
  exit 1
}

main "$@"
