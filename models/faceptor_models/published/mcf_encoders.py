"""Defines the encoders that MCF can pre-train: the paper's ViT, FaRL's ViT of Faceptor, and the student's convolutions.

Each has `masked(image, noise, ratio)`: (normed tokens [B, 1 + kept, width] with the class token first, mask [B, N] with 1 for
removed, ids_restore [B, N]) and the projector `fc` on the class token.
"""

from dataclasses import dataclass

import torch
from torch import nn

from faceptor_models.student.network import SIZES
from faceptor_models.student.network import Encoder as StudentEncoder

from .clip_vit import ClipVit, ClipVitConfig
from .mae_vit import Vit, VitConfig


def choose(noise, ratio):
    """Returns (places of the int(N * (1 - ratio)) smallest noises in their order, mask, ids_restore)."""
    b, n = noise.shape
    keep = int(n * (1 - ratio))
    if keep < 1:
        raise ValueError(f"a masking ratio of {ratio} keeps none of {n} patches")
    order = torch.argsort(noise, dim=1)
    ids_restore = torch.argsort(order, dim=1)
    mask = torch.ones(b, n, device=noise.device)
    mask[:, :keep] = 0
    return order[:, :keep], torch.gather(mask, 1, ids_restore), ids_restore


def taken(patches, places):
    return torch.gather(patches, 1, places[:, :, None].expand(-1, -1, patches.shape[2]))


def keep_by_noise(patches, noise, ratio):
    """Keeps the int(N * (1 - ratio)) patches of the smallest noise, in that order."""
    places, mask, ids_restore = choose(noise, ratio)
    return taken(patches, places), mask, ids_restore


def projector(width, hidden, out):
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out, bias=False),
        nn.BatchNorm1d(out, affine=False),
    )  # fmt: skip


class VitEncoder(Vit):
    """Implements the paper's ViT: removed patches never enter the blocks."""

    def __init__(self, c, hidden, out):
        super().__init__(c)
        # A file stripped for other programs has no projector.
        if hidden:
            self.fc = projector(c.width, hidden, out)

    def masked(self, image, noise, ratio):
        kept, mask, ids_restore = keep_by_noise(self.patches(image), noise, ratio)
        x = self.with_class_token(kept)
        for block in self.blocks:
            x = block(x)
        return self.norm(x), mask, ids_restore


class ClipEncoder(nn.Module):
    """Implements Faceptor's encoder. `ln_post`, which Faceptor never uses, is the norm before projector and decoder."""

    def __init__(self, c, hidden, out):
        super().__init__()
        self.visual = ClipVit(c)
        self.fc = projector(c.width, hidden, out)

    def masked(self, image, noise, ratio):
        tokens = self.visual.embed(image)
        kept, mask, ids_restore = keep_by_noise(tokens[:, 1:], noise, ratio)
        x = torch.cat([tokens[:, :1], kept], 1)
        for block in self.visual.transformer.resblocks:
            x = block(x)
        return self.visual.ln_post(x), mask, ids_restore


@dataclass(frozen=True)
class ConvConfig:
    """Describes the student's encoder of `size` for images of grid * 16 pixels."""

    size: str = "edge"
    grid: int = 6

    patch = 16

    @property
    def width(self):
        return SIZES[self.size]["widths"][3]


class ConvEncoder(nn.Module):
    """Implements the student's encoder. A convolution cannot leave patches out, so removed ones get the mean colour.

    The patch is the encoder's stride, so that a place of its last map belongs to one patch. Only the kept places go to the
    decoder, as with the ViT; their mean stands for the class token that a convolution does not have. The norm is the ViT's last
    one, which the student does without: only the pre-training uses it.
    """

    def __init__(self, c, hidden, out):
        super().__init__()
        self.config = c
        self.body = StudentEncoder(SIZES[c.size]["widths"], SIZES[c.size]["blocks"])
        self.norm = nn.LayerNorm(c.width, eps=1e-6)
        self.fc = projector(c.width, hidden, out)

    def masked(self, image, noise, ratio):
        grid, patch = self.config.grid, self.config.patch
        if tuple(image.shape[-2:]) != (grid * patch,) * 2:
            raise ValueError(f"image of {tuple(image.shape[-2:])} pixels; the encoder was made for {grid * patch} x {grid * patch}")
        places, mask, ids_restore = choose(noise, ratio)
        shown = (1 - mask).reshape(-1, 1, grid, grid).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        tokens = self.body(image * shown)[-1].flatten(2).transpose(1, 2)
        kept = taken(tokens, places)
        return self.norm(torch.cat([kept.mean(1, keepdim=True), kept], 1).float()), mask, ids_restore


KINDS = {VitConfig: VitEncoder, ClipVitConfig: ClipEncoder, ConvConfig: ConvEncoder}


def build(c, hidden, out):
    """Builds the encoder of a config of one of the three kinds."""
    return KINDS[type(c)](c, hidden, out)
