"""Trains TCDCN: landmarks with auxiliary tasks that stop one by one."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn import functional as F

from faceptor_models.common.early_stopping import EarlyStopping
from faceptor_models.common.errors import Refused

from ..losses import tcdcn as objective
from ..tcdcn import Tcdcn, TcdcnConfig, per_location
from . import augmentation
from .crops import IGNORED
from .run import Recipe, RecipeSettings
from .sampler import Sampler


@dataclass
class ModelSettings:
    """Holds the section [model]."""

    size: int = 40  # side of the grey input in pixels
    filters: str = "shared"  # one of FILTERS
    features: int = 100


@dataclass
class OptimizerSettings:
    """Holds the section [optimizer]: SGD."""

    rate: float = 0.01
    momentum: float = 0.9
    penalty: float = 0.0001  # of the squared weights
    clip: float = 0.0
    reduction: str = "mean"  # one of REDUCTIONS


@dataclass
class TaskSettings:
    """Holds the section [task]: the source of the crops, and the tasks in addition to the landmarks."""

    source: str = "celeba"
    batch: int = 64
    samples: int = 0  # crops that train; 0: all
    auxiliary: list[str] = field(default_factory=lambda: ["gender", "smile", "glasses", "pose"])


@dataclass
class TcdcnSettings(RecipeSettings):
    """Holds the settings of a TCDCN training."""

    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    task: TaskSettings = field(default_factory=TaskSettings)


FILTERS = ("shared", "per_location")
REDUCTIONS = ("mean", "sum")


class TcdcnRecipe(Recipe):
    def __init__(self, settings, crops, world):
        self.settings, self.crops, self.world = settings, crops, world
        self.iterations, o, m, task = settings.run.iterations, settings.optimizer, settings.model, settings.task
        for name, value, allowed in (("model.filters", m.filters, FILTERS), ("optimizer.reduction", o.reduction, REDUCTIONS)):
            if value not in allowed:
                raise Refused(f"{name} is {value!r}, expected is one of {', '.join(allowed)}")
        self.clip, self.source, self.auxiliary = o.clip or None, task.source, list(task.auxiliary)
        known = TcdcnConfig().heads
        unknown = [t for t in self.auxiliary if t not in known or t == "landmark"]
        if unknown:
            raise Refused(f"task.auxiliary names {', '.join(unknown)}: known are gender, smile, glasses, pose")
        if self.source not in crops.pictures:
            raise Refused(f"task.source {self.source!r} is not among the crops, which hold {', '.join(crops.pictures)}")
        heads = {t: known[t] for t in ("landmark", *self.auxiliary)}
        config = TcdcnConfig(size=m.size, features=m.features, heads=heads)
        self.model = Tcdcn(per_location(config) if m.filters == "per_location" else config).to(world.device)
        self.group = augmentation.grey(m.size)
        rows = self.with_points(crops.training(self.source))
        rows = rows[: task.samples] if task.samples else rows
        self.sampler = Sampler(rows, task.batch, self.iterations, world.size, settings.run.seed)
        rule = settings.stopping
        if rule.every and rule.main != "landmark":
            raise Refused(f"stopping.main is {rule.main!r}: TCDCN's main task is landmark")
        # The file has coefficients for all four; those of tasks outside this run do not matter.
        left_out = [t for t in known if t not in self.auxiliary and t != "landmark"]
        rule = replace(rule, coefficients={t: v for t, v in rule.coefficients.items() if t not in left_out})
        self.early_stopping = EarlyStopping(rule, ["landmark", *self.auxiliary]) if rule.every else None
        if self.early_stopping is None and rule.coefficients:
            raise Refused("stopping.coefficients are the tasks' weights here: set stopping.every too")

    def with_points(self, rows):
        rows = rows[np.isfinite(self.crops.keypoints[self.source][rows]).all((1, 2))]
        if not len(rows):
            raise Refused(f"no crop of source {self.source!r} has five points")
        return rows

    def sample(self, row, rng=None):
        picture = self.crops.rgb(self.source, row)
        tensor, points, flipped = augmentation.grey_view(self.group, picture, self.crops.keypoints[self.source][row], rng)
        return {"image": tensor, "landmark": points} | {k: np.int64(v) for k, v in self.crops.facts(self.source, row, flipped).items()}

    def stacked(self, samples):
        return {k: np.stack([s[k] for s in samples]) for k in samples[0]}

    def batch(self, iteration):
        seed = self.settings.run.seed
        drawn = self.sampler.draw(iteration, self.world.rank)
        return self.stacked([self.sample(row, np.random.default_rng((seed, place))) for place, row in drawn])

    def validation(self, count=512):
        rows = self.with_points(self.crops.held_out(self.source))[:count]
        size = self.settings.task.batch
        # Whole batches where there are any: the objective is a sum over the batch.
        for first in range(0, len(rows) // size * size or len(rows), size):
            yield self.stacked([self.sample(row) for row in rows[first : first + size]])

    def losses(self, model, batch):
        """Computes the objective: half the squared distance and the cross-entropies, summed over the batch or divided by it.

        The mean over the processes must be the loss of all their samples, so a sum counts once for each process.
        """
        outputs = model(batch["image"])
        scale = 1.0 / len(batch["image"]) if self.settings.optimizer.reduction == "mean" else float(self.world.size)
        out = {"landmark": objective.landmarks(outputs["landmark"], batch["landmark"]) * scale}
        for task in self.auxiliary:
            out[task] = F.cross_entropy(outputs[task], batch[task], ignore_index=IGNORED, reduction="sum") * scale
        return out

    def coefficient(self, task):
        return 1.0 if self.early_stopping is None else self.early_stopping.rule.weight(task)

    def total(self, losses):
        """Returns the weighted sum; a stopped task has the coefficient 0 and is no part of it."""
        active = [t for t in self.auxiliary if self.coefficient(t)]
        loss = losses["landmark"] + sum(self.coefficient(t) * losses[t] for t in active)
        return loss + self.settings.optimizer.penalty * objective.penalty(self.model.parameters())

    def optimizer(self):
        o = self.settings.optimizer
        return torch.optim.SGD([{"params": list(self.model.parameters()), "multiplier": 1.0}], lr=o.rate, momentum=o.momentum)

    def rate(self, iteration, multiplier):
        return multiplier * self.settings.optimizer.rate

    def extra(self):
        return {} if self.early_stopping is None else {"looks": self.early_stopping.state_dict()}

    def load_extra(self, state):
        if self.early_stopping is not None:
            self.early_stopping.load_state_dict(state["looks"])

    def official(self):
        return self.model.state_dict()
