"""Implements Faceptor's interpreters of decoded queries, and the outputs made of them."""

import torch
from torch import nn
from torch.nn import functional as F


class Value(nn.Module):
    """Returns one number for each query, with a layer shared by all tasks: [B, Q, width] to [B, Q]."""

    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, 1)

    def forward(self, decoded):
        return self.fc(decoded).squeeze(-1)


class FeatureV2(nn.Module):
    """Maps the last encoder map to the recognition embedding: [B, width, S, S] to [B, out], not normalised."""

    def __init__(self, width, hidden, out):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.head = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden, eps=2e-5), nn.Linear(hidden, out, bias=False), nn.BatchNorm1d(out, eps=2e-5)
        )

    def forward(self, feature):
        return self.of_tokens(feature.flatten(2).transpose(1, 2))

    def of_tokens(self, tokens):
        return self.head(self.norm(tokens).mean(1))


class Tied(nn.Module):
    def __init__(self, owner):
        super().__init__()
        self.weight, self.bias = owner.weight, owner.bias


class ChannelNorm(nn.Module):
    """Applies LayerNorm over the channels of a map. The official file holds its two tensors twice, as itself and as `ln`."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.ln = Tied(self)

    def forward(self, x):
        return F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    def __init__(self, width, out, count=3):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, out if i == count - 1 else width) for i in range(count)])

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(F.relu(x) if i else x)
        return x


class MapV2(nn.Module):
    """Computes dot products of embedded queries with pixel features of four times the resolution."""

    def __init__(self, width):
        super().__init__()
        up = [nn.ConvTranspose2d(width, width, 2, 2) for _ in range(2)]
        self.mask_map = nn.Sequential(up[0], ChannelNorm(width), nn.GELU(), up[1])
        self.mask_embed = Mlp(width, width)

    def forward(self, decoded, pixels):
        """Maps decoded queries [B, Q, width] and `mask_map`'s features [B, width, H, W] to logits [B, Q, H, W]."""
        b, c, h, w = (int(v) for v in pixels.shape)
        return (self.mask_embed(decoded) @ pixels.reshape(b, c, h * w)).reshape(b, -1, h, w)


def soft_argmax(heatmap_logits):
    """Maps logits [B, Q, H, W] to points [B, Q, 2] (x, y) in 0..1: the mean place under plain sigmoids, no temperature."""
    acted = torch.sigmoid(heatmap_logits)
    return weighted_mean_place(acted)


def weighted_mean_place(acted):
    """Returns the mean place under non-negative weights; an empty map gives 0.5 / size."""
    h, w = (int(v) for v in acted.shape[-2:])
    total = acted.sum((2, 3)).clamp(min=1e-6)
    x = (acted.sum(2) * torch.arange(w, device=acted.device)).sum(-1) / total
    y = (acted.sum(3) * torch.arange(h, device=acted.device)).sum(-1) / total
    return torch.stack([(x + 0.5) / w, (y + 0.5) / h], -1)


def parsing_output(logits, size):
    """Returns logits at the input's size, channels last: [B, size, size, C]."""
    return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def align_output(logits):
    return {"landmark": soft_argmax(logits), "heatmap": logits}


def age_distribution(logits):
    """Normalises sigmoids to a sum of one over the bins 0, 1, 2, ... years."""
    p = torch.sigmoid(logits)
    return p / p.sum(-1, keepdim=True).clamp(min=1e-12)


def expected_age(logits):
    p = age_distribution(logits)
    return (p * torch.arange(p.shape[-1], device=p.device, dtype=p.dtype)).sum(-1)
