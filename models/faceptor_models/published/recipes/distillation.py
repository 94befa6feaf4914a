"""Distils teachers into a student: it learns their answers to crops, and labels where there are some.

It learns values, maps and points by the divergence from the teacher's probabilities, vectors by their cosine and by the
similarities within the batch, and decoded queries by their cosine after a linear map that only training has.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from faceptor_models.common.csv_rows import write_rows
from faceptor_models.common.errors import Refused
from faceptor_models.common.schedules import mae
from faceptor_models.common.sync_batch_norm import synchronise
from faceptor_models.student import losses as student_losses

from ..distillation_students import STUDENTS
from ..losses import distillation as losses
from ..official import type_of
from ..task_matching import FIVE
from ..teachers import OnnxFile, open_teacher
from .run import Recipe, RecipeSettings, to_device
from .sampler import Sampler
from .targets import Targets

KINDS = {"align": "landmarks", "biattr": "attributes", "affect": "expression", "recog": "recognition"}


@dataclass
class StudentSettings:
    """Holds the section [student]: the kind of network that learns; `size` and `px` are of our own."""

    kind: str = "student"  # one of STUDENTS
    size: str = "nano"
    px: int = 64


@dataclass
class ModelSettings:
    """Holds the section [model]: the sizes of a Faceptor that learns."""

    width: int = 96
    layers: int = 4
    heads: int = 4
    patch: int = 16
    mlp: int = 192
    grid: int = 8
    proj: int = 8
    drop_path: float = 0.0
    levels: list[int] = field(default_factory=lambda: [3])
    new_levels: list[int] = field(default_factory=lambda: [1])
    decoder_width: int = 64
    decoder_heads: int = 4
    decoder_layers: int = 2
    ffn: int = 128
    feature_hidden: int = 96


@dataclass
class TargetSettings:
    """Holds the section [targets]: whose answers are learned, and of which crops."""

    teachers: list[str] = field(default_factory=lambda: [""])
    px: int = 32  # side of the kept maps
    labels: bool = True  # labels take precedence over the teachers' answers
    sources: list[str] = field(default_factory=lambda: [""])
    limit: int = 0  # crops of a source; 0: all
    held_out: int = 64


@dataclass
class WeightSettings:
    """Holds the section [weight]: the weights of the terms."""

    landmarks: float = 6.0
    heatmap: float = 1.0
    parsing: float = 1.0
    age: float = 1.0
    expression: float = 1.0
    attributes: float = 4.0
    recognition: float = 4.0
    relation: float = 40.0
    embedding: float = 1.0
    queries: float = 0.5


@dataclass
class OptimizerSettings:
    """Holds the section [optimizer]: AdamW; `warm` is a share of the run."""

    rate: float = 0.002
    decay: float = 0.05
    warm: float = 0.05
    clip: float = 5.0


@dataclass
class TaskSettings:
    """Holds the section [task]."""

    batch: int = 32


@dataclass
class DistillationSettings(RecipeSettings):
    """Holds the settings of a distillation.

    `match` chooses the teachers' task for a task of the student, where several would do; `file` describes single ONNX networks
    by their names.
    """

    student: StudentSettings = field(default_factory=StudentSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    targets: TargetSettings = field(default_factory=TargetSettings)
    match: dict[str, str] = field(default_factory=dict)
    weight: WeightSettings = field(default_factory=WeightSettings)
    file: dict[str, OnnxFile] = field(default_factory=dict)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    task: TaskSettings = field(default_factory=TaskSettings)


def kind_of(task):
    """Returns the kind of a student's task: its own name, or that of its Faceptor type."""
    return KINDS.get(type_of(task), type_of(task))


class Trained(nn.Module):
    """Wraps the student with what only its training needs: maps from its vectors and queries to the teachers'."""

    def __init__(self, net, adapters):
        super().__init__()
        self.net, self.adapters = net, nn.ModuleDict(adapters)


