#!/usr/bin/env python3
"""Counts the instructions of one face with six tasks on the virtual arm64 board. instructions.sh prepares its inputs and starts it."""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

from machine import Machine

# The limit of this engine's instructions relative to tract's.
LIMIT = 0.35
# Number of runs for the median; the first of each is not counted. They differ only by the kernel's interrupts.
RUNS = 3
LIMIT_S = 1800

ON_BOARD = """
export PATH=/tmp:$PATH
cp faceptor peers-runner /tmp/ 2>/dev/null
faceptor bench --profile --tasks all --frames {runs} --warm-up 1 --json - >profile.json || exit 1
[ -x /tmp/peers-runner ] || exit 0
for line in "ours edge.bundle" "tract float.onnx"; do
    set -- $line
    printf 'time 1\\ntime {runs}\\n' | peers-runner $1 $2 images.f32 {size} >$1.times || exit 1
done
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=pathlib.Path, required=True, help="faceptor for arm64")
    parser.add_argument("--runner", type=pathlib.Path, help="peers-runner for arm64; without it only this engine is counted")
    parser.add_argument("--bundle", type=pathlib.Path, help="the network, for the runner")
    parser.add_argument("--networks", type=pathlib.Path, help="folder with float.onnx, images.f32 and size, for the runner")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    return parser.parse_args()


def share(options):
    """Prepares the folder that is shared with the board."""
    shared = options.out / "shared"
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir(parents=True)
    shutil.copy(options.program, shared / "faceptor")
    size = 0
    if options.runner:
        size = int((options.networks / "size").read_text())
        for source, name in [
            (options.runner, "peers-runner"),
            (options.bundle, "edge.bundle"),
            (options.networks / "float.onnx", "float.onnx"),
            (options.networks / "images.f32", "images.f32"),
        ]:
            shutil.copy(source, shared / name)
    (shared / "run.sh").write_text(ON_BOARD.format(runs=RUNS, size=size))
    return shared


def runs(path):
    """Returns the instructions of each run but the first: the runner's second reply, in microseconds of the virtual clock."""
    ready, _, times = path.read_text().splitlines()
    assert ready == "ready", ready
    return [float(time) * 1000 for time in times.split()]


def report(shared, version):
    """Returns the table as Markdown, and the ratio if tract was counted."""
    profile = json.loads((shared / "profile.json").read_text())
    network = f"{profile['model']['name']} {profile['model']['version']}"
    lines = [f"One face with six tasks, {network}, `-cpu cortex-a76`, {profile['kernel']} kernel, one thread; {version}, one instruction a nanosecond.", ""]
    lines += ["| part | million instructions | multiply-accumulates an instruction |", "|---|--:|--:|"]
    face = [part for part in profile["parts"] if not part["name"].startswith("finder")]
    for part in face:
        count = part["time_us"] * 1000
        lines.append(f"| {part['name']} | {count / 1e6:.2f} | {part['macs'] / count:.1f} |")
    lines.append(f"| all | {sum(part['time_us'] for part in face) / 1000:.2f} | |")
    ratio = None
    if (shared / "tract.times").exists():
        ours, tract = (statistics.median(runs(shared / f"{name}.times")) for name in ("ours", "tract"))
        ratio = ours / tract
        lines += ["", "| engine | million instructions | to tract |", "|---|--:|--:|"]
        lines += [f"| faceptor-edge | {ours / 1e6:.1f} | {ratio:.3f} |", f"| tract 0.23.9, f32, into_optimized | {tract / 1e6:.1f} | 1 |"]
    return "\n".join(lines) + "\n", ratio


def main():
    options = arguments()
    shared = share(options)
    status = Machine(shared, cores=1, counted=True).wait(LIMIT_S)
    if status != 0:
        sys.exit(f"board: exit status {status}")
    version = subprocess.run(["qemu-system-aarch64", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    text, ratio = report(shared, version.split(" (")[0])
    print(text)
    (options.out / "instructions.md").write_text(text)
    if ratio is not None and ratio > LIMIT:
        sys.exit(f"board: {ratio:.3f} of tract's instructions, {LIMIT} at most")


if __name__ == "__main__":
    main()
