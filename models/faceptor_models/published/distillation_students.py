"""Defines the two kinds of students that learn from teachers: our Student, and a Faceptor of any size.

A student chooses the teachers' tasks that it can learn, shows a crop as its network sees it with the answers in its own
coordinates, and runs the network: {task: {"logits" | "maps" | "points" | "vector" | "queries": tensor}}.
"""

import tomllib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import tomli_w
import torch
from torch.nn import functional as F

from faceptor_models.common.area_sampling import network_image
from faceptor_models.common.augment import Jitter, grid, sample
from faceptor_models.common.errors import Refused
from faceptor_models.common.geometry import apply as moved_by
from faceptor_models.common.geometry import frame_to_network
from faceptor_models.common.labels import EXPRESSIONS, LANDMARK_FLIP, PARSING_FLIP
from faceptor_models.common.paths import FINDER_EXPORT
from faceptor_models.student import export, parts
from faceptor_models.student.losses import age_target
from faceptor_models.student.network import AGE_BINS, DENSE, SIZES, Student, age_distribution, soft_argmax

from . import groups, importing, interpreters, manifest, official, preprocess
from .clip_vit import ClipVitConfig
from .decoder import DecoderConfig
from .faceptor import Faceptor, FaceptorConfig
from .recipes.crops import PARSING_TABLE
from .recognise import Recognised
from .task_matching import FIVE, Match, match, mirrored, translated
from .teachers import GroupView

# Names of a Faceptor's tasks by kind, used when the teacher's own name is not of an official type.
TYPES = {v: k for k, v in manifest.KINDS.items()}


