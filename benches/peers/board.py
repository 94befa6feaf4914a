"""Counts the instructions of the peers on the virtual arm64 board, for `make board-instructions`.

    python benches/peers/board.py prepare --networks FOLDER     on the host, in the environment of `make bench-peers`
    python3 board.py run NAME FOLDER                            on the board, whose clock counts instructions

`prepare` expects float.onnx, qdq.onnx, images.f32 and size (network.py), and adds the peers' own files and the float network's
answers. `run` writes NAME.json: the times of some runs (on that clock, nanoseconds are instructions) and the mean cosine to the
float answers. Each engine is a process of its own: one that ends with a signal does not end the others.
"""

import argparse
import json
import sys
from pathlib import Path

import engines
import numpy as np

# Images, and runs of which the first is not counted.
IMAGES = 2
RUNS = 4

# Name, and what makes the engine from the folder, the images and the names of the outputs.
PEERS = {
    "ort-f32": lambda at, images, outputs: engines.Ort("f32", at / "float.onnx", images, "all optimizations"),
    "ort-qdq": lambda at, images, outputs: engines.Ort("QDQ (the shipped file)", at / "qdq.onnx", images, "all optimizations"),
    "ort-static": lambda at, images, outputs: engines.Ort("its own static u8", at / "static.onnx", images, "per channel, calibrated on the same images"),
    "mnn-f32": lambda at, images, outputs: engines.Mnn("f32", at / "net.mnn", images, outputs, "high", "normal"),
    "mnn-low": lambda at, images, outputs: engines.Mnn("f16 or bf16", at / "net.mnn", images, outputs, "low", "normal"),
    "mnn-int8": lambda at, images, outputs: engines.Mnn("int8 weights, dynamic", at / "net--weightQuantBits8.mnn", images, outputs, "low", "low"),
    "ncnn": lambda at, images, outputs: engines.Ncnn("f32", at / "ncnn/net.ncnn.param", at / "ncnn/net.ncnn.bin", images, outputs, False),
}


def read(at):
    size = int((at / "size").read_text())
    images = np.fromfile(at / "images.f32", "<f4").reshape(-1, 3, size, size)[:IMAGES]
    return size, np.ascontiguousarray(images)


def prepare(at):
    from table import static_u8

    size, images = read(at)
    float_engine = PEERS["ort-f32"](at, images, None)
    answers = [float_engine.answer(i) for i in range(len(images))]
    np.savez(at / "answers.npz", **{f"{i} {name}": value for i, answer in enumerate(answers) for name, value in answer.items()})
    every = np.fromfile(at / "images.f32", "<f4").reshape(-1, 3, size, size)
    static_u8(at / "float.onnx", at / "static.onnx", every, float_engine.input)
    for convert in (
        lambda: engines.convert_mnn(at / "float.onnx", at),
        lambda: engines.convert_mnn(at / "float.onnx", at, "--weightQuantBits", "8"),
        lambda: engines.convert_ncnn(at / "float.onnx", at, size),
    ):
        try:
            convert()
        except Exception as reason:  # noqa: BLE001  the board reports the missing file
            print(f"not converted: {reason}", file=sys.stderr)


def run(name, at):
    _, images = read(at)
    answers = np.load(at / "answers.npz")
    outputs = sorted({key.split(" ", 1)[1] for key in answers})
    engine = PEERS[name](at, images, outputs)
    found = []
    for i in range(len(images)):
        answer = engine.answer(i)
        for output in outputs:
            a, b = np.ravel(answer[output]).astype(np.float64), np.ravel(answers[f"{i} {output}"]).astype(np.float64)
            found.append(float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)) if a.shape == b.shape else 0.0)
    times = engine.time(RUNS)[1:]
    return {"name": engine.name, "settings": engine.settings, "instructions": [time * 1000 for time in times], "cosine": float(np.mean(found))}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("prepare").add_argument("--networks", type=Path, required=True)
    counted = kinds.add_parser("run")
    counted.add_argument("name", choices=PEERS)
    counted.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.kind == "prepare":
        return prepare(args.networks)
    try:
        result = run(args.name, args.folder)
    except Exception as reason:  # noqa: BLE001  a foreign library may throw anything
        result = {"name": args.name, "error": (str(reason).strip().splitlines() or [type(reason).__name__])[0][:160]}
    (args.folder / f"{args.name}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
