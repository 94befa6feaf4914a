"""Implements the timm-style vision transformer of MCF's encoders, decoder and frozen perceptual network."""

from dataclasses import dataclass

import torch
from torch import nn

from .attention import FusedAttention


@dataclass(frozen=True)
class VitConfig:
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    patch: int = 16
    # Side of the position table in tokens: 14 for images of 224.
    grid: int = 14

    @property
    def size(self):
        return self.grid * self.patch


def sincos_table(width, grid):
    """Returns MAE's fixed table [1, grid * grid + 1, width]: [sin | cos] of the column, then of the row; zeros for the class token."""
    omega = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width / 4))

    def axis(position):
        angle = position[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], 1)

    index = torch.arange(grid * grid, device="cpu")
    row, column = torch.div(index, grid, rounding_mode="floor").double(), (index % grid).double()
    table = torch.cat([axis(column), axis(row)], 1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64, device="cpu"), table]).float()[None]


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads, mlp):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = FusedAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Maps [B, 3, S, S] to [B, N, width], row by row."""

    def __init__(self, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, image):
        x = self.proj(image)
        b, c, h, w = (int(v) for v in x.shape)
        return x.reshape(b, c, h * w).transpose(1, 2)


class Vit(nn.Module):
    """Returns the raw output of every block from `features(image)`; `norm` belongs to the reader of the last one."""

    def __init__(self, c, trained_positions=False):
        super().__init__()
        self.config = c
        self.cls_token = nn.Parameter(torch.randn(1, 1, c.width) * 0.02)
        self.pos_embed = nn.Parameter(sincos_table(c.width, c.grid), requires_grad=trained_positions)
        self.patch_embed = PatchEmbed(c.width, c.patch)
        self.blocks = nn.ModuleList([Block(c.width, c.heads, c.mlp) for _ in range(c.layers)])
        self.norm = nn.LayerNorm(c.width, eps=1e-6)

    def check(self, image):
        if tuple(image.shape[-2:]) != (self.config.size,) * 2:
            raise ValueError(f"image of {tuple(image.shape[-2:])} pixels; the position table is for {self.config.size} x {self.config.size}")

    def patches(self, image):
        """Returns patch tokens [B, N, width] with their positions, without the class token."""
        self.check(image)
        return self.patch_embed(image) + self.pos_embed[:, 1:]

    def with_class_token(self, patches):
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(patches.shape[0], -1, -1)
        return torch.cat([cls, patches], 1)

    def features(self, image):
        """Returns the tokens [B, 1 + N, width] after every block, without the final norm."""
        x, out = self.with_class_token(self.patches(image)), []
        for block in self.blocks:
            x = block(x)
            out.append(x)
        return out
