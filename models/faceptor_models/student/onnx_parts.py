"""Runs the exported parts in ONNX Runtime, connected by tensor name as in manifest.toml."""

import tomllib
from pathlib import Path

import numpy as np
import onnxruntime as ort


class OnnxParts:
    """Computes every part for one face with `run(image)`. Optimizations are off: ONNX Runtime's fused u8 kernels are not always right."""

    def __init__(self, folder, optimize=False, threads=1):
        folder = Path(folder)
        self.manifest = tomllib.loads((folder / "manifest.toml").read_text())
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        finder = {size["part"] for size in self.manifest.get("finder", {}).get("size", [])}
        self.parts = [p for p in self.manifest["part"] if p["name"] not in finder]
        self.sessions = [ort.InferenceSession(str(folder / p["file"]), options, providers=["CPUExecutionProvider"]) for p in self.parts]

    def run(self, image):
        """Returns every tensor of the graph for one normalised image [1, 3, S, S]."""
        tensors = {self.manifest["input"]["tensor"]: image}
        for part, session in zip(self.parts, self.sessions):
            made = session.run(part["outputs"], {n: tensors[n] for n in part["inputs"]})
            tensors |= zip(part["outputs"], made)
        return tensors

    def answer(self, images):
        """Maps network images uint8 [B, 3, S, S] to arrays of every task, like student.evaluate.answer."""
        rows = [self.run(i[None].astype(np.float32) / 127.5 - 1.0) for i in images]
        out = {t["name"]: np.concatenate([r[t["output"]] for r in rows]) for t in self.manifest["task"]}
        bins = next(np.array(t["bins"]) for t in self.manifest["task"] if t["name"] == "age")
        out["age"] = out["age"] @ bins
        out["embedding"] = out.pop("recognition")
        return out
