"""Makes the views of views.py for a whole batch on a GPU. Every function takes images [B, 3, S, S] of 0..1 and a generator of the device."""

import itertools
import math

import torch
from torch.nn import functional as F

from faceptor_models.common.geometry import ARCFACE_112

from .sizes import INPUT, WINDOW

# Blur, size, motion and compression differ between this many parts of a batch; within one they are the same.
PARTS = 6
SMALLEST_PX, FARTHEST_PX, SOFTEST_PX = 14, 70, 4.5
QUANTA = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92], [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]) / 255.0  # fmt: skip


class Dice:
    """Draws numbers on the images' device."""

    def __init__(self, device, seed):
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        # For numbers that the host needs: the device need not be waited for.
        self.host = torch.Generator().manual_seed(seed)

    def uniform(self, low, high, *shape):
        return low + (high - low) * torch.rand(*shape, device=self.device, generator=self.generator)

    def normal(self, deviation, *shape):
        return deviation * torch.randn(*shape, device=self.device, generator=self.generator)

    def one(self, low, high):
        """Draws one number for the host."""
        return low + (high - low) * float(torch.rand((), generator=self.host))


def places(dice, count, px):
    """Draws where the pixels of `count` views lie in their windows, [B, px, px, 2] in pixels of the ArcFace crop."""
    wide = (dice.uniform(0, 1, count) < 0.2).float()
    angle = torch.deg2rad(dice.normal(4, count) * (1 - wide) + dice.uniform(-20, 20, count) * wide)
    scale = torch.exp(dice.normal(0.05, count) * (1 - wide) + dice.uniform(-0.15, 0.15, count) * wide) * (INPUT / px)
    shift = dice.normal(2, count, 2) * (1 - wide[:, None]) + dice.uniform(-7, 7, count, 2) * wide[:, None]
    mirror = torch.where(dice.uniform(0, 1, count) < 0.5, -1.0, 1.0)
    c, s = torch.cos(angle) * scale, torch.sin(angle) * scale
    linear = torch.stack([torch.stack([c * mirror, -s], 1), torch.stack([s * mirror, c], 1)], 1)
    step = torch.arange(px, device=dice.device) - (px - 1) / 2
    y, x = torch.meshgrid(step, step, indexing="ij")
    return torch.stack([x, y], -1).view(1, px * px, 2).matmul(linear.transpose(1, 2)).view(count, px, px, 2) + (INPUT - 1) / 2 + shift[:, None, None]


def sampled(faces, where):
    """Samples windows [B, 3, W, W], of any resolution, at the places; the nearest pixels continue them."""
    # Pixel centres of the window, whose margin lies about the crop, in -1..1 from edge to edge.
    at = (where + (WINDOW - INPUT) / 2 + 0.5) * (2 / WINDOW) - 1
    return F.grid_sample(faces, at.to(faces.dtype), mode="bilinear", padding_mode="border", align_corners=False)


def covered(dice, images, where):
    """Draws masks, glasses and rectangles on some of the views."""
    count = len(images)
    left, right, nose, left_mouth, right_mouth = torch.as_tensor(ARCFACE_112, dtype=where.dtype).tolist()
    x, y = where[..., 0], where[..., 1]

    def chance(share):
        return (dice.uniform(0, 1, count) < share)[:, None, None]

    def number(low, high):
        return dice.uniform(low, high, count)[:, None, None]

    def paint(images, shape, colour, share=1.0):
        cover = (shape.to(images.dtype) * share)[:, None]
        return images * (1 - cover) + colour.to(images.dtype)[:, :, None, None] * cover

    def colour(high=1.0):
        drawn = dice.uniform(0, high, count, 3)
        return torch.where(dice.uniform(0, 1, count, 1) < 0.4, drawn, drawn.mean(1, keepdim=True).expand(-1, 3))

    middle, mouth = nose[0], (left_mouth[1] + right_mouth[1]) / 2
    top, bottom = nose[1] + number(-14, 4), mouth + number(18, 34)
    fall = ((y - top) / (bottom - top)).clamp(0, 1)
    images = paint(images, chance(0.08) & (y > top) & (y < bottom) & ((x - middle).abs() < number(26, 38) * (1 - 0.45 * fall**2)), colour())
    wide, high, inner = number(10, 16), number(7, 14), number(0.0, 0.9)
    rim = torch.minimum(*(((x - eye[0]) / wide) ** 2 + ((y - eye[1] - 2) / high) ** 2 for eye in (left, right)))
    worn = chance(0.08)
    dark = torch.where(dice.uniform(0, 1, count) < 0.5, dice.uniform(0.5, 1, count), torch.zeros(count, device=images.device))
    images = paint(images, worn & (rim < 1), colour(0.35), dark[:, None, None])
    images = paint(images, worn & (rim < 1.2) & (rim > 0.75 + 0.2 * inner), colour(0.5))
    px = images.shape[-1]
    row = torch.arange(px, device=images.device).view(1, px, 1) / px
    column = row.view(1, 1, px)
    patch = ((row - number(0.1, 0.9)).abs() < number(0.06, 0.2)) & ((column - number(0.1, 0.9)).abs() < number(0.06, 0.2))
    return paint(images, chance(0.12) & patch, colour())


