"""Implements DML-CSR's dynamic dual graph convolution: one graph over places, one over projected features."""

import torch
from torch import nn

from faceptor_models.common.inplace_abn import ConvAbn, InPlaceAbn

from .portable import bilinear


def flat(x):
    b, c, h, w = (int(v) for v in x.shape)
    return x.reshape(b, c, h * w)


def along(conv, x):
    """Applies a convolution of kernel 1 over [B, C, N] as the matrix product that it is."""
    return conv.weight[:, :, 0] @ x


class SpatialGcn(nn.Module):
    def __init__(self, width):
        super().__init__()
        inner = width // 2
        self.gamma = nn.Parameter(torch.zeros(1))
        self.node_k, self.node_v, self.node_q = (nn.Conv2d(width, inner, 1) for _ in range(3))
        self.conv_wg = nn.Conv1d(inner, inner, 1, bias=False)
        self.bn_wg = nn.BatchNorm1d(inner)
        self.out = nn.Sequential(nn.Conv2d(inner, width, 1), InPlaceAbn(width))

    def forward(self, x):
        b, _, h, w = (int(v) for v in x.shape)
        key, value, query = flat(self.node_k(x)), flat(self.node_v(x)), flat(self.node_q(x))
        affinity = (query @ value.transpose(1, 2)).softmax(-1)
        mixed = (key.transpose(1, 2) @ affinity).transpose(1, 2)
        mixed = self.bn_wg(along(self.conv_wg, mixed)).reshape(b, -1, h, w)
        return self.gamma * self.out(mixed) + x


class DualGcn(nn.Module):
    """Maps [B, width, H, W] to the same shape."""

    def __init__(self, width):
        super().__init__()
        self.gamma1 = nn.Parameter(torch.zeros(1))
        states, nodes = width // 2, width // 4
        self.phi, self.bn_phi = nn.Conv2d(width, states, 1, bias=False), InPlaceAbn(states)
        self.theta, self.bn_theta = nn.Conv2d(width, nodes, 1, bias=False), InPlaceAbn(nodes)
        self.conv_adj, self.bn_adj = nn.Conv1d(nodes, nodes, 1, bias=False), nn.BatchNorm1d(nodes)
        self.conv_wg, self.bn_wg = nn.Conv1d(states, states, 1, bias=False), nn.BatchNorm1d(states)
        self.conv3, self.bn3 = nn.Conv2d(states, width, 1, bias=False), InPlaceAbn(width)
        steps = [layer for _ in range(3) for layer in ConvAbn(width, width, 3, 2, groups=width)]
        self.local = nn.Sequential(*steps)
        self.gcn_local_attention = SpatialGcn(width)
        self.final = ConvAbn(2 * width, width, 1)

    def places(self, x):
        local = self.gcn_local_attention(self.local(x))
        local = bilinear(local, x.shape[2:], align_corners=True)
        return x * local + x

    def features(self, x):
        b, _, h, w = (int(v) for v in x.shape)
        phi, theta = flat(self.bn_phi(self.phi(x))), flat(self.bn_theta(self.theta(x)))
        start = phi @ theta.transpose(1, 2)
        z = self.bn_adj(along(self.conv_adj, start.transpose(1, 2))).transpose(1, 2) + start
        z = self.bn_wg(along(self.conv_wg, z))
        y = self.bn3(self.conv3((z @ theta).reshape(b, -1, h, w)))
        return self.gamma1 * y + x

    def forward(self, x):
        return self.final(torch.cat([self.places(x), self.features(x)], 1))
