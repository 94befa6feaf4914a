"""Converts a recognised checkpoint to an export folder: ONNX parts, checked against PyTorch, and manifest.toml."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import tomli_w
import torch

from faceptor_models.common.errors import Refused

from . import dmlcsr, faceptor, groups, manifest, mcf, tcdcn
from .checkpoint import check_unpacked
from .parts import CUTTERS, run

OPSET = 17
# Largest difference between ONNX Runtime and PyTorch, for answers of scale 1.
TOLERANCE = 1e-3
RUNNERS = {
    "faceptor": faceptor.run_arrays,
    "naive": faceptor.run_arrays,
    "mcf": mcf.run_arrays,
    "tcdcn": tcdcn.run_arrays,
    "dmlcsr": dmlcsr.run_arrays,
}
INPUTS = {
    "faceptor": ("image_small", "image_large"),
    "naive": ("image_small", "image_large"),
    "mcf": ("image",),
    "tcdcn": ("image",),
    "dmlcsr": ("image",),
}


def plan(found, options):
    """Returns (groups, {task: (manifest row, queries)}) of a recognised checkpoint."""
    model, c = found.model, found.model.config
    if found.system in ("faceptor", "naive"):
        chosen = groups.choose(c.tasks, options.tasks)
        return groups.faceptor_groups(model, options.like, chosen), {t: manifest.faceptor_task(t, c.tasks[t], options.like) for t in chosen}
    if found.system == "tcdcn":
        names = {"landmarks" if h == "landmark" else h: n for h, n in c.heads.items()}
        chosen = groups.choose(names, options.tasks)
        return groups.tcdcn_groups(model, chosen, options.interleaved), {t: manifest.tcdcn_task(t, names[t]) for t in chosen}
    if found.system == "dmlcsr":
        chosen = groups.choose(["parsing"], options.tasks)
        return groups.dmlcsr_groups(model, chosen[0], options.size or dmlcsr.SIZE), {"parsing": manifest.dmlcsr_task("parsing", c.classes)}
    groups.choose([], options.tasks)
    return groups.mcf_groups(model), {}


def run_npz(found, source):
    """Runs the arrays of `source` through the PyTorch model: {key of the references: array}."""
    wanted, beside = INPUTS[found.system], ("noise_online",) if found.system == "mcf" else ()
    arrays = read_arrays(source, (*wanted, *beside))
    if not any(name in arrays for name in wanted):
        raise Refused(f"{source} has no array {' or '.join(wanted)}; it has {', '.join(names_of(source)) or 'none'}")
    used = {name: checked_array(found, name, array) for name, array in arrays.items()}
    if "noise_online" in used and len(used["noise_online"]) != len(used["image"]):
        raise Refused(f"array noise_online is for {len(used['noise_online'])} images, array image holds {len(used['image'])}")
    try:
        answers = RUNNERS[found.system](found.model, used)
    except (ValueError, RuntimeError) as error:
        raise Refused(f"the arrays of {source} do not fit the network: {error}") from error
    # A negative running variance is a finite number and passes the checks of the file.
    broken = [name for name, array in answers.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if broken:
        raise Refused(f"the network answers {', '.join(broken)} with numbers that are not finite: its weights or statistics are damaged")
    return answers


def write_npz(arrays, target):
    with replacing(Path(target)) as path, open(path, "wb") as file:
        np.savez(file, **arrays)


def read_arrays(path, names=None):
    """Reads the arrays of an .npz file, only those of `names` where that is given."""
    try:
        check_unpacked(Path(path))
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files if names is None or name in names}
    except Refused:
        raise
    # numpy fails in many ways on other files.
    except Exception as error:
        raise Refused(f"cannot read the arrays of {path}: {type(error).__name__}: {error}") from error


def names_of(path):
    with np.load(path, allow_pickle=False) as held:
        return held.files


def checked_array(found, name, array):
    """Returns the array as the network takes it: images in float32, noise in float64, whose order float32 may lose."""
    if array.dtype.kind not in "fiu":
        raise Refused(f"array {name} holds {array.dtype}, expected are finite numbers")
    with np.errstate(over="ignore"):
        array = array.astype(np.float64 if name == "noise_online" else np.float32)
    if not np.isfinite(array).all():
        raise Refused(f"array {name} holds numbers that are not finite")
    if name == "noise_online":
        if array.ndim != 2 or array.shape[1] != found.model.config.encoder.grid**2:
            raise Refused(f"array noise_online has shape {array.shape}, expected is [batch, {found.model.config.encoder.grid**2}]")
        return array
    channels = 1 if found.system == "tcdcn" else 3
    if array.ndim != 4 or array.shape[1] != channels or not all(array.shape):
        raise Refused(f"array {name} has shape {array.shape}, expected is [batch, {channels}, height, width]")
    return array


@contextmanager
def replacing(target):
    """Yields a path next to `target` that takes its place when the block ends well, and that is removed otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    try:
        yield Path(name)
        Path(name).chmod(0o644)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def replacing_folder(target):
    """Does the same for a folder; it replaces an earlier export and refuses other contents."""
    target = Path(os.path.abspath(target))
    if target.exists() and not target.is_dir():
        raise Refused(f"--out {target} is no folder")
    if target.is_dir() and any(target.iterdir()) and not (target / "manifest.toml").is_file():
        raise Refused(f"--out {target} holds other files than an export: name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield made
        made.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        os.replace(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def export(found, options, origin, out, log=print):
    """Writes the export folder `out`; it leaves nothing when a step fails."""
    chosen_groups, described = plan(found, options)
    parts = CUTTERS[found.system](found.model, chosen_groups)
    finder_folder = Path(options.finder) if options.finder else None
    finder_rows = manifest.finder(finder_folder) if finder_folder else {}
    generator = torch.Generator().manual_seed(0)
    images = {f"image_{g.name}": torch.randn(1, g.channels, g.size, g.size, generator=generator) for g in chosen_groups}
    tensors = run(parts, images)
    with replacing_folder(out) as folder:
        for part in {p.file: p for p in parts}.values():
            write_onnx(part, folder / part.file, tensors)
        worst = compare(parts, folder, tensors, images)
        log(f"ONNX Runtime against PyTorch: largest relative difference {worst[1]:.1e}, at {worst[0]}")
        if not worst[1] <= TOLERANCE:
            raise Refused(f"the exported tensor {worst[0]} differs from PyTorch's by {worst[1]:.1e}, more than {TOLERANCE}")
        for row in finder_rows.get("part", []):
            shutil.copyfile(finder_folder / row["file"], folder / row["file"])
        tasks = manifest.task_rows(described, chosen_groups)
        rows = manifest.manifest(f"{found.system}-imported", origin, parts, chosen_groups, tasks, folder, finder_rows)
        (folder / "manifest.toml").write_text(tomli_w.dumps(rows))
    return parts


@torch.no_grad()
def write_onnx(part, path, tensors):
    example = tuple(tensors[n].contiguous() for n in part.inputs)
    torch.onnx.export(
        part.module.eval(), example, str(path), input_names=part.graph_inputs, output_names=part.graph_outputs, opset_version=OPSET,
        dynamo=False, do_constant_folding=True,
    )  # fmt: skip
    onnx.checker.check_model(str(path))


def compare(parts, folder, tensors, images):
    """Returns (tensor, difference / scale) where ONNX Runtime, running the whole chain, is furthest from PyTorch."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    found = {name: image.numpy() for name, image in images.items()}
    worst = ("nothing", 0.0)
    for part in parts:
        session = ort.InferenceSession(str(folder / part.file), options, providers=["CPUExecutionProvider"])
        made = session.run(part.graph_outputs, {g: found[n] for g, n in zip(part.graph_inputs, part.inputs)})
        found |= zip(part.outputs, made)
        for name in part.outputs:
            expected = tensors[name].numpy()
            difference = float(np.abs(found[name] - expected).max() / max(1.0, float(np.abs(expected).max())))
            worst = max(worst, (name, difference), key=lambda w: w[1] if w[1] == w[1] else np.inf)
    return worst