def in_parts(dice, images, share, change):
    """Applies a change to a share of the views, in parts that each draw their own strength. Views come in random order."""
    count = math.floor(len(images) * share)
    start = int(dice.one(0, len(images) - count + 0.999))
    bounds = [start + round(count * i / PARTS) for i in range(PARTS + 1)]
    pieces = [images[: bounds[0]]]
    pieces += [change(images[a:b]) if b > a else images[a:b] for a, b in itertools.pairwise(bounds)]
    return torch.cat([*pieces, images[bounds[-1] :]])


def shrunk(dice, images):
    px = images.shape[-1]
    low = max(4, round(px / INPUT * math.exp(dice.one(math.log(SMALLEST_PX), math.log(FARTHEST_PX)))))
    small = F.interpolate(images, size=(low, low), mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(small, size=(px, px), mode="bilinear" if dice.one(0, 1) < 0.6 else "bicubic", align_corners=False)


def filtered(images, kernel):
    """Filters every channel with one kernel [h, w]; the nearest pixels continue the picture."""
    h, w = kernel.shape
    padded = F.pad(images, (w // 2, w - 1 - w // 2, h // 2, h - 1 - h // 2), mode="replicate")
    return F.conv2d(padded, kernel.to(images).expand(3, 1, h, w).contiguous(), groups=3)


def blurred(dice, images):
    deviation = dice.one(0.4, SOFTEST_PX) * images.shape[-1] / INPUT
    half = math.ceil(3 * deviation)
    line = torch.exp(-0.5 * (torch.arange(-half, half + 1, device=images.device) / deviation) ** 2)
    line = line / line.sum()
    return filtered(filtered(images, line[None]), line[:, None])


def moved(dice, images):
    half = max(1, round(dice.one(0.012, 0.055) * images.shape[-1]))
    angle = dice.one(0, math.pi)
    step = torch.arange(-half, half + 1, device=images.device)
    away = (step[:, None] * math.cos(angle) - step[None] * math.sin(angle)).abs()
    kernel = (1 - away).clamp(min=0)
    return filtered(images, kernel / kernel.sum())


def lit(dice, images):
    """Changes exposure, contrast and tint; some views become grey, dark or noisy."""
    count, kind = len(images), images.dtype

    def number(low, high, channels=1):
        return dice.uniform(low, high, count, channels)[:, :, None, None].to(kind)

    def chance(share):
        return (dice.uniform(0, 1, count) < share)[:, None, None, None]

    grey = (images * torch.tensor([0.299, 0.587, 0.114], device=images.device, dtype=kind).view(1, 3, 1, 1)).sum(1, keepdim=True)
    images = torch.where(chance(0.12), grey.expand_as(images), images)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * number(0.65, 1.35) * number(0.9, 1.1, 3) + mean + number(-0.12, 0.12)
    dark = images.clamp(1e-3, 1) ** number(1, 2.2) * number(0.12, 0.7)
    images = torch.where(chance(0.12), dark + number(0.004, 0.028) * dice.normal(1, *images.shape).to(kind), images)
    noise = number(0.004, 0.055) * dice.normal(1, *images.shape).to(kind)
    return torch.where(chance(0.2), images + noise, images).clamp(0, 1)


def compressed(dice, images):
    """Rounds the cosine transform of 8 x 8 pixels as JPEG does, all three channels of YCbCr by the table of brightness."""
    b, _, px, _ = images.shape
    quality = dice.one(12, 85)
    table = (QUANTA.to(images.device) * (50 / quality if quality < 50 else 2 - quality / 50)).clamp(min=1 / 255)
    n = torch.arange(8, device=images.device)
    cosine = torch.cos((2 * n[None] + 1) * n[:, None] * math.pi / 16) * torch.where(n == 0, math.sqrt(1 / 8), 0.5)[:, None]
    colours = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], device=images.device)
    planes = torch.einsum("cd,bdyx->bcyx", colours, images.float()).view(b, 3, px // 8, 8, px // 8, 8).transpose(3, 4)
    parts = torch.round(cosine @ planes @ cosine.T / table) * table
    planes = (cosine.T @ parts @ cosine).transpose(3, 4).reshape(b, 3, px, px)
    return torch.einsum("cd,bdyx->bcyx", torch.linalg.inv(colours), planes).to(images.dtype)


def views(faces, px, seed):
    """Returns one view [B, 3, px, px], (x - 127.5) / 127.5, of each window uint8 [B, W, W, 3]; px is a multiple of 8."""
    dice = Dice(faces.device, seed)
    where = places(dice, len(faces), px)
    images = sampled(faces.permute(0, 3, 1, 2).float() / 255, where)
    images = covered(dice, images, where)
    for share, change in ((0.21, shrunk), (0.18, blurred), (0.06, moved)):
        images = in_parts(dice, images, share, lambda part, change=change: change(dice, part))
    images = in_parts(dice, lit(dice, images), 0.25, lambda part: compressed(dice, part))
    return (images.clamp(0, 1) * 2 - 1).contiguous(memory_format=torch.channels_last)
