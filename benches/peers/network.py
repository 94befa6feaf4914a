"""Joins the shipped network's parts by tensor name into one ONNX file, the input of every peer.

    python benches/peers/network.py --export models/edge --floats FOLDER --out FOLDER

writes float.onnx, qdq.onnx, images.f32 (network inputs) and size (their side).
"""

import argparse
import tomllib
from pathlib import Path

import numpy as np
import onnx
from onnx import helper


def manifest(export):
    return tomllib.loads((Path(export) / "manifest.toml").read_text())


def parts_of(export):
    """Returns the manifest's parts without the detector's, in the order of the data flow."""
    description = manifest(export)
    finder = {size["part"] for size in description.get("finder", {}).get("size", [])}
    return [part for part in description["part"] if part["name"] not in finder]


def join(folder, parts, image, outputs, target):
    """Writes `target`: the parts' graphs in one, from `image` to `outputs`. Names inside a part get its prefix."""
    nodes, initializers, opset, ports = [], [], None, {}
    shared = {name for part in parts for name in [*part["inputs"], *part["outputs"]]}
    for part in parts:
        model = onnx.load(str(Path(folder) / part["file"]))
        if opset not in (None, model.opset_import[0].version):
            raise SystemExit(f"{part['file']}: opset {model.opset_import[0].version}, the parts before have {opset}")
        opset = model.opset_import[0].version

        def named(name, prefix=part["name"]):
            return name if name in shared or not name else f"{prefix}/{name}"

        for value in [*model.graph.input, *model.graph.output]:
            ports[value.name] = value
        for initializer in model.graph.initializer:
            initializer.name = named(initializer.name)
            initializers.append(initializer)
        for node in model.graph.node:
            node.name = named(node.name)
            node.input[:] = [named(name) for name in node.input]
            node.output[:] = [named(name) for name in node.output]
            nodes.append(node)
    graph = helper.make_graph(nodes, "faceptor", [ports[image]], [ports[name] for name in outputs], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 9
    onnx.checker.check_model(made)
    onnx.save(made, str(target))


def write(export, floats, out):
    """Returns {kind: path} of the joined files: float32 from `floats`, QDQ from `export`; also the encoder alone."""
    description, parts = manifest(export), parts_of(export)
    image = description["input"]["tensor"]
    outputs = [task["output"] for task in description["task"]]
    encoder = [part for part in parts if image in part["inputs"]]
    made = {}
    for kind, folder in (("float", floats), ("qdq", export)):
        made[kind] = out / f"{kind}.onnx"
        join(folder, parts, image, outputs, made[kind])
    made["encoder"] = Path(export) / encoder[0]["file"]
    return made


def inputs(golden, portrait, size, count):
    """Returns (normalised network images [count, 3, size, size], their description).

    The images are the parity test's crops if `make -C models golden` has made them, otherwise the demo portrait at `count` positions.
    """
    file = Path(golden) / "image.f32"
    if file.exists():
        images = np.fromfile(file, "<f4").reshape(-1, 3, size, size)[:count]
        return images, f"{len(images)} dev crops of the parity test"
    from PIL import Image

    photo = np.asarray(Image.open(portrait).convert("RGB"))
    rng = np.random.default_rng(3)
    images = []
    for _ in range(count):
        side = int(rng.integers(150, 220))
        left, top = int(225 - side / 2 + rng.integers(-12, 13)), int(112 - side / 2 + rng.integers(-12, 13))
        crop = photo[max(top, 0) : top + side, max(left, 0) : left + side]
        images.append(np.asarray(Image.fromarray(crop).resize((size, size))).transpose(2, 0, 1))
    return np.stack(images).astype(np.float32) / 127.5 - 1.0, f"the demo portrait, cut {count} times"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--export", required=True)
    p.add_argument("--floats", required=True, help="folder of the float parts (student.export --float-only)")
    p.add_argument("--golden", default="target/golden")
    p.add_argument("--portrait", default="models/demo/astronaut.jpg")
    p.add_argument("--out", required=True)
    args = p.parse_args()
    out, size = Path(args.out), manifest(args.export)["input"]["size"]
    write(args.export, args.floats, out)
    np.ascontiguousarray(inputs(args.golden, args.portrait, size, 8)[0]).astype("<f4").tofile(out / "images.f32")
    (out / "size").write_text(f"{size}\n")


if __name__ == "__main__":
    main()
