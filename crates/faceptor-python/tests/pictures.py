"""Makes many different photos out of the portrait: crops, shifts, mirrors, brightness and noise; some of them broken."""

from __future__ import annotations

import io
import pathlib

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[3]
PORTRAIT = ROOT / "models/demo/astronaut.jpg"
#: Every so many photos one cannot be read.
BROKEN_EVERY = 10


def make_photos(folder: pathlib.Path, count: int, side: int = 192) -> pathlib.Path:
    """Writes photos into a folder, and returns a manifest of them. A number gives the same photos on every machine."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(PORTRAIT) as image:
        portrait = np.asarray(image.convert("RGB"))
    names = []
    for number in range(count):
        chance = np.random.default_rng(number)
        width = int(chance.integers(side, 2 * side))
        # The face lies around 225, 115. Some crops miss it: photos without a face belong to a batch.
        left, top = int(chance.integers(0, 320 - side // 2)), int(chance.integers(0, 80))
        pixels = portrait[top : top + width, left : left + width].astype(np.float32)
        pixels = pixels * chance.uniform(0.6, 1.3) + chance.normal(0, chance.uniform(0, 8), pixels.shape)
        if chance.random() < 0.5:
            pixels = pixels[:, ::-1]
        buffer = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize((side, side)).save(buffer, "JPEG", quality=90)
        content = buffer.getvalue()
        if number % BROKEN_EVERY == BROKEN_EVERY - 1:
            content = content[: number % 300]
        name = f"{number:06}.jpg"
        (folder / name).write_bytes(content)
        names.append(name)
    manifest = folder / "list.txt"
    manifest.write_text("".join(f"{name}\n" for name in names))
    return manifest
