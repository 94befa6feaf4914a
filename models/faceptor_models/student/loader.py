"""Makes batches that are balanced over the sources."""

import numpy as np

from faceptor_models.common.augment import sample, transplant
from faceptor_models.common.labels import HINTS
from faceptor_models.common.packed_crops import Labels

from . import headwear
from .poses import pose_chances

# Samples of each source in a batch of 128; other batch sizes scale it.
SHARE = {"w300": 12, "celebamask": 16, "utk": 18, "fairface": 18, "celeba": 22, "rafdb": 22, "ferplus": 20}
# Factor of a mask's probability when it shows one of the rare classes (CelebAMask number: factor). Of 897 training masks 47
# show a hat, 173 earrings, 51 glasses and 17 a necklace; drawn evenly, the network hardly learns them; when a third of the
# masks had a hat, dark hair became one. Hats come often enough with masks by the network itself (student.pseudo) and drawn ones
# (headwear.py).
RARE = {3: 2.0, 15: 2.0, 16: 4.0}

# Share of the mask samples that get a rare thing of another mask (augment.transplant), and the probabilities of the things.
TRANSPLANTED, THINGS = 0.35, {14: 0.4, 15: 0.2, 3: 0.15, 16: 0.25}
# Share of those hats that are drawn behind the hair instead of taken from a crop.
BEHIND = 0.6
# Samples of a batch of 128 without masks whose attributes require that the parsing finds a thing, or finds none.
HINTED = 8
# Factor of a CelebA crop's probability when it has the attribute.
HINT_CHANCE = {"Wearing_Hat": 2.0, "Wearing_Necklace": 1.5, "Eyeglasses": 1.5}


def mask_chances(masks, least_px=30):
    """Returns the probability of each mask to be drawn, by the rarest class that it shows in at least `least_px` pixels."""
    chance = np.ones(len(masks))
    for label, factor in RARE.items():
        shown = np.array([(mask == label).sum() >= least_px for mask in masks])
        chance[shown] = np.maximum(chance[shown], factor)
    return chance / chance.sum()


def hint_chances(attributes):
    """Returns the probability of each crop to be drawn, by the rarest thing that its attributes [n, 40] name."""
    chance = np.ones(len(attributes))
    for name, factor in HINT_CHANCE.items():
        chance[attributes[:, HINTS[name][0]] > 0] = np.maximum(chance[attributes[:, HINTS[name][0]] > 0], factor)
    return chance / chance.sum()


