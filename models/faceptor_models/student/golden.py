"""Writes golden outputs for tests/integration/parity.rs: 64 dev crops through ONNX Runtime (the QDQ parts) and through the float network.

    python -m faceptor_models.student.golden --export edge --out ../target/golden

The folder holds network inputs made from research photos and is never committed. The float answers come from a checkpoint
(`--weights`). Without PyTorch they are left out, and the parity test reports it.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import tomli_w

from faceptor_models.common.area_sampling import network_image
from faceptor_models.common.labels import EXPRESSIONS

from .development import Development
from .onnx_parts import OnnxParts

COUNT = 64


def pick(dev):
    """Picks rows spread evenly over the sources."""
    sources = ["w300", "celebamask", "utk", "fairface", "celeba", "rafdb", "ferplus", "lfw"]
    chosen = [dev.rows(s)[np.linspace(0, len(dev.rows(s)) - 1, COUNT // len(sources)).astype(int)] for s in sources]
    return np.concatenate(chosen)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--export", default="edge")
    p.add_argument("--weights", help="checkpoint with the float weights (default: weights.pt beside the export)")
    p.add_argument("--out", required=True)
    args = p.parse_args()
    dev, parts = Development(args.faces), OnnxParts(args.export)
    size = parts.manifest["input"]["size"]
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    images = np.stack([network_image(dev.rgb(i), size) for i in pick(dev)]).astype(np.float32) / 127.5 - 1.0
    images.astype("<f4").tofile(out / "image.f32")
    tasks = parts.manifest["task"]
    rows = [parts.run(i[None]) for i in images]
    for task in tasks:
        np.concatenate([r[task["output"]] for r in rows]).astype("<f4").tofile(out / f"ort.{task['name']}.f32")
    weights = Path(args.weights or Path(args.export) / "weights.pt")
    try:
        import torch

        from .evaluate import load
        from .parts import cut, run
    except ImportError:
        torch = None
    held = torch is not None and weights.exists()
    if held:
        torch.set_num_threads(1)
        tensors = run(cut(load(weights)[0], size), torch.from_numpy(images))
        for task in tasks:
            tensors[task["output"]].numpy().astype("<f4").tofile(out / f"float.{task['name']}.f32")
    text = (Path(args.export) / "manifest.toml").read_bytes()
    about = {"count": COUNT, "size": size, "manifest_sha256": hashlib.sha256(text).hexdigest(), "float": held, "expressions": len(EXPRESSIONS)}
    (out / "golden.toml").write_text(tomli_w.dumps(about))
    print(f"{out}: {COUNT} crops, {len(tasks)} tasks, float answers {'from ' + str(weights) if held else 'left out'}")


if __name__ == "__main__":
    main()
