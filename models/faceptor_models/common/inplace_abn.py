"""Implements InPlaceABN's arithmetic: batch norm with |gamma| + eps and a leaky ReLU inside."""

import torch
from torch import nn
from torch.nn import functional as F

EPS = 1e-5
SLOPE = 0.01


class InPlaceAbn(nn.BatchNorm2d):
    """Computes leaky_relu((x - mean) / sqrt(var + 1e-5) * (|gamma| + 1e-5) + beta, 0.01), with BatchNorm2d's training
    statistics.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS)

    # Both exist: `track_running_stats` is never switched off.
    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns scale and shift of the running statistics for each channel."""
        scale = (self.weight.abs() + EPS) * torch.rsqrt(self.running_var + EPS)
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.momentum is None and self.training:
            momentum = 1.0 / float(self.num_batches_tracked)
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight.abs() + EPS, self.bias, self.training, momentum, EPS)
        return F.leaky_relu(y, SLOPE)


class ConvAbn(nn.Sequential):
    """Holds a convolution without bias and its InPlaceAbn, as entries 0 and 1."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), InPlaceAbn(cout))
