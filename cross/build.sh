#!/usr/bin/env bash
# Builds faceptor for arm64 and checks that it starts on the oldest supported systems.
#
#     cross/build.sh              after cross/toolchain.sh and a host build (`make cross` does all three)
#
# The host's program compiles and packs the network; the arm64 build embeds that bundle (FACEPTOR_BUNDLE). So tract is not
# compiled for arm64, and both programs hold the same network. Nor is a crate compiled for the host again
# (.ci/unit-graph checks it): with rustup's compiler the build shares the host's target folder, and asks for the library
# with the features that the host's has, of which the build script's crates depend. Debian's compiler loads only what it
# has compiled itself: it gets a folder of its own, and compiles procedural macros and bindgen once more, but not tract.
# The other scripts in this folder source it for its variables: $host and $arm64 (the programs), $build (cargo's
# arguments), and the environment of env.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
host_target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
host=$host_target/release/faceptor
target=aarch64-unknown-linux-gnu
# The oldest supported systems, Ubuntu 22.04 and JetPack 6, have glibc 2.35.
glibc_limit=2.35
say() { echo "cross: $*"; }

[ -x "$host" ] || { echo "cross: $host is missing: run 'make build' first" >&2; exit 1; }
cross_target=$host_target/cross
mkdir -p "$cross_target"
# One process at a time: test.sh moves the program aside.
exec {lock}>"$cross_target/build.lock"
flock "$lock"

# Replaced only if it differs: its time stamp decides whether cargo builds again.
bundle=$cross_target/edge.bundle
"$host" compile models/edge --kernel sdot --out "$bundle.new" >/dev/null
cmp -s "$bundle.new" "$bundle" || mv "$bundle.new" "$bundle"
rm -f "$bundle.new"
export FACEPTOR_BUNDLE=$bundle

compiler=$(rustc --print sysroot)/bin/rustc
# shellcheck source=env.sh
source cross/env.sh
if [ "$RUSTC" = "$compiler" ]; then
    export CARGO_TARGET_DIR=$host_target
    build=(--release --target "$target" --no-default-features --features embedded,faceptor/default)
else
    export CARGO_TARGET_DIR=$cross_target
    build=(--release --target "$target" --no-default-features --features embedded)
fi
read -ra flags <<<"${CARGO_FLAGS:-}"
build+=("${flags[@]}")
say "building with $("$RUSTC" --version)"
arm64=$CARGO_TARGET_DIR/$target/release/faceptor
# Removes test.sh's script and the program that it starts: cargo restores the program as a hard link, which mv does not move
# onto itself.
rm -f "$arm64" "$arm64.elf"
cargo build "${build[@]}"

needed=$(aarch64-linux-gnu-objdump -T "$arm64" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
if [ "$(printf '%s\n' "${needed#GLIBC_}" "$glibc_limit" | sort -V | tail -n 1)" != "$glibc_limit" ]; then
    say "the program needs $needed, the limit is $glibc_limit:"
    aarch64-linux-gnu-objdump -T "$arm64" | grep -F "$needed"
    exit 1
fi
# The same path with both compilers.
if [ "$CARGO_TARGET_DIR" != "$cross_target" ]; then
    mkdir -p "$cross_target/$target/release"
    ln -f "$arm64" "$cross_target/$target/release/faceptor"
fi
# The network inside, the compiler of networks not.
size=$(stat -c %s "$arm64")
if [ "$size" -gt $((12 << 20)) ]; then
    say "$arm64 has $size bytes, the limit is 12 MiB"
    exit 1
fi
say "$arm64: $(stat -c %s "$arm64") bytes, needs at most $needed (limit $glibc_limit)"
