#!/usr/bin/env bash
# Builds faceptor for arm64, runs its tests under QEMU's user emulation and compares its answers with the host's.
#
#     cross/test.sh               after cross/toolchain.sh and a host build (`make cross-test` does all three)
#
# The host's program compiles the network; the arm64 build takes that bundle as it is (FACEPTOR_BUNDLE). So tract is
# compiled neither for arm64 nor once more for the host, and both programs hold the very same bytes.
# Emulation is about a hundred times slower than a real core: it shows that answers are right, never how fast they come.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
host_target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
host=$host_target/release/faceptor
target=aarch64-unknown-linux-gnu
# The oldest system that the program must start on: Ubuntu 22.04 and JetPack 6 have glibc 2.35.
glibc_limit=2.35
say() { echo "cross: $*"; }

[ -x "$host" ] || { echo "cross: $host is missing: run 'make build' first" >&2; exit 1; }
export CARGO_TARGET_DIR=${FACEPTOR_CROSS_TARGET:-$host_target/cross}
mkdir -p "$CARGO_TARGET_DIR"
# One at a time: the program is put aside for a script below.
exec {lock}>"$CARGO_TARGET_DIR/test.lock"
flock "$lock"

# Replaced only when it differs: its time stamp decides whether cargo builds again.
bundle=$CARGO_TARGET_DIR/edge.bundle
"$host" compile models/edge --out "$bundle.new"
cmp -s "$bundle.new" "$bundle" || mv "$bundle.new" "$bundle"
rm -f "$bundle.new"
export FACEPTOR_BUNDLE=$bundle

# shellcheck source=env.sh
source cross/env.sh
build=(--release --target "$target" --no-default-features --features embedded)
read -ra flags <<<"${CARGO_FLAGS:-}"
say "building with $("$RUSTC" --version)"
arm64=$CARGO_TARGET_DIR/$target/release/faceptor
# The last run's script, and the program it started: cargo puts the program back, as a hard link that mv would not move
# onto itself.
rm -f "$arm64" "$arm64.elf"
cargo build "${build[@]}" "${flags[@]}"

needed=$(aarch64-linux-gnu-objdump -T "$arm64" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
if [ "$(printf '%s\n' "${needed#GLIBC_}" "$glibc_limit" | sort -V | tail -n 1)" != "$glibc_limit" ]; then
    say "the program needs $needed, the limit is $glibc_limit:"
    aarch64-linux-gnu-objdump -T "$arm64" | grep -F "$needed"
    exit 1
fi
say "$(stat -c %s "$arm64") bytes, needs at most $needed (limit $glibc_limit)"

# The tests start the program by its path, and a kernel without binfmt_misc cannot start it: a script of that name does.
say "tests under $(qemu-aarch64-static --version | head -n 1)"
list='import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("profile", {}).get("test") and message.get("executable"):
        print(message["executable"])'
messages=$CARGO_TARGET_DIR/tests.json
cargo test "${build[@]}" "${flags[@]}" --lib --tests --no-run --message-format json-render-diagnostics >"$messages"
mapfile -t tests < <(python3 -c "$list" <"$messages")
[ ${#tests[@]} -gt 1 ] || { echo "cross: no tests were built" >&2; exit 1; }
mv "$arm64" "$arm64.elf"
printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER" "$arm64.elf" >"$arm64"
chmod +x "$arm64"
read -ra emulator <<<"$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER"
for test in "${tests[@]}"; do
    echo "     Running $(basename "$test") for arm64"
    "${emulator[@]}" "$test"
done

photo=models/demo/astronaut.jpg
answers=$(mktemp -d)
trap 'rm -rf "$answers"' EXIT
"$host" image "$photo" --tasks all --json >"$answers/host.json"
"$arm64" image "$photo" --tasks all --json >"$answers/arm64.json"
python3 cross/agree.py "$answers/host.json" "$answers/arm64.json"
