"""Expresses operations as the compiler of `faceptor` knows them.

While a graph is exported, resizing is a product with a constant matrix, pooling a maximum of slices, and an up-convolution a
1x1 convolution and a shuffle. Otherwise the operations are PyTorch's own.
"""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from faceptor_models.common.inplace_abn import SLOPE, InPlaceAbn


def resize_matrix(before, after, align_corners):
    """Returns the matrix [after, before] of linear resizing along one axis, taken from PyTorch's own."""
    return F.interpolate(torch.eye(before)[None], size=after, mode="linear", align_corners=align_corners)[0].T.contiguous()


def bilinear(x, size, align_corners):
    size = tuple(int(s) for s in size)
    if not torch.onnx.is_in_onnx_export():
        return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)
    rows, columns = (resize_matrix(int(b), a, align_corners) for b, a in zip(x.shape[2:], size))
    return rows @ (x @ columns.T)


def max_pool(x, kernel, stride, padding=0):
    """Pools with padding that counts as zero in an exported graph, so `x` must not be negative where there is any."""
    if not torch.onnx.is_in_onnx_export():
        return F.max_pool2d(x, kernel, stride, padding)
    if padding:
        x = F.pad(x, (padding,) * 4)
    for axis in (2, 3):
        count = (int(x.shape[axis]) - kernel) // stride + 1
        last = stride * (count - 1) + 1
        slices = [x[(slice(None),) * axis + (slice(i, i + last, stride),)] for i in range(kernel)]
        x = slices[0]
        for other in slices[1:]:
            x = torch.maximum(x, other)
    return x


class AveragePool(nn.Module):
    """Implements AdaptiveAvgPool2d of a map whose size is known when the graph is made."""

    def __init__(self, cells):
        super().__init__()
        self.cells = cells

    def forward(self, x):
        rows, columns = (F.adaptive_avg_pool1d(torch.eye(int(n))[None], self.cells)[0].T.contiguous() for n in x.shape[2:])
        return rows @ (x @ columns.T)


class UpConv(nn.Module):
    """Implements ConvTranspose2d of kernel and stride 2 as a 1x1 convolution and a shuffle."""

    def __init__(self, conv):
        super().__init__()
        cin, cout = conv.weight.shape[:2]
        self.conv = nn.Conv2d(cin, cout * 4, 1)
        with torch.no_grad():
            self.conv.weight.copy_(conv.weight.permute(1, 2, 3, 0).reshape(cout * 4, cin, 1, 1))
            self.conv.bias.copy_(conv.bias.repeat_interleave(4))

    def forward(self, x):
        x = self.conv(x)
        b, c, h, w = (int(v) for v in x.shape)
        x = x.reshape(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(b, c // 4, 2 * h, 2 * w)


@torch.no_grad()
def statistics(norm):
    """Returns scale and shift of a batch norm's running statistics for each channel."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.affine:
        return scale * norm.weight, norm.bias - norm.running_mean * scale * norm.weight
    return scale, -norm.running_mean * scale


class Affine(nn.Module):
    """Applies a batch norm's running statistics as scale and shift of axis 1."""

    def __init__(self, norm):
        super().__init__()
        scale, shift = statistics(norm)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x):
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return x * self.scale.reshape(shape) + self.shift.reshape(shape)


class Pool(nn.Module):
    def forward(self, x):
        return max_pool(x, 2, 2)


def with_abn(conv, abn):
    """Returns a convolution with the norm's scale and shift inside; the leaky ReLU stays."""
    fused = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, bias=True)
    scale, shift = abn.scale_and_shift()
    with torch.no_grad():
        fused.weight.copy_(conv.weight * scale[:, None, None, None])
        fused.bias.copy_(shift if conv.bias is None else conv.bias * scale + shift)
    return fused


def with_norm(linear, norm):
    """Returns a linear layer with the following batch norm inside."""
    scale, shift = statistics(norm)
    fused = nn.Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        fused.weight.copy_(linear.weight * scale[:, None])
        fused.bias.copy_(shift if linear.bias is None else linear.bias * scale + shift)
    return fused


def fold(first, norm):
    """Returns (layer, what remains of the norm), or None when the pair cannot be folded."""
    if isinstance(norm, InPlaceAbn) and isinstance(first, nn.Conv2d):
        return with_abn(first, norm), nn.LeakyReLU(SLOPE)
    if isinstance(norm, nn.BatchNorm2d) and isinstance(first, nn.Conv2d):
        return fuse_conv_bn_eval(first, norm), nn.Identity()
    if isinstance(norm, nn.BatchNorm2d) and isinstance(first, nn.ConvTranspose2d):
        return fuse_conv_bn_eval(first, norm, transpose=True), nn.Identity()
    if isinstance(norm, nn.BatchNorm1d) and isinstance(first, nn.Linear):
        return with_norm(first, norm), nn.Identity()
    return None


# Pairs of a layer and its norm by their names, in modules that are no nn.Sequential.
PAIRS = [("conv", "bn"), ("phi", "bn_phi"), ("theta", "bn_theta"), *((f"conv{i}", f"bn{i}") for i in (1, 2, 3))]


@torch.no_grad()
def portable(model):
    """Returns a copy in evaluation mode whose norms are folded and whose layers export to known operators."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        pairs = [p for p in PAIRS if hasattr(module, p[0]) and hasattr(module, p[1])]
        if isinstance(module, nn.Sequential):
            names = [name for name, _ in module.named_children()]
            pairs = list(pairwise(names))
        for first, second in pairs:
            folded = fold(getattr(module, first), getattr(module, second))
            if folded:
                setattr(module, first, folded[0])
                setattr(module, second, folded[1])
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ConvTranspose2d):
                setattr(module, name, UpConv(child))
            elif isinstance(child, nn.BatchNorm1d):
                setattr(module, name, Affine(child))
            elif isinstance(child, nn.MaxPool2d):
                setattr(module, name, Pool())
            elif isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(module, name, AveragePool(child.output_size))
    return model
