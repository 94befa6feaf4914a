"""Averages the weights of a training over its last steps."""

import torch


class Average:
    """Keeps an exponential moving average of the weights and batch-norm statistics, debiased by a growing decay."""

    def __init__(self, net, decay=0.999):
        self.decay, self.steps = decay, 0
        self.state = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net):
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (20 + self.steps))
        mine, theirs = [], []
        for k, v in net.state_dict().items():
            if v.dtype.is_floating_point:
                mine.append(self.state[k])
                theirs.append(v)
            else:
                self.state[k].copy_(v)
        torch._foreach_lerp_(mine, theirs, 1 - decay)
