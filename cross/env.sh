# Source me: `source cross/env.sh` sets what cargo needs to build for arm64 and to run the result under QEMU.
# After it: cargo build --release --target aarch64-unknown-linux-gnu --no-default-features --features embedded
# (with FACEPTOR_BUNDLE, see cross/test.sh). cross/toolchain.sh installs the required programs.
_cross=${FACEPTOR_CROSS:-$HOME/.cache/faceptor-cross}
_target=aarch64-unknown-linux-gnu

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=""
# bindgen reads the kernel's V4L2 headers: the arm64 ones of Debian's linux-libc-dev-arm64-cross.
export BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu="-isystem /usr/aarch64-linux-gnu/include"

if [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$_target" ]; then
    RUSTC=$(rustc --print sysroot)/bin/rustc
else
    # Debian's rustc, unpacked: it needs its own LLVM.
    RUSTC=$_cross/usr/bin/rustc
    export LD_LIBRARY_PATH="$_cross/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
export RUSTC
unset _cross _target
