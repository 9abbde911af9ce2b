#!/usr/bin/env bash
# Builds a release without a container engine: static programs for every platform, images as OCI layouts,
# archives, the chart, manifests, bills of materials and checksums. docs/release.md says what is in it.
#
#   release/build.sh                  everything into target/dist
#   release/build.sh --check          twice, in two folders, and compare
#
# Environment, all optional:
#   PLATFORMS="linux/amd64"           fewer platforms
#   PROGRAMS="pd-webhook kubectl-pd"  fewer programs
#   OUTPUT=folder                     another folder, which must not be there
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PLATFORMS=${PLATFORMS:-"linux/amd64 linux/arm64"}
PROGRAMS=${PROGRAMS:-"pd-autoscaler pd-webhook pd-scheduler-plugin kubectl-pd pd-sim"}
OUTPUT=${OUTPUT:-$PWD/target/dist}

fail() {
  echo "release/build.sh: $1" >&2
  exit 1
}

target_of() {
  case $1 in
  linux/amd64) echo x86_64-unknown-linux-musl ;;
  linux/arm64) echo aarch64-unknown-linux-musl ;;
  *) fail "no platform \`$1\`: give linux/amd64 or linux/arm64" ;;
  esac
}

# Clang compiles the C and assembly of the TLS library for any processor; linker and C library come with Rust.
needs() {
  command -v clang >/dev/null || fail "clang is missing: install the package clang"
  local platform
  for platform in $PLATFORMS; do
    rustup target list --installed | grep -qx "$(target_of "$platform")" ||
      fail "the target of $platform is missing: rustup target add $(target_of "$platform")"
  done
  [[ -z $(git status --porcelain) || -n ${DIRTY:-} ]] ||
    fail "there are changes that are not committed: commit them, or set DIRTY=1 to try the script"
}

# The commands that cargo needs for target $1, with paths of this machine replaced, for they would be in the program.
environment_of() {
  local upper=${1^^} sources=${CARGO_HOME:-$HOME/.cargo}
  upper=${upper//-/_}
  echo "CARGO_TARGET_${upper}_LINKER=rust-lld"
  echo "CC_${1//-/_}=clang"
  echo "AR_${1//-/_}=$(command -v llvm-ar || command -v ar)"
  echo "CFLAGS_${1//-/_}=-ffile-prefix-map=$PWD=/source -ffile-prefix-map=$sources=/cargo"
  printf 'CARGO_ENCODED_RUSTFLAGS=%s\x1f%s\x1f%s\n' "--remap-path-prefix=$PWD=/source" \
    "--remap-path-prefix=$sources=/cargo" "--remap-path-prefix=$(rustc --print sysroot)=/rust"
}

# Builds the programs of platform $1.
build() {
  local target packages=() program environment=() line
  target=$(target_of "$1")
  for program in $PROGRAMS; do packages+=(--package "$program" --bin "$program"); done
  while IFS= read -r line; do environment+=("$line"); done < <(environment_of "$target")
  env CARGO_INCREMENTAL=0 "${environment[@]}" \
    cargo build --locked --profile dist --target "$target" "${packages[@]}"
}

# A static program has no libraries to list. Programs of another processor are looked at by pd-release.
static() {
  local program path
  [[ $1 == linux/$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/') ]] || return 0
  for program in $PROGRAMS; do
    path=${CARGO_TARGET_DIR:-target}/$(target_of "$1")/dist/$program
    printf '%s: ' "$program"
    { ldd "$path" 2>&1 || true; } | grep -E 'statically linked|not a dynamic executable' ||
      fail "$path needs libraries: $(ldd "$path")"
  done
}

release() {
  local platform folders=() only=() program
  for platform in $PLATFORMS; do
    build "$platform"
    static "$platform"
    folders+=(--binaries "$platform=${CARGO_TARGET_DIR:-target}/$(target_of "$platform")/dist")
  done
  for program in $PROGRAMS; do only+=(--program "$program"); done
  SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} \
    cargo run --release --quiet --locked --package pd-release -- \
    "${folders[@]}" "${only[@]}" --revision "$(git rev-parse HEAD)" --output "$OUTPUT"
}

# The same commit in another folder, with nothing built before.
check() {
  local copy
  copy=$(mktemp -d)
  git worktree add --quiet --detach "$copy/source" HEAD
  trap 'git worktree remove --force "$copy/source"; rm -rf "$copy"' EXIT
  (unset CARGO_TARGET_DIR; OUTPUT=$copy/dist "$copy/source/release/build.sh")
  diff --recursive "$OUTPUT" "$copy/dist" || fail "two builds of one commit differ"
  echo "two builds of one commit are the same: $(sha256sum "$OUTPUT/SHA256SUMS" | cut -d' ' -f1) SHA256SUMS"
}

needs
[[ ! -e $OUTPUT ]] || fail "$OUTPUT is there already: remove it, or set OUTPUT to another folder"
release
[[ ${1:-} != --check ]] || check
