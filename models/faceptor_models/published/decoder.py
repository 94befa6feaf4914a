"""Implements Faceptor's task-specific queries and transformer decoder, plain (stage 1) and with Layer-Attention (stage 2)."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from .attention import PackedAttention


@dataclass(frozen=True)
class DecoderConfig:
    width: int = 256
    heads: int = 8
    layers: int = 9
    ffn: int = 2048
    # Encoder blocks whose maps are the memory; Layer-Attention adds `new_levels`.
    levels: tuple = (11,)
    new_levels: tuple = ()

    @property
    def source(self):
        """Returns the index in `levels` of the level that feeds the pixels: the deepest, M_11 officially, wherever it is named."""
        return self.levels.index(max(self.levels))


def anchor_positions(height, width, dim, device=None):
    """Returns sine and cosine of the cell centres, [H * W, dim]: the y half first, sine and cosine interleaved."""
    half = dim // 2
    index = torch.arange(half, device=device)
    period = 10000.0 ** (2.0 * torch.div(index, 2, rounding_mode="floor") / half)

    def axis(n):
        centre = (torch.arange(n, device=device) + 0.5) / n
        angle = 2.0 * math.pi * centre[:, None] / period
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], -1).flatten(1)

    y, x = axis(height), axis(width)
    return torch.cat([y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)], -1).reshape(height * width, dim)


class CrossLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.multihead_attn = PackedAttention(c.width, c.heads)
        self.norm = nn.LayerNorm(c.width)

    def forward(self, content, position, key, value):
        """Takes `key` and `value` already projected: they do not depend on the task."""
        attention = self.multihead_attn
        return self.norm(content + attention.from_projected(attention.project(0, content + position), key, value))


class SelfLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn = PackedAttention(c.width, c.heads)
        self.norm = nn.LayerNorm(c.width)

    def forward(self, content, position):
        placed = content + position
        return self.norm(content + self.self_attn(placed, placed, content))


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(c.width, c.ffn), nn.Linear(c.ffn, c.width)
        self.norm = nn.LayerNorm(c.width)

    def forward(self, content):
        return self.norm(content + self.linear2(F.relu(self.linear1(content))))


class Decoder(nn.Module):
    """Turns encoder maps into memory once for each image (`remember`) and runs one task's queries over it (`decode`)."""

    def __init__(self, c, encoder_width, queries):
        """Takes `queries`, {task: number of queries}, in the order of the configuration."""
        super().__init__()
        self.config = c

        def projections(n):
            return nn.ModuleList([nn.Conv2d(encoder_width, c.width, 1) for _ in range(n)])

        self.query_feat = nn.ModuleDict({t: nn.Embedding(n, c.width) for t, n in queries.items()})
        self.query_embed = nn.ModuleDict({t: nn.Embedding(n, c.width) for t, n in queries.items()})
        self.level_embed = nn.Embedding(len(c.levels), c.width)
        self.input_proj = projections(len(c.levels))
        self.transformer_self_attention_layers = nn.ModuleList([SelfLayer(c) for _ in range(c.layers)])
        self.transformer_cross_attention_layers = nn.ModuleList([CrossLayer(c) for _ in range(c.layers)])
        self.transformer_ffn_layers = nn.ModuleList([FeedForward(c) for _ in range(c.layers)])
        self.adapt_pos2d = nn.Sequential(nn.Linear(c.width, c.width), nn.ReLU(), nn.Linear(c.width, c.width))
        if c.new_levels:
            self.new_level_embed = nn.Embedding(len(c.new_levels), c.width)
            self.new_input_proj = projections(len(c.new_levels))
        self.initialise()

    def initialise(self):
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)
        for embedding in self.query_embed.values():
            nn.init.uniform_(embedding.weight)

    @property
    def all_levels(self):
        """Returns the encoder blocks in the order of their tokens in the memory."""
        return (*self.config.levels, *self.config.new_levels)

    def projected(self, maps):
        """Returns [(tokens [B, S * S, width], level embedding)] in memory order; the entry `source` feeds the pixels."""
        projections = [*self.input_proj, *(self.new_input_proj if self.config.new_levels else [])]
        embeddings = [self.level_embed.weight, *([self.new_level_embed.weight] if self.config.new_levels else [])]
        out = []
        for level, project, embedding in zip(self.all_levels, projections, torch.cat(embeddings)):
            x = project(maps[level])
            b, c, h, w = (int(v) for v in x.shape)
            out.append((x.reshape(b, c, h * w).transpose(1, 2), embedding))
        return out

    def position(self, height, width):
        """Returns the learned position P [S * S, width], shared by all levels."""
        weight = self.adapt_pos2d[0].weight
        return self.adapt_pos2d(anchor_positions(height, width, self.config.width, weight.device).to(weight.dtype))

    def remember(self, maps):
        """Returns (keys and values of every layer, source map [B, width, S, S] of the deepest stage-1 level, M_11)."""
        height, width = (int(v) for v in maps[self.config.levels[-1]].shape[-2:])
        place = self.position(height, width)
        levels = self.projected(maps)
        memory = torch.cat([tokens for tokens, _ in levels], 1)
        placed = memory + torch.cat([place + embedding for _, embedding in levels])
        source = levels[self.config.source][0].transpose(1, 2)
        source = source.reshape(-1, self.config.width, height, width)
        return self.keys_and_values(placed, memory), source

    def keys_and_values(self, placed, memory):
        attentions = [layer.multihead_attn for layer in self.transformer_cross_attention_layers]
        return [(a.project(1, placed), a.project(2, memory)) for a in attentions]

    def decode(self, task, memory):
        """Returns the decoded queries [B, Q, width] of one task."""
        batch = memory[0][0].shape[0]
        content = self.query_feat[task].weight.expand(batch, -1, -1)
        position = self.query_embed[task].weight.expand(batch, -1, -1)
        layers = zip(self.transformer_cross_attention_layers, self.transformer_self_attention_layers, self.transformer_ffn_layers, memory)
        for cross, own, forward, (key, value) in layers:
            content = forward(own(cross(content, position, key, value), position))
        return content
