"""Implements TCDCN: landmarks and four auxiliary tasks from a 40 x 40 grey face."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from .portable import max_pool


@dataclass(frozen=True)
class TcdcnConfig:
    """Holds the sizes. `blocks` are the filters along a side of each convolution's output: 1 is ordinary sharing, the output's
    size is a filter for each place.
    """

    size: int = 40
    widths: tuple = (16, 48, 64, 64)
    kernels: tuple = (5, 3, 3, 2)
    blocks: tuple = (1, 1, 1, 1)
    features: int = 100
    heads: dict = field(default_factory=lambda: {"landmark": 10, "gender": 2, "smile": 2, "glasses": 2, "pose": 5})

    @property
    def sides(self):
        """Returns the side of each convolution's output."""
        sides, side = [], self.size
        for i, kernel in enumerate(self.kernels):
            side = side - kernel + 1
            sides.append(side)
            side = side // 2 if i < len(self.kernels) - 1 else side
        return sides


def per_location(config=TcdcnConfig()):
    """Returns the config of the same network with a filter for every place."""
    return TcdcnConfig(config.size, config.widths, config.kernels, tuple(config.sides), config.features, config.heads)


class BlockConv(nn.Module):
    """Applies a valid convolution whose output is cut into blocks x blocks regions with filters of their own.

    `weight` is [rows, columns, out, in, k, k], `bias` [rows, columns, out].
    """

    def __init__(self, cin, cout, kernel, side, blocks):
        super().__init__()
        if not 1 <= blocks <= side:
            raise ValueError(f"{blocks} blocks do not fit a side of {side}")
        self.side, self.blocks = side, blocks
        bound = (cin * kernel * kernel) ** -0.5
        self.weight = nn.Parameter(torch.empty(blocks, blocks, cout, cin, kernel, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(blocks, blocks, cout))

    def edges(self):
        """Returns the first row (or column) of each block and the one after the last; blocks differ by at most one."""
        return [i * self.side // self.blocks for i in range(self.blocks + 1)]

    def forward(self, x):
        edges, kernel = self.edges(), self.weight.shape[-1]
        if self.blocks == self.side:
            return self.per_place(x)
        rows = []
        for i, (top, below) in enumerate(pairwise(edges)):
            row = [
                F.conv2d(x[:, :, top : below + kernel - 1, left : right + kernel - 1], self.weight[i, j], self.bias[i, j])
                for j, (left, right) in enumerate(pairwise(edges))
            ]
            rows.append(torch.cat(row, 3))
        return torch.cat(rows, 2)

    def per_place(self, x):
        kernel, side = self.weight.shape[-1], self.side
        taps = [x[:, :, i : i + side, j : j + side] for i in range(kernel) for j in range(kernel)]
        b, cin = int(x.shape[0]), int(x.shape[1])
        # [places, B, in * k * k] times [places, in * k * k, out]
        columns = torch.stack(taps, 2).reshape(b, cin * kernel * kernel, side * side).permute(2, 0, 1)
        cout = self.weight.shape[2]
        weight = self.weight.reshape(side * side, cout, cin * kernel * kernel).transpose(1, 2)
        out = columns @ weight + self.bias.reshape(side * side, 1, cout)
        return out.permute(1, 2, 0).reshape(b, cout, side, side)


class Tcdcn(nn.Module):
    """Maps grey faces [B, 1, size, size] to {head: numbers}: coordinates and class logits, both linear."""

    def __init__(self, config):
        super().__init__()
        c = self.config = config
        channels = (1, *c.widths)
        for i, (kernel, side, blocks) in enumerate(zip(c.kernels, c.sides, c.blocks)):
            here, there = channels[i], channels[i + 1]
            self.add_module(f"conv{i + 1}", nn.Conv2d(here, there, kernel) if blocks == 1 else BlockConv(here, there, kernel, side, blocks))
        self.fc = nn.Linear(c.widths[-1] * c.sides[-1] ** 2, c.features)
        for head, count in c.heads.items():
            self.add_module(head, nn.Linear(c.features, count))

    def features(self, image):
        x, last = image, len(self.config.kernels)
        for i in range(1, last + 1):
            x = torch.tanh(getattr(self, f"conv{i}")(x)).abs()
            if i < last:
                x = max_pool(x, 2, 2)
        return torch.tanh(self.fc(x.flatten(1))).abs()

    def forward(self, image):
        shared = self.features(image)
        return {head: getattr(self, head)(shared) for head in self.config.heads}


@torch.no_grad()
def run_arrays(model, arrays):
    (height, width), c = arrays["image"].shape[2:], model.config
    # Sides that the pools round to the same maps are equally good, unless filters belong to places.
    same = height == c.size if max(c.blocks) > 1 else replace(c, size=height).sides[-1] == c.sides[-1]
    if height != width or not same:
        raise ValueError(f"image is {width} x {height}, the network is made for {c.size} x {c.size}")
    return {f"out.{head}": value.numpy() for head, value in model(torch.from_numpy(arrays["image"]).float()).items()}
