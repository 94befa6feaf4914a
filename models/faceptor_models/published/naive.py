"""Implements Naive Faceptor: the same encoder with one standard head for each task type."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from . import official
from .clip_vit import Backbone, ClipVitConfig
from .faceptor import Losses, finish
from .interpreters import FeatureV2
from .upernet import UPerHead


@dataclass(frozen=True)
class NaiveConfig:
    """Holds the sizes. `tasks` is {name: outputs}; the heads' features have `value_width` and `map_width` channels."""

    tasks: dict = field(default_factory=lambda: {t: official.TASKS[t] for t in official.BASE_TASKS})
    encoder: ClipVitConfig = ClipVitConfig()
    feature_hidden: int = 768
    embedding: int = 512
    value_width: int = 512
    # Hidden width of the channel attention.
    squeeze: int = 32
    map_width: int = 512
    # Encoder blocks whose maps the value heads and the dense heads read.
    value_levels: tuple = (5, 7, 9, 11)
    map_levels: tuple = (3, 5, 7, 11)
    identities: dict = field(default_factory=dict)

    def of_type(self, kind):
        return {t: n for t, n in self.tasks.items() if official.type_of(t) == kind}


class ChannelAttention(nn.Module):
    def __init__(self, width, squeeze):
        super().__init__()
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(width, squeeze), nn.ReLU(), nn.Linear(squeeze, width))

    def forward(self, x):
        weight = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        return x * weight[:, :, None, None]


class SwinFaceHead(nn.Module):
    """Answers the value tasks of one type: four maps, channel attention, maximum over the places, a layer for each task."""

    def __init__(self, c, tasks):
        super().__init__()
        width = c.value_width
        share = width // len(c.value_levels)
        self.levels = c.value_levels
        self.conv = nn.ModuleList([nn.Conv2d(c.encoder.width, share, 3, padding=1, bias=False) for _ in c.value_levels])
        self.channel_attention = ChannelAttention(width, c.squeeze)
        self.norm = nn.BatchNorm1d(width, eps=2e-5)
        self.feature = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.5))
        self.fcs = nn.ModuleDict({t: nn.Linear(width, n) for t, n in tasks.items()})

    def shared(self, maps):
        """Returns the [B, width] features that all tasks of the type read."""
        x = torch.cat([conv(maps[level]) for conv, level in zip(self.conv, self.levels)], 1)
        x = F.relu(self.channel_attention(x)).amax((2, 3))
        return self.feature(self.norm(x))

    def forward(self, maps, task):
        return self.fcs[task](self.shared(maps))


class UperDenseHead(nn.Module):
    """Answers the dense tasks of one type: the encoder's maps brought to four scales, UPerHead, a slice for each task."""

    def __init__(self, c, tasks):
        super().__init__()
        width = c.encoder.width
        self.levels = c.map_levels
        self.slices, first = {}, 0
        for task, count in tasks.items():
            self.slices[task] = slice(first, first + count)
            first += count

        def up():
            return nn.ConvTranspose2d(width, width, 2, 2)

        self.fpns = nn.ModuleList([nn.Sequential(up(), nn.BatchNorm2d(width), nn.GELU(), up()), up(), nn.Identity(), nn.MaxPool2d(2, 2)])
        self.head = UPerHead(width, c.map_width, first)

    def scales(self, maps):
        return [fpn(maps[level]) for fpn, level in zip(self.fpns, self.levels)]

    def forward(self, maps, task):
        return self.head(self.scales(maps))[:, self.slices[task]]


class NaiveHeads(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = nn.ModuleDict()
        for kind in official.TYPES:
            tasks = c.of_type(kind)
            if not tasks:
                continue
            if kind == "recog":
                self.heads[kind] = FeatureV2(c.encoder.width, c.feature_hidden, c.embedding)
            else:
                self.heads[kind] = (UperDenseHead if kind in official.DENSE else SwinFaceHead)(c, tasks)


class NaiveFaceptor(nn.Module):
    """Returns {task: output} from `forward(image, tasks)`, like Faceptor."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.backbone_module = Backbone(config.encoder)
        self.heads_module = NaiveHeads(config)
        self.losses_module = Losses(config.identities, config.embedding)

    def logits(self, image, tasks):
        maps = self.backbone_module(image)
        out = {}
        for task in tasks:
            kind = official.type_of(task)
            head = self.heads_module.heads[kind]
            out[task] = head(maps[-1]) if kind == "recog" else head(maps, task)
        return out

    def forward(self, image, tasks):
        return {t: finish(t, raw, self.config.encoder.resolution) for t, raw in self.logits(image, tasks).items()}