class Distillation(Recipe):
    def __init__(self, settings, crops, world, folder, log=print):
        self.settings, self.crops, self.world = settings, crops, world
        s, t = settings.student, settings.targets
        if s.kind not in STUDENTS:
            raise Refused(f"student.kind is {s.kind!r}, expected is one of {', '.join(STUDENTS)}")
        if settings.stopping.every:
            raise Refused("stopping.every: distillation does not stop its tasks")
        self.iterations, self.clip = settings.run.iterations, settings.optimizer.clip or None
        self.student = STUDENTS[s.kind](settings)
        self.teachers = [open_teacher(path, settings.file) for path in t.teachers if path]
        if not self.teachers:
            raise Refused("no teacher: give --teacher DIR")
        self.entries, self.held = self.chosen_crops()
        self.targets = Targets(folder, self.teachers, crops, [*self.entries, *self.held], t.px)
        self.matches, self.left_out = self.matched()
        self.student.build()
        self.targets.compute(self.matches, world, log if world.first else lambda *a: None)
        self.model = synchronise(Trained(self.student.net, self.adapters()).to(world.device), world)
        self.sampler = Sampler(np.arange(len(self.entries)), settings.task.batch, self.iterations, world.size, settings.run.seed)
        self.errors_ = []

    def chosen_crops(self):
        """Returns (entries to learn from, entries held out), [(source, row)] each."""
        t, crops = self.settings.targets, self.crops
        wanted = [s for s in t.sources if s] or list(crops.pictures)
        unknown = [s for s in wanted if s not in crops.pictures]
        if unknown:
            raise Refused(f"targets.sources names {', '.join(unknown)}: the data have {', '.join(crops.pictures)}")
        each = -(-t.held_out // len(wanted))
        training = [(s, int(r)) for s in wanted for r in crops.training(s)[: t.limit or None]]
        held = [(s, int(r)) for s in wanted for r in crops.held_out(s)[:each]]
        if not training or not held:
            raise Refused(f"the data have {len(training)} crops to learn from and {len(held)} held out")
        return training, held

    def matched(self):
        found, left_out, chosen = [], {}, self.settings.match
        for i, teacher in enumerate(self.teachers):
            for taught in teacher.tasks:
                m = self.student.match(i, taught, self.targets.shapes(i, taught))
                if isinstance(m, str):
                    left_out[f"{teacher.name}: {taught.name}"] = m
                elif chosen.get(m.task) and chosen[m.task] != taught.name:
                    left_out[f"{teacher.name}: {taught.name}"] = f"match.{m.task} is {chosen[m.task]}"
                else:
                    found.append(m)
        missing = [f"{k} = {v}" for k, v in chosen.items() if not any(m.task == k for m in found)]
        if missing or not found:
            raise Refused(f"no teacher has what the student could learn{': match.' + missing[0] if missing else ''}; {left_out}")
        return found, left_out

    def adapters(self):
        made = {}
        for m in self.matches:
            shapes = self.targets.shapes(m.teacher, m.taught)
            if m.queries and "queries" in shapes:
                made[self.slot(m, "queries")] = nn.Linear(self.student.width, shapes["queries"][1])
            width = self.student.vector_width(m.task)
            if width:
                made[self.slot(m, "vector")] = nn.Linear(width, shapes["vector"][0])
        return made

    def slot(self, m, what):
        return f"{m.teacher} {m.taught.name} {what}".replace(".", "_")

    def label(self, source, row):
        """Returns a function from a kind of task to the crop's label, or None.

        Labels are points [68, 2] in units of the side, the mask in CelebAMask's own classes, (lowest, highest) age, votes for
        the eight expressions, and attributes 1, -1, 0 unknown.
        """
        if not self.settings.targets.labels:
            return lambda task: None
        held = self.crops.labels[source]

        def said(task):
            if task == "landmarks":
                return held.landmarks[row] if held.people[row] and np.isfinite(held.landmarks[row]).all() else None
            if task == "parsing":
                return self.crops.masks[row] if source == "celebamask" and self.crops.masks is not None else None
            if task == "age":
                return (float(held.age_low[row]), float(held.age_high[row])) if np.isfinite(held.age_low[row]) else None
            if task == "expression":
                return held.expression[row].astype(np.float32) if held.expression[row][0] >= 0 else None
            return held.attributes[row] if task == "attributes" and (held.attributes[row] != 0).any() else None

        return said

    def sample(self, position, rng, labels=True):
        source, row = self.targets.entries[position]
        answers = self.targets.answer(position)
        answers = {m.key: self.student.translated(m, answers[m.key]) for m in self.matches}
        label = self.label(source, row) if labels else lambda task: None
        return self.student.sample(np.asarray(self.crops.pictures[source][row]), rng, self.matches, answers, label)

    def stacked(self, samples):
        return {k: np.stack([s[k] for s in samples]) for k in samples[0]}

    def batch(self, iteration):
        seed = self.settings.run.seed
        drawn = self.sampler.draw(iteration, self.world.rank)
        return self.stacked([self.sample(number, np.random.default_rng((seed, place))) for place, number in drawn])

    def outputs(self, model, batch):
        images = {k.removeprefix("image."): v for k, v in batch.items() if k.startswith("image.")} or batch["image"]
        return self.student.run(model.net, images, {m.task for m in self.matches})

    def losses(self, model, batch):
        """Returns {task: weighted loss}, the mean over the teachers of a task."""
        found, terms, weight = self.outputs(model, batch), {}, self.settings.weight
        for m in self.matches:
            target = {k.removeprefix(m.key + "."): v for k, v in batch.items() if k.startswith(m.key + ".")}
            loss = self.taught_loss(m, found[m.task], target)
            slot = self.slot(m, "queries")
            if slot in model.adapters and "queries" in target:
                # Only the teacher knows its queries' values for a mirrored face.
                upright = ~batch["flip"].bool()
                if bool(upright.any()):
                    ours, theirs = model.adapters[slot](found[m.task]["queries"]), target["queries"].float()
                    known = torch.from_numpy(m.known).to(ours.device) if m.known is not None else slice(None)
                    loss = loss + weight.queries * losses.queries(ours[upright][:, known], theirs[upright][:, known])
            if self.slot(m, "vector") in model.adapters:
                ours = model.adapters[self.slot(m, "vector")](found[m.task]["vector"])
                loss = loss + weight.embedding * losses.vectors(ours, target["vector"].float()).mean()
            terms.setdefault(m.task, []).append(loss)
        return {task: sum(each) / len(each) for task, each in terms.items()}

    def taught_loss(self, m, found, target):
        kind, w = kind_of(m.task), self.settings.weight
        if kind == "landmarks":
            return self.landmark_loss(m, found, target)
        if kind == "parsing":
            return w.parsing * losses.pixels(found["maps"], target["maps"], target["seen"].float())
        if kind == "age":
            return w.age * losses.distribution_divergence(found["distribution"], target["values"].float()).mean()
        if kind == "expression":
            known = target["known"].bool() if "known" in target else None
            return w.expression * losses.divergence(found["logits"], target["values"].float(), known).mean()
        if kind == "attributes":
            each = losses.binary(found["logits"], target["values"].float().clamp(0, 1))
            taught = torch.from_numpy(m.known).to(each.device) if m.known is not None else torch.ones_like(each[0]).bool()
            return w.attributes * each[:, taught].mean()
        ours, theirs = found["vector"], target["vector"].float()
        relation = w.relation * losses.relation(ours, theirs)
        return relation + (w.recognition * losses.vectors(ours, theirs).mean() if kind == "recognition" else 0.0)

    def landmark_loss(self, m, found, target):
        w, theirs = self.settings.weight, target["points"].float()
        if m.task == "landmarks" and theirs.shape[1] == found["points"].shape[1]:
            people = torch.where(target["people"].bool(), 3.0, 1.0)
            coordinate, hill = student_losses.landmarks(found["maps"], theirs, people)
            loss = w.landmarks * coordinate + student_losses.WEIGHTS["heatmap"] * hill
        else:
            ours = found["points"] if found["points"].shape[1] == theirs.shape[1] else five(found["points"])
            # Without the eyes' own points the spread of all points stands for the size of the face.
            size = (theirs - theirs.mean(1, keepdim=True)).norm(dim=-1).mean(1).clamp(min=0.02)
            loss = w.landmarks * ((ours - theirs).norm(dim=-1).mean(1) / size).mean()
        if "maps" in target:
            if m.task == "landmarks":
                loss = loss + w.heatmap * losses.places(found["maps"], target["maps"], target["seen"])
            else:
                each = losses.binary(found["maps"], target["maps"]).mean(1)
                seen = target["seen"].float()
                loss = loss + w.heatmap * (each * seen).sum() / seen.sum().clamp(min=1)
        return loss

    def total(self, terms):
        return sum(terms.values())

    def optimizer(self):
        o = self.settings.optimizer
        groups = [
            {"params": [p for p in self.model.parameters() if (p.ndim > 1) == wide], "multiplier": 1.0, "weight_decay": o.decay if wide else 0.0}
            for wide in (True, False)
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99))

    def rate(self, iteration, multiplier):
        o = self.settings.optimizer
        return multiplier * mae((iteration + 1) / self.iterations, 1.0, o.rate, o.warm)

    @torch.no_grad()
    def errors(self):
        """Returns [{task, teacher, error, constant}] over the held-out crops.

        `error` is the student's mean distance to the teacher, `constant` that of the best constant answer, the teacher's mean.
        """
        training, size = self.model.training, self.settings.task.batch
        self.model.eval()
        found, wanted = {}, {}
        for start in range(len(self.entries), len(self.targets.entries), size):
            numbers = range(start, min(start + size, len(self.targets.entries)))
            arrays = self.stacked([self.sample(i, None, labels=False) for i in numbers])
            batch = to_device(arrays, self.world.device)
            made = self.outputs(self.model, batch)
            for m in self.matches:
                target = {k.removeprefix(m.key + "."): v for k, v in batch.items() if k.startswith(m.key + ".")}
                ours, theirs = self.compared(m, made[m.task], target)
                found.setdefault(m.key, []).append(ours.cpu())
                wanted.setdefault(m.key, []).append(theirs.cpu())
        self.model.train(training)
        rows = []
        for m in self.matches:
            ours, theirs = torch.cat(found[m.key]), torch.cat(wanted[m.key])
            rows.append({"teacher": self.teachers[m.teacher].name, "lesson": m.taught.name, "task": m.task, **distances(m, ours, theirs)})
        return rows

    def compared(self, m, found, target):
        """Returns (the student's, the teacher's) answers of one task in comparable form, [B, ...]."""
        kind = kind_of(m.task)
        if kind == "landmarks":
            theirs = target["points"].float()
            return (found["points"] if found["points"].shape[1] == theirs.shape[1] else five(found["points"])), theirs
        if kind == "parsing":
            seen = target["seen"].float()[:, None]
            return found["maps"].softmax(1) * seen, target["maps"] * seen
        if kind == "age":
            years = torch.tensor(self.student.years[: found["distribution"].shape[1]])
            theirs = target["values"].float()
            return found["distribution"].cpu() @ years[:, None], (theirs / theirs.sum(-1, keepdim=True)).cpu() @ years[:, None]
        if kind == "expression":
            logits = found["logits"] if "known" not in target else found["logits"].masked_fill(~target["known"].bool(), -1e4)
            return logits.softmax(-1), target["values"].float()
        if kind == "attributes":
            taught = torch.from_numpy(m.known) if m.known is not None else slice(None)
            return found["logits"].sigmoid()[:, taught], target["values"].float()[:, taught]
        ours = found["vector"]
        slot = self.slot(m, "vector")
        ours = self.model.adapters[slot](ours) if slot in self.model.adapters else ours
        return nn.functional.normalize(ours, dim=-1), nn.functional.normalize(target["vector"].float(), dim=-1)

    def measure(self, iteration, run):
        """Appends the held-out errors as rows of errors.csv."""
        rows = [{"iteration": iteration} | row for row in self.errors()]
        self.errors_ += rows
        if self.world.first:
            run.log(f"iteration {iteration}: " + " ".join(f"{r['task']} {r['error']:.4g}" for r in rows))

    def after(self, iteration, run):
        if iteration + 1 == self.iterations or (iteration + 1) % max(1, self.iterations // 5) == 0:
            self.measure(iteration + 1, run)

    def extra(self):
        return {"errors": self.errors_}

    def load_extra(self, state):
        self.errors_ = state["errors"]

    def official(self):
        return self.student.official()

    def write(self, folder):
        if self.errors_:
            write_rows(self.errors_, folder / "errors.csv")


def five(points):
    """Returns the five points of the 68 [B, 68, 2]."""
    return torch.stack([points[:, list(i)].mean(1) for i in FIVE], 1)


def distances(m, ours, theirs):
    """Returns {error, constant}: mean distance of points and vectors, mean absolute difference of everything else."""
    if ours.shape != theirs.shape:
        # Vectors of two lengths are compared by the similarities that they give.
        ours, theirs = (v @ v.T for v in (ours, theirs))
        other = ~torch.eye(len(ours), dtype=bool)
        ours, theirs = ours[other][:, None], theirs[other][:, None]
    mean = theirs.mean(0, keepdim=True)
    kind = kind_of(m.task)
    if kind == "landmarks" or (kind in ("recognition", "embedding") and ours.shape[-1] > 1):
        return {"error": float((ours - theirs).norm(dim=-1).mean()), "constant": float((mean - theirs).norm(dim=-1).mean())}
    return {"error": float((ours - theirs).abs().mean()), "constant": float((mean - theirs).abs().mean())}
