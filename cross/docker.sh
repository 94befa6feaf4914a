#!/usr/bin/env bash
# Builds and tests the program for arm64 with `cross` in a container, and compares it with that of `make cross`.
#
#     cross/docker.sh             after a host build and cross/build.sh (`make cross-docker` does all three)
#     CROSS_BASE=IMAGE            the image that cross/Dockerfile starts from; default ubuntu:22.04, or, where no registry
#                                 answers, an image of this Debian made with mmdebstrap
#
# It needs a Docker daemon. cross is installed with cargo where it is missing. Where rustup has no standard library for
# arm64, Debian's compiler (cross/toolchain.sh) becomes a toolchain of rustup, which cross uses as a custom one.
set -euo pipefail
# shellcheck source=build.sh
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"
flock -u "$lock"
fail() { echo "cross-docker: $*" >&2; exit 1; }
command -v docker >/dev/null || fail "docker is missing: apt-get install docker.io"
docker info >/dev/null 2>&1 || fail "no Docker daemon answers: start dockerd, and join its group 'docker'"
# build.sh has set the compiler of env.sh, which the container must not use.
debian=$RUSTC
unset RUSTC LD_LIBRARY_PATH
command -v cross >/dev/null || { say "installing cross"; cargo install --quiet --locked cross --version 0.2.5; }

# 1. The image that the Dockerfile starts from.
base=${CROSS_BASE:-ubuntu:22.04}
if ! docker image inspect "$base" >/dev/null 2>&1 && ! docker pull --quiet "$base" >/dev/null 2>&1; then
    [ -z "${CROSS_BASE:-}" ] || fail "there is no image '$base' here, and no registry has it"
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") ||
        fail "no registry has '$base': build an image of your own and name it with CROSS_BASE"
    base=faceptor-cross-base:$suite
    if ! docker image inspect "$base" >/dev/null 2>&1; then
        say "no registry answers: making $base from Debian's packages"
        command -v mmdebstrap >/dev/null || .ci/install mmdebstrap
        mmdebstrap --quiet --variant=minbase "$suite" - | docker import - "$base" >/dev/null
    fi
fi

# 2. The compiler with the standard library for arm64.
if [ "$debian" != "$compiler" ]; then
    tree=$(dirname "$(dirname "$debian")")
    toolchain=$(dirname "$tree")/faceptor-cross
    # rustup's programs, and the container below, look for libraries in lib; Debian has them a folder deeper.
    rm -rf "$toolchain"
    mkdir -p "$toolchain/bin" "$toolchain/lib"
    cp -a "$tree/bin/rustc" "$tree/bin/rustdoc" "$(dirname "$compiler")/cargo" "$toolchain/bin/"
    cp -a "$tree/lib/rustlib" "$tree"/lib/x86_64-linux-gnu/*.so* "$toolchain/lib/"
    # By its path, since cross 0.2.5 does not find a toolchain that rustup 1.28 lists as active.
    rustup toolchain link faceptor-cross "$toolchain"
    export RUSTUP_TOOLCHAIN=$toolchain CROSS_CUSTOM_TOOLCHAIN=1
fi

# 3. Build, test, compare.
export CROSS_CONFIG=$root/cross/Cross.toml CARGO_TARGET_DIR=$host_target/cross-docker
export CROSS_BUILD_OPTS="--build-arg BASE=$base --network host" CROSS_CONTAINER_OPTS="--env LD_LIBRARY_PATH=/rust/lib"
mkdir -p "$CARGO_TARGET_DIR"
arguments=(--release --target "$target" --no-default-features --features embedded)
cross build "${arguments[@]}"
cross test "${arguments[@]}" --lib
cross test --release --target "$target" --package faceptor-nn --lib

program=$CARGO_TARGET_DIR/$target/release/faceptor
python3 - "$program" "$bundle" <<'PY'
import sys
program, bundle = (open(path, "rb").read() for path in sys.argv[1:])
sys.exit(None if bundle in program else f"cross-docker: {sys.argv[1]} does not hold the bytes of {sys.argv[2]}")
PY
answers=$(mktemp -d)
trap 'rm -rf "$answers"' EXIT
read -ra emulator <<<"$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER"
for way in "$arm64" "$program"; do
    say "the demo photo with $way"
    "${emulator[@]}" "$way" image models/demo/astronaut.jpg --tasks all --json >"$answers/$([ "$way" = "$arm64" ] && echo make || echo docker).json"
done
python3 cross/agree.py "$answers/make.json" "$answers/docker.json"
say "$program: $(stat -c %s "$program") bytes; it holds the bundle of make cross and gives its answers"
