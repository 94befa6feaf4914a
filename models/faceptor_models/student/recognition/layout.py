"""Chooses how a device computes the tower fastest, by measuring: precision of the products and order of the maps in memory."""

import copy
import time
from contextlib import nullcontext
from typing import NamedTuple

import torch


class Layout(NamedTuple):
    """Says whether products are in bf16, and whether a pixel's channels lie side by side."""

    half: bool
    channels_last: bool

    @property
    def name(self):
        return f"{'bf16' if self.half else 'f32'}-{'channels-last' if self.channels_last else 'contiguous'}"

    def placed(self, images):
        """Lays images [B, 3, S, S] out."""
        return images.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def arrange(self, net):
        """Lays the weights of a network out."""
        return net.to(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def products(self, device):
        """Returns the context of a forward pass."""
        return torch.autocast(device.type, torch.bfloat16) if self.half else nullcontext()


LAYOUTS = {layout.name: layout for layout in (Layout(half, last) for half in (False, True) for last in (True, False))}


def measured(net, px, batch=32, steps=3, clock=time.process_time):
    """Returns {layout's name: faces a second of processor time} of training steps on the CPU, of each the best step.

    Processor time says the same on a machine that others use too.
    """
    speeds = {}
    for name, layout in LAYOUTS.items():
        trial = layout.arrange(copy.deepcopy(net)).train()
        images = layout.placed(torch.zeros(batch, 3, px, px))
        taken = []
        # The first step also makes the plans of the products.
        for _ in range(steps + 1):
            began = clock()
            with layout.products(images.device):
                out = trial(images)
            out.float().square().mean().backward()
            taken.append(clock() - began)
        speeds[name] = batch / max(min(taken[1:]), 1e-9)
    return speeds


def chosen(name, net, px, device, say=print):
    """Returns the layout of a name; `auto` measures on a CPU, and takes bf16 with channels last on a GPU."""
    if name != "auto":
        return LAYOUTS[name]
    if device.type != "cpu":
        return Layout(True, True)
    speeds = measured(net, px)
    say("faces/s of processor time: " + ", ".join(f"{name} {speed:.1f}" for name, speed in speeds.items()))
    return LAYOUTS[max(speeds, key=speeds.get)]
