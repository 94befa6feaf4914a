"""Computes the learning rates of the published trainings as plain functions of the iteration or the epoch."""

import math


def cosine(share: float) -> float:
    """Falls from 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * share))


def faceptor(iteration: int, total: int, base: float, peak: float, multiplier: float = 1.0, warm: int = 2000) -> float:
    """Rises linearly from `base` to `peak` over `warm` iterations, then falls by half a cosine to zero; times the group's
    multiplier.

    Faceptor has base 1e-6, peak 5e-5, and multiplier 1 for the encoder and 10 for the rest. Naive Faceptor has 1e-5, 5e-4, 0.1
    and 1.
    """
    if iteration < warm:
        return multiplier * (base + iteration / warm * (peak - base))
    return multiplier * peak * cosine((iteration - warm) / (total - warm))


def mae(epoch: float, epochs: float, peak: float, warm: float = 1.0) -> float:
    """Computes MCF's rate: rises linearly from zero over the warm-up, then falls by half a cosine to zero. `epoch` is a
    fraction.
    """
    if epoch < warm:
        return peak * epoch / warm
    return peak * cosine((epoch - warm) / (epochs - warm))


def mae_peak(blr: float, batch: int) -> float:
    """Returns the peak for a whole batch over all devices and accumulation steps; it grows linearly, and a batch of 256 has
    `blr`.
    """
    return blr * batch / 256


def cyclical(epoch: float, base: float, start: int = 150, cycle: int = 10, warm: int = 10) -> float:
    """Computes DML-CSR's rate as meant: warm-up from base / 100, a cosine back to that until `start`, then restarts from base /
    2.
    """
    low = base / 100
    if epoch < warm:
        return low + epoch / warm * (base - low)
    if epoch < start:
        return low + (base - low) * cosine((epoch - warm) / (start - warm))
    return low + (base / 2 - low) * cosine((epoch - start) % cycle / cycle)


def cyclical_official(iteration: int, per_epoch: int, epochs: int, base: float, start: int = 150, cycle: int = 10, power: float = 0.9) -> float:
    """Computes the rate that DML-CSR's official code runs: a polynomial until `start`, then restarts counted in iterations."""
    if iteration < start * per_epoch:
        return base * (1 - iteration / (epochs * per_epoch)) ** power
    low = base / 100
    return low + (base / 2 - low) * cosine((iteration - start * per_epoch) % cycle / cycle)
