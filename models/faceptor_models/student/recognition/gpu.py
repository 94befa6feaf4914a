"""Packs small, well-compressed faces, their targets and the code that trains on them into one folder to carry to a GPU's machine.

    python -m faceptor_models.student.recognition.gpu --packed PACKED --out FOLDER [--mib 60] [--px 112] [--quality 60]

There `python3 FOLDER/train.py --out OUT --minutes 10` trains (recognition.gpu_train). OUT/weights.pt is for recognition.evaluate, and for
`recognition.train --start-from`.
"""

import argparse
import io
import shutil
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from faceptor_models.common.errors import Refused

from .crops import Packed

PACKAGE = Path(__file__).resolve().parents[2]
# Modules that gpu_train imports, below the package.
CODE = (
    "__init__.py", "common/__init__.py", "common/arrays.py", "common/geometry.py", "common/labels.py", "student/__init__.py", "student/average.py",
    "student/network.py", "student/recognition/__init__.py", "student/recognition/gpu_train.py", "student/recognition/gpu_views.py",
    "student/recognition/losses.py", "student/recognition/sizes.py", "student/recognition/tower.py",
)  # fmt: skip
START = '''"""Trains on the faces of this folder: see --help."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "code"))

from faceptor_models.student.recognition import gpu_train  # noqa: E402

gpu_train.main(folder=HERE)
'''
# A grey face of 48 px is worth less than this share of the others.
THINNED = {"ferplus": 0.4}
# Bytes of the directions, the index, the code and the folder's own entries.
OVERHEAD = 1024 * 1024


def encoded(face, px, quality):
    """Returns a window as WebP of `px` pixels."""
    buffer = io.BytesIO()
    Image.fromarray(cv2.resize(face, (px, px), interpolation=cv2.INTER_AREA)).save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def order(packed, rng):
    """Returns the rows in random order, those of thinned sources late."""
    share = np.array([THINNED.get(source, 1.0) for source in packed.source])
    return np.argsort(rng.random(len(packed)) / share)


def fill(packed, mib, px=112, quality=60, seed=0):
    """Returns (faces as WebP, their targets as int8, the main directions) of as many faces as the size takes."""
    directions = packed.directions()
    targets = packed.targets(directions)
    room, images, kept = mib * 1024**2 - OVERHEAD, [], []
    for row in order(packed, np.random.default_rng(seed)):
        image = encoded(packed.face(row), px, quality)
        # int8 targets hardly shrink, and an end is 8 bytes.
        room -= len(image) + targets.shape[1] + 8
        if room < 0:
            break
        images.append(image)
        kept.append(row)
    if not images:
        raise Refused(f"{mib} MiB hold no face")
    scale = 127 / np.abs(targets[kept]).max(1, keepdims=True)
    return images, np.round(targets[kept] * scale).astype(np.int8), directions


def write(images, targets, directions, fitted, out):
    """Writes the folder; an earlier one is replaced."""
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / "index.npz").exists():
        raise Refused(f"{out} exists and is no folder of recognition.gpu: give another --out")
    shutil.rmtree(out, ignore_errors=True)
    for name in CODE:
        (out / "code/faceptor_models" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE / name, out / "code/faceptor_models" / name)
    (out / "train.py").write_text(START)
    (out / "faces.bin").write_bytes(b"".join(images))
    ends = np.cumsum([len(image) for image in images])
    np.savez(out / "index.npz", ends=ends, targets=targets, directions=directions, fitted=fitted)


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--packed", required=True, help="folder that recognition.pack wrote")
    p.add_argument("--out", required=True)
    p.add_argument("--mib", type=float, default=60.0, help="size of the folder at most")
    p.add_argument("--px", type=int, default=112, help="side of the stored windows")
    p.add_argument("--quality", type=int, default=60, help="of the WebP pictures")
    args = p.parse_args(arguments)
    cv2.setNumThreads(0)
    try:
        packed = Packed(args.packed)
        images, targets, directions = fill(packed, args.mib, args.px, args.quality)
        write(images, targets, directions, len(packed), args.out)
    except (Refused, OSError) as error:
        raise SystemExit(f"recognition.gpu: {error}") from None
    size = sum(file.stat().st_size for file in Path(args.out).rglob("*") if file.is_file())
    print(f"{args.out}: {len(images)} of {len(packed)} faces, {size / 1024**2:.1f} MiB. On the GPU's machine:")
    print(f"python3 {Path(args.out).name}/train.py --out OUT --minutes 10")


if __name__ == "__main__":
    main()
