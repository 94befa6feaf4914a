"""Trains with the rounding of the export: applies in the forward pass what `export.quantize` does to a layer.

Every convolution and linear layer sees its input rounded to u8 (one range for each tensor) and its weight rounded to i8 (a
scale for each output channel, symmetric). Biases, sums, attention products, LayerNorm and interpreters stay in float, as in the
QDQ files. A tensor that is rounded for one reader is rounded for all of them, also for the sum of a residual block. Gradients
pass straight through the rounding. A batch norm's factor is one number for each output channel, so rounding the weight before
it equals rounding the folded weight.
"""

import re

import torch
from torch import nn
from torch.nn import functional as F

from .network import DecoderLayer, FeatureHead, Residual

DECAY = 0.95  # of the ranges' moving average, for each step


class Range:
    """Tracks the least and greatest value of a tensor: the mean of the batches' extremes, as one calibration image's would be."""

    def __init__(self):
        self.low = self.high = None
        self.frozen, self.rounds = False, True

    def see(self, x):
        if self.frozen and self.low is not None:
            return
        low, high = torch.aminmax(x.detach())
        low, high = low.float().clamp(max=0.0), high.float().clamp(min=0.0)  # zero is always a value of the scale
        first = self.low is None
        self.low = low if first else torch.lerp(low, self.low, DECAY)
        self.high = high if first else torch.lerp(high, self.high, DECAY)


def round_input(x, seen):
    """Rounds a tensor to the 256 steps of its range, clipped to it."""
    if not seen.rounds:
        return x
    scale = ((seen.high - seen.low) / 255).clamp(min=1e-8)
    zero = torch.round(-seen.low / scale).clamp(0, 255)
    return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero.to(torch.int32), 0, 255).to(x.dtype)


def round_weight(weight):
    """Rounds a weight to the 255 steps of each output channel's greatest value."""
    scale = (weight.detach().flatten(1).abs().amax(1).float() / 127).clamp(min=1e-8)
    return torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros_like(scale, dtype=torch.int32), 0, -127, 127)


class Rounding:
    """Adds the rounding to a network until `detach`; the names of its weights do not change.

    `freeze` keeps the ranges seen so far; `calibrate` only watches the float activations, as the export does.
    """

    KINDS = [
        ((nn.Conv2d, nn.Linear), "layer"), (FeatureHead, "feature"), (Residual, "residual"), (nn.LayerNorm, "norm"), (DecoderLayer, "decoder"),
    ]  # fmt: skip
    # Heads that the export does not have need no rounding. Then follow what `decoder` rounds, and the last norm of a decoder
    # layer, which only sums read.
    WITHOUT = re.compile(r"^auxiliary|\bself_\.q$|\bself_(key|value)$|norm3$")

    def __init__(self, net):
        self.changed, self.ranges = [], {}
        for name, module in net.named_modules():
            make = next((m for kinds, m in self.KINDS if isinstance(module, kinds)), None)
            if make and not self.WITHOUT.search(name):
                seen = self.ranges[name] = Range()
                changed = "projected" if make == "decoder" else "forward"
                setattr(module, changed, getattr(self, make)(module, seen))
                self.changed.append((module, changed))

    @staticmethod
    def layer(module, seen):
        def forward(x):
            seen.see(x)
            x, weight = round_input(x, seen), round_weight(module.weight) if seen.rounds else module.weight
            if isinstance(module, nn.Linear):
                return F.linear(x, weight, module.bias)
            return F.conv2d(x, weight, module.bias, module.stride, module.padding)

        return forward

    @staticmethod
    def residual(module, seen):
        plain = module.forward

        def forward(x):
            seen.see(x)
            return plain(round_input(x, seen))

        return forward

    @staticmethod
    def norm(module, seen):
        plain = module.forward

        def forward(x):
            x = plain(x)
            seen.see(x)
            return round_input(x, seen)

        return forward

    @staticmethod
    def decoder(module, seen):
        """Rounds self-attention's query, key and value as one product of the content; the position adds a constant."""

        def projected(content, position):
            seen.see(content)
            x, out = round_input(content, seen), []
            for linear, placed in ((module.self_.q, True), (module.self_key, True), (module.self_value, False)):
                weight = round_weight(linear.weight) if seen.rounds else linear.weight
                y = F.linear(x, weight, linear.bias)
                out.append(y + F.linear(position, linear.weight) if placed else y)
            return out

        return projected

    @staticmethod
    def feature(module, seen):
        """Rounds the head's product with its spatial weight, which is a layer of the export too."""

        def forward(x):
            x = module.squeeze(x)
            seen.see(x)
            weight = module.spatial_weight(x.shape[2], x.shape[3]).flatten(1)
            weight = round_weight(weight) if seen.rounds else weight
            return module.norm(F.linear(round_input(x, seen).flatten(1), weight))

        return forward

    def freeze(self, frozen=True):
        for seen in self.ranges.values():
            seen.frozen = frozen

    def calibrate(self, watching=True):
        for seen in self.ranges.values():
            seen.rounds = not watching

    def detach(self):
        for module, changed in self.changed:
            delattr(module, changed)
        self.changed = []
