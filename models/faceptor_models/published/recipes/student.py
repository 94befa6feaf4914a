"""Our own network by a settings file: `student.train` with its options by name."""

from faceptor_models.common import early_stopping
from faceptor_models.common.errors import Refused

from . import settings

# Options that are the command's own, or belong to a section of their own.
ELSEWHERE = ("faces", "cache", "more", "out", "resume", "device", "seed", "edges", "shares", "start_from", "encoder", "minutes")


def known():
    from faceptor_models.student.train import parser

    options = vars(parser().parse_args(["--cache", "", "--out", ""]))
    rows = {k: v for k, v in options.items() if k not in ELSEWHERE and not k.startswith(("stop_", "regulate_"))}
    return {
        "run": {"recipe": "student", "seed": 2048},
        "student": rows | {"start_from": "", "encoder": ""},
        "stopping": early_stopping.KNOWN | {"main": "landmarks"},
        "regulation": {"edges": False, "start": 0, "cycle": 0, "batches": 16},
    }


def checked(held):
    return settings.checked(held, known())


def train(held, args):
    from faceptor_models.student.train import parser, train

    if args.until is not None:
        raise Refused("--until is not for the student: set student.steps")
    given = parser().parse_args(
        ["--faces", str(args.data), "--cache", str(args.cache or f"{args.out}/cache"), "--out", args.out, "--device", args.device]
    )
    given.more, given.resume, given.seed = args.more, args.resume, held["run"]["seed"]
    for key, value in held["student"].items():
        setattr(given, key, value)
    given.start_from, given.encoder = given.start_from or None, given.encoder or None
    for key, value in held["stopping"].items():
        setattr(given, f"stop_{key}", value)
    given.edges = held["regulation"]["edges"]
    for key in ("start", "cycle", "batches"):
        setattr(given, f"regulate_{key}", held["regulation"][key])
    train(given)
    return 0
