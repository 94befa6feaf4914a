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

# The limit of this engine's instructions relative to tract's, on Cortex-A76.
LIMIT = 0.35
# Number of runs for the median; the first of each is not counted. They differ only by the kernel's interrupts.
RUNS = 3
LIMIT_S = 1800
PEERS_LIMIT_S = 5400
# Peers with Python wheels, by their names in benches/peers/board.py.
PEERS = ["ort-f32", "ort-qdq", "ort-static", "mnn-f32", "mnn-low", "mnn-int8", "ncnn"]
# A peer whose mean cosine to the float network is smaller gives wrong answers.
RIGHT = 0.99

ON_BOARD = """
export PATH=/tmp:$PATH
cp faceptor peers-runner /tmp/ 2>/dev/null
faceptor bench --profile --tasks all --frames {runs} --warm-up 1 --json - >profile.json || exit 1
[ ! -x /tmp/peers-runner ] || for line in "ours edge.bundle" "tract float.onnx"; do
    set -- $line
    printf 'time 1\\ntime {runs}\\n' | peers-runner $1 $2 images.f32 {size} >$1.times || exit 1
done
[ -d peers ] || exit 0
mkdir -p /tmp/root
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 peers /tmp/root || exit 1
for folder in proc dev sys tmp mnt/host; do mount --bind /$folder /tmp/root/$folder || exit 1; done
for peer in {peers}; do
    PYTHONPATH=/wheels chroot /tmp/root /usr/bin/python3.11 -B /mnt/host/peers/board.py run $peer /mnt/host/peers
done
exit 0
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=pathlib.Path, required=True, help="faceptor for arm64")
    parser.add_argument("--runner", type=pathlib.Path, help="peers-runner for arm64; without it only this engine is counted")
    parser.add_argument("--bundle", type=pathlib.Path, help="the network, for the runner")
    parser.add_argument("--networks", type=pathlib.Path, help="folder with float.onnx, images.f32 and size, for the runner")
    parser.add_argument("--peers", type=pathlib.Path, help="folder with Python and wheels for arm64 (peers.sh)")
    parser.add_argument("--cpu", action="append", help="QEMU's CPU, several times; the default is cortex-a76")
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
    if options.peers:
        peers = shared / "peers"
        peers.mkdir()
        wanted = [*options.networks.glob("*.onnx"), *options.networks.glob("net*.mnn*"), *(options.networks / name for name in ("images.f32", "size", "answers.npz"))]
        code = pathlib.Path(__file__).resolve().parent.parent.parent / "benches/peers"
        for source in [*wanted, code / "board.py", code / "engines.py"]:
            shutil.copy(source, peers)
        if (options.networks / "ncnn").exists():
            shutil.copytree(options.networks / "ncnn", peers / "ncnn")
    (shared / "run.sh").write_text(ON_BOARD.format(runs=RUNS, size=size, peers=" ".join(PEERS)))
    return shared


def runs(path):
    """Returns the instructions of each run but the first: the runner's second reply, in microseconds of the virtual clock."""
    ready, _, times = path.read_text().splitlines()
    assert ready == "ready", ready
    return [float(time) * 1000 for time in times.split()]


def parts_table(profile):
    """Returns the table of the network's parts."""
    lines = ["| part | million instructions | multiply-accumulates an instruction |", "|---|--:|--:|"]
    face = [part for part in profile["parts"] if not part["name"].startswith("finder")]
    for part in face:
        count = part["time_us"] * 1000
        lines.append(f"| {part['name']} | {count / 1e6:.2f} | {part['macs'] / count:.1f} |")
    lines.append(f"| all | {sum(part['time_us'] for part in face) / 1000:.2f} | |")
    return lines


