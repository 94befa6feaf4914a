"""Runs the loop of every recipe: batch, losses, step, check, save. One checkpoint holds what a resumed run needs."""

import functools
import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from faceptor_models.common.batch_stream import stream
from faceptor_models.common.csv_rows import write_rows
from faceptor_models.common.distributed import step_seed
from faceptor_models.common.early_stopping import StoppingSettings, held_out_losses
from faceptor_models.common.errors import Refused
from faceptor_models.common.settings import to_table

from ..checkpoint import read

CHECKPOINT = "checkpoint.pt"
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass
class RunSettings:
    """Holds the section [run]: which recipe, how long, and how often it logs and saves, in iterations."""

    recipe: str = ""
    iterations: int = 1000
    seed: int = 2048
    precision: str = "float32"
    log_every: int = 50
    save_every: int = 500


@dataclass
class DataSettings:
    """Holds the section [data]: the share of each source's crops that is kept for validation."""

    hold_out: float = 0.05


@dataclass
class RecipeSettings:
    """Holds the sections that every recipe has; each recipe adds its own."""

    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)
    stopping: StoppingSettings = field(default_factory=StoppingSettings)

    def check(self):
        """Refuses values of the common sections that no recipe can run with."""
        if self.run.precision not in PRECISIONS:
            raise Refused(f"run.precision is {self.run.precision!r}, expected is one of {', '.join(PRECISIONS)}")
        self.at_least_one("run", "iterations", "log_every", "save_every")

    def at_least_one(self, section, *keys):
        """Refuses a section's values below 1."""
        for key in keys:
            value = getattr(getattr(self, section), key)
            if value < 1:
                raise Refused(f"{section}.{key} is {value}, expected is at least 1")


class Recipe:
    """Defines the training of a system. Subclasses set `model`, `iterations` and `clip`, and implement the methods below.

    `early_stopping` is the stopping rule or None; `validation()` yields its held-out batches.
    """

    early_stopping = None
    clip = None

    def batch(self, iteration):
        """Returns one iteration's samples of this process, {name: array}, the same for the same iteration and rank."""
        raise NotImplementedError

    def losses(self, model, batch):
        """Returns {task: unweighted loss}, each such that its mean over the processes is the loss of all their samples."""
        raise NotImplementedError

    def total(self, losses):
        """Returns the weighted sum that is minimised."""
        raise NotImplementedError

    def optimizer(self):
        """Returns the optimizer; each of its groups has a `multiplier` that `rate` gets."""
        raise NotImplementedError

    def rate(self, iteration, multiplier):
        """Returns the learning rate of an iteration."""
        raise NotImplementedError

    def after(self, iteration, run):
        """Runs between this step and the next: cycles of self-regulation, measurements."""

    def extra(self):
        """Returns the state outside model and optimizer, in plain containers."""
        return {}

    def load_extra(self, state):
        pass

    def official(self):
        """Returns the trained model in the form of its system's files, for `faceptor-models import`."""
        raise NotImplementedError

    def write(self, folder):
        """Writes further files next to the checkpoint."""


class Step(nn.Module):
    """Returns a batch's losses from forward, so that one module can be wrapped for several processes."""

    def __init__(self, recipe):
        super().__init__()
        self.model, self.recipe = recipe.model, [recipe]

    def forward(self, batch):
        recipe = self.recipe[0]
        losses = recipe.losses(self.model, batch)
        return recipe.total(losses), losses


class RecipeBatches:
    """Gives the recipe's batches the form that `batch_stream` takes."""

    def __init__(self, recipe):
        self.recipe = recipe

    def make(self, seed, size=None):
        return self.recipe.batch(seed[1])


def batches(recipe, first, workers):
    """Yields (iteration, arrays) from `first` on; worker processes prepare them ahead."""
    return stream(RecipeBatches(recipe), 0, first, lambda at: None, workers)


def to_device(arrays, device):
    return {k: torch.from_numpy(np.ascontiguousarray(v)).to(device, non_blocking=True) for k, v in arrays.items()}