def resampled(planes, places, interpolation=cv2.INTER_LINEAR):
    """Samples planes [C, n, n] at places [m, m, 2] in their pixels, [C, m, m]."""
    size = places.shape[:2]
    found = cv2.remap(
        np.ascontiguousarray(planes.transpose(1, 2, 0), np.float32), np.ascontiguousarray(places[..., 0], np.float32),
        np.ascontiguousarray(places[..., 1], np.float32), interpolation, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return found.reshape(*size, -1).transpose(2, 0, 1)


def inside(places, n):
    return ((places > -0.5) & (places < n - 0.5)).all(-1)


def ages(said, bins):
    """Returns the distribution over `bins` that stands for a labelled (lowest, highest) age."""
    low, high = (torch.tensor([v]) for v in said)
    return age_target(low, high, torch.tensor(bins))[0].numpy()


def shown(answer, places, sigmoid):
    """Returns an answer's maps (logits) at `places` as probabilities, and where they are seen; `sigmoid` for heat maps."""
    n = answer["maps"].shape[-1]
    logits = resampled(answer["maps"].astype(np.float32), places)
    seen = inside(places, n) & (resampled(answer["seen"][None].astype(np.float32), places)[0] > 0.5)
    if sigmoid:
        chances = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    else:
        chances = np.exp(logits - logits.max(0))
        chances /= chances.sum(0)
    return chances.astype(np.float32), seen


class OwnStudent:
    """Trains our Student at `px`; its dense answers have half the input's side."""

    def __init__(self, settings):
        s = settings.student
        if s.size not in SIZES:
            raise Refused(f"student.size is {s.size!r}, expected is one of {', '.join(SIZES)}")
        if s.px < 32 or s.px % 16:
            raise Refused(f"student.px is {s.px}, expected is a multiple of 16 from 32")
        self.px, self.net = s.px, Student(s.size)
        self.views = {}
        self.width = SIZES[s.size]["dim"]
        self.pooled = SIZES[s.size]["widths"][3]

    def match(self, teacher, taught, shapes):
        return match(teacher, taught, shapes)

    def build(self):
        """Does nothing: this network does not depend on the tasks."""

    def translated(self, m, answer):
        return translated(m, answer)

    def sample(self, crop, rng, matches, answers, label):
        """Returns the arrays of one crop [side, side, 4]; `label(task)` returns the annotators' label, or None."""
        m, out = self.px // 2, {}
        if rng is None:
            out["image"], flip, n_places = network_image(np.ascontiguousarray(crop[..., :3]), self.px), False, grid(m)
            to_network = np.array([[1.0, 0, 0], [0, 1.0, 0]])
        else:
            seed = int(rng.integers(2**62))
            # The same generator makes the same jitter here as inside `sample`.
            jitter = Jitter(np.random.default_rng(seed))
            out["image"], flip, n_places = sample(np.random.default_rng(seed), crop, self.px)[0], jitter.flip, moved_by(jitter.to_photo, grid(m))
            to_network = jitter.to_network
        n_places = n_places.reshape(m, m, 2)
        out["flip"] = np.array(flip)
        for found in matches:
            answer = mirrored(found, answers[found.key]) if flip else answers[found.key]
            made = {k: v for k, v in answer.items() if k in ("values", "vector", "queries")}
            if "points" in answer:
                # Mirrored names are already in order; the places themselves are moved like the crop.
                made["points"] = frame_to_network(moved_by(to_network, answer["points"])).astype(np.float32)
            if "maps" in answer:
                made["maps"], made["seen"] = shown(answer, n_places * answer["maps"].shape[-1], found.task == "landmarks")
            self.corrected(found, made, label, to_network, flip, n_places)
            out |= {f"{found.key}.{what}": value for what, value in made.items()}
        return out

    def corrected(self, found, made, label, to_network, flip, places):
        """Replaces answers by labels where there are some."""
        said = label(found.task)
        if found.task == "expression":
            made["known"] = np.ones(len(found.known), bool) if said is not None else found.known
        if found.task == "landmarks":
            made["people"] = np.array(said is not None)
        if said is None:
            return
        if found.task == "landmarks":
            points = frame_to_network(moved_by(to_network, said)).astype(np.float32)
            points = points[LANDMARK_FLIP] if flip else points
            five = len(made["points"]) == len(FIVE)
            made["points"] = np.stack([points[list(i)].mean(0) for i in FIVE]) if five else points
            if "maps" in made:
                made["seen"] = np.zeros_like(made["seen"])
        elif found.task == "parsing":
            mask = cv2.remap(said, *np.moveaxis(places * said.shape[0], -1, 0).astype(np.float32), cv2.INTER_NEAREST, borderValue=255)
            if flip:
                mask = np.append(PARSING_FLIP, [255] * (256 - len(PARSING_FLIP)))[mask]
            known = mask < len(made["maps"])
            one_hot = np.eye(len(made["maps"]), dtype=np.float32)[np.minimum(mask, len(made["maps"]) - 1)]
            made["maps"] = np.where(known, one_hot.transpose(2, 0, 1), made["maps"])
            made["seen"] = made["seen"] | known
        elif found.task == "attributes":
            made["values"] = np.where(said != 0, (said > 0).astype(np.float32), made["values"])
        else:
            made["values"] = ages(said, AGE_BINS) if found.task == "age" else said

    def run(self, net, image, tasks):
        maps = net.encode(image.float().div(127.5).sub(1.0))
        memory, out = net.remember(maps), {}
        pixels = net.pixels(maps) if tasks & set(DENSE) else None
        for task in sorted(tasks):
            if task == "recognition":
                out[task] = {"vector": net.feature(maps["f16"]).float()}
            elif task == "embedding":
                out[task] = {"vector": maps["f16"].float().mean((2, 3))}
            else:
                decoded = net.decode(task, memory)
                if task == "parsing":
                    # The teachers' answers lie on the pixel decoder's grid.
                    logits = F.adaptive_avg_pool2d(net.regions(decoded, maps["f2"], pixels), pixels.shape[-2:])
                else:
                    logits = net.maps(decoded, pixels) if task in DENSE else net.values(task, decoded)
                out[task] = {"maps" if task in DENSE else "logits": logits.float(), "queries": decoded.float()}
            if task == "landmarks":
                out[task]["points"] = soft_argmax(out[task]["maps"])
            elif task == "age":
                out[task]["distribution"] = age_distribution(out[task]["logits"])
        return out

    years = AGE_BINS

    def vector_width(self, task):
        return self.pooled if task == "embedding" else None

    def official(self):
        """Returns the weights as the student's training saves its average, for `student.export` and `student.evaluate`."""
        return {"size": self.net.size, "step": 0, "average": self.net.state_dict()}

    def export(self, out, finder=FINDER_EXPORT):
        """Writes float ONNX parts and a manifest; `student.export` quantizes the same weights, which takes longer."""
        cut = parts.cut(self.net.cpu(), self.px)
        tensors = parts.run(cut, torch.zeros(1, 3, self.px, self.px))
        held = tomllib.loads((Path(finder) / "finder.toml").read_text())
        with importing.replacing_folder(out) as folder:
            for name, part in cut.items():
                export.export_float(part, folder / f"{name}.onnx", tensors)
            for row in held.get("part", []):
                (folder / row["file"]).write_bytes((Path(finder) / row["file"]).read_bytes())
            rows = export.manifest("distilled-student", "0.0.0", self.px, cut, folder, held)
            rows["licence"] = "The terms of the teachers' weights and of the pictures apply."
            (folder / "manifest.toml").write_text(tomli_w.dumps(rows))


class FaceptorStudent:
    """Trains a Faceptor with the teachers' tasks under their own names; each task sees the crop as its type does."""

    def __init__(self, settings):
        self.settings, self.tasks, self.net, self.views = settings, {}, None, {}
        self.width = settings.model.decoder_width

    def match(self, teacher, taught, shapes):
        name = taught.name if official.type_of(taught.name) in official.TYPES else f"{TYPES.get(taught.kind, '')}_{taught.name}"
        kind = official.type_of(name)
        if kind not in official.TYPES:
            return f"a Faceptor has no task of the kind {taught.kind}"
        count = {"align": "points", "parsing": "maps", "recog": "vector"}.get(kind, "values")
        if count not in shapes:
            return f"it gives no {count}"
        queries = shapes[count][0]
        if kind == "recog":
            if any(official.type_of(t) == "recog" for t in self.tasks if t != name):
                return "a Faceptor has one recognition head"
            self.embedding, queries = queries, 2
        if self.tasks.setdefault(name, queries) != queries:
            return f"{queries} queries, another teacher's {name} has {self.tasks[name]}"
        return Match(teacher, taught, name, list(range(queries)))

    def build(self):
        """Builds the network once all tasks are known."""
        m = self.settings.model
        keys = ("width", "layers", "heads", "patch", "mlp", "grid", "proj", "drop_path")
        levels = tuple(m.levels) or (m.layers - 1,)
        decoder = DecoderConfig(m.decoder_width, m.decoder_heads, m.decoder_layers, m.ffn, levels, tuple(m.new_levels))
        config = FaceptorConfig(
            dict(self.tasks), ClipVitConfig(**{k: getattr(m, k) for k in keys}), decoder, m.feature_hidden, getattr(self, "embedding", 8)
        )
        try:
            self.net = Faceptor(config)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise Refused(f"the sizes of [model] do not fit each other: {error}") from error
        self.views = {g.name: (GroupView(g), g.tasks) for g in groups.faceptor_groups(self.net, {}, list(self.tasks))}

    def translated(self, m, answer):
        return dict(answer)

    def sample(self, crop, rng, matches, answers, label):
        """Shows crops unchanged: the teacher's answers belong to these pixels."""
        rgb, out = np.ascontiguousarray(crop[..., :3]), {"flip": np.array(False)}
        for name, (view, tasks) in self.views.items():
            out[f"image.{name}"] = view.tensor(rgb)
            for found in (m for m in matches if m.task in tasks):
                answer = answers[found.key]
                made = {k: v for k, v in answer.items() if k in ("values", "vector", "queries")}
                group, side = view.group, 1024
                matrix = view.matrix(side)
                if "points" in answer:
                    places = preprocess.narrow(preprocess.apply(matrix, answer["points"].astype(np.float64) * side), group)
                    made["points"] = ((places + 0.5) / group.size).astype(np.float32)
                if "maps" in answer:
                    m = group.size // self.net.config.encoder.patch * 4
                    axis = (np.arange(m) + 0.5) * group.size / m - 0.5
                    grid_ = preprocess.widen(np.stack(np.meshgrid(axis, axis), -1), group)
                    places = preprocess.apply(np.linalg.inv(matrix), grid_) / side * answer["maps"].shape[-1]
                    made["maps"], made["seen"] = shown(answer, places, official.type_of(found.task) == "align")
                    self.mask_said(found, made, label, places / answer["maps"].shape[-1])
                self.corrected(found, made, label, matrix, group)
                out |= {f"{found.key}.{what}": value for what, value in made.items()}
        return out

    def corrected(self, found, made, label, matrix, group):
        """Replaces answers by labels where there are some, if the task's classes are the official ones."""
        kind, labels = found.taught.kind, found.taught.labels
        if kind == "age" and label(kind) is not None:
            made["values"] = ages(label(kind), [float(i) for i in range(len(made["values"]))])
        elif kind == "expression" and labels == official.EXPRESSIONS and label(kind) is not None:
            votes = label(kind)[[EXPRESSIONS.index(n) for n in labels]]
            # Faceptor has no contempt: where all votes are for it, the teacher's answer stays.
            made["values"] = votes / votes.sum() if votes.sum() > 0.5 else made["values"]
        elif kind == "attributes" and labels == official.ATTRIBUTES and label(kind) is not None:
            made["values"] = np.where(label(kind) != 0, (label(kind) > 0).astype(np.float32), made["values"])
        elif kind == "landmarks" and len(made["points"]) == len(LANDMARK_FLIP) and label(kind) is not None:
            places = preprocess.narrow(preprocess.apply(matrix, label(kind).astype(np.float64) * 1024), group)
            made["points"] = ((places + 0.5) / group.size).astype(np.float32)
            made["seen"] = np.zeros_like(made["seen"])

    def mask_said(self, found, made, label, places):
        """Inserts the labelled mask in Faceptor's classes, at `places` in units of the crop's side."""
        if found.taught.kind != "parsing" or found.taught.labels != official.CELEBAMASK or label("parsing") is None:
            return
        said, count = label("parsing"), len(made["maps"])
        x, y = np.moveaxis(places * said.shape[0], -1, 0).astype(np.float32)
        mask = PARSING_TABLE[cv2.remap(said, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255)]
        known = mask < count
        made["maps"] = np.where(known, np.eye(count, dtype=np.float32)[np.minimum(mask, count - 1)].transpose(2, 0, 1), made["maps"])
        made["seen"] = made["seen"] | known

    def run(self, net, images, tasks):
        """Runs the network on `images`, {group: tensor}."""
        decoder, heads, out = net.heads_module.decoder, net.heads_module.interpreters, {}
        for name, (_, group_tasks) in self.views.items():
            maps, memory, pixels = net.backbone_module(images[name]), None, None
            for task in group_tasks:
                kind = official.type_of(task)
                if kind == "recog":
                    out[task] = {"vector": heads["feature_v2"](maps[-1]).float()}
                    continue
                if memory is None:
                    memory, source = decoder.remember(maps)
                decoded = decoder.decode(task, memory)
                out[task] = {"queries": decoded.float()}
                if kind in official.DENSE:
                    pixels = heads["map_v2"].mask_map(source) if pixels is None else pixels
                    out[task]["maps"] = heads["map_v2"](decoded, pixels).float()
                else:
                    out[task]["logits"] = heads["value"](decoded).float()
                if kind == "align":
                    out[task]["points"] = interpreters.soft_argmax(out[task]["maps"])
                elif kind == "age":
                    out[task]["distribution"] = interpreters.age_distribution(out[task]["logits"])
        return out

    @property
    def years(self):
        return [float(i) for i in range(max(self.tasks.values()))]

    def vector_width(self, task):
        return None

    def official(self):
        return {"step": 0, "state_dict": {f"module.{k}": v for k, v in self.net.state_dict().items()}, "optimizer": {}}

    def export(self, out, finder=FINDER_EXPORT):
        found = Recognised("faceptor", self.net.cpu().eval(), {}, [], len(self.net.state_dict()))
        options = SimpleNamespace(tasks=None, like={}, finder=str(finder))
        importing.export(found, options, {"system": "faceptor", "checkpoint": "distilled", "sha256": ""}, out, log=lambda *a: None)


STUDENTS = {"student": OwnStudent, "faceptor": FaceptorStudent}
