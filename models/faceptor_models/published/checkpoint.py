"""Reads a checkpoint without running any code in it, and loads it into a model strictly."""

import argparse
import importlib
import math
import pickle
import re
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from faceptor_models.common.errors import Refused

# The number of names that a message lists.
LISTED = 6
# Weights hardly compress: an archive that grows by this factor, and beyond this size, is made to fill the memory.
UNPACKED_TIMES, UNPACKED_BYTES = 50, 1 << 28


def read(path):
    """Returns the object that a .pth, .pth.tar, .pt or .npz file holds: tensors in plain containers.

    PyTorch's restricted unpickler builds only tensors, containers and numbers, and the contents of settings: official files
    have an argparse.Namespace, others numpy's numbers and paths. Anything else is refused before it is made.
    """
    path = Path(path)
    if not path.is_file():
        raise Refused(f"{path} is not there or is no file")
    if path.stat().st_size == 0:
        raise Refused(f"{path} is empty")
    try:
        check_unpacked(path)
        return read_npz(path) if path.suffix == ".npz" else read_torch(path)
    except Refused:
        raise
    except pickle.UnpicklingError as error:
        raise Refused(f"{path} holds more than tensors and settings, or is damaged; it was not run: {first_line(error)}") from error
    # The readers fail in many ways on damaged bytes.
    except Exception as error:
        raise Refused(f"{path} is no readable checkpoint (truncated or damaged?): {type(error).__name__}: {first_line(error)}") from error


def first_line(error):
    text = str(error).replace("WeightsUnpickler error: ", "").strip()
    # PyTorch's own text continues with advice to load without the restriction; only the reason is passed on.
    named = re.search(r"GLOBAL (\S+) was not an allowed global", text)
    if named:
        return f"it calls {named.group(1)}"
    for hint in ("Unsupported ", "Trying to ", "Cannot "):
        if hint in text:
            text = text[text.index(hint) :]
            break
    text = re.split(r"Re-running|Please use", text)[0].strip()
    return text.splitlines()[0][:300] if text else "no further reason"


def check_unpacked(path):
    """Refuses an archive whose parts are far larger than it is, before it unpacks any of them."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > UNPACKED_BYTES and unpacked > UNPACKED_TIMES * path.stat().st_size:
        raise Refused(f"{path} would become {unpacked / 1e9:.1f} GB out of {path.stat().st_size / 1e6:.1f} MB: numbers do not shrink so far")


def inert():
    """Returns what a file's settings may hold besides containers: building any of these has no effect."""
    found = [argparse.Namespace, np.dtype, *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"}]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found.append((importlib.import_module("numpy._core.multiarray").scalar, f"{module}.scalar"))
    return found + [(PurePosixPath, f"{module}.{kind}PosixPath") for module in ("pathlib", "pathlib._local") for kind in ("", "Pure")]


def read_torch(path):
    with torch.serialization.safe_globals(inert()):
        return torch.load(path, map_location="cpu", weights_only=True)


def read_npz(path):
    if not zipfile.is_zipfile(path):
        raise Refused(f"{path} is no .npz file (truncated or damaged?)")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(native(arrays[name])) for name in arrays.files}


def native(array):
    """Copies an array to this machine's byte order."""
    return np.array(array, dtype=array.dtype.newbyteorder("="))


def is_state(value):
    """Returns true for a non-empty {name: tensor}."""
    return isinstance(value, dict) and bool(value) and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items())


def listed(names):
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def shape_text(tensor):
    return "x".join(str(n) for n in tensor.shape) or "a number"


def check_fit(model, state, optional=()):
    """Checks that every tensor of `model`, which may be one without memory, is in `state` with its shape, and no other.

    `optional`: endings of names that may be missing (`num_batches_tracked` of older files; the tied copies `.ln.*`).
    """
    wanted = model.state_dict()
    unknown = [k for k in state if k not in wanted]
    missing = [k for k in wanted if k not in state and not k.endswith(tuple(optional))]
    wrong = [f"{k} is {shape_text(state[k])} instead of {shape_text(wanted[k])}" for k in wanted if k in state and state[k].shape != wanted[k].shape]
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing: {listed(missing)}")
    if unknown:
        problems.append(f"{len(unknown)} not known: {listed(unknown)}")
    if wrong:
        problems.append(f"{len(wrong)} of another shape than the rest of the file asks for: {listed(wrong)}")
    if problems:
        raise Refused("the tensors do not fit: " + "; ".join(problems))
    for name, tensor in state.items():
        if tensor.is_complex() or tensor.is_quantized or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise Refused(f"tensor {name} is {tensor.dtype}, {tensor.layout}, {tensor.device}: only dense real numbers are read")
        check_held(name, tensor)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise Refused(f"tensor {name} holds numbers that are not finite")
        # Files that were averaged or cut to half precision as a whole count their batches in floating point.
        if wanted[name].is_floating_point() != tensor.is_floating_point() and not name.endswith(".num_batches_tracked"):
            raise Refused(f"tensor {name} holds {tensor.dtype} instead of {wanted[name].dtype}")
    names = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for group in names.values():
        held = [n for n in group if n in state]
        if any(not torch.equal(state[held[0]], state[n]) for n in held[1:]):
            raise Refused(f"{listed(held)} are one tensor under several names, but the file gives them different values")


def check_held(name, tensor):
    """Refuses a tensor with fewer stored numbers than its shape has: a few repeated numbers can have any shape."""
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise Refused(f"tensor {name} claims to be larger than the numbers that the file holds for it")


def load(model, state):
    """Loads a state that fits; what is optional and missing keeps its values."""
    model.load_state_dict(state, strict=False)
    return model.eval()


def square_root(count, what):
    root = math.isqrt(max(count, 0))
    if root < 1 or root * root != count:
        raise Refused(f"{what}: {count} rows are not a square")
    return root
