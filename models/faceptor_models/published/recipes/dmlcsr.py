"""Trains DML-CSR: parsing with edge branches that only training has, and cyclical self-regulation."""

import copy
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from faceptor_models.common import schedules
from faceptor_models.common.csv_rows import write_rows
from faceptor_models.common.edge_criterion import IGNORE, Targets, Weights, criterion, divergence, edges_of, refined
from faceptor_models.common.errors import Refused
from faceptor_models.common.metrics import parsing_scores
from faceptor_models.common.self_regulation import SelfRegulation, reestimate
from faceptor_models.common.sync_batch_norm import synchronise

from ..checkpoint import read
from ..dmlcsr import DmlCsr, DmlCsrConfig, resized
from . import augmentation
from .run import Recipe, RecipeSettings, to_device
from .sampler import Sampler


@dataclass
class ModelSettings:
    """Holds the section [model]: the sizes of the network, and the file of its initial backbone."""

    size_px: int = 473
    stem: list[int] = field(default_factory=lambda: [64, 64, 128])
    blocks: list[int] = field(default_factory=lambda: [3, 4, 23, 3])
    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    context: int = 512
    head: list[int] = field(default_factory=lambda: [256, 48])
    edge: int = 256
    start_from: str = ""


@dataclass
class OptimizerSettings:
    """Holds the section [optimizer]: SGD."""

    rate: float = 0.001
    momentum: float = 0.9
    decay: float = 0.0005
    clip: float = 0.0


@dataclass
class ScheduleSettings:
    """Holds the section [schedule], in epochs; `per_epoch` 0 counts the iterations of an epoch from the crops."""

    epochs: int = 200
    warm: int = 10
    start: int = 150
    cycle: int = 10
    per_epoch: int = 0


@dataclass
class LossSettings:
    """Holds the section [loss]: the weights of the terms; `over` chooses the samples of a batch's statistics: all, or the process's own."""

    parsing: float = 1.0
    binary: float = 1.0
    category: float = 0.1
    attention_binary: float = 4.0
    attention_category: float = 1.0
    official_bugs: bool = False
    over: str = "all"  # one of OVER
    edges: bool = True


@dataclass
class RegulationSettings:
    """Holds the section [regulation]; `batches` 0 estimates the statistics from a whole epoch."""

    on: bool = True
    batches: int = 0


@dataclass
class TaskSettings:
    """Holds the section [task]."""

    source: str = "celebamask"
    batch: int = 7


@dataclass
class DmlCsrSettings(RecipeSettings):
    """Holds the settings of a DML-CSR training."""

    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    regulation: RegulationSettings = field(default_factory=RegulationSettings)
    task: TaskSettings = field(default_factory=TaskSettings)


CLASSES = 19
OVER = ("all", "process")


