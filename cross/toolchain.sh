#!/usr/bin/env bash
# Installs an arm64 toolchain on an x86-64 Debian or Ubuntu: C cross compiler, C library, QEMU's user emulation and Rust's standard library.
#
#     cross/toolchain.sh          install what is missing (root or sudo), check it with a hello world
#     FACEPTOR_CROSS=DIR          where the Rust part is unpacked (default ~/.cache/faceptor-cross)
#
# Rust's part comes from rustup if that target is installed (`rustup target add aarch64-unknown-linux-gnu`), otherwise
# from Debian's own packages, unpacked into a folder: nothing is installed over rustup and no foreign architecture is
# added to the system.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cross=${FACEPTOR_CROSS:-$HOME/.cache/faceptor-cross}
target=aarch64-unknown-linux-gnu
say() { echo "toolchain: $*" >&2; }
# shellcheck source=apt.sh
source "$here/apt.sh"

# 1. The C side and the emulator.
declare -A provides=(
    [gcc-aarch64-linux-gnu]=aarch64-linux-gnu-gcc
    [libc6-dev-arm64-cross]=/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1
    [linux-libc-dev-arm64-cross]=/usr/aarch64-linux-gnu/include/linux/videodev2.h
    [qemu-user-static]=qemu-aarch64-static
)
missing=()
for package in "${!provides[@]}"; do
    command -v "${provides[$package]}" >/dev/null || [ -e "${provides[$package]}" ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]}"
    "$here/../.ci/install" "${missing[@]}"
fi

# 2. Rust's standard library for arm64.
if [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$target" ]; then
    say "rustup has $target"
elif [ -x "$cross/usr/bin/rustc" ] && [ -d "$cross/usr/lib/rustlib/$target" ]; then
    say "Debian's Rust is already unpacked in $cross"
elif ! grep -qx 'ID=debian' /etc/os-release; then
    say "this is not Debian: run 'rustup target add $target' and start me again"
    exit 1
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/debs"
    say "reading Debian's package lists"
    private_apt "$work"
    depends() { "${cache[@]}" show --no-all-versions "$1" | sed -n 's/^Depends: //p' | tr ',' '\n' | sed 's/^ *//;s/ .*//' | grep -E "$2" | head -1; }
    std=$(depends libstd-rust-web-dev '^libstd-rust-web-[0-9]')
    llvm=$(depends "$std" '^libllvm')
    say "downloading rustc-web, $std, $llvm"
    (cd "$work/debs" && "${apt[@]}" download rustc-web "$std" "$std:arm64" libstd-rust-web-dev libstd-rust-web-dev:arm64 "$llvm" \
        >"$work/log" 2>&1) || { cat "$work/log" >&2; exit 1; }
    rm -rf "$cross.new"
    for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$cross.new"; done
    rm -rf "$cross"
    mv "$cross.new" "$cross"
fi

# 3. Check: build and run a program that uses the standard library.
# shellcheck source=env.sh
source "$here/env.sh"
hello=$(mktemp -d)
echo 'fn main() { println!("{} {}", std::env::consts::ARCH, std::thread::spawn(|| 6 * 7).join().unwrap()) }' >"$hello/hello.rs"
# shellcheck disable=SC2086
"$RUSTC" --target $target $CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS \
    -C linker="$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER" -o "$hello/hello" "$hello/hello.rs"
# shellcheck disable=SC2086
answer=$($CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER "$hello/hello")
rm -rf "$hello"
[ "$answer" = "aarch64 42" ] || { say "hello world answered '$answer'"; exit 1; }
say "ready: $("$RUSTC" --version), $(aarch64-linux-gnu-gcc --version | head -1), $(qemu-aarch64-static --version | head -1)"
