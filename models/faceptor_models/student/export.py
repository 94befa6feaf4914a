"""Exports a checkpoint to the folder that `faceptor compile` reads: quantized QDQ ONNX parts and manifest.toml.

python -m faceptor_models.student.export CHECKPOINT --cache CACHE --out edge
"""

import argparse
import hashlib
import re
import shutil
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import onnx
import tomli_w
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from faceptor_models.common import geometry, labels
from faceptor_models.common.augment import sample
from faceptor_models.common.packed_crops import SOURCES, pack

from .evaluate import load
from .network import AGE_BINS, DENSE, QUERIES
from .parts import cut, run

OPSET = 17
LICENCE = "Non-commercial research use only: see LICENSE-WEIGHTS.md"


def calibration_images(faces, cache, size, count=240, seed=7):
    """Returns lightly augmented training crops of every source, [count, 3, size, size] float."""
    arrays = pack(faces, cache, mapped=True)
    rng = np.random.default_rng(seed)
    images = []
    for i in range(count):
        crops = arrays[SOURCES[i % len(SOURCES)]]
        images.append(sample(rng, crops[rng.integers(len(crops))], size)[0])
    return torch.from_numpy(np.stack(images)).float().div_(127.5).sub_(1.0)


class Tensors(CalibrationDataReader):
    """Gives the calibrator the images' tensors at a part's inputs, one face at a time."""

    def __init__(self, tensors, names):
        self.rows = iter([{n: tensors[n][i : i + 1].numpy() for n in names} for i in range(len(tensors[names[0]]))])

    def get_next(self):
        return next(self.rows, None)


def export_float(part, path, tensors):
    example = tuple(tensors[n][:1].contiguous() for n in part.inputs)
    torch.onnx.export(
        part, example, str(path), input_names=part.inputs, output_names=part.outputs, opset_version=OPSET, dynamo=False, do_constant_folding=True
    )


def quantize(source, target, tensors, inputs, method):
    """Writes a QDQ file: activations u8 for each tensor, weights i8 for each output channel, only products with constant weights.

    After the preparation linear layers are Gemm. A MatMul is a product of activations (attention, the dot product with pixels),
    which stays in float: `MatMulConstBOnly` has no effect on QDQ files.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Tensors(tensors, inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv", "Gemm"]},
        )
    onnx.checker.check_model(onnx.load(str(target)))


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def table_of(out):
    """Returns the text of the table of impostor scores in an export's manifest; empty without one."""
    path = out / "manifest.toml"
    found = re.search(r"(?m)^\[impostors\]\n(?:(?!\[).*\n?)*", path.read_text() if path.exists() else "")
    return found.group().rstrip() + "\n" if found else ""


def recognizer(out):
    """Returns the hashes of the parts that recognition uses: a table of impostor scores belongs to them."""
    return [sha256(path) if path.exists() else None for path in (out / "encoder.onnx", out / "task_recognition.onnx")]