def hinted(attributes, usable, count):
    """Returns `count` rows whose attributes [n, 40] are known, fewer where there are fewer.

    One half has the rarest things; the other half is any rows, so that there are faces without each thing.
    """
    worth = np.zeros(len(attributes))
    for name, (column, *_) in HINTS.items():
        worth = np.maximum(worth, (attributes[:, column] > 0) * HINT_CHANCE.get(name, 1.2))
    rows = np.nonzero(usable & (attributes != 0).any(1))[0]
    first = rows[np.argsort(-worth[rows], kind="stable")][: (count + 1) // 2]
    return np.concatenate([first, rows[~np.isin(rows, first)]])[:count]


def shares(sizes, given=None):
    """Returns {source: samples in a batch of 128} for {source: crops}.

    A source that another folder has more of, such as fairface beside fairface_more, shares its part by the numbers of crops;
    any other further source gets 8 more. `given` overrides both.
    """
    share = {}
    for source, part in SHARE.items():
        family = [s for s in sizes if s == source or s.startswith(f"{source}_")]
        total = sum(sizes[s] for s in family)
        share |= {s: round(part * sizes[s] / total) for s in family}
    share |= {s: 8 for s in sizes if s not in share}
    unknown = [s for s in given or {} if s not in sizes]
    if unknown:
        raise ValueError(f"there is no source {', '.join(unknown)}: {', '.join(sizes)}")
    return share | (given or {})


class Batches:
    """Makes one batch as a dict of arrays with `make(seed)`; the same seed always gives the same batch.

    `sets` are pairs of {source: crops} and labels; `masks` among the crops belong to celebamask or to the only source.
    `hold_out` is the share of each source's crops that only `make(..., held=True)` draws, and `light` the share of lightly
    augmented samples. With `poses` turned faces of w300 come as often as frontal ones. With `inner` w300's samples have a
    landmark network's inner maps (inner_maps.py).
    """

    def __init__(self, sets, batch, size, given=None, hold_out=0.0, light=0.0, poses=False, inner=None):
        self.arrays, self.masks, self.labels = {}, {}, {}
        for arrays, archive in sets:
            sources = [s for s in arrays if s != "masks"]
            if "masks" in arrays:
                self.masks["celebamask" if "celebamask" in sources else sources[0]] = arrays["masks"]
            self.arrays |= {s: arrays[s] for s in sources}
            self.labels |= {s: Labels(archive, s) for s in sources}
        share = shares({s: len(self.arrays[s]) for s in self.labels}, given)
        self.count = {s: max(1, n * batch // 128) for s, n in share.items() if n > 0}
        self.chances = {source: mask_chances(masks) for source, masks in self.masks.items()}
        if "celeba" in self.labels:
            self.chances["celeba"] = hint_chances(self.labels["celeba"].attributes)
        if poses:
            self.chances["w300"] = pose_chances(self.labels["w300"].landmarks)
        self.inner = inner
        self.hinted = max(1, HINTED * batch // 128)
        shown = lambda label: [(s, i) for s, masks in self.masks.items() for i, mask in enumerate(masks) if (mask == label).sum() >= 30]  # noqa: E731
        self.donors = {label: shown(label) for label in THINGS}
        self.held = {s: np.random.RandomState(2048).permutation(len(self.arrays[s]))[: int(hold_out * len(self.arrays[s]))] for s in self.count}
        if hold_out and not all(len(held) for held in self.held.values()):
            raise ValueError(f"hold_out {hold_out} holds no crop of some sources")
        self.size, self.light = size, light

    def draw(self, rng, source, held):
        """Draws rows of a source for one batch: from those held out, or from all others by their probabilities."""
        count, rows = len(self.arrays[source]), self.held[source]
        if held:
            return rng.choice(rows, self.count[source])
        chances = self.chances.get(source)
        if len(rows):
            chances = np.ones(count) if chances is None else chances.copy()
            chances[rows] = 0.0
            chances /= chances.sum()
        return rng.choice(count, self.count[source], p=chances)

    def transplanted(self, rng, crop, mask):
        """Returns a crop and its mask with a rare thing of another training crop on it."""
        label = rng.choice(list(THINGS), p=list(THINGS.values()))
        if label == headwear.HAT and rng.random() < BEHIND:
            source = rng.choice(sorted(self.masks))
            donor = rng.integers(len(self.masks[source]))
            if donor in self.held.get(source, ()):
                return crop, mask
            return headwear.put_on(rng, crop, mask, self.arrays[source][donor], self.masks[source][donor])
        donors = [(s, i) for s, i in self.donors[label] if i not in self.held.get(s, ()) and self.arrays[s].shape[1] == len(crop)]
        if not donors:
            return crop, mask
        source, donor = donors[rng.integers(len(donors))]
        return transplant(rng, crop, mask, self.arrays[source][donor], self.masks[source][donor], label)

    def make(self, seed, size=None, held=False):
        rng = np.random.default_rng(seed)
        size = size or self.size
        rows = {
            k: []
            for k in ("image", "landmarks", "people", "age_low", "age_high", "expression", "attributes", "male", "identity", "embedding", "flip")
        }
        masks, mask_rows, inner, inner_rows = [], [], [], []
        for source in self.count:
            labels, crops = self.labels[source], self.arrays[source]
            for i in self.draw(rng, source, held):
                mask = self.masks[source][i] if source in self.masks else None
                crop, points = crops[i], labels.landmarks[i]
                if source == "celebamask" and not held and rng.random() < TRANSPLANTED:
                    crop, mask = self.transplanted(rng, crop, mask)
                light = self.light > 0 and rng.random() < self.light
                image, labelled, moved, flip = sample(rng, crop, size, mask, points, light)
                if labelled is not None:
                    mask_rows.append(len(rows["image"]))
                    masks.append(labelled)
                if self.inner and source == "w300":
                    inner_rows.append(len(rows["image"]))
                    inner.append(self.inner.target(i, points, moved, flip, size // 8))
                rows["image"].append(image)
                rows["landmarks"].append(moved)
                rows["flip"].append(flip)
                for key in ("people", "age_low", "age_high", "expression", "attributes", "male", "identity", "embedding"):
                    rows[key].append(getattr(labels, key)[i])
        batch = {k: np.stack(v) for k, v in rows.items()}
        batch["landmarks"] = batch["landmarks"].astype(np.float32)
        batch["parsing"] = np.stack(masks) if masks else np.zeros((0, size, size), np.uint8)
        batch["parsing_rows"] = np.array(mask_rows, np.int64)
        if inner:
            batch["inner"], batch["inner_seen"], batch["inner_rows"] = *(np.stack(part) for part in zip(*inner)), np.array(inner_rows)
        unmasked = np.ones(len(batch["image"]), bool)
        unmasked[mask_rows] = False
        batch["hint_rows"] = hinted(batch["attributes"], unmasked, self.hinted)
        return batch
