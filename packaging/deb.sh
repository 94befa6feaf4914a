#!/usr/bin/env bash
# Makes Debian packages of prebuilt programs. `make deb` builds the programs and calls it for both architectures.
#
#     packaging/deb.sh --manual DIR --out DIR amd64=PROGRAM [arm64=PROGRAM]
#
# DIR of --manual: output of examples/manual.rs. Nothing is compiled, and no cross compiler is needed: a program is stripped
# already, and the C library that it needs is read from its ELF header.
#
#     PACKAGE_VERSION      default: the version of Cargo.toml and -1
#     PACKAGE_COMPRESSION  of dpkg-deb, default xz; "gzip -z1" is quick, for tests
#     SOURCE_DATE_EPOCH    time stamp of the files, default: the last commit's. The same inputs give the same bytes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
# The oldest supported systems have this C library (cross/build.sh).
glibc_limit=2.35
fail() { echo "deb: $*" >&2; exit 1; }

manual='' out='' programs=()
while [ $# -gt 0 ]; do
    case $1 in
        --manual) manual=$(realpath "$2"); shift 2 ;;
        --out) out=$2; shift 2 ;;
        amd64=* | arm64=*) programs+=("$1"); shift ;;
        *) fail "what is '$1'? See the head of $0" ;;
    esac
done
[ -n "$out" ] && [ ${#programs[@]} -gt 0 ] || fail "arguments: --manual DIR --out DIR amd64=PROGRAM [arm64=PROGRAM]"
[ -f "$manual/faceptor.toml" ] || fail "$manual/faceptor.toml is missing: cargo run --release --example manual -- $manual"

declare -A provides=([debhelper]=dh [dpkg-dev]=dpkg-buildpackage [dh-apparmor]=dh_apparmor [binutils]=readelf)
missing=()
for package in "${!provides[@]}"; do
    command -v "${provides[$package]}" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] || "$root/.ci/install" "${missing[@]}"

release=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
version=${PACKAGE_VERSION:-$release-1}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# needs PROGRAM ARCHITECTURE: prints the packages that the program needs.
needs() {
    local program=$1 machine
    machine=$(readelf -h "$program" | sed -n 's/^ *Machine: *//p')
    case "$2 $machine" in
        "amd64 Advanced Micro Devices X86-64" | "arm64 AArch64") ;;
        *) fail "$program is for '$machine', not for $2" ;;
    esac
    local libraries glibc
    libraries=$(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    local packages=()
    for library in $libraries; do
        case $library in
            libc.so.6 | libm.so.6 | ld-linux*.so.?) ;;
            libgcc_s.so.1) packages+=("libgcc-s1 (>= 4.2)") ;;
            *) fail "$program needs $library, which no package of the list in $0 provides" ;;
        esac
    done
    glibc=$(readelf -V "$program" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
    glibc=${glibc#GLIBC_}
    [ -n "$glibc" ] || fail "$program names no version of the C library"
    if [ "$(printf '%s\n' "$glibc" "$glibc_limit" | sort -V | tail -n 1)" != "$glibc_limit" ]; then
        fail "$program needs glibc $glibc, and the oldest supported systems have $glibc_limit"
    fi
    packages+=("libc6 (>= $glibc)")
    local list
    list=$(printf ', %s' "${packages[@]}")
    echo "${list#, }"
}

# The crates inside the program, with their licences.
crates() {
    echo "Rust crates in the program faceptor $release, with their licences."
    echo
    (cd "$root" && cargo tree --locked --package faceptor-edge --edges normal,build --no-default-features --features embedded \
        --target aarch64-unknown-linux-gnu --target x86_64-unknown-linux-gnu --prefix none --format '{p}: {l}') |
        sed 's/ (proc-macro)//; s/ (\*)$//; /^faceptor/d; /^$/d' | sort -u
}

crates >"$work/crates.txt"
for entry in "${programs[@]}"; do
    arch=${entry%%=*} program=$(realpath "${entry#*=}")
    [ -x "$program" ] || fail "$program is missing: run 'make build' (amd64) or 'make cross' (arm64) first"
    depends=$(needs "$program" "$arch")
    tree=$work/$arch/faceptor
    mkdir -p "$tree"
    cp -r "$here/debian" "$tree/debian"
    cp -r "$manual/man" "$manual/completions" "$manual/faceptor.toml" "$root/LICENSE-WEIGHTS.md" "$tree/"
    install -m 755 "$program" "$tree/faceptor"
    cp "$work/crates.txt" "$tree/crates.txt"
    # Bash looks for completions by the program's name.
    mv "$tree/completions/faceptor.bash" "$tree/completions/faceptor"
    cat >"$tree/debian/changelog" <<EOF
faceptor ($version) stable; urgency=medium

  * Release $release. Changes: CHANGELOG.md of the project.

 -- $(sed -n 's/^Maintainer: //p' "$here/debian/control")  $(date -R -u -d "@$SOURCE_DATE_EPOCH")
EOF
    cp "$root/CHANGELOG.md" "$tree/CHANGELOG.md"
    export PROGRAM_DEPENDS=$depends
    if ! (cd "$tree" && dpkg-buildpackage --build=binary --host-arch "$arch" --no-check-builddeps --no-sign --no-pre-clean) >"$work/log" 2>&1; then
        cat "$work/log" >&2
        fail "dpkg-buildpackage failed"
    fi
    package=$work/$arch/faceptor_${version}_$arch.deb
    [ -f "$package" ] || fail "$package was not made"
    cp "$package" "$out/"
    echo "deb: $out/$(basename "$package"): $(stat -c %s "$package") bytes, needs $depends"
done