def manifest(name, version, size, parts, folder, finder, check=None):
    """Builds manifest.toml as a dict; `finder` is the finder's own finder.toml, `check` the face_check.toml of the export."""
    tasks, first = [], 0
    kinds = {"landmarks": [], "parsing": labels.PARSING, "age": [], "expression": labels.EXPRESSIONS, "attributes": labels.ATTRIBUTES}
    for task, queries in QUERIES.items():
        row = {
            "name": task, "kind": task, "part": f"task_{task}", "output": f"out_{task}", "default": True,
            "queries": [first, first + queries], "interpreter": "map" if task in DENSE else "value", "labels": kinds[task],
        }  # fmt: skip
        if task == "age":
            row["bins"] = AGE_BINS
        if task == "landmarks":
            row["flip"] = labels.LANDMARK_FLIP
        if task == "parsing":
            row["flip"] = labels.PARSING_FLIP
        # Half of the training crops were mirrored.
        row["mirror"] = True
        tasks.append(row)
        first += queries
    tasks.append({
        "name": "recognition", "kind": "recognition", "part": "task_recognition", "output": "out_recognition", "default": False,
        "queries": [first, first], "interpreter": "feature", "labels": [], "mirror": True,
    })  # fmt: skip
    rows = [
        {"name": n, "file": f"{n}.onnx", "sha256": sha256(folder / f"{n}.onnx"), "inputs": p.inputs, "outputs": p.outputs} for n, p in parts.items()
    ]
    rows += [row | {"sha256": sha256(folder / row["file"])} for row in finder.get("part", [])]
    return {
        "format": 1,
        "name": name,
        "version": version,
        "licence": LICENCE,
        "input": {"tensor": "image", "size": size, "colour": "rgb", "mean": [127.5] * 3, "std": [127.5] * 3},
        "frame": {
            "template": [[round(float(v), 6) for v in p] for p in geometry.TEMPLATE],
            "warp": "cubic",
            "warp_linear": geometry.WARP_LINEAR,
            "border": "replicate",
        },
        "part": rows,
        "task": tasks,
        "finder": finder["finder"],
        **(check or {}),
    }


METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--cache", help="folder of the decoded crops, for the calibration")
    p.add_argument("--out", help="the export folder")
    p.add_argument("--finder", default="edge", help="folder with finder.toml and the finder's ONNX files, merged in")
    p.add_argument("--name", default="faceptor-edge")
    p.add_argument("--release", default="0.1.0")
    p.add_argument("--px", type=int, default=96)
    p.add_argument("--method", default="minmax", choices=list(METHODS))
    p.add_argument("--weights", default="average")
    p.add_argument("--float-out", help="also keep the float ONNX parts in this folder")
    p.add_argument("--float-only", action="store_true", help="write nothing but them: needs no research photos")
    args = p.parse_args(arguments)
    if not (args.float_out if args.float_only else args.cache and args.out):
        p.error("--float-only needs --float-out, everything else needs --cache and --out")
    torch.manual_seed(0)
    net, _ = load(args.checkpoint, args.weights)
    if args.float_only:
        parts = cut(net, args.px)
        tensors = run(parts, torch.zeros(1, 3, args.px, args.px))
        Path(args.float_out).mkdir(parents=True, exist_ok=True)
        for name, part in parts.items():
            export_float(part, Path(args.float_out) / f"{name}.onnx", tensors)
        return
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    impostors, measured = table_of(out), recognizer(out)
    parts = cut(net, args.px)
    tensors = run(parts, calibration_images(args.faces, args.cache, args.px))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(args.float_out or folder)
        plain.mkdir(parents=True, exist_ok=True)
        for name, part in parts.items():
            export_float(part, plain / f"{name}.onnx", tensors)
            quantize(plain / f"{name}.onnx", out / f"{name}.onnx", tensors, part.inputs, METHODS[args.method])
    finder_folder = Path(args.finder)
    finder = tomllib.loads((finder_folder / "finder.toml").read_text())
    for row in finder.get("part", []):
        source, target = finder_folder / row["file"], out / row["file"]
        if source.resolve() != target.resolve():
            shutil.copyfile(source, target)
    # It was fitted to these features: after a new training `make face-check` fits it again.
    fitted = out / "face_check.toml"
    check = tomllib.loads(fitted.read_text()) if fitted.exists() else {}
    text = tomli_w.dumps(manifest(args.name, args.release, args.px, parts, out, finder, check))
    if impostors and recognizer(out) == measured:
        text += "\n" + impostors
    elif impostors:
        print(f"{out}: the recognition has changed, so its table of impostor scores is left out: measure it (make identity)")
    (out / "manifest.toml").write_text(text)
    size = sum(f.stat().st_size for f in out.glob("*.onnx"))
    print(f"{out}: {len(list(out.glob('*.onnx')))} parts, {size / 1e6:.2f} MB, manifest sha256 {sha256(out / 'manifest.toml')[:16]}")


if __name__ == "__main__":
    main()
