"""Runs `faceptor-models parity`: measures how far an imported network's answers are from those of a reference folder."""

from pathlib import Path

import numpy as np

from faceptor_models.common.errors import Refused

from . import checkpoint, importing, recognise

# Absolute and relative tolerance by the ending of a key; the empty ending is for all others. DML-CSR's parsing sums over a
# softmax that multiplies rounding errors, so it has its own, and a share of pixels that may change class.
TOLERANCES = {".landmark": 1e-5, "seg": 1e-2, "": 1e-4}
PIXELS_CHANGED = 1e-4


def reference(folder):
    """Returns (checkpoint, inputs, outputs) of a reference folder."""
    folder = Path(folder)
    held = [p for p in sorted(folder.glob("*")) if p.name.endswith((".pth", ".pth.tar", ".pt"))]
    held = held or [p for p in sorted(folder.glob("*.npz")) if p.stem not in ("inputs", "outputs", "intermediates")]
    if len(held) != 1:
        raise Refused(f"{folder} holds {len(held)} checkpoints, expected is one beside inputs.npz and outputs.npz")
    return held[0], folder / "inputs.npz", folder / "outputs.npz"


def difference(key, found, expected):
    """Returns (difference as a part of what is allowed, the difference itself); a class map's is the share of changed pixels."""
    if found.shape != expected.shape:
        raise Refused(f"{key} has shape {found.shape}, the reference {expected.shape}")
    if expected.dtype.kind in "iub":
        changed = float((found != expected).mean())
        return changed / PIXELS_CHANGED, changed
    allowed = next(t for ending, t in TOLERANCES.items() if key.endswith(ending))
    gap = np.abs(found.astype(np.float64) - expected)
    # numpy.allclose's rule; DML-CSR's tolerance is absolute.
    relative = 0.0 if key == "seg" else allowed
    return float((gap / (allowed + relative * np.abs(expected))).max()), float(gap.max())


def compare(folder, options):
    """Returns [(key, share of the tolerance used, difference)] for every key of the reference's outputs."""
    path, inputs, outputs = reference(folder)
    found = recognise.recognise(checkpoint.read(path), options)
    made, expected = importing.run_npz(found, inputs), importing.read_arrays(outputs)
    missing = [k for k in expected if k not in made]
    if missing:
        raise Refused(f"the reference has {checkpoint.listed(missing)}, which this network does not answer")
    return found, [(k, *difference(k, made[k], v)) for k, v in expected.items()]


def report(folder, options, log=print):
    """Prints a line for each output; returns true when all lie within their tolerances."""
    found, rows = compare(folder, options)
    log(f"{folder}: {found.system}, {sum(p.numel() for p in found.model.parameters()):,} parameters")
    for key, share, gap in rows:
        log(f"  {key:<28} differs by at most {gap:.1e}, {100 * share:.1f} % of what is allowed")
    right = all(share <= 1 for _, share, _ in rows)
    if not right:
        log("  attention heads and levels cannot be read from a checkpoint: other ones than the official need --encoder-heads and the like")
    return right
