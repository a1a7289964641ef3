#!/usr/bin/env bash
# Bazel for a machine that reaches a Debian mirror but not GitHub.
#
#   tools/bootstrap/debian.sh             builds the toolchain if it is missing, prints the path of its `bazel`
#   tools/bootstrap/debian.sh --if-ready  prints that path if the toolchain is there, else fails at once
#
# A newer Debian packages Bazel 7 and every dependency of this project; Debian 12 does not. The packages are unpacked
# (never installed) into a folder of the user's cache, and the few programs in it are told to use the C library that
# came with them. Only Bazel runs on that library: what Bazel builds is built by this machine's own compiler, against
# this machine's own C library. No root is needed and nothing outside the cache folder is touched.
set -euo pipefail

readonly SUITE=forky # the first Debian release with Bazel 7; named, because "testing" moves on
readonly WANTED_BAZEL=7
readonly NEEDED_MEGABYTES=1500

# Packages to unpack. velocity is a jar that Bazel's class path names but the package does not depend on.
readonly PACKAGES=(bazel-bootstrap default-jre-headless patchelf velocity)

# What those packages depend on but Bazel does not need to run, or this machine has: claimed to be installed, for they
# would drag in a second compiler and a full JDK, several hundred megabytes.
readonly CLAIMED=(
  binutils build-essential ca-certificates ca-certificates-java debconf default-jdk-headless dpkg g++ gcc
  java-common libc6-dev libpam-modules libpam-runtime perl python3 unzip util-linux zlib1g-dev
)

# Dependencies that Debian carries as sources: Debian's name, Bazel's name.
readonly SOURCES=(
  "abseil abseil-cpp"
  "googletest googletest"
  "benchmark google_benchmark"
)

# Modules that the dependencies name and no build of this project uses. bzlmod wants to see a MODULE.bazel for each.
readonly STUB_MODULES=(apple_support buildozer protobuf re2 zlib)

readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/brood"
ROOT="$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")"
# Another recipe, or other versions to serve, are another toolchain: the folder carries their hash.
RECIPE="$(cat "${BASH_SOURCE[0]}" "$ROOT/MODULE.bazel" | sha256sum | cut -c 1-12)"
readonly PREFIX="$CACHE/bazel-from-debian-$RECIPE"
readonly STAGE="$PREFIX.partial" # becomes PREFIX by one rename, when it is whole
readonly LOG="$CACHE/bootstrap.log"

main() {
  if [[ -x $PREFIX/bin/bazel ]]; then
    echo "$PREFIX/bin/bazel"
    return
  fi
  [[ ${1:-} != --if-ready ]] || exit 1
  check_machine
  # The lock lives on a descriptor of this subshell only: a Bazel server must not inherit it.
  (
    flock --nonblock 9 || {
      say "another run is preparing the toolchain; waiting for it"
      flock 9
    }
    [[ -x $PREFIX/bin/bazel ]] || build_toolchain >"$LOG" 2>&1
  ) 9>"$CACHE/bootstrap.lock"
  echo "$PREFIX/bin/bazel"
}

build_toolchain() {
  trap 'explain_failure' EXIT
  rm -rf "$CACHE"/bazel-from-debian-*.partial # left by runs that were killed
  mkdir "$STAGE"

  step "reading Debian $SUITE's package lists"
  configure_apt
  find_mirror
  check_versions
  step "downloading $(download_size) of packages"
  download_packages
  download_sources
  compare_sources_with_pins
  step "unpacking them"
  unpack_packages
  unpack_sources
  step "making Bazel run from $PREFIX"
  relocate_symlinks
  relocate_programs
  relocate_class_path
  complete_rules_cc
  write_stub_modules
  write_registry
  write_bazelrc
  write_wrapper
  rm -rf "$STAGE/apt"
  publish
  trap - EXIT
  say "ready; from now on $CACHE/bin/bazel works too"
}

# ---- talking ----

# Everything else a step prints goes to the log; descriptor 3 is the terminal.
exec 3>&2
say() { echo "brood: $*" >&3; }

step() {
  CURRENT_STEP="$*"
  say "$*"
}

die() {
  trap - EXIT
  say "$*"
  exit 1
}

