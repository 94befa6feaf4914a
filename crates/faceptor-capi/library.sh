#!/usr/bin/env bash
# Builds the C library and installs it below a folder: header, libfaceptor.so with soname and versioned symbols, libfaceptor.a and
# faceptor.pc.
#
#     crates/faceptor-capi/library.sh OUT        after `make build` (`make capi` does both)
#     PREFIX=/usr                                the folder that faceptor.pc names (default: OUT)
#     FACEPTOR_BUNDLE=FILE                       a ready network in place of that of models/edge; the compiler (tract) is not built then
#     FACEPTOR_ARCH=aarch64                      for arm64; after cross/toolchain.sh, with FACEPTOR_BUNDLE (`make capi-arm64` does all)
#     FACEPTOR_STATIC=FILE                       a ready static library: nothing is compiled
#
# Cargo gives a shared library neither a soname nor versioned symbols, so it is linked here from the static one. (cargo-c does the
# first of these; no distribution or registry has it compiled, and compiling it takes longer than all of faceptor.)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(realpath -m "${1:?a folder for the library}")
cd "$root"
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
abi=$(sed -n 's/^#define FACEPTOR_ABI_VERSION //p' "$here/include/faceptor.h")
static=${FACEPTOR_STATIC:-}
if [ -z "$static" ] && [ "${FACEPTOR_ARCH:-}" = aarch64 ]; then
    # The bundle of the host's program, packed for arm64, unless one is given.
    if [ -z "${FACEPTOR_BUNDLE:-}" ]; then
        mkdir -p "$target/capi"
        "$target/release/faceptor" compile models/edge --kernel sdot --out "$target/capi/aarch64.bundle" --force >/dev/null
        export FACEPTOR_BUNDLE=$target/capi/aarch64.bundle
    fi
    read -ra flags <<<"${CARGO_FLAGS:-}"
    compiler=$(rustc --print sysroot)/bin/rustc
    # shellcheck source=../../cross/env.sh
    source cross/env.sh
    # Debian's compiler loads only macros that it compiled itself: a folder of its own.
    [ "$RUSTC" = "$compiler" ] || target=$target/cross
    CARGO_TARGET_DIR=$target cargo build --release --quiet --target aarch64-unknown-linux-gnu \
        --manifest-path "$here/Cargo.toml" --features embedded "${flags[@]}"
    static=$target/aarch64-unknown-linux-gnu/release/libfaceptor_c.a
    export CC=${CC:-aarch64-linux-gnu-gcc}
fi
if [ -z "$static" ]; then
    read -ra flags <<<"${CARGO_FLAGS:-}"
    if [ -z "${FACEPTOR_BUNDLE:-}" ]; then
        # Together with the program: its features are the library's then, so that nothing but this crate is compiled again.
        cargo build --release --quiet --package faceptor-edge --package faceptor-capi --lib "${flags[@]}"
    else
        cargo build --release --quiet --manifest-path "$here/Cargo.toml" --features embedded "${flags[@]}"
    fi
    static=$target/release/libfaceptor_c.a
fi
rm -rf "$out/include/faceptor.h" "$out"/lib/libfaceptor.* "$out/lib/pkgconfig/faceptor.pc"
mkdir -p "$out/include" "$out/lib/pkgconfig"
install -m 644 "$here/include/faceptor.h" "$out/include"
install -m 644 "$static" "$out/lib/libfaceptor.a"
# The symbols of the header keep what they use; the rest of the static library is left out.
mapfile -t kept < <(grep -oE '\bfaceptor_[a-z_]+\(' "$here/include/faceptor.h" | tr -d '(' | sort -u | sed 's/^/-Wl,-u,/')
system=(-lpthread -ldl -lm)
"${CC:-cc}" -shared -o "$out/lib/libfaceptor.so.$version" "${kept[@]}" "$out/lib/libfaceptor.a" -Wl,--gc-sections \
    -Wl,-soname,"libfaceptor.so.$abi" -Wl,--version-script="$here/faceptor.map" -Wl,-z,defs -Wl,--strip-all -lgcc_s "${system[@]}"
ln -sf "libfaceptor.so.$version" "$out/lib/libfaceptor.so.$abi"
ln -sf "libfaceptor.so.$abi" "$out/lib/libfaceptor.so"
cat >"$out/lib/pkgconfig/faceptor.pc" <<PC
prefix=${PREFIX:-$out}
includedir=\${prefix}/include
libdir=\${prefix}/lib

Name: faceptor
Description: Reads faces in images on a CPU
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lfaceptor
Libs.private: -lgcc_s ${system[*]}
PC
echo "capi: $out/lib/libfaceptor.so.$version: $(stat -Lc %s "$out/lib/libfaceptor.so") bytes"
