"""Computes MCF's losses: perceptual reconstruction of the whole image and masked contrast."""

import torch
from torch.nn import functional as F

MIM_FACTOR = 1000.0


def perceptual(features, targets):
    """Returns the sum over levels of the mean squared difference of tokens [B, N, D], each feature of unit length over the tokens."""
    total = 0.0
    for found, target in zip(features, targets, strict=True):
        total = total + F.mse_loss(F.normalize(found.float(), dim=1), F.normalize(target.detach().float(), dim=1))
    return total


def contrastive(query, key, temperature=0.2, rank=0):
    """Returns the InfoNCE loss of queries [B, D] with the keys of all ranks [ranks * B, D]: the own key is row `rank * B + i`."""
    query, key = F.normalize(query, dim=1), F.normalize(key.detach(), dim=1)
    labels = torch.arange(len(query), device=query.device) + rank * len(query)
    return F.cross_entropy(query @ key.T / temperature, labels) * (2 * temperature)


def total(output, temperature=0.2, keys=None, rank=0):
    """Returns (loss, reconstruction, contrast) of the network's output; `keys`: those of all ranks."""
    mim = perceptual(output["features_pseudo"], output["features_real"])
    contrast = contrastive(output["query"], output["key"] if keys is None else keys, temperature, rank)
    return MIM_FACTOR * mim + contrast, mim, contrast
