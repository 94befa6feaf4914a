"""Makes a few synthetic faces with every label, so that the recipes' tests need no research data, and settings of their size."""

from pathlib import Path

import numpy as np

from faceptor_models.common.geometry import TEMPLATE
from faceptor_models.published.recipes import command as recipe_command
from faceptor_models.published.recipes.crops import Crops

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SIDE = {"w300": 64, "celebamask": 64, "utk": 48, "celeba": 48, "rafdb": 48, "ferplus": 48}


class Labels:
    """Holds the fields of `common.packed_crops.Labels`, one row for each face."""

    def __init__(self, rng, source, n):
        self.landmarks = np.full((n, 68, 2), np.nan, np.float32)
        self.people = np.zeros(n, bool)
        if source == "w300":
            self.landmarks = (np.array([0.5, 0.52]) + rng.uniform(-0.22, 0.22, (n, 68, 2))).astype(np.float32)
            self.people[:] = True
        ages = rng.integers(1, 90, n).astype(np.float32)
        self.age_low = ages if source == "utk" else np.full(n, np.nan, np.float32)
        self.age_high = self.age_low.copy()
        self.expression = np.full((n, 8), -1.0)
        if source in ("rafdb", "ferplus"):
            self.expression = np.eye(8)[rng.integers(0, 8 if source == "ferplus" else 7, n)]
        self.attributes = rng.choice([-1.0, 0.0, 1.0], (n, 40)).astype(np.float32) if source == "celeba" else np.zeros((n, 40), np.float32)
        self.male = rng.integers(0, 2, n) if source == "utk" else np.full(n, -1)
        self.identity = rng.integers(10, 15, n) if source == "celeba" else np.full(n, -1)


def crops(n=20, seed=0, hold_out=0.25):
    rng = np.random.default_rng(seed)
    pictures, labels, keypoints = {}, {}, {}
    for source, side in SIDE.items():
        coarse = rng.integers(0, 255, (n, 8, 8, 4), np.uint8)
        pictures[source] = np.repeat(np.repeat(coarse, side // 8, 1), side // 8, 2)
        labels[source] = Labels(rng, source, n)
        keypoints[source] = (TEMPLATE + rng.normal(0, 0.01, (n, 5, 2))).astype(np.float32)
    # Masks of a few stripes; the first rows of each lie outside the photo, more of them in each further mask.
    masks = np.repeat(np.repeat(rng.integers(0, 19, (n, 4, 4), np.uint8), 16, 1), 16, 2)
    for i, mask in enumerate(masks):
        mask[: 2 * i] = 255
    return Crops(pictures, labels, keypoints, masks, hold_out)


TINY = {
    "faceptor_stage1.toml": [
        "run.iterations=6", "model={width=16,layers=3,heads=2,patch=8,mlp=24,grid=4,drop_path=0.2,levels=[2],decoder_width=16,decoder_heads=2,"
        "decoder_layers=1,ffn=24,feature_hidden=12,embedding=8}", "input.small_px=16", "optimizer.warm=2", "optimizer.base_rate=1e-4",
        "optimizer.peak_rate=1e-3", "task.recog_ms1mv3={source='celeba',batch=4}", "task.age_utkface.batch=2", "task.biattr_celeba.batch=2",
        "task.affect_rafdb.batch=2", "task.affect_ferplus.batch=2", "task.parsing_celebam.batch=2", "task.align_300w.batch=2",
    ],
    "tcdcn.toml": ["run.iterations=6", "task.batch=4", "stopping.every=1", "stopping.window=2", "stopping.threshold=1e9"],
    "dmlcsr.toml": [
        "model={size_px=33,stem=[4,4,4],blocks=[1,1,1,1],widths=[2,3,3,4],context=8,head=[6,4],edge=4}", "optimizer.rate=0.05", "task.batch=2",
        "schedule={epochs=4,warm=1,start=2,cycle=1,per_epoch=2}",
    ],
}  # fmt: skip


def prepared(name, *changes):
    """Returns (recipe's class, settings) of a file in configs at the tests' size."""
    return recipe_command.prepared(CONFIGS / name, None, [*TINY.get(name, []), "run.log_every=1", "run.save_every=3", *changes])
