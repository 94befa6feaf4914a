"""Matches a teacher's tasks with the student's, and translates the teacher's answers to the student's order and classes."""

from dataclasses import dataclass

import numpy as np

from faceptor_models.common.labels import ATTRIBUTES, EXPRESSIONS, LANDMARK_FLIP, PARSING, PARSING_FLIP
from faceptor_models.student.network import AGE_BINS, QUERIES

from .recipes.crops import FACEPTOR_NAMES
from .teachers import TeacherTask

# Five points of the 68: middles of the eyes, nose tip, mouth corners, left to right in the image.
FIVE = [range(36, 42), range(42, 48), [30], [48], [54]]
FIVE_FLIP = [1, 0, 2, 4, 3]
# TCDCN's classes: the attribute that the first of them is.
CLASSES = {"male": "Male", "smiling": "Smiling", "glasses": "Eyeglasses"}


@dataclass
class Match:
    """Connects the task `taught` of teacher number `teacher` with the student's `task`; `index` and `known` rearrange the answers."""

    teacher: int
    taught: TeacherTask
    task: str
    index: list | None = None
    known: np.ndarray | None = None
    matrix: np.ndarray | None = None

    @property
    def key(self):
        return f"{self.teacher}.{self.taught.name}"

    @property
    def queries(self):
        """Returns true when the decoded queries of both correspond one by one."""
        return self.taught.queries > 0 and self.index is not None


def match(teacher, taught, shapes):
    """Returns the Match of a teacher's task with our Student, or the reason why there is none. `shapes` are its answers' shapes."""
    kind = taught.kind
    if kind == "landmarks":
        count = shapes["points"][0]
        if count not in (5, QUERIES["landmarks"]):
            return f"{count} points, of which nothing is known about the student's 68"
        return Match(teacher, taught, "landmarks", list(range(count)) if count > 5 else None)
    if kind == "parsing":
        for names in (PARSING, [FACEPTOR_NAMES[n] for n in PARSING]):
            if set(names) <= set(taught.labels):
                return Match(teacher, taught, "parsing", [taught.labels.index(n) for n in names])
        return f"{len(taught.labels)} classes that are not CelebAMask's"
    if kind == "age":
        return Match(teacher, taught, "age", matrix=rebinned(taught.bins))
    if kind == "expression":
        missing = [n for n in taught.labels if n not in EXPRESSIONS]
        if missing:
            return f"classes {', '.join(missing)} unknown to the student"
        index = [taught.labels.index(n) if n in taught.labels else 0 for n in EXPRESSIONS]
        return Match(teacher, taught, "expression", index, np.array([n in taught.labels for n in EXPRESSIONS]))
    if kind in ("attributes", "classes"):
        labels = taught.labels if kind == "attributes" else [CLASSES.get(taught.labels[0])]
        known = np.array([n in labels for n in ATTRIBUTES])
        if not known.any():
            return f"classes {', '.join(taught.labels)} unknown to the student"
        # Attributes share queries in the student, so the decoded queries do not correspond one by one.
        found = Match(teacher, taught, "attributes", None, known)
        found.matrix = np.array([labels.index(n) if n in labels else 0 for n in ATTRIBUTES])
        return found
    return Match(teacher, taught, "recognition" if kind == "recognition" else "embedding")


def rebinned(bins):
    """Returns [bins of the teacher, bins of the student]: each year's probability is split between the two bins about it."""
    wanted, out = np.array(AGE_BINS), np.zeros((len(bins), len(AGE_BINS)), np.float32)
    for i, age in enumerate(np.clip(bins, wanted[0], wanted[-1])):
        high = min(int(np.searchsorted(wanted, age)), len(wanted) - 1)
        low = max(high - 1, 0)
        share = 0.0 if high == low else (age - wanted[low]) / (wanted[high] - wanted[low])
        out[i, low] += 1 - share
        out[i, high] += share
    return out


def translated(m, answer):
    """Returns a teacher's answer {what: array} in the student's order and bins."""
    out = dict(answer)
    if m.task == "parsing":
        out["maps"] = answer["maps"][m.index]
    elif m.task == "age":
        out["values"] = answer["values"] @ m.matrix
    elif m.task == "expression":
        out["values"] = np.where(m.known, answer["values"][m.index], 0.0)
    elif m.task == "attributes":
        out["values"] = np.where(m.known, answer["values"][m.matrix], 0.5)
    if "queries" in out:
        if m.queries:
            out["queries"] = answer["queries"][m.index]
        else:
            del out["queries"]
    return out


def mirrored(m, answer):
    """Returns the answer for the mirrored crop, as far as left and right have names; places are moved elsewhere.

    Decoded queries are left out: only the teacher knows their values for a mirrored face.
    """
    out = dict(answer)
    if m.task == "landmarks":
        order = LANDMARK_FLIP if len(answer["points"]) == len(LANDMARK_FLIP) else FIVE_FLIP
        out |= {k: out[k][order] for k in ("points", "maps") if k in out}
    elif m.task == "parsing":
        out |= {k: out[k][PARSING_FLIP] for k in ("maps",) if k in out}
    return out