class Run:
    """Runs one training in the folder `out`, which keeps `settings` next to the checkpoint."""

    def __init__(self, recipe, settings, out, world, resume=False, workers=0, log=functools.partial(print, flush=True)):
        self.recipe, self.settings, self.out, self.world, self.workers, self.log = recipe, to_table(settings), Path(out), world, workers, log
        self.rows, self.skipped, self.first, self.seconds = [], 0, 0, 0.0
        # Losses since the last row of the log.
        self.sums, self.counted = {}, 0
        self.optimizer = recipe.optimizer()
        self.out.mkdir(parents=True, exist_ok=True)
        checkpoint = self.out / CHECKPOINT
        if checkpoint.exists() and not resume:
            raise Refused(f"{checkpoint} is there already: go on with it by --resume, or name another folder")
        if checkpoint.exists():
            self.load(read(checkpoint))
        if world.first:
            (self.out / "settings.json").write_text(json.dumps(self.settings, indent=1) + "\n")

    def load(self, state):
        held = ("settings", "model", "optimizer", "extra", "rows", "skipped", "iteration", "seconds", "sums", "counted")
        missing = [k for k in held if k not in state]
        if missing:
            raise Refused(f"{self.out / CHECKPOINT} is no checkpoint of this version: {', '.join(missing)} missing; name another folder")
        if state["settings"] != self.settings:
            changed = sorted(k for k in set(state["settings"]) | set(self.settings) if state["settings"].get(k) != self.settings.get(k))
            raise Refused(f"{self.out / CHECKPOINT} was made with other settings in {', '.join(changed)}")
        self.recipe.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.recipe.load_extra(state["extra"])
        self.rows, self.skipped, self.first, self.seconds = state["rows"], state["skipped"], state["iteration"] + 1, state["seconds"]
        self.sums, self.counted = state["sums"], state["counted"]

    def save(self, iteration, seconds):
        if not self.world.first:
            return
        state = {
            "model": self.recipe.model.state_dict(), "optimizer": self.optimizer.state_dict(), "extra": self.recipe.extra(), "rows": self.rows,
            "skipped": self.skipped, "iteration": iteration, "seconds": seconds, "settings": self.settings, "sums": self.sums,
            "counted": self.counted,
        }  # fmt: skip
        for name, held in ((CHECKPOINT, state), ("model.pth", self.recipe.official())):
            part = self.out / f".{name}.part"
            torch.save(held, part)
            os.replace(part, self.out / name)
        write_rows(self.rows, self.out / "log.csv")
        if self.recipe.early_stopping is not None:
            self.recipe.early_stopping.write(self.out)
        self.recipe.write(self.out)

    def train(self, until=None):
        """Runs to the last iteration, or stops after `until` with a checkpoint; returns the logged rows."""
        recipe, world, common = self.recipe, self.world, self.settings["run"]
        step = world.wrapped(Step(recipe))
        step.train()
        last = min(recipe.iterations - 1, math.inf if until is None else until)
        clock, base = time.monotonic(), self.seconds
        if self.first > last:
            return self.rows
        for iteration, arrays in batches(recipe, self.first, self.workers):
            # The iteration is the only state of the random numbers: a resumed run draws what an unbroken one does.
            torch.manual_seed(step_seed(common["seed"], iteration, world.rank))
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.rate(iteration, group["multiplier"])
            values = self.step(step, to_device(arrays, world.device))
            if values is None:
                self.skipped += 1
                if world.first:
                    self.log(f"iteration {iteration}: the loss is not finite, batch skipped")
            else:
                self.count(values)
                if recipe.early_stopping is not None:
                    recipe.early_stopping.add({k: v for k, v in values.items() if k != "loss"})
            if self.counted and ((iteration + 1) % common["log_every"] == 0 or iteration == recipe.iterations - 1):
                self.write_row(iteration)
            if recipe.early_stopping is not None and recipe.early_stopping.due(iteration):
                self.decide_stopping(iteration)
            recipe.after(iteration, self)
            if (iteration + 1) % common["save_every"] == 0 or iteration == last:
                self.seconds = base + time.monotonic() - clock
                self.save(iteration, self.seconds)
            if iteration == last:
                break
        world.wait()
        return self.rows

    def count(self, values):
        self.sums = {k: self.sums.get(k, 0.0) + values.get(k, 0.0) for k in self.sums | values}
        self.counted += 1

    def write_row(self, iteration):
        """Appends a row to the log with the means since the last one."""
        row = {"iteration": iteration, "rate": self.recipe.rate(iteration, 1.0)} | {k: v / self.counted for k, v in self.sums.items()}
        self.rows.append(row)
        self.sums, self.counted = {}, 0
        if self.world.first:
            self.log(" ".join(f"{k}={v:.4g}" for k, v in row.items()))

    def step(self, step, batch):
        """Makes one update; returns {name: mean over the processes}, or None when the loss is not a number on any of them."""
        precision = PRECISIONS[self.settings["run"]["precision"]]
        with torch.autocast(self.world.device.type, precision or torch.bfloat16, enabled=precision is not None):
            total, losses = step(batch)
        names = sorted(losses)
        values = self.world.mean(torch.stack([total, *[losses[n] for n in names]]).float())
        if not bool(torch.isfinite(values).all()):
            self.optimizer.zero_grad(set_to_none=True)
            return None
        total.backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return dict(zip(["loss", *names], values.tolist()))

    def decide_stopping(self, iteration):
        recipe = self.recipe
        held = (to_device(arrays, self.world.device) for arrays in recipe.validation())
        stopping = recipe.early_stopping.decide(iteration, held_out_losses(recipe.model, held, recipe.losses, self.world))
        if stopping and self.world.first:
            self.log(f"iteration {iteration}: stopped {', '.join(stopping)}")
