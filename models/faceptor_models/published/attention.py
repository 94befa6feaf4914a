"""Implements attention and normalisation with the parameter names of torch.nn.MultiheadAttention and of timm."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def heads_of(tensor, heads):
    """Splits [B, N, D] into [B, heads, N, D / heads]."""
    b, n, d = (int(v) for v in tensor.shape)
    return tensor.reshape(b, n, heads, d // heads).transpose(1, 2)


def attend(query, key, value, heads):
    """Computes scaled dot-product attention of already projected [B, N, D] tensors."""
    q, k, v = heads_of(query, heads), heads_of(key, heads), heads_of(value, heads)
    if torch.onnx.is_in_onnx_export():
        mixed = ((q * (q.shape[-1] ** -0.5)) @ k.transpose(-2, -1)).softmax(-1) @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v)
    b, h, n, d = (int(s) for s in mixed.shape)
    return mixed.transpose(1, 2).reshape(b, n, h * d)


class PackedAttention(nn.Module):
    """Implements torch.nn.MultiheadAttention, batch first: packed `in_proj_weight` and `out_proj`."""

    def __init__(self, dim, heads):
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} attention heads do not divide the width {dim}")
        self.dim, self.heads = dim, heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.normal_(self.in_proj_weight, std=1 / math.sqrt(dim))
        nn.init.zeros_(self.out_proj.bias)

    def project(self, which, tensor):
        """Applies the query (0), key (1) or value (2) projection."""
        rows = slice(which * self.dim, (which + 1) * self.dim)
        return F.linear(tensor, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def from_projected(self, query, key, value):
        return self.out_proj(attend(query, key, value, self.heads))

    def forward(self, query, key, value):
        return self.from_projected(self.project(0, query), self.project(1, key), self.project(2, value))


class FusedAttention(nn.Module):
    """Implements timm's self-attention: one `qkv` layer and `proj`."""

    def __init__(self, dim, heads):
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} attention heads do not divide the width {dim}")
        self.dim, self.heads = dim, heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens):
        q, k, v = self.qkv(tokens).split(self.dim, -1)
        return self.proj(attend(q, k, v, self.heads))


class DropPath(nn.Module):
    """Drops a residual branch for whole samples, in training only."""

    def __init__(self, rate=0.0):
        super().__init__()
        self.rate = float(rate)

    def forward(self, branch):
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        shape = (branch.shape[0],) + (1,) * (branch.dim() - 1)
        return branch * branch.new_empty(shape).bernoulli_(keep) / keep
