"""Defines the recognition tower: plain 3x3 residual convolutions on the ArcFace crop, to an embedding of 256 numbers.

    python -m faceptor_models.student.recognition.tower

prints what a face costs and how many weights there are.

It has no part in common with the student, so it runs only when recognition is asked for, and what it learns takes nothing from the
other tasks. Widths are multiples of 16, as the engine's products like them.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ..network import ConvNorm, Residual
from .sizes import INPUT, NUMBERS

# widths: of the maps at strides 2, 4, 8 and 16. blocks: residual blocks at strides 4, 8 and 16.
SIZES = {
    "edge": {"widths": (32, 48, 96, 192), "blocks": (1, 3, 1), "squeeze": 32},
    "nano": {"widths": (16, 32, 64, 128), "blocks": (0, 2, 1), "squeeze": 16},
}
STRIDE = 16


class Head(nn.Module):
    """Maps the stride-16 map to the embedding: a squeeze, one linear layer over all places, a norm.

    A map of another size is scaled to the grid first, so that a training may begin with small pictures.
    """

    def __init__(self, width, squeeze, grid=INPUT // STRIDE):
        super().__init__()
        self.grid = grid
        self.squeeze = ConvNorm(width, squeeze, kernel=1)
        self.linear = nn.Linear(squeeze * grid * grid, NUMBERS, bias=False)
        nn.init.normal_(self.linear.weight, std=1 / math.sqrt(squeeze * grid * grid))
        self.norm = nn.BatchNorm1d(NUMBERS)

    def forward(self, x):
        x = self.squeeze(x)
        if x.shape[2:] != (self.grid, self.grid):
            x = F.interpolate(x, size=(self.grid, self.grid), mode="bilinear", align_corners=False)
        return self.norm(self.linear(x.flatten(1)))


def turned(state, rotation):
    """Returns a tower's state whose embeddings are those of `state` turned by a matrix [256, 256].

    The norm's statistics are exact where the embedding's numbers are uncorrelated, and near enough for training elsewhere.
    """
    names = {name: f"head.norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    weight, bias, mean, variance = (state[name].double() for name in names.values())
    rotation, eps = rotation.to(weight), nn.BatchNorm1d(1).eps
    gain = weight / (variance + eps).sqrt()
    spread = rotation.square() @ (gain.square() * variance)
    new = {
        "head.linear.weight": rotation @ (gain[:, None] * state["head.linear.weight"].double()), names["weight"]: (spread + eps).sqrt(),
        names["bias"]: rotation @ bias, names["running_mean"]: rotation @ (gain * mean), names["running_var"]: spread,
    }  # fmt: skip
    return dict(state) | {name: value.to(state[name].dtype) for name, value in new.items()}


class Tower(nn.Module):
    """Maps images [B, 3, S, S], (x - 127.5) / 127.5, to embeddings [B, 256] of any length."""

    def __init__(self, size="edge"):
        super().__init__()
        self.size = size
        widths, blocks = SIZES[size]["widths"], SIZES[size]["blocks"]
        self.stem = ConvNorm(3, widths[0], stride=2)
        stages = []
        for before, width, count in zip(widths, widths[1:], blocks):
            stages += [ConvNorm(before, width, stride=2), *[Residual(width) for _ in range(count)]]
        self.stages = nn.Sequential(*stages)
        self.head = Head(widths[-1], SIZES[size]["squeeze"])

    def forward(self, image):
        return self.head(self.stages(self.stem(image)))


def cost(size):
    """Returns (multiply-accumulates of one face, weights) of a size's convolutions and its linear layer."""
    net, products = Tower(size).eval(), []

    def count(layer, _, out):
        places = out.shape[2] * out.shape[3] if out.dim() == 4 else 1
        products.append(layer.weight.numel() * places)

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, 3, INPUT, INPUT))
    return sum(products), sum(p.numel() for p in net.parameters())


def main():
    print("| tower | MMAC | weights |\n|---|---|---|")
    for size in SIZES:
        products, weights = cost(size)
        print(f"| {size} | {products / 1e6:.1f} | {weights:,} |")


if __name__ == "__main__":
    main()
