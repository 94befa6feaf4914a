"""Counts parameters and multiply-accumulates of an export folder, part by part, from its ONNX graphs.

python -m faceptor_models.student.cost edge
"""

import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx


def part_cost(path):
    """Returns (MACs, weights) of one ONNX graph: convolutions and products; a weight is an initializer of rank 2 or more."""
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    graph = model.graph
    shapes = {i.name: list(i.dims) for i in graph.initializer}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    macs = 0
    for node in graph.node:
        if node.op_type == "Conv":
            macs += int(np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("MatMul", "Gemm"):
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            macs += int(np.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1])
    weights = {i.name: int(np.prod(i.dims)) for i in graph.initializer if len(i.dims) >= 2}
    return macs, weights


def folder_cost(folder):
    """Returns {part: (MACs, weights)} of every part except the finder's."""
    folder = Path(folder)
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    finder = {s["part"] for s in manifest.get("finder", {}).get("size", [])}
    return {p["name"]: part_cost(folder / p["file"]) for p in manifest["part"] if p["name"] not in finder}


def main():
    rows = folder_cost(sys.argv[1] if len(sys.argv) > 1 else "edge")
    for name, (macs, weights) in rows.items():
        print(f"{name:18s} {macs / 1e6:8.2f} MMAC {sum(weights.values()) / 1e3:9.1f} k weights")
    print(f"{'all':18s} {sum(m for m, _ in rows.values()) / 1e6:8.2f} MMAC")


if __name__ == "__main__":
    main()