class DmlCsrRecipe(Recipe):
    def __init__(self, settings, crops, world):
        self.settings, self.crops, self.world = settings, crops, world
        m, task, schedule = settings.model, settings.task, settings.schedule
        if settings.loss.over not in OVER:
            raise Refused(f"loss.over is {settings.loss.over!r}, expected is one of {', '.join(OVER)}")
        if settings.stopping.every:
            raise Refused("stopping.every: DML-CSR has one task, there is none to stop")
        if crops.masks is None or task.source != "celebamask":
            raise Refused(f"task.source {task.source!r} has no masks: celebamask is expected")
        self.clip, self.bugs, self.all = settings.optimizer.clip or None, settings.loss.official_bugs, settings.loss.over == "all"
        if not settings.loss.edges and settings.regulation.on:
            raise Refused("regulation.on refines the edges too: it needs loss.edges")
        config = DmlCsrConfig(CLASSES, tuple(m.stem), tuple(m.blocks), tuple(m.widths), m.context, tuple(m.head), m.edge, settings.loss.edges)
        self.model = DmlCsr(config).to(world.device)
        if m.start_from:
            load_backbone(self.model, m.start_from)
        synchronise(self.model, world)
        self.group = augmentation.bgr(m.size_px)
        rows = crops.training(task.source)
        self.per_epoch = schedule.per_epoch or max(1, len(rows) // (task.batch * world.size))
        self.iterations = schedule.epochs * self.per_epoch
        self.sampler = Sampler(rows, task.batch, self.iterations, world.size, settings.run.seed)
        self.weights = Weights(**{k: getattr(settings.loss, k) for k in ("parsing", "binary", "category", "attention_binary", "attention_category")})
        self.rule = SelfRegulation(schedule.start, schedule.cycle) if settings.regulation.on else None
        self.cycles, self.best = [], None

    def sample(self, row, rng=None):
        return augmentation.edge_view(self.group, self.crops.rgb("celebamask", row), self.crops.masks[row], rng)

    def stacked(self, samples):
        return {"image": np.stack([s[0] for s in samples]), "label": np.stack([s[1] for s in samples])}

    def batch(self, iteration):
        seed = self.settings.run.seed
        drawn = self.sampler.draw(iteration, self.world.rank)
        return self.stacked([self.sample(row, np.random.default_rng((seed, place))) for place, row in drawn])

    def validation(self):
        rows, size = self.crops.held_out("celebamask"), self.settings.task.batch
        for first in range(0, len(rows), size):
            yield self.stacked([self.sample(row) for row in rows[first : first + size]])

    def gathered(self, tensor):
        """Returns the rows of all processes: Lovasz and the class weights belong to the whole batch, not to a process's part."""
        return self.world.gathered(tensor) if self.all else tensor

    def targets(self, batch):
        labels = self.gathered(batch["label"].long())
        binary, category = edges_of(labels)
        soft = {}
        if self.rule is not None and self.rule.n:
            with torch.no_grad():
                made = self.rule.average(batch["image"])
            names = {"soft_parsing": "seg", "soft_binary": "binary_edge", "soft_category": "semantic_edge"}
            soft = {k: self.gathered(made[v]) for k, v in names.items()}
        return Targets(labels, binary, category, **soft)

    def losses(self, model, batch):
        targets = self.targets(batch)
        outputs = {k: self.gathered(v.float()) for k, v in model(batch["image"]).items()}
        if not self.settings.loss.edges:
            return {"parsing": plain(outputs["seg"], targets.parsing)}
        cycle = self.rule.n if self.rule is not None else 0
        loss, terms = criterion(outputs, targets, self.weights, cycle, self.bugs)
        return terms | {"weighted": loss}

    def total(self, losses):
        return losses.get("weighted", losses["parsing"])

    def optimizer(self):
        o = self.settings.optimizer
        return torch.optim.SGD([{"params": list(self.model.parameters()), "multiplier": 1.0}], lr=o.rate, momentum=o.momentum, weight_decay=o.decay)

    def rate(self, iteration, multiplier):
        base, s = self.settings.optimizer.rate, self.settings.schedule
        if self.bugs:
            return multiplier * schedules.cyclical_official(iteration, self.per_epoch, s.epochs, base, s.start, s.cycle)
        # Without cycles the schedule has no restarts: one cosine to the end.
        start = s.start if self.rule is not None else s.epochs
        return multiplier * schedules.cyclical(iteration / self.per_epoch, base, start, s.cycle, s.warm)

    def after(self, iteration, run):
        """Adds the weights to the average at a cycle's end, estimates its batch statistics, and uses its answers from then on."""
        epoch, rest = divmod(iteration + 1, self.per_epoch)
        epoch -= 1
        if rest or self.rule is None or not self.rule.ends(epoch):
            return
        limit = self.settings.regulation.batches or self.per_epoch
        self.rule.join(self.model)
        # The official code re-estimates only norms of the class that synchronises processes, which a single process does not
        # use.
        if not (self.bugs and self.world.size == 1):
            seen = (to_device(self.batch(iteration - i), self.world.device)["image"] for i in range(min(limit, iteration + 1)))
            reestimate(self.rule.average, seen)
        row = {"epoch": epoch, "n": self.rule.n, "f1": self.score(self.model), "f1_average": self.score(self.rule.average)}
        row |= self.refinement()
        self.cycles.append(row)
        if self.best is None or row["f1_average"] > self.best["f1"]:
            self.best = {"f1": row["f1_average"], "epoch": epoch, "state": copy.deepcopy(self.rule.average.state_dict())}
        if self.world.first:
            run.log("cycle " + " ".join(f"{k}={v:.4g}" for k, v in row.items()))

    @torch.no_grad()
    def score(self, model):
        """Returns the mean F1 without the background over the held-out crops, from one confusion matrix."""
        training = model.training
        model.eval()
        confusion = torch.zeros(CLASSES, CLASSES, dtype=torch.long, device=self.world.device)
        for arrays in self.validation():
            batch = to_device(arrays, self.world.device)
            found, labels = resized(model(batch["image"])["seg"], batch["image"]).argmax(1), batch["label"].long()
            valid = labels != IGNORE
            confusion += torch.bincount(labels[valid] * CLASSES + found[valid], minlength=CLASSES**2).reshape(CLASSES, CLASSES)
        model.train(training)
        return float(np.nanmean(parsing_scores(confusion.cpu().numpy())[1:]))

    @torch.no_grad()
    def refinement(self):
        """Measures how the targets of the next cycle differ from the labels over the held-out crops.

        It returns the share of pixels with another best class, and the model's divergence from the targets.
        """
        changed, valid, terms = 0, 0, []
        training = self.model.training
        self.model.eval()
        for arrays in self.validation():
            batch = to_device(arrays, self.world.device)
            labels = batch["label"].long()
            soft = refined(self.rule.average(batch["image"])["seg"], labels, self.rule.n)
            held = labels != IGNORE
            changed += int(((soft.argmax(1) != labels) & held).sum())
            valid += int(held.sum())
            terms.append(float(divergence(resized(self.model(batch["image"])["seg"], batch["image"]), soft, held)))
        self.model.train(training)
        return {"changed": changed / max(valid, 1), "divergence": float(np.mean(terms))}

    def extra(self):
        return {} if self.rule is None else {"rule": self.rule.state_dict(), "cycles": self.cycles, "best": self.best}

    def load_extra(self, state):
        if self.rule is not None:
            self.rule.load_state_dict(state["rule"], self.model)
            self.cycles, self.best = state["cycles"], state["best"]

    def official(self):
        """Returns the best average once there is one, else the model, without the edge branches, as `import` and the official test read it."""
        state = self.best["state"] if self.best else self.model.state_dict()
        return without_edges(state)

    def write(self, folder):
        if self.cycles:
            write_rows(self.cycles, folder / "cycles.csv")


def without_edges(state):
    return {k: v for k, v in state.items() if not k.startswith("edge_layer.")}


def exported(model):
    """Returns the network without its training-only branches; its parsing is the same."""
    out = DmlCsr(replace(model.config, edges=False))
    out.load_state_dict(without_edges(model.state_dict()))
    return out.eval()


def plain(logits, labels):
    return torch.nn.functional.cross_entropy(resized(logits, labels[:, None]), labels, ignore_index=IGNORE)


def load_backbone(model, path):
    """Loads the backbone of a ResNet-101 file with a deep stem, or of a DML-CSR file: every tensor before `context` must be there."""
    held = read(path)
    held = held.get("state_dict", held) if isinstance(held, dict) else {}
    wanted = {k: v for k, v in model.state_dict().items() if k.split(".")[0] not in ("context", "layer6", "edge_layer")}
    missing = [k for k in wanted if not k.endswith("num_batches_tracked") and (k not in held or held[k].shape != wanted[k].shape)]
    if missing:
        raise Refused(f"{path} does not fit the backbone: {len(missing)} tensors are missing or of another shape, {missing[0]} for one")
    model.load_state_dict({k: held[k] for k in wanted if k in held}, strict=False)
