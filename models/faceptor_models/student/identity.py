"""Measures recognition on the dev LFW people, for the gallery: the table of impostor scores and the figures of docs/identity.md.

    python -m faceptor_models.student.identity --binary ../target/release/faceptor --manifest edge/manifest.toml --doc ../docs/identity.md

The program answers through its command line, with the crops that `faceptor enroll` averages (`--looks 6`). Embeddings are rounded
to 8 bits as the gallery stores them. Every figure that needs a threshold takes it from other people than it is measured on: the
people are divided at random, and the table of one half decides about the other.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceptor_models.common.metrics import verification

from . import door
from .accuracy import ask, replace_block
from .development import Development

RATES = [0.1, 0.05, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6]
MARKS = ("<!-- figures made by student.identity -->", "<!-- end of figures -->")
LOOKS = "6"
DIVISIONS = 100
# (people of the gallery, photos of each)
GALLERIES = [(100, 1), (500, 1), (100, 2), (100, 3)]
FPIR = [0.01, 0.1]
MARGIN = 0.02  # Decision::MARGIN of crates/faceptor-gallery
# The manifest's table with its lines, without the blank lines and comments before the next table.
TABLE = re.compile(r"^\[impostors\].*\n(?:.*\n)*?(?=(?:[ \t]*(?:#.*)?\n)*(?:\[|\Z))", re.MULTILINE)


@dataclass
class Photos:
    """Embeddings of unit length, rounded to 8 bits, and the number of the person on each photo."""

    vector: np.ndarray
    person: np.ndarray


def rounded(embedding):
    """Rounds embeddings as `Template::of` of faceptor-gallery does, and scales them to length 1."""
    whole = np.round(embedding / np.abs(embedding).max(1, keepdims=True) * 127)
    return (whole / np.linalg.norm(whole, axis=1, keepdims=True)).astype(np.float32)


def name_of(path):
    """Returns the person of an LFW file: its name without the number."""
    return re.sub(r"_\d+$", "", Path(path).stem)


def answered(dev, rows, binary, model, answers):
    """Returns the program's answers for the crops, or those of an earlier run in the file `answers`."""
    if answers and Path(answers).exists():
        lines = [json.loads(line) for line in Path(answers).read_text().splitlines()]
    else:
        lines = []
        for start in range(0, len(rows), 500):
            how = ["--aligned", "--looks", LOOKS, "--tasks", "recognition"]
            lines += ask(binary, model, how, [dev.file(i) for i in rows[start : start + 500]])
        if answers:
            Path(answers).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {Path(line["path"]).name: line["faces"][0]["recognition"]["embedding"] for line in lines}
    missing = [i for i in rows if Path(dev.path[i]).name not in found]
    if missing:
        raise SystemExit(f"{len(missing)} of {len(rows)} crops have no answer")
    return np.array([found[Path(dev.path[i]).name] for i in rows])


def pairs(photos, rows):
    """Returns the similarities of all pairs among some photos: (of one person, of different people)."""
    similarity = photos.vector[rows] @ photos.vector[rows].T
    upper = np.triu_indices(len(rows), 1)
    same = photos.person[rows][upper[0]] == photos.person[rows][upper[1]]
    return similarity[upper][same], similarity[upper][~same]


def impostor_table(impostors, rates=RATES):
    """Returns the similarity that each share of the impostor pairs reaches, as far as ten pairs are left."""
    falling = np.sort(impostors)[::-1]
    kept = [rate for rate in rates if rate * len(falling) >= 10] or rates[:2]
    return kept, [float(falling[max(round(rate * len(falling)) - 1, 0)]) for rate in kept]


def score_at(table, rate):
    """Returns the similarity at a rate, as `ImpostorScores::score_at` of faceptor-gallery does."""
    logarithms, scores = -np.log(table[0]), np.array(table[1])
    wanted = -np.log(rate)
    if wanted <= logarithms[0]:
        return scores[0]
    upper = min(int(np.searchsorted(logarithms, wanted)), len(scores) - 1)
    share = (wanted - logarithms[upper - 1]) / (logarithms[upper] - logarithms[upper - 1])
    return min(scores[upper - 1] + share * (scores[upper] - scores[upper - 1]), 1.0)


def threshold(table, fpir, comparisons):
    """Returns the threshold as `ImpostorScores::threshold` does: a stranger is compared with every template."""
    return score_at(table, -np.expm1(np.log1p(-fpir) / comparisons))


