"""Synchronises batch norms over all processes, for every kind of batch norm here, InPlaceABN included.

PyTorch's SyncBatchNorm is for GPUs only and does not know InPlaceABN's |gamma| and leaky ReLU.
"""

import functools
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from .distributed import Summed, World
from .inplace_abn import EPS, SLOPE, InPlaceAbn

ModelT = TypeVar("ModelT", bound=nn.Module)
KINDS: tuple[type[nn.modules.batchnorm._BatchNorm], ...] = (InPlaceAbn, nn.BatchNorm2d, nn.BatchNorm1d)


def synchronise(model: ModelT, world: World) -> ModelT:
    """Turns the model's batch norms into synchronised ones in place; names, weights and evaluation stay as they are."""
    if world.size == 1:
        return model
    for module in model.modules():
        kind = next((k for k in KINDS if isinstance(module, k)), None)
        if kind is not None:
            module.__class__ = synced(kind, world.norms)  # type: ignore[arg-type]
    return model


@functools.cache
def synced(kind: type[nn.modules.batchnorm._BatchNorm], group: dist.ProcessGroup) -> type[nn.modules.batchnorm._BatchNorm]:
    """Returns the synchronised subclass of a kind of batch norm."""

    # The class holds the group: a module that holds it could not be copied, as self-regulation does.
    class Synced(kind):  # type: ignore[valid-type, misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.training:
                return super().forward(x)
            axes = [i for i in range(x.dim()) if i != 1]
            shape = [-1 if i == 1 else 1 for i in range(x.dim())]
            wide = x.float()
            here = torch.cat([wide.sum(axes), wide.new_tensor([wide.numel() / wide.shape[1]])])
            everywhere = Summed.apply(here, group)
            count = everywhere[-1].detach()
            mean = everywhere[:-1] / count
            centred = wide - mean.reshape(shape)
            variance = Summed.apply(centred.square().sum(axes), group) / count
            if self.track_running_stats:
                self.remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
            y = centred * torch.rsqrt(variance + self.eps).reshape(shape)
            if self.affine:
                weight = self.weight.abs() + EPS if kind is InPlaceAbn else self.weight
                y = y * weight.reshape(shape) + self.bias.reshape(shape)
            y = y.to(x.dtype)
            return F.leaky_relu(y, SLOPE) if kind is InPlaceAbn else y

        @torch.no_grad()
        def remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
            """Updates the running statistics."""
            self.num_batches_tracked.add_(1)
            share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)

    return Synced
