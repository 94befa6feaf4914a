"""InPlaceABN's arithmetic: batch norm with |gamma| + eps and a leaky ReLU inside (SPEC E1)."""

import torch
from torch import nn
from torch.nn import functional as F

EPS = 1e-5
SLOPE = 0.01


class InPlaceAbn(nn.BatchNorm2d):
    """leaky_relu((x - mean) / sqrt(var + 1e-5) * (|gamma| + 1e-5) + beta, 0.01); training statistics as in BatchNorm2d."""

    def __init__(self, channels):
        super().__init__(channels, eps=EPS)

    def scale_and_shift(self):
        """Scale and shift of the running statistics, per channel."""
        scale = (self.weight.abs() + EPS) * torch.rsqrt(self.running_var + EPS)
        return scale, self.bias - self.running_mean * scale

    def forward(self, x):
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.momentum is None and self.training:
            momentum = 1.0 / float(self.num_batches_tracked)
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight.abs() + EPS, self.bias, self.training, momentum, EPS)
        return F.leaky_relu(y, SLOPE)


class ConvAbn(nn.Sequential):
    """Convolution without bias and its InPlaceAbn, as entries 0 and 1."""

    def __init__(self, cin, cout, kernel, stride=1, groups=1):
        super().__init__(nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), InPlaceAbn(cout))
