"""Runs the teachers of a distillation, export folders and single ONNX files, by ONNX Runtime on crops of the aligned frame.

A teacher's answers are mapped to the aligned frame, from where students of any input take them: points in units of the crop's
side (pixel index / side), maps on a uniform grid of `px` x `px` places whose place i lies at i / px.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort

from faceptor_models.common.area_sampling import network_image
from faceptor_models.common.errors import Refused
from faceptor_models.common.geometry import TEMPLATE, frame_to_network, network_to_frame

from . import official, preprocess
from .groups import Group, arcface, scaled

# The face's box in the aligned frame where a group wants one: middle x, y, longer side (the runtime has the same constants).
FACE_BOX = (0.498, 0.507, 0.602)
MAPS = ("landmarks", "parsing")


class GroupView:
    """Maps a crop to the input of an imported system's group, and its answers back to the frame."""

    def __init__(self, group):
        self.group = group

    def matrix(self, side):
        if self.group.template is not None:
            return preprocess.to_keypoints(self.group, TEMPLATE * side)
        x, y, longer = (v * side for v in FACE_BOX)
        return preprocess.to_box(self.group, (x - longer / 2, y - longer / 2, x + longer / 2, y + longer / 2))

    def tensor(self, rgb):
        return preprocess.view(self.group, rgb, self.matrix(rgb.shape[0]))

    def points(self, points):
        return preprocess.points_back(self.group, points, self.matrix(1024)) / 1024

    def places(self, px, height):
        """Returns the places of the frame's grid on a map of `height` rows: [px, px, 2] in its pixels."""
        grid = np.stack(np.meshgrid(np.arange(px), np.arange(px)), -1) / px * 1024
        places = preprocess.narrow(preprocess.apply(self.matrix(1024), grid), self.group)
        return (places + 0.5) * (height / self.group.size) - 0.5


class FoveaView:
    """Does the same for an export of the student, whose one input is the foveated frame itself."""

    def __init__(self, size, mean, std):
        self.size, self.mean, self.std = size, np.float32(mean).reshape(3, 1, 1), np.float32(std).reshape(3, 1, 1)

    def tensor(self, rgb):
        return (network_image(rgb, self.size).astype(np.float32) - self.mean) / self.std

    def points(self, points):
        return network_to_frame(points)

    def places(self, px, height):
        u = frame_to_network(np.arange(px) / px) * height - 0.5
        return np.stack(np.meshgrid(u, u), -1)


@dataclass
class TeacherTask:
    """Describes a task of a teacher. `kind` is as in the manifest, or `embedding` for a vector that belongs to no task."""

    name: str
    kind: str
    labels: list = field(default_factory=list)
    bins: list = field(default_factory=list)
    queries: int = 0
    view: object = None


def group_of(row):
    """Converts a manifest's [[group]] to preprocess.py's Group."""
    frame = row["frame"]
    if frame["warp"] not in ("none", "tanh"):
        raise Refused(f"group {row['name']} has the warp {frame['warp']}")
    return Group(
        row["name"], row["size"], tuple(row["mean"]), tuple(row["std"]), [], row["colour"], frame.get("template"), frame.get("box_scale", 1.0),
        frame["warp"], frame.get("warp_tanh", 0.8), frame["border"],
    )  # fmt: skip


def inner_tensors(graph, queries):
    """Returns (decoded queries, dense logits): names of a task part's inner tensors, None where it has none.

    Decoders end with a LayerNorm of [batch, queries, width]; dense logits are the first map after it with a channel for each
    query and as many places as the pixels' input. A size that the file leaves open is 0 here.
    """
    if not queries:
        return None, None
    inferred = onnx.shape_inference.infer_shapes(graph)
    rows = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in rows}
    sides = [s[2:] for s in (shapes[i.name] for i in inferred.graph.input) if len(s) == 4]
    decoded = dense = None
    for node in graph.graph.node:
        name, shape = node.output[0], shapes.get(node.output[0], [])
        if node.op_type == "LayerNormalization" and len(shape) == 3 and shape[1] == queries:
            decoded, dense = name, None
        if dense is None and len(shape) == 4 and shape[1] in (queries, 0) and shape[2:] in sides:
            dense = name
    return decoded, dense


