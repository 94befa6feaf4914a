"""Runs `faceptor-models`: prepares data sets, and imports, trains, distils and checks published systems."""

import argparse
import sys
import warnings
from pathlib import Path

import torch

from .common.errors import Refused
from .common.paths import FINDER_EXPORT
from .prepare import command as prepare
from .published import checkpoint, importing, manifest, parity, preprocessing_gap, recognise, runtime
from .published.recipes import command as recipe_verbs
from .published.recipes import distill


def numbers(text):
    try:
        return tuple(int(v) for v in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 3,5,7,11") from None


def names(text):
    found = tuple(v.strip() for v in text.split(",") if v.strip())
    if not found:
        raise argparse.ArgumentTypeError("no task is named")
    return found


def pairs(text):
    out = {}
    for item in text.split(","):
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise argparse.ArgumentTypeError(f"{item!r} is not NAME=VALUE")
        out[name] = value
    return out


def counts(text):
    try:
        return {name: int(value) for name, value in pairs(text).items()}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COUNT,...") from None


def parser():
    top = argparse.ArgumentParser(prog="faceptor-models", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    p = verbs.add_parser("import", help="imports an official checkpoint to an export folder for `faceptor compile`")
    p.add_argument("checkpoint", help="file of Faceptor, Naive Faceptor, MCF, TCDCN or DML-CSR (.pth, .pth.tar, .npz)")
    p.add_argument("--out", metavar="DIR", help="export folder to write: ONNX parts and manifest.toml")
    p.add_argument("--npz", nargs=2, metavar=("IN", "OUT"), help="run the normalised arrays of IN through the network and write OUT")
    p.add_argument("--tasks", type=names, help="export only these tasks, separated by commas")
    size_options(p)
    p.add_argument("--interleaved", action="store_true", help="TCDCN: landmark coordinates are x1 y1 x2 y2 .. (default x1 x2 .. y1 y2 ..)")
    p.add_argument("--finder", default=str(FINDER_EXPORT), metavar="DIR", help="face detector to put into the export; '' for none")
    p.set_defaults(run=run_import, verb_parser=p)
    p = verbs.add_parser("parity", help="compares a reference folder's outputs with those of its imported checkpoint")
    p.add_argument("folders", nargs="+", metavar="DIR", help="folder with a checkpoint, inputs.npz and outputs.npz")
    size_options(p)
    p.set_defaults(run=run_parity)
    p = verbs.add_parser("runtime", help="compares a bundle's stored answers (`faceptor reference`) with ONNX Runtime on the same inputs")
    p.add_argument("export", metavar="EXPORT", help="the export folder that the bundle was compiled from")
    p.add_argument("reference", metavar="REFERENCE", help="the folder that `faceptor reference --model BUNDLE --out REFERENCE` wrote")
    p.add_argument(
        "--sampling", action="store_true", help="also measures how far its view of the faces is from the authors' preprocessing, and the answers"
    )
    p.set_defaults(run=run_runtime)
    p = verbs.add_parser("prepare", help="makes aligned crops with labels for the training, from data sets or from the user's own photos")
    prepare.options(p)
    p.set_defaults(run=prepare.run)
    recipe_verbs.add(verbs)
    distill.add(verbs)
    return top


def size_options(p):
    """Adds the options for what a file's names and shapes do not show of its network."""
    p.add_argument("--prefix", help="prefix of the tensor names where it is not the official one")
    p.add_argument("--encoder-heads", type=int, metavar="N", help="attention heads of the encoder (official: 12)")
    p.add_argument("--decoder-heads", type=int, metavar="N", help="attention heads of the decoder (official: Faceptor 8, MCF 16)")
    p.add_argument("--perceptual-heads", type=int, metavar="N", help="attention heads of MCF's frozen network (official: 12)")
    p.add_argument(
        "--mask-ratio", type=float, metavar="R", help="share of the patches that MCF removes (official: 0.75, or the value of the file's settings)"
    )
    p.add_argument("--levels", type=numbers, metavar="I,..", help="Faceptor: encoder block of the memory, from 0 (official: 11)")
    p.add_argument("--new-levels", type=numbers, metavar="I,..", help="Layer-Attention: the added blocks (official: 1,3,5,7,9)")
    p.add_argument("--value-levels", type=numbers, metavar="I,..", help="Naive Faceptor: blocks of the value heads (official: 5,7,9,11)")
    p.add_argument("--map-levels", type=numbers, metavar="I,..", help="Naive Faceptor: blocks of the dense heads (official: 3,5,7,11)")
    p.add_argument("--map-tasks", type=counts, metavar="T=N,..", help="Naive Faceptor: dense tasks and their outputs, in order")
    p.add_argument(
        "--size", type=int, metavar="PX", help="side of the input: DML-CSR's export (official: 473), TCDCN where several fit its file (40)"
    )
    p.add_argument("--filters", metavar="ORDER", help="TCDCN: order of the axes of filters per region, such as rcoikl or oirckl")
    p.add_argument("--like", type=pairs, default={}, metavar="T=U,..", help="read task T of the file as the official task U")


def run_parity(args):
    reports = [parity.report(folder, args) for folder in args.folders]
    return 0 if all(reports) else 1


def run_runtime(args):
    good = runtime.report(args.export, args.reference)
    if args.sampling:
        preprocessing_gap.report(args.export, args.reference)
    return 0 if good else 1


def run_import(args):
    if not args.out and not args.npz:
        args.verb_parser.error("give --out DIR, or --npz IN OUT, or both")
    if args.size is not None and not 32 <= args.size <= 4096:
        raise Refused(f"--size {args.size} is not in 32..4096")
    found = recognise.recognise(checkpoint.read(args.checkpoint), args)
    parameters = sum(p.numel() for p in found.model.parameters())
    print(f"{args.checkpoint}: {found.system}, {parameters:,} parameters, {found.used} tensors used", *found.notes, sep="; ")
    for name, why in found.skipped.items():
        print(f"left out on purpose: {name} ({why})")
    # Everything that can be refused comes before the first file is written.
    made = importing.run_npz(found, args.npz[0]) if args.npz else {}
    if args.out:
        origin = {"system": found.system, "checkpoint": Path(args.checkpoint).name, "sha256": manifest.sha256(args.checkpoint)}
        parts = importing.export(found, args, origin, args.out)
        print(f"{args.out}: {len(parts)} parts in {len({p.file for p in parts})} files, manifest.toml")
    if args.npz:
        importing.write_npz(made, args.npz[1])
        print(f"{args.npz[1]}: {', '.join(made)}")
    return 0


def main(arguments=None):
    args = parser().parse_args(arguments)
    # The exporter warns about shapes that it takes as constants; they are constants here.
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    try:
        return args.run(args)
    except (Refused, OSError) as error:
        print(f"faceptor-models {args.verb}: {error}", file=sys.stderr)
        return 1