explain_failure() {
  if [[ -z $(find "$CACHE" -maxdepth 0 -writable 2>&1) ]] || ! has_space 10; then
    say "stopped while $CURRENT_STEP: the disk that holds $CACHE is full or read-only"
  else
    say "stopped while $CURRENT_STEP; the last lines of $LOG:"
    tail -n 5 "$LOG" >&3
  fi
  exit 1
}

# ---- the machine ----

check_machine() {
  local tool
  for tool in apt-get dpkg-deb flock; do
    command -v "$tool" >/dev/null ||
      die "this machine is not a Debian (no $tool); install Bazelisk, or make github.com reachable"
  done
  [[ $(dpkg --print-architecture) == amd64 ]] ||
    die "Debian carries this Bazel for amd64 only, this machine is $(dpkg --print-architecture); install Bazelisk"
  { mkdir -p "$CACHE" && [[ -w $CACHE ]]; } 2>/dev/null ||
    die "cannot write to $CACHE; point XDG_CACHE_HOME at a folder you may write to"
  has_space "$NEEDED_MEGABYTES" || die "less than $NEEDED_MEGABYTES MB are free for $CACHE"
}

has_space() { # megabytes
  (($(df --output=avail -m "$CACHE" | tail -n 1) >= $1))
}

# ---- apt: Debian's own tool, with a private configuration ----

configure_apt() {
  local apt="$STAGE/apt"
  mkdir -p "$apt"/{sources,state/lists/partial,cache/archives/partial,none}
  claim_installed "${CLAIMED[@]}" >"$apt/status"
  # Read with -c, after the machine's own configuration: proxies and certificates set there stay in force.
  cat >"$apt/apt.conf" <<EOF
#clear APT::Update;
#clear DPkg;
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures { "amd64"; };
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Sandbox::User "root"; // root's cache is closed to the _apt user
Acquire::Check-Valid-Until "false"; // a mirror may be a frozen copy
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::Cache "$apt/cache";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "$apt/none";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$apt/sources";
Dir::State "$apt/state";
Dir::State::Lists "$apt/state/lists";
Dir::State::status "$apt/status";
EOF
}

private_apt() { # apt-get|apt-cache argument...
  local program=$1
  shift
  "$program" -c "$STAGE/apt/apt.conf" "$@"
}

claim_installed() { # package...
  local package
  for package in "$@"; do
    printf '%s\n' "Package: $package" "Status: install ok installed" "Architecture: amd64" "Multi-Arch: foreign" \
      "Version: 999:1" "Maintainer: nobody" "Description: provided by the machine, or not needed" ""
  done
}

# The mirrors this machine is told to use, a Debian release first. apt reads its own files, so both styles of source
# lists and disabled entries are understood.
machine_mirrors() {
  local release
  # shellcheck source=/dev/null
  release="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")"
  # shellcheck disable=SC2016 # apt expands these, not the shell
  apt-get indextargets --format '$(RELEASE)|$(REPO_URI)' 'Created-By: Packages' 'Component: main' |
    awk -F'|' -v release="$release" '
      $1 !~ /^[a-z]+$/ || $2 ~ /^cdrom:/ { next } # updates, security, backports, CDs
      { print ($1 == release ? 0 : 1) "|" $2 }' |
    sort -u | cut -d '|' -f 2-
}

# Takes the first mirror that carries the suite, signed by a key this machine already trusts: Debian's own, or one the
# administrator added.
find_mirror() {
  local uri keyring
  while IFS= read -r uri; do
    for keyring in /usr/share/keyrings/debian-archive-keyring.gpg ""; do
      echo "trying $uri, checked by ${keyring:-the keys apt trusts by default}"
      printf '%s\n' "Types: deb deb-src" "URIs: $uri" "Suites: $SUITE" "Components: main" \
        ${keyring:+"Signed-By: $keyring"} >"$STAGE/apt/sources/mirror.sources"
      if private_apt apt-get update --error-on=any; then return; fi
    done
  done < <(machine_mirrors)
  if grep -q NO_PUBKEY "$LOG"; then
    die "this machine does not know the key that signs Debian $SUITE; as root: apt-get install debian-archive-keyring"
  fi
  die "none of this machine's apt sources offers Debian $SUITE (no network, or no Debian mirror); see $LOG"
}

