"""Runs `faceptor-models train`, `pretrain` and `plot`."""

import json
from pathlib import Path

import cv2
import torch

from faceptor_models.common import settings
from faceptor_models.common.distributed import World
from faceptor_models.common.errors import Refused

from . import dmlcsr, faceptor, mcf, plots, student, tcdcn
from .crops import Crops
from .run import Run

RECIPES = {
    "faceptor": (faceptor.FaceptorRecipe, faceptor.FaceptorSettings),
    "tcdcn": (tcdcn.TcdcnRecipe, tcdcn.TcdcnSettings),
    "dmlcsr": (dmlcsr.DmlCsrRecipe, dmlcsr.DmlCsrSettings),
    "mcf": (mcf.McfRecipe, mcf.McfSettings),
}


def add(verbs):
    options(verbs.add_parser("train", help="trains a system by a settings file, on one process or under torchrun"))
    options(verbs.add_parser("pretrain", help="pre-trains an encoder by MCF (masked and contrastive, configs/mcf*.toml), likewise"))
    p = verbs.add_parser("plot", help="draws the curves of a run as SVG: losses, stopping, cycles")
    p.add_argument("folder", metavar="RUN")
    p.add_argument("--out", metavar="DIR", help="where the pictures go (default: RUN)")
    p.set_defaults(run=run_plot)


def options(p):
    p.add_argument("settings", metavar="CONFIG", help="settings file, such as configs/faceptor_stage1.toml")
    p.add_argument("--data", default="../../shared/faces", metavar="DIR", help="the research crops (faces/README.md)")
    p.add_argument("--cache", metavar="DIR", help="folder for the decoded crops, about 5 GB (default: OUT/cache)")
    p.add_argument("--more", action="append", default=[], metavar="DIR", help="further packed crops (faceptor-models prepare --packed)")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for checkpoint, model and logs")
    p.add_argument("--variant", metavar="NAME", help="one of the file's variants, such as tiny for a CPU")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, such as optimizer.clip=1.0; may be repeated")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT")
    p.add_argument("--until", type=int, metavar="N", help="stop after iteration N, with a checkpoint")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--workers", type=int, default=0, help="processes that prepare batches (0: none)")
    p.set_defaults(run=run_train)


def prepared(path, variant=None, changes=()):
    """Returns (recipe's class, checked settings)."""
    held = settings.read(path, variant, changes)
    name = held.get("run", {}).get("recipe", "")
    if name == "student":
        return None, student.checked(held)
    if name not in RECIPES:
        raise Refused(f"{path}: run.recipe is {name!r}, known are {', '.join(RECIPES)}, student")
    recipe, kind = RECIPES[name]
    made = settings.from_table(kind, held)
    made.check()
    return recipe, made


def run_train(args):
    recipe, held = prepared(args.settings, args.variant, args.set)
    if recipe is None:
        return student.train(held, args)
    torch.set_num_threads(args.threads)
    # Worker processes are forked: OpenCV's threads here would leave their locks in them.
    cv2.setNumThreads(0)
    world = World.start(args.device)
    try:
        cache = args.cache or Path(args.out) / "cache"
        if not world.first:
            world.wait()
        crops = Crops.read(args.data, cache, held.data.hold_out, args.more)
        if world.first:
            world.wait()
        torch.manual_seed(held.run.seed)
        made = recipe(held, crops, world)
        if world.first:
            count = sum(p.numel() for p in made.model.parameters())
            trained = sum(p.numel() for p in made.model.parameters() if p.requires_grad)
            size = f"{count:,} parameters, {trained:,} of them train"
            print(f"{args.settings}: {held.run.recipe}, {size}, {made.iterations} iterations, {world.size} processes")
            for task in getattr(made, "left_out", []):
                print(f"left out: {task}, whose data set {held.task[task].source!r} is not here")
        run = Run(made, held, args.out, world, args.resume, args.workers)
        run.train(args.until)
        if world.first:
            print(f"{args.out}: checkpoint.pt, model.pth, log.csv")
    finally:
        world.stop()
    return 0


def run_plot(args):
    print(*plots.draw(args.folder, args.out, threshold(Path(args.folder))), sep="\n")
    return 0


def threshold(folder):
    """Returns the stopping rule's threshold from the settings that a run wrote."""
    if (folder / "settings.json").exists():
        return json.loads((folder / "settings.json").read_text())["stopping"]["threshold"]
    if (folder / "arguments.json").exists():
        return json.loads((folder / "arguments.json").read_text()).get("stop_threshold", 1.0)
    return 1.0
