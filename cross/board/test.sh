#!/usr/bin/env bash
# Tests faceptor on an arm64 board: the virtual one, or a real one over ssh.
#
#     cross/board/test.sh                      boots the virtual board and runs every scenario (README.md beside this file)
#     cross/board/test.sh --board user@host    copies the program there, runs doctor, bench, verify and the camera
#     cross/board/test.sh --board image        the same steps on the image of `make image`, booted on a virtual board
#     BOARD_SSH="-p 2222"                      further options for ssh
#     cross/board/test.sh --help               all options
#
# After cross/toolchain.sh and a host build; `make board-test` does all of it. Results: $BOARD_OUT, by default
# board/ in the target folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

declare -A provides=([qemu-system-arm]=qemu-system-aarch64 [cpio]=cpio [kmod]=modprobe [openssh-client]=ssh [python3]=python3)
missing=()
for package in "${!provides[@]}"; do
    PATH=$PATH:/usr/sbin command -v "${provides[$package]}" >/dev/null || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "board: installing ${missing[*]}"
    "$here/../../.ci/install" "${missing[@]}"
fi

"$here/fetch.sh"
# shellcheck source=../build.sh
source "$here/../build.sh"
out=${BOARD_OUT:-$host_target/board}
mkdir -p "$out/clips"

# The demo clip's first frames, rendered by the host's build, and a single one of them.
demo_clip=$host_target/release/examples/demo_clip
if [ ! -s "$out/clips/still.yuyv" ] || [ "$demo_clip" -nt "$out/clips/still.yuyv" ]; then
    "$demo_clip" "$out/clips/face.yuyv" 24 >"$out/clips/truth.json"
    "$demo_clip" "$out/clips/face.mjpg" 24 >/dev/null
    "$demo_clip" "$out/clips/still.yuyv" 1 >/dev/null
fi
aarch64-linux-gnu-gcc -O2 -Wall -Wextra -Werror -static -o "$out/feeder" "$here/feeder.c"
flock -u "$lock"
if [ "${1:-} ${2:-}" = "--board image" ]; then
    shift 2
    image=$(ls -t "$host_target"/image/faceptor-*-arm64.img 2>/dev/null | head -n 1)
    [ -n "$image" ] || { echo "board: there is no image in $host_target/image: run 'make image' first" >&2; exit 1; }
    set -- --image "$image" "$@"
fi
exec python3 "$here/test.py" --program "$arm64" --host "$host" --out "$out" "$@"