def steps_table(profile, count=12):
    """Returns the table of the steps with the most instructions."""
    steps = [(step["time_us"], part["name"], step) for part in profile["parts"] if not part["name"].startswith("finder") for step in part["steps"]]
    whole = sum(time for time, _, _ in steps)
    lines = ["", "| part | step | shapes | million instructions | share |", "|---|---|---|--:|--:|"]
    for time, part, step in sorted(steps, key=lambda entry: -entry[0])[:count]:
        shapes = " > ".join("x".join(map(str, step[side])) for side in ("input", "output"))
        lines.append(f"| {part} | {step['op']} | {shapes} | {time / 1000:.2f} | {100 * time / whole:.1f} % |")
    return lines


def engines_table(shared, ours):
    """Returns the table of the engines, and the ratio of ours to tract's and to the best peer's that answers rightly."""
    rows, tract = [], None
    if (shared / "tract.times").exists():
        ours, tract = (statistics.median(runs(shared / f"{name}.times")) for name in ("ours", "tract"))
        rows.append(("tract 0.23.9, f32, into_optimized", tract, ""))
    best, failed = None, []
    for path in sorted((shared / "peers").glob("*.json")) if (shared / "peers").exists() else []:
        peer = json.loads(path.read_text())
        if "error" in peer:
            failed.append(f"{peer['name']}: {peer['error']}")
            continue
        count = statistics.median(peer["instructions"])
        rows.append((f"{peer['name']}, {peer['settings']}", count, f"{peer['cosine']:.4f}"))
        if peer["cosine"] >= RIGHT and (best is None or count < best):
            best = count
    for name in PEERS if (shared / "peers").exists() else []:
        if not (shared / "peers" / f"{name}.json").exists():
            failed.append(f"{name}: ended without an answer")
    lines = ["", "| engine | million instructions | ours to it | cosine to float, mean |", "|---|--:|--:|--:|", f"| **faceptor-edge** | {ours / 1e6:.1f} | 1 | |"]
    lines += [f"| {name} | {count / 1e6:.1f} | {ours / count:.3f} | {cosine} |" for name, count, cosine in sorted(rows, key=lambda row: row[1])]
    lines += [""] * bool(failed) + [f"Not counted: {reason}" for reason in failed]
    return lines, ours / tract if tract else None, ours / best if best else None


def report(shared, cpu, version):
    """Returns the tables of one CPU as Markdown, and the ratio to tract if it was counted."""
    profile = json.loads((shared / "profile.json").read_text())
    network = f"{profile['model']['name']} {profile['model']['version']}"
    lines = [f"One face with six tasks, {network}, `-cpu {cpu}`, {profile['kernel']} kernel, one thread; {version}, one instruction a nanosecond.", ""]
    lines += parts_table(profile) + steps_table(profile)
    ours = sum(part["time_us"] for part in profile["parts"] if not part["name"].startswith("finder")) * 1000
    table, ratio, to_best = engines_table(shared, ours)
    lines += table
    if to_best is not None:
        lines += ["", f"Ours takes {to_best:.2f} of the instructions of the best peer that gives right answers."]
    return "\n".join(lines) + "\n", ratio


def main():
    options = arguments()
    version = subprocess.run(["qemu-system-aarch64", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    texts, to_tract = [], None
    for cpu in options.cpu or ["cortex-a76"]:
        shared = share(options)
        folders = {"peers": options.peers} if options.peers else {}
        status = Machine(shared, cores=1, counted=True, memory_mib=2048, cpu=cpu, folders=folders).wait(PEERS_LIMIT_S if options.peers else LIMIT_S)
        if status != 0:
            sys.exit(f"board: exit status {status} with {cpu}")
        text, ratio = report(shared, cpu, version.split(" (")[0])
        print(text, flush=True)
        texts.append(text)
        to_tract = ratio if cpu == "cortex-a76" else to_tract
    (options.out / "instructions.md").write_text("\n".join(texts))
    if to_tract is not None and to_tract > LIMIT:
        sys.exit(f"board: {to_tract:.3f} of tract's instructions on Cortex-A76, {LIMIT} at most")


if __name__ == "__main__":
    main()
