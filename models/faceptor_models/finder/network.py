"""Defines the finder: a plain stack of 3x3 convolutions with one 1x1 head at strides 8, 16 and 32.

Input  [B, 3, H, W], RGB, (pixel - 127.5) / 127.5.
Output one [B, 15, h, w] map per stride:
    0      score logit
    1-4    distances from the cell centre to the left, top, right, bottom box side, in strides, >= 0
    5-14   five keypoints (x, y) relative to the cell centre, in strides:
           eyes, nose, mouth corners, each left to right in the image
The centre of cell (row, col) is ((col + 0.5) * stride - 0.5, (row + 0.5) * stride - 0.5) px of the input.
"""

import torch
from torch import nn

STRIDES = (8, 16, 32)
CHANNELS = 15
MEAN = 127.5
STD = 127.5

# (output channels, stride) of every 3x3 convolution; a head follows where the total stride first is final.
TRUNK = ((16, 2), (32, 2), (32, 1), (40, 2), (40, 1), (40, 1), (40, 2), (40, 1), (40, 2), (40, 1))
# Heads read the outputs of these trunk layers.
TAPS = (5, 7, 9)


class ConvNormRelu(nn.Module):
    """Applies a 3x3 convolution, batch norm and ReLU; `folded` merges the norm into the convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))

    def folded(self) -> nn.Sequential:
        gain = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        conv = nn.Conv2d(self.conv.in_channels, self.conv.out_channels, 3, self.conv.stride, 1)
        conv.weight.data = (self.conv.weight * gain[:, None, None, None]).detach().clone()
        conv.bias.data = (self.norm.bias - self.norm.running_mean * gain).detach().clone()
        return nn.Sequential(conv, nn.ReLU())


class Head(nn.Module):
    """Applies three 1x1 convolutions and concatenates them; only the box distances pass a ReLU."""

    def __init__(self, inputs: int):
        super().__init__()
        self.score = nn.Conv2d(inputs, 1, 1)
        self.box = nn.Conv2d(inputs, 4, 1)
        self.keypoints = nn.Conv2d(inputs, 10, 1)
        for conv in (self.score, self.box, self.keypoints):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
        # At the start nothing is a face, and boxes are four cells wide, so that no ReLU starts dead.
        nn.init.constant_(self.score.bias, -4.0)
        nn.init.constant_(self.box.bias, 2.0)

    def forward(self, x):
        return torch.cat([self.score(x), torch.relu(self.box(x)), self.keypoints(x)], 1)


class Finder(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for outputs, stride in TRUNK:
            layers.append(ConvNormRelu(inputs, outputs, stride))
            inputs = outputs
        self.trunk = nn.ModuleList(layers)
        self.heads = nn.ModuleList([Head(TRUNK[tap][0]) for tap in TAPS])

    def forward(self, x) -> list[torch.Tensor]:
        maps = []
        for index, layer in enumerate(self.trunk):
            x = layer(x)
            if index in TAPS:
                maps.append(self.heads[TAPS.index(index)](x))
        return maps

    def folded(self) -> "Finder":
        """Returns a copy for inference, its batch norms merged into the convolutions."""
        copy = Finder()
        copy.trunk = nn.ModuleList([layer.folded() for layer in self.trunk])
        copy.heads.load_state_dict(self.heads.state_dict())
        return copy.eval()


def parameters(network: nn.Module) -> int:
    """Counts the trained values."""
    return sum(p.numel() for p in network.parameters())


def macs(network: nn.Module, width: int, height: int) -> int:
    """Counts the multiply-accumulates of one `width` x `height` px input at every convolution as it runs."""
    total = 0

    def count(conv, _inputs, output):
        nonlocal total
        total += conv.weight.numel() * output.shape[2] * output.shape[3]

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    training = network.training
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, 3, height, width))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return total


def cells(shapes: list[tuple[int, int]], device=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns centres [N, 2] (px) and strides [N] (px) of all cells of maps with these (rows, columns), stride by stride."""
    centres, strides = [], []
    for (rows, columns), stride in zip(shapes, STRIDES):
        y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        centre = torch.stack([x, y], -1).reshape(-1, 2).float()
        centres.append((centre + 0.5) * stride - 0.5)
        strides.append(torch.full((rows * columns,), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


def flatten(maps: list[torch.Tensor]) -> torch.Tensor:
    """Reshapes maps [B, 15, h, w] to [B, N, 15] in the order of `cells`."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
