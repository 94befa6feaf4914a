#!/usr/bin/env bash
# Counts the instructions of one face on the virtual arm64 board: ours against plain tract in float32. `make board-instructions`.
#
# QEMU's -icount lets the board's clock advance by one nanosecond for each instruction, whatever this machine does
# meanwhile, so that times measured there are instructions. They are no cycles: a board's time does not follow from them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
command -v qemu-system-aarch64 >/dev/null || "$here/../../.ci/install" qemu-system-arm
"$here/fetch.sh"
# shellcheck source=../build.sh
source "$here/../build.sh"
out=${BOARD_OUT:-$host_target/board-instructions}
mkdir -p "$out"
# tract for arm64 is compiled once: a quarter of an hour on an idle machine.
cargo build --release --no-default-features --target "$target" --manifest-path benches/peers/runner/Cargo.toml
flock -u "$lock"
make --no-print-directory -C models float-parts OUT="$out/float"
python=${VENV:-$HOME/.cache/faceptor-models/venv}/bin/python
"$python" benches/peers/network.py --export models/edge --floats "$out/float" --out "$out"
exec python3 "$here/instructions.py" --program "$arm64" --runner "$CARGO_TARGET_DIR/$target/release/peers-runner" \
    --bundle "$bundle" --networks "$out" --out "$out" "$@"
