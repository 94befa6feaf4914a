"""Keeps the dev split clean: removes near copies of its photos, and people who are in LFW, from training.

It uses only the recognition teacher's unit vectors.
"""

import numpy as np

LFW_PERSON = 0.65  # nearer than this to an LFW face: counts as the same person
# Nearer than this to a dev photo of a source: counts as a copy. Celebrities of celebamask and 300-W have many photos.
NEAR_COPY = {"celebamask": 0.85, "w300": 0.90, "celeba": 0.93, "utk": 0.93, "fairface": 0.95, "rafdb": 0.95, "ferplus": 0.95}
OTHERS = 0.95
BLOCK = 2048


def nearest(vectors, others):
    """Returns the largest cosine of each unit vector [n, d] to any of `others` [m, d]; -1 where there is none."""
    best = np.full(len(vectors), -1.0, np.float32)
    if len(others):
        for start in range(0, len(vectors), BLOCK):
            best[start : start + BLOCK] = (vectors[start : start + BLOCK] @ others.T).max(1)
    return best


def leave_out(vectors, sources, dev_vectors, dev_sources):
    """Compares training rows with the dev split's rows; returns (keep [n] bool, {reason: count})."""
    keep, why = np.ones(len(vectors), bool), {}
    for source in np.unique(dev_sources):
        limit = LFW_PERSON if source == "lfw" else NEAR_COPY.get(str(source), OTHERS)
        hit = keep & (nearest(vectors, dev_vectors[dev_sources == source]) > limit)
        if hit.any():
            reason = "person who is in LFW" if source == "lfw" else f"near copy of a {source} dev photo"
            why |= {f"{s}: {reason}": int((hit & (sources == s)).sum()) for s in np.unique(sources[hit])}
            keep &= ~hit
    return keep, why