def person_scores(photos, templates, owner, people, probes, best):
    """Returns [probe, person]: the mean of each person's `best` best similarities."""
    similarity = photos.vector[probes] @ photos.vector[templates].T
    scores = np.empty((len(probes), people), np.float32)
    for person in range(people):
        own = np.sort(similarity[:, owner == person], axis=1)[:, ::-1]
        scores[:, person] = own[:, :best].mean(1)
    return scores


def search(photos, rng, people, photos_each, best=1, exact=False):
    """Enrols random people of one half, and returns for each accepted FPIR: measured FPIR, share of right names, of wrong names,
    threshold.

    A known person has one more photo than is enrolled of it. Every other person of that half is a stranger, with one photo. The
    threshold follows from the other half's impostor scores or, if `exact`, is the one at which the strangers have that FPIR.
    """
    count = np.bincount(photos.person)
    order = rng.permutation(len(count))
    half, other = order[: len(order) // 2], order[len(order) // 2 :]
    table = None if exact else impostor_table(pairs(photos, np.flatnonzero(np.isin(photos.person, half)))[1])
    several = rng.permutation(other[count[other] > photos_each])
    single = rng.permutation(other[count[other] <= photos_each]) if photos_each == 1 else np.array([], int)
    # Those with a further photo come first; where they are too few, people with one photo fill the gallery.
    gallery = np.concatenate([several, single])[:people]
    if len(gallery) < people:
        return None
    templates, owner, probes, probe_owner = [], [], [], []
    for place, person in enumerate(gallery):
        own = rng.permutation(np.flatnonzero(photos.person == person))
        templates += list(own[:photos_each])
        owner += [place] * photos_each
        if len(own) > photos_each:
            probes.append(own[photos_each])
            probe_owner.append(place)
    strangers = [rng.choice(np.flatnonzero(photos.person == person)) for person in np.setdiff1d(other, gallery)]
    owner, probe_owner = np.array(owner), np.array(probe_owner)
    known = person_scores(photos, templates, owner, people, probes, best)
    unknown = person_scores(photos, templates, owner, people, strangers, best)
    rows = []
    for fpir in FPIR:
        limit = np.quantile(unknown.max(1), 1 - fpir) if exact else threshold(table, fpir, len(templates))

        def named(scores, limit=limit):
            second, first = np.sort(scores, axis=1)[:, -2:].T
            return (first >= limit) & (first - second >= MARGIN)

        right = known.argmax(1) == probe_owner
        rows.append((named(unknown).mean(), (named(known) & right).mean(), (named(known) & ~right).mean(), limit))
    return rows


def interval(values):
    """Writes mean and middle 95 % in percent."""
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{100 * np.mean(values):.1f} ({100 * low:.1f}-{100 * high:.1f})"


def open_set(photos, rng):
    lines = [
        "| people | photos each | asked FPIR % | measured FPIR % | right name % | another's name % | threshold |",
        "|---|---|---|---|---|---|---|",
    ]
    for people, each in GALLERIES:
        runs = [run for run in (search(photos, rng, people, each) for _ in range(DIVISIONS)) if run]
        if not runs:
            continue
        for place, fpir in enumerate(FPIR):
            measured, right, wrong, limit = np.array([run[place] for run in runs]).T
            cells = [people, each, f"{100 * fpir:g}", interval(measured), interval(right), interval(wrong), f"{limit.mean():.2f}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def aggregations(photos, rng):
    lines = ["| a person's score, 100 people, 3 photos each | right name % at FPIR 1 % | at 10 % |", "|---|---|---|"]
    for best, words in [(1, "best template"), (2, "mean of the best two"), (3, "mean of all three")]:
        runs = [run for run in (search(photos, rng, 100, 3, best, exact=True) for _ in range(DIVISIONS)) if run]
        right = [interval([run[place][1] for run in runs]) for place in range(len(FPIR))]
        lines.append(f"| {words} | " + " | ".join(right) + " |")
    return lines


def people_interval(photos, rng, limit):
    """Returns the share of pairs of one person that reach a limit, and its middle 95 % over people drawn with replacement."""
    hits, counts = [], []
    for person in np.flatnonzero(np.bincount(photos.person) > 1):
        genuine, _ = pairs(photos, np.flatnonzero(photos.person == person))
        hits.append((genuine >= limit).sum())
        counts.append(len(genuine))
    hits, counts = np.array(hits), np.array(counts)
    drawn = rng.integers(0, len(hits), (1000, len(hits)))
    low, high = np.percentile(hits[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return f"{100 * hits.sum() / counts.sum():.1f} ({100 * low:.1f}-{100 * high:.1f})"


def comparisons(photos, rng, accuracy):
    genuine, impostors = pairs(photos, np.arange(len(photos.person)))
    table = impostor_table(impostors)
    lines = [f"LFW pairs of folds 1-5, threshold of a fold from the others: {100 * accuracy:.2f} %.", ""]
    lines += [
        f"All pairs: {len(genuine):,} of one person, {len(impostors):,} of different people.",
        "",
        "| false match rate of one comparison | similarity | pairs of one person that reach it % |",
        "|---|---|---|",
    ]
    for rate in [1e-2, 1e-3, 1e-4, 1e-5]:
        limit = score_at(table, rate)
        lines.append(f"| {rate:g} | {limit:.3f} | {people_interval(photos, rng, limit)} |")
    return lines


def at_the_door(photos, rng):
    genuine, impostors = pairs(photos, np.arange(len(photos.person)))
    like = score_at(impostor_table(impostors), door.LIKE_RATE)
    lines = [
        f"Two photos pass as one person's from a similarity of {like:.2f} on: {100 * door.LIKE_RATE:g} % of pairs of different people reach "
        f"it, and {100 * (genuine < like).mean():.1f} % of pairs of one person do not.",
        "",
    ]

    def table_of(rows):
        table = impostor_table(pairs(photos, rows)[1])
        return lambda rate: score_at(table, rate)

    return lines + door.lines(photos, rng, table_of)


def with_table(text, table, people, count):
    """Returns a manifest's text with the table of impostor scores in the place of the one that was there, or else at its end."""
    rows = "\n".join(
        [
            "[impostors]",
            'task = "recognition"',
            'measured_on = "LFW, held out from the training"',
            f"people = {people}",
            f"pairs = {count}",
            "rates = [" + ", ".join(f"{rate:g}" if rate >= 1e-4 else f"{rate:.0e}" for rate in table[0]) + "]",
            "scores = [" + ", ".join(f"{score:.4f}" for score in table[1]) + "]",
        ]
    )
    text = text.rstrip() + "\n"
    replaced, found = TABLE.subn(lambda _: rows + "\n", text)
    return replaced if found else f"{text}\n{rows}\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--binary", default="../target/release/faceptor")
    p.add_argument("--model", help="bundle for the binary (default: the one inside it)")
    p.add_argument("--answers", metavar="FILE", help="the program's answers, JSON lines: written if absent, read instead of asking if present")
    p.add_argument("--manifest", metavar="FILE", help="write the table of impostor scores into this manifest")
    p.add_argument("--doc", metavar="FILE", help="write the figures into this page")
    args = p.parse_args()
    dev = Development(args.faces)
    rows = dev.rows("lfw")
    embedding = answered(dev, rows, args.binary, args.model, args.answers)
    _, person = np.unique([name_of(dev.path[i]) for i in rows], return_inverse=True)
    photos = Photos(rounded(embedding), person)
    _, impostors = pairs(photos, np.arange(len(rows)))
    table = impostor_table(impostors)
    people = int(person.max()) + 1
    if args.manifest:
        path = Path(args.manifest)
        path.write_text(with_table(path.read_text(), table, people, len(impostors)))
    rng = np.random.default_rng(0)
    by_row = {row: photos.vector[place] for place, row in enumerate(rows)}
    accuracy = verification(dev.pairs(), by_row)
    lines = [f"{len(rows):,} photos of {people:,} people.", "", "### One comparison", ""]
    lines += comparisons(photos, rng, accuracy)
    lines += ["", "### A gallery", "", *open_set(photos, rng), "", "### Which score of a person", "", *aggregations(photos, rng)]
    lines += ["", "### At the door of `enroll`", "", *at_the_door(photos, np.random.default_rng(2))]
    block = "\n".join(lines)
    print(block)
    if args.doc:
        path = Path(args.doc)
        path.write_text(replace_block(path.read_text(), MARKS, block))


if __name__ == "__main__":
    main()
