"""Implements UPerHead: pyramid pooling and a feature pyramid, with the parameter names of mmsegmentation's."""

import torch
from torch import nn
from torch.nn import functional as F

from .portable import bilinear

POOL_SCALES = (1, 2, 3, 6)


def resized(x, size):
    return bilinear(x, size, align_corners=False)


class ConvModule(nn.Module):
    """Applies a convolution without bias, batch norm and ReLU."""

    def __init__(self, cin, cout, kernel):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class UPerHead(nn.Module):
    """Maps four maps [B, width, S, S], each half of the one before, to logits [B, classes, S0, S0]."""

    def __init__(self, width, channels, classes):
        super().__init__()
        self.conv_seg = nn.Conv2d(channels, classes, 1)
        self.psp_modules = nn.ModuleList([nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvModule(width, channels, 1)) for scale in POOL_SCALES])
        self.bottleneck = ConvModule(width + len(POOL_SCALES) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList([ConvModule(width, channels, 1) for _ in range(3)])
        self.fpn_convs = nn.ModuleList([ConvModule(channels, channels, 3) for _ in range(3)])
        self.fpn_bottleneck = ConvModule(4 * channels, channels, 3)
        self.dropout = nn.Dropout2d(0.1)

    def pyramid(self, maps):
        """Returns four maps of `channels`; each contains the coarser ones below it."""
        deep = maps[3]
        pooled = [resized(module(deep), deep.shape[2:]) for module in self.psp_modules]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps)]
        laterals.append(self.bottleneck(torch.cat([deep, *pooled], 1)))
        for i in (3, 2, 1):
            laterals[i - 1] = laterals[i - 1] + resized(laterals[i], laterals[i - 1].shape[2:])
        return [conv(x) for conv, x in zip(self.fpn_convs, laterals)] + laterals[3:]

    def output(self, levels):
        levels = [levels[0]] + [resized(x, levels[0].shape[2:]) for x in levels[1:]]
        return self.conv_seg(self.dropout(self.fpn_bottleneck(torch.cat(levels, 1))))

    def forward(self, maps):
        return self.output(self.pyramid(maps))
