"""Learning rates of the published trainings, as plain functions of the iteration or the epoch (SPEC A7, C3, E7)."""

import math


def cosine(share):
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * share))


def faceptor(iteration, total, base, peak, multiplier=1.0, warm=2000):
    """Linear from `base` to `peak` over `warm` iterations, then half a cosine to zero; times the group's multiplier.

    Faceptor: base 1e-6, peak 5e-5, multiplier 1 for the encoder and 10 for the rest. Naive: 1e-5, 5e-4, and 0.1 and 1.
    """
    if iteration < warm:
        return multiplier * (base + iteration / warm * (peak - base))
    return multiplier * peak * cosine((iteration - warm) / (total - warm))


def mae(epoch, epochs, peak, warm=1.0):
    """MCF's, with `epoch` a fraction: linear from zero over the warm-up, then half a cosine to zero."""
    if epoch < warm:
        return peak * epoch / warm
    return peak * cosine((epoch - warm) / (epochs - warm))


def mae_peak(blr, batch):
    """The peak for a whole batch over all devices and accumulation steps: linear, 256 being one."""
    return blr * batch / 256


def cyclical(epoch, base, start=150, cycle=10, warm=10):
    """DML-CSR's as meant: warm-up from base / 100, cosine back to that until `start`, then restarts from base / 2."""
    low = base / 100
    if epoch < warm:
        return low + epoch / warm * (base - low)
    if epoch < start:
        return low + (base - low) * cosine((epoch - warm) / (start - warm))
    return low + (base / 2 - low) * cosine((epoch - start) % cycle / cycle)


def cyclical_official(iteration, per_epoch, epochs, base, start=150, cycle=10, power=0.9):
    """What the official code runs (quirk 28): a polynomial until `start`, then the restarts counted in iterations."""
    if iteration < start * per_epoch:
        return base * (1 - iteration / (epochs * per_epoch)) ** power
    low = base / 100
    return low + (base / 2 - low) * cosine((iteration - start * per_epoch) % cycle / cycle)
