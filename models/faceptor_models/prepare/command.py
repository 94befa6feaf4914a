"""Runs `faceptor-models prepare`."""

import importlib
import re
from pathlib import Path

from faceptor_models.common.errors import Refused

from . import build

SETS = ("w300", "celebamask", "utk", "fairface", "celeba", "rafdb", "ferplus", "lfw", "muxspace", "aaf", "ccp", "facesynthetics", "own")


def options(p):
    p.add_argument("sets", nargs="+", metavar="SET=DIR", help=f"data sets as their owners hand them out: {', '.join(SETS)}")
    p.add_argument("--out", required=True, metavar="DIR", help="faces folder to write")
    p.add_argument("--detector", required=True, metavar="ONNX", help="YuNet with a dynamic input")
    p.add_argument(
        "--teacher", metavar="ONNX", help="recognition teacher (ArcFace crop of 112 px to 128 numbers); also keeps LFW's people out of training"
    )
    p.add_argument("--landmark-teacher", metavar="ONNX", help="68-point network for photos without points by people")
    p.add_argument("--known", metavar="FACES", help="another faces folder: its photos are not taken again, its dev split is kept out")
    p.add_argument("--suffix", default="", help="appended to the sources' names, such as _more")
    p.add_argument("--processes", type=int, default=1)
    p.add_argument("--only", metavar="FILE", help="take only photos named in this text file, one a line: a file's name up to its first dot")
    p.add_argument("--limit", type=int, help="at most this many photos of a set, for a trial")
    p.add_argument("--packed", metavar="DIR", help="also write decoded crops and labels.npz for `student.train --more DIR`")


def chosen(text):
    name, equals, folder = text.partition("=")
    if not equals or name not in SETS:
        raise Refused(f"{text!r} is not SET=DIR with one of {', '.join(SETS)}")
    if not Path(folder).is_dir():
        raise Refused(f"{name}: there is no folder {folder}")
    return name, Path(folder)


def named(path):
    """Returns the names of a text file, or None without one."""
    if path is None:
        return None
    try:
        names = set(Path(path).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"--only: cannot read {path}: {error}") from error
    if not names:
        raise Refused(f"--only: {path} names no photo")
    return names


def stem(photo):
    """Returns the name by which `--only` knows a photo."""
    return photo.file.name.partition(".")[0] if isinstance(photo.file, Path) else photo.name


def run(args):
    if not re.fullmatch(r"[a-z0-9_]*", args.suffix):
        raise Refused(f"--suffix {args.suffix!r} is not made of small letters, digits and _")
    for network in (args.detector, args.teacher, args.landmark_teacher):
        if network and not Path(network).is_file():
            raise Refused(f"there is no file {network}")
    pairs, only = [chosen(text) for text in args.sets], named(args.only)
    known, folder = build.Known(args.known), build.Folder(args.out)
    networks = (args.detector, args.teacher, args.landmark_teacher)
    for name, where in pairs:
        reader = importlib.import_module(f".sets.{name}", __package__)
        photos = [p for p in build.unique(reader.photos(where)) if f"{name}/{p.name}" not in known.names]
        if only is not None:
            photos = [p for p in photos if stem(p) in only]
        photos = photos[: args.limit]
        print(f"{name}: {len(photos)} photos", flush=True)
        folder.add(name + args.suffix, photos, reader.SIDE_PX, networks, args.processes, lambda text: print(text, flush=True))
        if hasattr(reader, "pairs"):
            folder.pairs(reader.pairs(where))
    for split, counts in folder.finish(known).items():
        for source, count in counts.items():
            print(f"{args.out}: {split} {source} {count} crops")
    for reason, count in folder.lost.items():
        print(f"left out: {reason}, {count}")
    if args.packed:
        from faceptor_models.common.packed_crops import pack_folder

        pack_folder(args.out, args.packed)
        print(f"{args.packed}: packed")
    return 0
