#!/usr/bin/env bash
# Builds a container image of each prebuilt program. `make container` builds the programs and calls it.
#
#     packaging/container/build.sh --tag NAME amd64=PROGRAM [arm64=PROGRAM]
#
# Images are NAME:VERSION-ARCHITECTURE; that of this machine's architecture is also NAME:VERSION and NAME:latest. Nothing is
# downloaded but the C library for arm64: an image holds the program, the libraries that it needs, and the licences.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
limit_bytes=40000000
fail() { echo "container: $*" >&2; exit 1; }

tag='' programs=()
while [ $# -gt 0 ]; do
    case $1 in
        --tag) tag=$2; shift 2 ;;
        amd64=* | arm64=*) programs+=("$1"); shift ;;
        *) fail "what is '$1'? See the head of $0" ;;
    esac
done
[ -n "$tag" ] && [ ${#programs[@]} -gt 0 ] || fail "arguments: --tag NAME amd64=PROGRAM [arm64=PROGRAM]"
command -v docker >/dev/null || fail "docker is missing: apt-get install docker.io"
docker info >/dev/null 2>&1 || fail "no Docker daemon answers: start dockerd, and join its group 'docker'"

# An image for another architecture needs BuildKit; Docker says so where the package docker-buildx is missing.
export DOCKER_BUILDKIT=1

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
native=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# libraries ARCHITECTURE: prints the folders that hold the C library for it.
libraries() {
    if [ "$1" = "$native" ]; then
        echo "/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH) /lib /lib64"
    else
        # Debian's and Ubuntu's packages libc6-arm64-cross and libgcc-s1-arm64-cross.
        echo /usr/aarch64-linux-gnu/lib
    fi
}

# copy_library ROOT NAME FOLDER...: copies a library to the root's /lib.
copy_library() {
    local to=$1 name=$2 folder
    shift 2
    for folder in "$@"; do
        if [ -e "$folder/$name" ]; then
            install -D -m 755 "$folder/$name" "$to/lib/$name"
            return
        fi
    done
    fail "$name is in none of: $*"
}

for entry in "${programs[@]}"; do
    architecture=${entry%%=*} program=${entry#*=}
    context=$work/$architecture
    install -D -m 755 "$program" "$context/usr/bin/faceptor"
    read -ra folders <<<"$(libraries "$architecture")"
    # The loader has a fixed place; where it looks for the others is compiled into it: /lib and /usr/lib among them.
    loader=$(readelf -l "$program" | sed -n 's/.*program interpreter: \(.*\)\]/\1/p')
    for library in $(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p') "$(basename "$loader")"; do
        copy_library "$context" "$library" "${folders[@]}"
    done
    if [ "$(dirname "$loader")" != /lib ]; then
        mkdir -p "$context$(dirname "$loader")"
        mv "$context/lib/$(basename "$loader")" "$context$loader"
    fi
    install -D -m 644 -t "$context/usr/share/doc/faceptor" "$root"/LICENSE-*
    # Docker mounts temporary files over this folder.
    mkdir -m 1777 "$context/tmp"

    image=$tag:$version-$architecture
    docker build --quiet --platform "linux/$architecture" --build-arg "TARGETARCH=$architecture" --tag "$image" \
        --label "org.opencontainers.image.version=$version" --label org.opencontainers.image.title=faceptor \
        --file "$here/Dockerfile" "$work" >/dev/null
    bytes=$(docker image inspect --format '{{.Size}}' "$image")
    [ "$bytes" -lt "$limit_bytes" ] || fail "$image has $bytes bytes, limit $limit_bytes"
    echo "container: $image, $bytes bytes"
    if [ "$architecture" = "$native" ]; then
        docker tag "$image" "$tag:$version"
        docker tag "$image" "$tag:latest"
    fi
done
