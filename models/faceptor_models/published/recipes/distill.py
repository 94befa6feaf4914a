"""Runs `faceptor-models distill`: trains a student from the answers of one teacher or several, and exports it."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch

from faceptor_models.common import settings
from faceptor_models.common.csv_rows import write_rows
from faceptor_models.common.distributed import World
from faceptor_models.common.errors import Refused
from faceptor_models.common.geometry import TEMPLATE

from .crops import Crops
from .distillation import Distillation, DistillationSettings
from .run import Run

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
# Side to which a folder's own aligned crops are brought.
SIDE = 192


def add(verbs):
    p = verbs.add_parser("distill", help="trains a student on the answers of imported systems or ONNX files to crops, and exports it")
    p.add_argument(
        "--teacher",
        action="append",
        required=True,
        metavar="DIR",
        help="folder of `import` or of the student's export, or an ONNX file; may be repeated",
    )
    p.add_argument("--data", required=True, metavar="DIR", help="the research crops, or a folder of aligned crops without labels")
    p.add_argument("--student", required=True, metavar="CONFIG", help="settings file, such as configs/distill_student.toml")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for answers, checkpoint, errors and the export")
    p.add_argument("--cache", metavar="DIR", help="folder for the decoded crops (default: OUT/cache)")
    p.add_argument("--variant", metavar="NAME", help="one of the file's variants")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, such as run.iterations=500; may be repeated")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT")
    p.add_argument("--until", type=int, metavar="N", help="stop after iteration N, with a checkpoint and without an export")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--workers", type=int, default=0, help="processes that prepare batches (0: none)")
    p.set_defaults(run=run_distill)


def prepared(path, variant, changes, teachers):
    held = settings.read(path, variant, changes)
    held = settings.merged(held, {"targets": {"teachers": [str(t) for t in teachers]}})
    name = held.get("run", {}).get("recipe", "distillation")
    if name != "distillation":
        raise Refused(f"{path}: run.recipe is {name!r}, expected is distillation")
    made = settings.from_table(DistillationSettings, held)
    made.check()
    made.at_least_one("targets", "px", "held_out")
    made.at_least_one("task", "batch")
    return made


def crops_of(data, cache, hold_out):
    """Returns the research crops, or every picture of a folder of unlabelled crops in the aligned frame."""
    data = Path(data)
    if (data / "train/labels.npz").is_file():
        return Crops.read(data, cache, hold_out)
    paths = sorted(p for p in data.rglob("*") if p.suffix.lower() in PICTURES) if data.is_dir() else []
    pictures = []
    for path in paths:
        held = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if held is None:
            raise Refused(f"--data: {path} is no picture that can be read")
        if held.shape[0] != held.shape[1]:
            raise Refused(f"--data: {path} has {held.shape[1]}x{held.shape[0]} pixels: aligned crops are square")
        rgb = cv2.resize(held[..., ::-1], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        pictures.append(np.dstack([rgb, np.zeros((SIDE, SIDE), np.uint8)]))
    if len(pictures) < 2:
        raise Refused(f"--data {data} has neither train/labels.npz nor pictures")
    n = len(pictures)
    unknown = SimpleNamespace(
        landmarks=np.full((n, 68, 2), np.nan, np.float32), people=np.zeros(n, bool), age_low=np.full(n, np.nan, np.float32),
        age_high=np.full(n, np.nan, np.float32), expression=np.full((n, 8), -1.0), attributes=np.zeros((n, 40), np.float32),
        male=np.full(n, -1), identity=np.full(n, -1),
    )  # fmt: skip
    keypoints = np.repeat(TEMPLATE[None].astype(np.float32), n, 0)
    return Crops({"folder": np.stack(pictures)}, {"folder": unknown}, {"folder": keypoints}, None, max(hold_out, 1 / n))


def run_distill(args):
    held = prepared(args.student, args.variant, args.set, args.teacher)
    torch.set_num_threads(args.threads)
    # Workers fork: OpenCV's threads would leave their locks in them.
    cv2.setNumThreads(0)
    world, out = World.start(args.device), Path(args.out)
    try:
        if not world.first:
            world.wait()
        crops = crops_of(args.data, args.cache or out / "cache", held.data.hold_out)
        if world.first:
            world.wait()
        torch.manual_seed(held.run.seed)
        made = Distillation(held, crops, world, out / "targets")
        if world.first:
            print(
                f"{args.student}: {sum(p.numel() for p in made.student.net.parameters()):,} parameters;"
                f" {len(made.entries)} crops, {len(made.held)} held out"
            )
            print(*(f"learned: {m.task} from {made.teachers[m.teacher].name}: {m.taught.name}" for m in made.matches), sep="\n")
            print(*(f"left out: {name}: {why}" for name, why in made.left_out.items()), sep="\n")
        run = Run(made, held, out, world, args.resume, args.workers)
        if not run.first:
            made.measure(0, run)
        run.train(args.until)
        if world.first and (args.until is None or args.until + 1 >= made.iterations):
            write_rows(made.errors_, out / "errors.csv")
            report(made.errors_)
            made.student.export(out / "export")
            print(f"{out}: checkpoint.pt, model.pth, log.csv, errors.csv, export/ for `faceptor compile`")
    finally:
        world.stop()
    return 0


def report(rows):
    """Prints every task's held-out error before and after, and that of a constant answer."""
    last = max(r["iteration"] for r in rows)
    before = {(r["teacher"], r["lesson"]): r for r in rows if r["iteration"] == 0}
    print(f"{'held-out error to the teacher':40s} {'before':>9s} {'after':>9s} {'constant':>9s}")
    for r in (r for r in rows if r["iteration"] == last):
        print(f"{r['teacher'] + ': ' + r['lesson']:40s} {before[r['teacher'], r['lesson']]['error']:9.4f} {r['error']:9.4f} {r['constant']:9.4f}")
