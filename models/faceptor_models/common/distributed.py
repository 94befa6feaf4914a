"""The processes of one training: one, or those that torchrun started, on one machine or several."""

import os

import numpy as np
import torch
import torch.distributed as dist
from torch import nn


class Gathered(torch.autograd.Function):
    """Rows of all processes, in the order of their ranks. The gradient is the sum of what every process made of them."""

    @staticmethod
    def forward(context, rows):
        context.count = len(rows)
        held = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(held, rows.contiguous())
        return torch.cat(held)

    @staticmethod
    def backward(context, gradient):
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        first = dist.get_rank() * context.count
        return gradient[first : first + context.count]


class Summed(torch.autograd.Function):
    """Sum over the processes of `group`; its gradient is summed too."""

    @staticmethod
    def forward(context, x, group):
        context.group = group
        out = x.clone()
        dist.all_reduce(out, group=group)
        return out

    @staticmethod
    def backward(context, gradient):
        out = gradient.contiguous().clone()
        dist.all_reduce(out, group=context.group)
        return out, None


class World:
    """`rank` of `size` processes on `device`. Without torchrun it is one process, and nothing here costs anything."""

    def __init__(self, rank=0, size=1, device="cpu"):
        self.rank, self.size, self.device = rank, size, torch.device(device)
        # Batch norms have a group of their own: their sums and DDP's buckets must not wait for each other in one queue.
        self.norms = dist.new_group() if size > 1 else None

    @classmethod
    def start(cls, device):
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(device=device)
        rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
        cuda = device.startswith("cuda")
        if cuda:
            device = f"cuda:{local}"
            torch.cuda.set_device(local)
        dist.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=size)
        return cls(rank, size, device)

    @property
    def first(self):
        """Whether this process writes the files."""
        return self.rank == 0

    def wait(self):
        if self.size > 1:
            dist.barrier()

    def stop(self):
        if self.size > 1:
            dist.destroy_process_group()

    def wrapped(self, step):
        """The module whose forward gives the loss, with gradients averaged over the processes."""
        if self.size == 1:
            return step
        devices = [self.device] if self.device.type == "cuda" else None
        # Weights that no loss reaches (the CLIP projection, heads of stopped tasks) are looked for in every step.
        return nn.parallel.DistributedDataParallel(step, device_ids=devices, find_unused_parameters=True, forward_sync_buffers=False)

    def gathered(self, rows):
        return Gathered.apply(rows) if self.size > 1 else rows

    def mean(self, values):
        """Mean of a tensor over the processes, without gradient."""
        if self.size == 1:
            return values.detach()
        out = values.detach().clone()
        dist.all_reduce(out)
        return out / self.size

    def share(self, count):
        """What a mean over `count` local labels must be multiplied by, so that the mean over the processes is that over all
        labels however unevenly they lie: count * processes / all labels. None without any label anywhere."""
        if self.size == 1:
            return 1.0 if count else None
        everywhere = torch.tensor(float(count), device=self.device)
        dist.all_reduce(everywhere)
        return count * self.size / float(everywhere) if float(everywhere) else None


def step_seed(seed, iteration, rank):
    """A seed of its own for every iteration and process."""
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)[0] >> 1)
