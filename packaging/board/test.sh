#!/usr/bin/env bash
# Tests the arm64 package on the virtual board under real systemd: one boot. `make deb-test BOARD=1` calls it.
#
#     packaging/board/test.sh --packages DIR          DIR: output of deb.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
fail() { echo "board: $*" >&2; exit 1; }
[ "${1:-}" = --packages ] && [ $# -eq 2 ] || fail "arguments: --packages DIR"
package=("$2"/faceptor_*_arm64.deb)
[ ${#package[@]} -eq 1 ] && [ -f "${package[0]}" ] || fail "$2 holds ${#package[@]} packages for arm64, not one: run 'make deb'"

declare -A provides=([qemu-system-arm]=qemu-system-aarch64 [cpio]=cpio [kmod]=modprobe [python3]=python3)
missing=()
for name in "${!provides[@]}"; do
    PATH=$PATH:/usr/sbin command -v "${provides[$name]}" >/dev/null || missing+=("$name")
done
[ ${#missing[@]} -eq 0 ] || "$root/.ci/install" "${missing[@]}"
"$root/cross/board/fetch.sh"
"$here/root.sh"

board=${FACEPTOR_BOARD:-$HOME/.cache/faceptor-board}/systemd
shared=$(mktemp -d)
trap 'rm -rf "$shared"' EXIT
cp "${package[0]}" "$shared/faceptor.deb"
cp "$here/run.sh" "$here/probe.sh" "$shared/"
ln "$board/root.tar" "$shared/root.tar" 2>/dev/null || cp "$board/root.tar" "$shared/root.tar"
# The same machine as that of `make board-test`, with another initrd and more memory.
FACEPTOR_BOARD=$board PYTHONPATH=$root/cross/board python3 - "$shared" <<'PYTHON'
import sys

from machine import Machine

status = Machine(sys.argv[1], memory_mib=2048).wait(900)
print("board: the package passed" if status == 0 else f"board: FAILED, exit status {status}")
sys.exit(0 if status == 0 else 1)
PYTHON