check_versions() {
  local candidate
  candidate="$(private_apt apt-cache show --no-all-versions bazel-bootstrap | sed -n 's/^Version: //p')"
  [[ $candidate == "$WANTED_BAZEL".* ]] ||
    die "Debian $SUITE now carries Bazel $candidate, this project needs $WANTED_BAZEL; install Bazelisk"
}

download_size() {
  private_apt apt-get install --print-uris --yes "${PACKAGES[@]}" |
    awk '/^\x27/ { bytes += $3 } END { printf "%d MB", bytes / 1000000 }'
}

download_packages() {
  private_apt apt-get install --download-only --yes "${PACKAGES[@]}"
}

download_sources() {
  local pair
  mkdir "$STAGE/apt/source"
  for pair in "${SOURCES[@]}"; do
    (cd "$STAGE/apt/source" && private_apt apt-get source --download-only "${pair% *}")
  done
}

# The pins are for whoever downloads the releases; a release of Debian has one version of each, and says so.
compare_sources_with_pins() {
  local pair archive version
  for pair in "${SOURCES[@]}"; do
    archive="$(basename "$STAGE/apt/source/${pair% *}"_*.orig.tar.*z)"
    version="${archive#*_}"
    version="${version%.orig.tar.*}"
    [[ $version == "$(pinned_version "${pair#* }")" ]] ||
      say "note: Debian has ${pair#* } $version, this project pins $(pinned_version "${pair#* }")"
  done
}

pinned_version() { # module
  sed -n "s/.*name = \"$1\", version = \"\([^\"]*\)\".*/\1/p" "$ROOT/MODULE.bazel"
}

unpack_packages() {
  printf '%s\0' "$STAGE"/apt/cache/archives/*.deb |
    xargs -0 -P "$(nproc)" -I '{}' dpkg-deb --extract '{}' "$STAGE"
  rm -rf "$STAGE"/usr/share/{doc,locale,man} "$STAGE"/apt/cache/archives
}

unpack_sources() {
  local pair source
  for pair in "${SOURCES[@]}"; do
    source="$STAGE/sources/${pair#* }"
    mkdir -p "$source"
    tar --extract --directory "$source" --strip-components 1 --file "$STAGE/apt/source/${pair% *}"_*.orig.tar.*z
  done
}

# ---- relocation: what the packages believe to be / is $PREFIX ----

readonly LIBRARIES=usr/lib/x86_64-linux-gnu
readonly LOADER=$LIBRARIES/ld-linux-x86-64.so.2
readonly JDK=usr/lib/jvm/default-java

relocate_symlinks() {
  local link
  find "$STAGE"/{etc,usr/lib/jvm,usr/share/bazel,usr/share/java} -type l -lname '/*' -print0 |
    while IFS= read -r -d '' link; do
      ln -sfn "$PREFIX$(readlink "$link")" "$link"
    done
}

relocate_programs() {
  local libraries="$PREFIX/$LIBRARIES:$PREFIX/$JDK/lib:$PREFIX/$JDK/lib/server"
  local jdk program
  jdk="$(realpath "$STAGE/$JDK")"
  for program in "$STAGE"/usr/bin/bazel "$STAGE/usr/libexec/x86_64-linux-gnu/bazel"/* "$jdk"/bin/java "$jdk"/lib/jspawnhelper; do
    # DT_RPATH, not RUNPATH: only the former also holds for the libraries of the libraries.
    staged patchelf --set-interpreter "$PREFIX/$LOADER" --force-rpath --set-rpath "$libraries" "$program"
  done
  find "$jdk" -name '*.so' -type f -print0 | while IFS= read -r -d '' program; do
    staged patchelf --force-rpath --set-rpath "$libraries" "$program"
  done
}

# Runs a program of the unfinished toolchain, whose final place does not exist yet.
staged() { # program argument...
  local program=$1
  shift
  "$STAGE/$LOADER" --library-path "$STAGE/$LIBRARIES" "$STAGE/usr/bin/$program" "$@"
}

# Debian's jars name each other by absolute paths in their manifests, which lead nowhere here: list those jars too.
relocate_class_path() {
  local list="$STAGE/usr/share/bazel/bazel_classpath_debian_depends.txt"
  local jar
  for jar in animal-sniffer-annotations error-prone-annotations grpc-context perfmark-api perfmark-impl protobuf; do
    echo "/usr/share/java/$jar.jar"
  done >>"$list"
  sed -i "s|^/usr/|$PREFIX/usr/|" "$list"
}

# Abseil's select names this setting; the rules_cc of Debian is older than it. It never matches on Linux.
complete_rules_cc() {
  local build="$STAGE/usr/share/bazel/rules/cc/cc/compiler/BUILD"
  grep -q '"emscripten"' "$build" || cat >>"$build" <<'EOF'

config_setting(
    name = "emscripten",
    flag_values = {"@rules_cc//cc/private/toolchain:compiler": "emscripten"},
)
EOF
}

# ---- what Bazel reads ----

write_stub_modules() {
  local module
  for module in "${STUB_MODULES[@]}"; do
    mkdir -p "$STAGE/stubs/$module"
    echo "module(name = \"$module\")" >"$STAGE/stubs/$module/MODULE.bazel"
    touch "$STAGE/stubs/$module/BUILD.bazel"
  done
}

# bzlmod refuses to override a module that the build does not name, and a consumer's build does not name
# google_benchmark: it comes from a registry of its own, under the version that MODULE.bazel asks for.
write_registry() {
  local version folder
  version="$(pinned_version google_benchmark)"
  folder="$STAGE/registry/modules/google_benchmark/$version"
  mkdir -p "$folder"
  cat >"$folder/MODULE.bazel" <<EOF
module(name = "google_benchmark", version = "$version")
bazel_dep(name = "bazel_skylib", version = "0")
bazel_dep(name = "platforms", version = "0")
bazel_dep(name = "rules_cc", version = "0")
EOF
  echo '{"type": "local_path", "path": "google_benchmark"}' >"$folder/source.json"
  echo "{\"module_base_path\": \"$PREFIX/sources\"}" >"$STAGE/registry/bazel_registry.json"
}

# The name and folder of every repository that Bazel must not look for on the network.
local_repositories() {
  local pair name
  for pair in "${SOURCES[@]}"; do
    echo "${pair#* } sources/${pair#* }"
  done
  for name in cc java license proto python; do
    echo "rules_$name usr/share/bazel/rules/$name"
  done
  echo "bazel_features usr/share/bazel/tools/features"
  echo "bazel_skylib usr/share/bazel/tools/skylib"
  echo "platforms usr/share/bazel/tools/platforms" # Debian's rules_java names a cpu that upstream's release lacks
}

# Lies here and not in a workspace, so that every workspace builds with it: this one, a second clone, a consumer.
write_bazelrc() {
  local name folder
  {
    echo "# Written by tools/bootstrap/debian.sh: every dependency comes from this folder."
    local_repositories | while read -r name folder; do
      echo "common --override_repository=$name=$PREFIX/$folder"
      [[ $name == google_benchmark ]] || echo "common --override_module=$name=$PREFIX/$folder"
    done
    for name in "${STUB_MODULES[@]}"; do
      echo "common --override_module=$name=$PREFIX/stubs/$name"
    done
    echo "common --registry=file://$PREFIX/registry"
    echo "common --disk_cache=$CACHE/disk_cache"
    echo "common --experimental_disk_cache_gc_max_size=5G"
    # Bazel's sandbox gives each action a /tmp of its own, which would hide a toolchain that lies in the real one.
    [[ $(realpath "$CACHE")/ != /tmp/* ]] || echo "build --noincompatible_sandbox_hermetic_tmp"
  } >"$STAGE/bazelrc"
}

write_wrapper() {
  mkdir "$STAGE/bin"
  cat >"$STAGE/bin/bazel" <<EOF
#!/bin/sh
exec "$PREFIX/usr/bin/bazel" --nosystem_rc --install_base="$PREFIX/usr/share/bazel" --trust_install_base \\
  --server_javabase="$PREFIX/$JDK" --output_user_root="$CACHE/output" --bazelrc="$PREFIX/bazelrc" "\$@"
EOF
  chmod +x "$STAGE/bin/bazel"
}

# Bazel reads itself through /proc/self/exe, so it can only be tried in its final place. The link comes first: a run
# that is killed after the rename would not come back to make it.
publish() {
  mkdir -p "$CACHE/bin"
  ln -sfn "$PREFIX/bin/bazel" "$CACHE/bin/bazel"
  mv -T "$STAGE" "$PREFIX"
  "$PREFIX/bin/bazel" --version || {
    mv -T "$PREFIX" "$STAGE"
    return 1
  }
}

main "$@"
