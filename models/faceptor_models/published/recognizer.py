"""Compares a recognition network that `faceptor compile --recognizer` took over with ONNX Runtime, and measures its impostor scores.

    python -m faceptor_models.published.recognizer own.onnx --binary ../target/release/faceptor --out DIR

Compiles `--export` with the network into DIR/own.bundle. Both see the same crops of the aligned LFW photos, and no averaged ones; LFW's
pairs are those of `student.identity`. ONNX Runtime runs on one thread, as the program does, in turn with it. `--impostors` also writes
DIR/impostors.toml, which `faceptor compile --recognizer-impostors` puts into the bundle.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import onnxruntime

from faceptor_models.common.geometry import TEMPLATE
from faceptor_models.common.metrics import verification
from faceptor_models.student.accuracy import ask
from faceptor_models.student.development import Development
from faceptor_models.student.identity import Photos as PhotosOfPeople
from faceptor_models.student.identity import answered, impostor_table, name_of, pairs, rounded, with_table

from .groups import Group, arcface
from .preprocess import to_keypoints, view

BATCH = 500


def own_group(colour, mean, std):
    """Returns what the network sees: the crop of ArcFace."""
    return Group("recognizer", 112, mean, std, ["recognition"], colour, arcface())


def numbers(text):
    """Reads one number for all channels, or three with commas."""
    values = [float(value) for value in text.split(",")]
    return tuple(values * 3 if len(values) == 1 else values)


def compiled(binary, export, network, colour, mean, std, out, more=()):
    """Compiles the export folder with the network. Returns the bundle."""
    how = ["--recognizer-colour", colour, "--recognizer-mean", ",".join(map(str, mean)), "--recognizer-std", ",".join(map(str, std))]
    command = [binary, "compile", export, "--recognizer", network, *how, *more, "--out", out, "--force"]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return out


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def embeddings(binary, bundle, dev, rows):
    """Returns the program's unit vectors of the crops themselves."""
    lines = []
    for start in range(0, len(rows), BATCH):
        how = ["--aligned", "--looks", "1", "--tasks", "recognition"]
        lines += ask(binary, bundle, how, [dev.file(row) for row in rows[start : start + BATCH]])
    return unit(np.array([line["faces"][0]["recognition"]["embedding"] for line in lines]))


def crop(group, picture):
    """Returns the group's tensor of an aligned photo."""
    # Pixel indices are frame coordinates times the side: common.geometry.
    return view(group, picture, to_keypoints(group, TEMPLATE * len(picture)))


def session_of(network):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])


def time_of_ours(binary, bundle, frames):
    """Returns the median microseconds of the network alone within the program."""
    command = [binary, "bench", "--model", bundle, "--tasks", "recognition", "--frames", str(frames), "--profile", "--json", "-"]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if not done.stdout:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}")
    parts = json.loads(done.stdout[done.stdout.index("{") :])["parts"]
    return next(part["time_us"] for part in parts if part["name"] == "recognizer")


def time_of_runtime(session, tensor, runs):
    """Returns the median microseconds of ONNX Runtime."""
    name = session.get_inputs()[0].name
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        session.run(None, {name: tensor})
        times.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(times)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("network", help="ONNX file of the recognition network")
    p.add_argument("--colour", choices=["rgb", "bgr"], default="rgb")
    p.add_argument("--mean", type=numbers, default=(127.5,) * 3, help="one number or three with commas, of pixels 0..255")
    p.add_argument("--std", type=numbers, default=(127.5,) * 3)
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--binary", default="../target/release/faceptor")
    p.add_argument("--export", default="edge", help="folder with the network that answers everything else")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--rounds", type=int, default=9, help="turns of both for the time")
    p.add_argument("--impostors", action="store_true", help="also write the table of impostor scores (some minutes)")
    args = p.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    bundle = compiled(args.binary, args.export, args.network, args.colour, args.mean, args.std, out / "own.bundle")
    dev = Development(args.faces)
    lfw = dev.pairs()
    rows = sorted({row for _, a, b, _ in lfw for row in (a, b)})
    ours = embeddings(args.binary, bundle, dev, rows)
    group, session = own_group(args.colour, args.mean, args.std), session_of(args.network)
    name = session.get_inputs()[0].name
    theirs = unit(np.concatenate([session.run(None, {name: crop(group, dev.rgb(row))[None]})[0].reshape(1, -1) for row in rows]))
    cosine = (ours * theirs).sum(1)
    accuracy = [100 * verification(lfw, dict(zip(rows, vectors, strict=True))) for vectors in (ours, theirs)]
    tensor = crop(group, dev.rgb(rows[0]))[None]
    turns = [(time_of_ours(args.binary, bundle, 120), time_of_runtime(session, tensor, 100)) for _ in range(args.rounds)]
    own_us, runtime_us = (statistics.median(column) for column in zip(*turns, strict=True))
    ratio = statistics.median(one / other for one, other in turns)
    print(f"{Path(args.network).name}, {ours.shape[1]} numbers: LFW pairs of folds 1-5 ({len(lfw):,} pairs, {len(rows):,} photos)\n")
    print("| | LFW % | median us of the network, one thread |\n|---|---|---|")
    print(f"| Faceptor | {accuracy[0]:.2f} | {own_us:.0f} |\n| ONNX Runtime {onnxruntime.__version__} | {accuracy[1]:.2f} | {runtime_us:.0f} |\n")
    print(f"Time against ONNX Runtime's {ratio:.2f} (median of {args.rounds} turns).")
    print(f"Cosine of both embeddings of a photo: mean {cosine.mean():.5f}, least {cosine.min():.5f}.")
    if args.impostors:
        photos = dev.rows("lfw")
        _, person = np.unique([name_of(dev.path[row]) for row in photos], return_inverse=True)
        vectors = rounded(answered(dev, photos, args.binary, str(bundle), None))
        _, impostors = pairs(PhotosOfPeople(vectors, person), np.arange(len(photos)))
        text = with_table("", impostor_table(impostors), int(person.max()) + 1, len(impostors))
        (out / "impostors.toml").write_text(text.lstrip())
        print(f"\n{out / 'impostors.toml'}: the table for `faceptor compile --recognizer-impostors`.")


if __name__ == "__main__":
    main()