class ExportTeacher:
    """Runs a folder that `faceptor-models import` or `student.export` wrote."""

    def __init__(self, folder, threads=1):
        self.folder, self.name = Path(folder), Path(folder).name
        try:
            held = tomllib.loads((self.folder / "manifest.toml").read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise Refused(f"--teacher {folder}: no export folder or ONNX file: {error}") from error
        self.threads = threads
        if "group" in held:
            self.views = {g["tensor"]: GroupView(group_of(g)) for g in held["group"]}
            views = {g["name"]: self.views[g["tensor"]] for g in held["group"]}
        else:
            i = held["input"]
            self.views = {i["tensor"]: FoveaView(i["size"], i["mean"], i["std"])}
            views = {None: self.views[i["tensor"]]}
        finder = {size["part"] for size in held.get("finder", {}).get("size", [])}
        parts = [p for p in held["part"] if p["name"] not in finder]
        tasks = held.get("task", [])
        self.tasks = [
            TeacherTask(t["name"], t["kind"], t.get("labels", []), t.get("bins", []), t["queries"][1] - t["queries"][0], views[t.get("group")])
            for t in tasks
        ]
        self.outputs = {t["name"]: t["output"] for t in tasks}
        if not tasks:
            self.embeddings(parts, views)
        self.inner = {}
        self.parts = [self.opened(p) for p in parts]

    def embeddings(self, parts, views):
        """Adds the class token of each group as a task, for a system without tasks (MCF)."""
        for name, view in views.items():
            found = [o for p in parts for o in p["outputs"] if o == f"class_{name}"]
            if found:
                self.tasks.append(TeacherTask(f"class_{name}", "embedding", view=view))
                self.outputs[f"class_{name}"] = found[0]
        if not self.tasks:
            raise Refused(f"--teacher {self.folder} has neither tasks nor class tokens")

    def opened(self, part):
        """Returns (part, session, names of what it computes, names in the file); inner tensors of a task become outputs."""
        path = self.folder / part["file"]
        try:
            graph = onnx.load(str(path))
            inside, wanted = list(part.get("graph_outputs", part["outputs"])), list(part["outputs"])
            for taught in self.tasks:
                if self.outputs[taught.name] not in part["outputs"]:
                    continue
                for what, name in zip(("queries", "maps"), inner_tensors(graph, taught.queries)):
                    if name is None or (what == "maps" and taught.kind not in MAPS):
                        continue
                    if name not in inside:
                        graph.graph.output.append(onnx.ValueInfoProto(name=name))
                        inside.append(name)
                        wanted.append(f"{what} of {taught.name}")
                    self.inner[what, taught.name] = wanted[inside.index(name)]
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = self.threads, 3
            session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Refused:
            raise
        # Both libraries fail in many ways on damaged files.
        except Exception as error:
            raise Refused(f"--teacher {self.folder}: {path.name} does not load: {str(error).splitlines()[0]}") from error
        return part, session, wanted, inside

    def tensors(self, rgb):
        """Returns every tensor of the teacher for one crop."""
        found = {name: view.tensor(rgb)[None] for name, view in self.views.items()}
        for part, session, wanted, inside in self.parts:
            made = session.run(inside, {g: found[n] for g, n in zip(part.get("graph_inputs", part["inputs"]), part["inputs"])})
            found |= zip(wanted, made)
        return found

    def answer(self, rgb, px):
        """Returns {task: {"points" | "maps" | "seen" | "values" | "vector" | "queries": array}} for one crop [side, side, 3]."""
        found = self.tensors(rgb)
        return {taught.name: self.of(taught, found, px) for taught in self.tasks}

    def of(self, taught, found, px):
        value, out = found[self.outputs[taught.name]][0], {}
        inner = {what: found[self.inner[what, taught.name]][0] for what in ("queries", "maps") if (what, taught.name) in self.inner}
        if "queries" in inner:
            out["queries"] = inner["queries"].astype(np.float32)
        if taught.kind == "landmarks":
            out["points"] = taught.view.points(value).astype(np.float32)
        logits = value if taught.kind == "parsing" else inner.get("maps") if taught.kind == "landmarks" else None
        if logits is not None:
            places = taught.view.places(px, logits.shape[-1]).astype(np.float32)
            x, y = places[..., 0], places[..., 1]
            planes = cv2.remap(np.ascontiguousarray(logits.transpose(1, 2, 0)), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            # OpenCV drops the axis of a single channel.
            out["maps"] = planes.reshape(px, px, -1).transpose(2, 0, 1)
            out["seen"] = ((places > -0.5) & (places < logits.shape[-1] - 0.5)).all(2)
        elif taught.kind in ("recognition", "embedding"):
            out["vector"] = (value / max(np.linalg.norm(value), 1e-12)).astype(np.float32)
        elif taught.kind != "landmarks":
            out["values"] = value.astype(np.float32)
        return out


@dataclass
class OnnxFile:
    """Describes input and output of a single ONNX file: `kind` recognition (a vector) or landmarks (x, y in turn in 0..1)."""

    kind: str = "recognition"
    size: int = 112
    colour: str = "rgb"
    mean: list[float] = field(default_factory=lambda: [127.5] * 3)
    std: list[float] = field(default_factory=lambda: [127.5] * 3)
    # `keypoints` (ArcFace's template) or `box`, which fills `box_scale` of the side.
    align: str = "keypoints"
    box_scale: float = 1.0


# Networks that are distributed as single files, by the start of their names.
KNOWN_FILES = {
    "mobilefacenet": OnnxFile("recognition", mean=scaled(official.IMAGENET_MEAN), std=scaled(official.IMAGENET_STD)),
    "pfld": OnnxFile("landmarks", mean=(0.0,) * 3, std=(255.0,) * 3, align="box", box_scale=0.9),
}


class FileTeacher(ExportTeacher):
    """Runs a single ONNX network with one input image and one output."""

    def __init__(self, path, described=None, threads=1):
        self.folder, self.name, self.threads, self.inner = Path(path).parent, Path(path).stem, threads, {}
        known = [v for k, v in KNOWN_FILES.items() if self.name.lower().startswith(k)]
        if described is None and not known:
            raise Refused(f"--teacher {path}: what it wants and gives is not known; describe it in the settings as [file.{self.name}]")
        f = described or known[0]
        if f.kind not in ("recognition", "landmarks"):
            raise Refused(f"file.{self.name}.kind is {f.kind!r}, expected is recognition or landmarks")
        template = arcface() if f.align == "keypoints" else None
        group = Group(self.name, f.size, tuple(f.mean), tuple(f.std), [], f.colour, template, f.box_scale, border="replicate")
        view = GroupView(group)
        self.tasks, self.outputs = [TeacherTask(f.kind, f.kind, view=view)], {f.kind: "output"}
        try:
            graph = onnx.load(str(path)).graph
            held = {t.name for t in graph.initializer}
            image, output = next(i.name for i in graph.input if i.name not in held), graph.output[0].name
        except Exception as error:
            raise Refused(f"--teacher {path} does not load: {str(error).splitlines()[0]}") from error
        self.views = {"image": view}
        row = {
            "name": self.name,
            "file": Path(path).name,
            "inputs": ["image"],
            "outputs": ["output"],
            "graph_inputs": [image],
            "graph_outputs": [output],
        }
        self.parts = [self.opened(row)]

    def tensors(self, rgb):
        found = super().tensors(rgb)
        if self.tasks[0].kind == "landmarks":
            found["output"] = found["output"].reshape(1, -1, 2)
        return found


def open_teacher(path, files=None, threads=1):
    """Opens the teacher at a path; `files` are descriptions {name: OnnxFile} of single ONNX files."""
    path = Path(path)
    if path.is_dir():
        return ExportTeacher(path, threads)
    if not path.is_file():
        raise Refused(f"--teacher {path} is not there")
    return FileTeacher(path, (files or {}).get(path.stem), threads)
