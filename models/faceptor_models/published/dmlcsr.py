"""Implements DML-CSR: ResNet-101 with a dynamic dual graph head, a parsing head and edge branches for training."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from faceptor_models.common.inplace_abn import ConvAbn, InPlaceAbn

from .dualgcn import DualGcn
from .portable import bilinear, max_pool


@dataclass(frozen=True)
class DmlCsrConfig:
    classes: int = 19
    stem: tuple = (64, 64, 128)
    blocks: tuple = (3, 4, 23, 3)
    # Inner width of each stage's blocks; their output is four times as wide.
    widths: tuple = (64, 128, 256, 512)
    context: int = 512
    # Inner widths of the parsing head: of the deep branch, of the shallow one.
    head: tuple = (256, 48)
    edge: int = 256
    edges: bool = True


EXPANSION = 4
# Side of the official input.
SIZE = 473


def resized(x, like):
    return bilinear(x, like.shape[2:], align_corners=True)


class Bottleneck(nn.Module):
    def __init__(self, cin, width, stride=1, dilation=1, downsample=False):
        super().__init__()
        cout = width * EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(cin, width, 1, bias=False), InPlaceAbn(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = InPlaceAbn(width)
        self.conv3, self.bn3 = nn.Conv2d(width, cout, 1, bias=False), InPlaceAbn(cout)
        self.downsample = ConvAbn(cin, cout, 1, stride) if downsample else None

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class Context(nn.Module):
    def __init__(self, deep, width):
        super().__init__()
        self.conva = ConvAbn(deep, width, 3)
        self.dualgcn = DualGcn(width)
        self.convb = ConvAbn(width, width, 3)
        self.bottleneck = ConvAbn(deep + width, width, 3)

    def forward(self, x):
        return self.bottleneck(torch.cat([x, self.convb(self.dualgcn(self.conva(x)))], 1))


class ParsingHead(nn.Module):
    def __init__(self, deep, shallow, widths, classes):
        super().__init__()
        wide, narrow = widths
        self.conv1 = ConvAbn(deep, wide, 1)
        self.conv2 = ConvAbn(shallow, narrow, 1)
        self.conv3 = nn.Sequential(*ConvAbn(wide + narrow, wide, 1), *ConvAbn(wide, wide, 1))
        self.conv4 = nn.Conv2d(wide, classes, 1)

    def forward(self, deep, shallow):
        shallow = self.conv2(shallow)
        return self.conv4(self.conv3(torch.cat([resized(self.conv1(deep), shallow), shallow], 1)))


class EdgeHead(nn.Module):
    """Computes the training-only branches on low-level features: binary edge and category edge."""

    def __init__(self, widths, inner, classes):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (ConvAbn(w, inner, 1) for w in widths)
        self.conv4 = nn.Conv2d(inner, classes, 3, padding=1)
        self.conv5 = nn.Conv2d(3 * classes, classes, 1)
        self.conv5_b = nn.Conv2d(3 * classes, 2, 1)

    def forward(self, x2, x3, x4):
        """Returns (binary edge logits [B, 2, H, W], category edge logits [B, classes, H, W])."""
        first = self.conv4(self.conv1(x2))
        others = [resized(self.conv4(conv(x)), first) for conv, x in ((self.conv2, x3), (self.conv3, x4))]
        joined = torch.cat([first, *others], 1)
        return self.conv5_b(joined), self.conv5(joined)


class DmlCsr(nn.Module):
    """Maps BGR images [B, 3, S, S] to parsing logits at about a quarter of their size, and the edges where it has them."""

    def __init__(self, config):
        super().__init__()
        c = self.config = config
        s0, s1, s2 = c.stem
        self.conv1, self.bn1 = nn.Conv2d(3, s0, 3, 2, 1, bias=False), InPlaceAbn(s0)
        self.conv2, self.bn2 = nn.Conv2d(s0, s1, 3, 1, 1, bias=False), InPlaceAbn(s1)
        self.conv3, self.bn3 = nn.Conv2d(s1, s2, 3, 1, 1, bias=False), InPlaceAbn(s2)
        cin = s2
        for i, (count, width) in enumerate(zip(c.blocks, c.widths), 1):
            stride, dilation = (2 if i == 2 else 1), (2 if i == 4 else 1)
            cout = width * EXPANSION
            first = Bottleneck(cin, width, stride, dilation, downsample=stride != 1 or cin != cout)
            self.add_module(f"layer{i}", nn.Sequential(first, *[Bottleneck(cout, width, 1, dilation) for _ in range(count - 1)]))
            cin = cout
        w1, w2, w3, w4 = (w * EXPANSION for w in c.widths)
        self.context = Context(w4, c.context)
        self.layer6 = ParsingHead(c.context, w1, c.head, c.classes)
        if c.edges:
            self.edge_layer = EdgeHead((w1, w2, w3), c.edge, c.classes)

    def stem(self, image):
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        return max_pool(x, 3, 2, 1)

    def forward(self, image):
        x2 = self.layer1(self.stem(image))
        x3 = self.layer2(x2)
        x4 = self.layer3(x3)
        x5 = self.layer4(x4)
        out = {"seg": self.layer6(self.context(x5), x2)}
        if self.config.edges:
            out["binary_edge"], out["semantic_edge"] = self.edge_layer(x2, x3, x4)
        return out


@torch.no_grad()
def run_arrays(model, arrays):
    """Returns the outputs, the classes at the official 473 pixels and, for images of another size, at theirs."""
    image = torch.from_numpy(arrays["image"]).float()
    out = model(image)
    made = {k: v.numpy() for k, v in out.items()}
    height, width = (int(v) for v in image.shape[2:])
    sides = {"473": (SIZE, SIZE), str(height) if height == width else f"{height}x{width}": (height, width)}
    return made | {f"argmax_{name}": bilinear(out["seg"], size, align_corners=True).argmax(1).numpy() for name, size in sides.items()}
