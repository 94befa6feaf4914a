"""Cyclical self-regulation (SPEC E7): at the end of each cycle the weights join an average, whose answers refine the labels.

The loss of the refined labels is `losses.dmlcsr.divergence`; this is the cycle, the average and its batch statistics.
"""

import copy

import torch
from torch import nn


class SelfRegulation:
    """`n` counts the averaged cycles: 0 before the first ends, when labels are as people gave them."""

    def __init__(self, start, cycle):
        if start < 1 or cycle < 1:
            raise ValueError(f"start {start} and cycle {cycle} must be at least 1")
        self.start, self.cycle, self.n = start, cycle, 0
        self.average = None

    def ends(self, epoch):
        """Whether a cycle ends after this epoch, counted from 0."""
        done = epoch + 1 - self.start
        return done >= 0 and done % self.cycle == 0

    @torch.no_grad()
    def join(self, model):
        """average <- (1 - 1 / (n + 1)) average + 1 / (n + 1) model, over parameters; the first time a copy."""
        if self.average is None:
            self.average = copy.deepcopy(model).eval().requires_grad_(False)
        else:
            share = 1.0 / (self.n + 1)
            for held, now in zip(self.average.parameters(), model.parameters(), strict=True):
                held.mul_(1 - share).add_(now, alpha=share)
        self.n += 1
        return self.average

    def state_dict(self):
        return {"n": self.n, "average": None if self.average is None else self.average.state_dict()}

    def load_state_dict(self, state, model):
        """`model` gives the average its structure."""
        self.n = state["n"]
        self.average = None
        if state["average"] is not None:
            self.average = copy.deepcopy(model).eval().requires_grad_(False)
            self.average.load_state_dict(state["average"])


@torch.no_grad()
def reestimate(model, batches):
    """Batch-norm statistics of the model from one pass: the mean over the samples of each batch's mean and variance.

    Every kind of batch norm counts, which the official test by class name misses on one device.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return model
    held = [m.momentum for m in norms]
    was_training = [m.training for m in norms]
    for norm in norms:
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
