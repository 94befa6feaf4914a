"""Implements FaRL's ViT, the CLIP visual transformer that Faceptor and Naive Faceptor use as their encoder."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from .attention import DropPath, PackedAttention


@dataclass(frozen=True)
class ClipVitConfig:
    width: int = 768
    layers: int = 12
    heads: int = 12
    patch: int = 16
    mlp: int = 3072
    # Side of the stored position table in tokens; its resolution is grid * patch.
    grid: int = 32
    # Columns of the unused CLIP projection.
    proj: int = 512
    drop_path: float = 0.2

    @property
    def resolution(self):
        return self.grid * self.patch


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, c, drop_path):
        super().__init__()
        self.attn = PackedAttention(c.width, c.heads)
        self.ln_1 = nn.LayerNorm(c.width, eps=1e-5)
        layers = [("c_fc", nn.Linear(c.width, c.mlp)), ("gelu", QuickGelu()), ("c_proj", nn.Linear(c.mlp, c.width))]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(c.width, eps=1e-5)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens):
        normed = self.ln_1(tokens)
        tokens = tokens + self.drop_path(self.attn(normed, normed, normed))
        return tokens + self.drop_path(self.mlp(self.ln_2(tokens)))


class Transformer(nn.Module):
    def __init__(self, c):
        super().__init__()
        rates = torch.linspace(0, c.drop_path, c.layers, device="cpu").tolist()
        self.resblocks = nn.ModuleList([Block(c, rate) for rate in rates])


class ClipVit(nn.Module):
    """Maps images [B, 3, S, S] to one map [B, width, S / patch, S / patch] for each block, without the class token and `ln_post`."""

    def __init__(self, c):
        super().__init__()
        self.config = c
        scale = c.width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(c.width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(c.grid**2 + 1, c.width))
        # These are in the files, but no code uses them.
        self.proj = nn.Parameter(scale * torch.randn(c.width, c.proj))
        self.conv1 = nn.Conv2d(3, c.width, c.patch, c.patch, bias=False)
        self.ln_pre = nn.LayerNorm(c.width, eps=1e-5)
        self.transformer = Transformer(c)
        self.ln_post = nn.LayerNorm(c.width, eps=1e-5)

    def positions(self, side):
        """Returns the position table [side * side + 1, width], resized bicubically; the row of the class token is as stored."""
        table, grid = self.positional_embedding, self.config.grid
        if side == grid:
            return table
        square = table[1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        square = F.interpolate(square, size=(side, side), mode="bicubic", align_corners=False)
        return torch.cat([table[:1], square.permute(0, 2, 3, 1).reshape(side * side, -1)])

    def side(self, image):
        height, width = (int(v) for v in image.shape[-2:])
        if height != width or height % self.config.patch:
            raise ValueError(f"image of {width}x{height} is not a square of a multiple of {self.config.patch} pixels")
        return height // self.config.patch

    def embed(self, image, positions=None):
        """Returns the tokens [B, 1 + N, width] before the first block."""
        if positions is None:
            positions = self.positions(self.side(image))
        patches = self.conv1(image)
        b, c, h, w = (int(v) for v in patches.shape)
        patches = patches.reshape(b, c, h * w).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(b, 1, -1), patches], 1)
        return self.ln_pre(tokens + positions)

    def forward(self, image):
        side = self.side(image)
        tokens, maps = self.embed(image), []
        for block in self.transformer.resblocks:
            tokens = block(tokens)
            maps.append(tokens[:, 1:].transpose(1, 2).reshape(-1, self.config.width, side, side))
        return maps


class Backbone(nn.Module):
    """Gives the encoder the name that the files have for it: `backbone_module.visual`."""

    def __init__(self, c):
        super().__init__()
        self.visual = ClipVit(c)

    def forward(self, image):
        return self.visual(image)
