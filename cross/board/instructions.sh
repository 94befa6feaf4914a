#!/usr/bin/env bash
# Counts the instructions of one face on the virtual arm64 board: this engine, plain tract in float32 and the peers whose wheels
# exist for arm64, on a CPU of each class. `make board-instructions`.
#
#     CPUS="cortex-a57 cortex-a76 max"    QEMU's CPUs: without dot products, with them, with matrix products (max)
#
# With QEMU's -icount the board's clock advances by one nanosecond for each instruction, independent of this machine's
# load, so times measured on the board are instructions. They are not cycles and do not predict a real board's time.
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
"$(benches/peers/environment)/bin/python" benches/peers/board.py prepare --networks "$out"
peers=$("$here/peers.sh")
read -ra cpus <<<"${CPUS:-cortex-a57 cortex-a76 max}"
exec python3 "$here/instructions.py" "${cpus[@]/#/--cpu=}" --peers "$peers" --program "$arm64" --runner "$CARGO_TARGET_DIR/$target/release/peers-runner" \
    --bundle "$bundle" --networks "$out" --out "$out" "$@"
