"""Implements cyclical self-regulation (DML-CSR): at the end of each cycle the weights join an average, whose answers refine the
labels.

The loss of the refined labels is `edge_criterion.divergence`; this module has the cycle, the average and its batch statistics.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

ModelT = TypeVar("ModelT", bound=nn.Module)


class SelfRegulation:
    """Counts the cycles and holds the average. `n` is the number of averaged cycles; while it is 0 the labels are used
    unrefined.
    """

    def __init__(self, start: int, cycle: int) -> None:
        if start < 1 or cycle < 1:
            raise ValueError(f"start {start} and cycle {cycle} must be at least 1")
        self.start, self.cycle, self.n = start, cycle, 0
        self.average: nn.Module | None = None

    def ends(self, epoch: int) -> bool:
        """Returns true when a cycle ends after this epoch, counted from 0."""
        done = epoch + 1 - self.start
        return done >= 0 and done % self.cycle == 0

    @torch.no_grad()
    def join(self, model: nn.Module) -> nn.Module:
        """Updates average <- (1 - 1 / (n + 1)) average + 1 / (n + 1) model over the parameters; the first time it copies the
        model.
        """
        if self.average is None:
            self.average = copy.deepcopy(model).eval().requires_grad_(False)
        else:
            share = 1.0 / (self.n + 1)
            for held, now in zip(self.average.parameters(), model.parameters(), strict=True):
                held.mul_(1 - share).add_(now, alpha=share)
        self.n += 1
        return self.average

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs."""
        return {"n": self.n, "average": None if self.average is None else self.average.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], model: nn.Module) -> None:
        """Restores what `state_dict` returned; `model` gives the average its structure."""
        self.n = state["n"]
        self.average = None
        if state["average"] is not None:
            self.average = copy.deepcopy(model).eval().requires_grad_(False)
            self.average.load_state_dict(state["average"])


@torch.no_grad()
def reestimate(model: ModelT, batches: Iterable[torch.Tensor]) -> ModelT:
    """Estimates the model's batch-norm statistics in one pass: the mean over the samples of each batch's mean and variance.

    It counts every kind of batch norm; the official test by class name misses some on one device.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return model
    held = [m.momentum for m in norms]
    was_training = [m.training for m in norms]
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
        norm.train()
    seen = 0
    for batch in batches:
        size = batch.shape[0]
        for norm in norms:
            norm.momentum = size / (seen + size)
        model(batch)
        seen += size
    for norm, momentum, training in zip(norms, held, was_training):
        norm.momentum = momentum
        norm.train(training)
    if not seen:
        raise ValueError("no batch to estimate the statistics from")
    return model
