#!/usr/bin/env bash
# Builds the wheel of the Python package into wheels/ of the target folder, and checks which systems it runs on.
#
#     crates/faceptor-python/wheel.sh ARCH       x86_64 or aarch64; after `make build` (`make wheel` and `make wheel-arm64` do all)
#     FACEPTOR_BUNDLE=FILE                       a ready network in place of that of models/edge; no host build is needed then
#     FACEPTOR_PYTHON=DIR                        where the tools are installed (default ~/.cache/faceptor-python)
#     WHEEL_PROFILE=dev                          another profile of cargo, for trying things out
#
# zig links against any glibc, so the wheel runs on systems older than this one. The network compiler (tract) is not compiled for
# the wheel: the program of `make build` compiles the network, and the wheel embeds that file.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
arch=${1:?x86_64 or aarch64}
say() { echo "wheel: $*"; }
case $arch in
    x86_64) kernel=avx512vnni ;;
    aarch64) kernel=sdot ;;
    *) echo "wheel: '$arch': x86_64 or aarch64 is needed" >&2; exit 2 ;;
esac
target=$arch-unknown-linux-gnu
tag=manylinux_2_28
cd "$root"
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR
# The same folder with every compiler.
out=$CARGO_TARGET_DIR/wheels
# shellcheck source=tools.sh
source "$here/tools.sh"
python_tools

if [ -z "${FACEPTOR_BUNDLE:-}" ]; then
    host=$CARGO_TARGET_DIR/release/faceptor
    [ -x "$host" ] || { echo "wheel: $host is missing: run 'make build' first" >&2; exit 1; }
    mkdir -p "$CARGO_TARGET_DIR/wheel"
    # Replaced only if it differs: its time stamp decides whether cargo builds again.
    bundle=$CARGO_TARGET_DIR/wheel/$arch.bundle
    "$host" compile models/edge --kernel $kernel --out "$bundle.new" >/dev/null
    cmp -s "$bundle.new" "$bundle" || mv "$bundle.new" "$bundle"
    rm -f "$bundle.new"
    export FACEPTOR_BUNDLE=$bundle
fi

if [ "$arch" = aarch64 ] && ! [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    # Debian's compiler (cross/toolchain.sh unpacks it) loads only macros that it compiled itself: a folder of its own.
    # shellcheck source=../../cross/env.sh
    source cross/env.sh
    # The linker is zig.
    unset CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER CC_aarch64_unknown_linux_gnu
    unset CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS
    export CARGO_TARGET_DIR=$CARGO_TARGET_DIR/cross
fi

# maturin starts zig by this environment's python.
export PATH=$tools/bin:$PATH
rm -f "$out"/faceptor-*_"$arch".whl
flags=()
# CARGO_FLAGS may hold --locked, which pyproject.toml says already.
for flag in ${CARGO_FLAGS:-}; do [ "$flag" = --locked ] || flags+=("$flag"); done
"$tools/bin/maturin" build --quiet --profile "${WHEEL_PROFILE:-release}" --manifest-path "$here/Cargo.toml" --target $target --zig \
    --compatibility $tag --interpreter "$tools/bin/python" --out "$out" "${flags[@]}"
wheel=$(echo "$out"/faceptor-*_"$arch".whl)

# It needs glibc alone, and none later than the tag says.
shown=$("$tools/bin/auditwheel" show "$wheel" | tr '\n' ' ')
if ! grep -qE 'consistent with the following platform tag: "manylinux_2_(1?[0-9]|2[0-8])_'"$arch" <<<"$shown"; then
    echo "wheel: auditwheel does not find $wheel to be $tag: $shown" >&2
    exit 1
fi
needed=$(grep -oE 'GLIBC_2\.[0-9]+' <<<"$shown" | sort -Vu | tail -n 1)
size=$(stat -c %s "$wheel")
if [ "$size" -gt $((12 << 20)) ]; then
    echo "wheel: $wheel has $size bytes, the limit is 12 MiB" >&2
    exit 1
fi
say "$wheel: $size bytes, needs at most ${needed:-an older glibc}"
