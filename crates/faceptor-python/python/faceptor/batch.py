"""Analyzes many photos into a folder of Parquet files: ``python -m faceptor.batch SOURCE... --out faces.parquet``.

One row a face; a photo without faces has one row, and a photo that cannot be read has one with an ``error``. A batch that was killed
goes on where it was when the same command runs again. ``--ray`` spreads the work over the machines of a Ray cluster.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from faceptor._analyzer import Analyzer
from faceptor._errors import Error, ImageError, UnsupportedError
from faceptor._faces_table import FacesTable, rows_of, schema_of
from faceptor._native import __version__
from faceptor._photo_lists import content_of, digest_of, is_url, photos_of

#: Photos of one Parquet file.
PART = 256


@dataclass(frozen=True)
class Summary:
    """Says what a batch did."""

    #: Photos of the whole batch.
    photos: int
    #: Photos that an earlier run had done.
    done_before: int
    #: Photos of this run.
    done: int
    #: Faces found in this run.
    faces: int
    #: Photos of this run that could not be read.
    errors: int
    #: Seconds of this run.
    seconds: float


def batch(
    sources: list[str],
    out: str,
    *,
    tasks: Optional[str] = None,
    model: Optional[str] = None,
    looks: int = 10,
    upright: bool = False,
    aligned: bool = False,
    jobs: Optional[int] = None,
    part: int = PART,
    force: bool = False,
    ray: bool = False,
    workers: Optional[int] = None,
    progress: bool = False,
) -> Summary:
    """Analyzes the photos of folders, files, manifests and URLs into a folder of Parquet files.

    Args:
        sources: Folders, photos, manifests (.txt: a name a line; .csv, .parquet: the column `path`; .jsonl: the key `path`), or URLs
            of them that pyarrow reads (`s3://`, `gs://`).
        out: A folder or such a URL. With the results of the same batch in it, the batch goes on.
        tasks: As of `Analyzer`, in one text.
        model: A bundle.
        looks: As of `Analyzer`.
        upright: As of `Analyzer`.
        aligned: Each photo already is an aligned crop.
        jobs: Threads; all CPUs without it. With Ray see `workers`.
        part: Photos of one Parquet file.
        force: Begin anew where `out` holds another batch.
        ray: Spread the work over a Ray cluster: that of RAY_ADDRESS, or this machine.
        workers: Processes of the cluster, each of one CPU; all CPUs of the cluster without it.
        progress: Show progress on standard error.

    Raises:
        UnsupportedError: A source holds no photo, or `out` holds something else.
    """
    if not 1 <= part <= 1_000_000:
        raise UnsupportedError(f"part={part}: 1 to 1000000 photos of one file are needed")
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UnsupportedError("a batch needs pyarrow: pip install 'faceptor[batch]'") from None
    start = time.monotonic()
    options: dict[str, Any] = {"tasks": tasks, "model": model, "looks": looks, "upright": upright}
    analyzer = Analyzer(**options)
    photos = photos_of(sources)
    table = FacesTable(out)
    plan = {
        "photos": len(photos),
        "list": digest_of(photos),
        "part": part,
        "network": analyzer.network,
        "tasks": list(analyzer.tasks),
        "options": {"looks": looks, "upright": upright, "aligned": aligned},
        "faceptor": __version__,
    }
    present = table.begin(plan, force)
    missing = [number for number in range(-(-len(photos) // part)) if number not in present]
    work = Work(photos, part, aligned, options, out)
    todo = sum(len(work.part(number)) for number in missing)
    report = Report(len(photos), len(photos) - todo, progress)
    if ray:
        from faceptor._ray_batch import run_parts

        for faces, errors, count in run_parts(work, missing, workers):
            report.add(count, faces, errors)
    else:
        for faces, errors, count in work.run(missing, analyzer, jobs):
            report.add(count, faces, errors)
    report.end()
    table.end()
    return Summary(len(photos), len(photos) - todo, report.done, report.faces, report.errors, time.monotonic() - start)


@dataclass(frozen=True)
class Work:
    """The photos of a batch, and how they are analyzed: what each process needs."""

    photos: list[str]
    size: int
    aligned: bool
    options: dict[str, Any]
    out: str

    def part(self, number: int) -> range:
        """Returns the numbers of the photos of a part."""
        return range(number * self.size, min((number + 1) * self.size, len(self.photos)))

    def run(self, parts: list[int], analyzer: Analyzer, jobs: Optional[int]) -> Iterator[tuple[int, int, int]]:
        """Writes parts, and yields the numbers of faces, errors and photos as they come."""
        table, schema = FacesTable(self.out), schema_of(analyzer)
        numbers = itertools.chain.from_iterable(map(self.part, parts))
        images = (self._image(number) for number in numbers)
        results = analyzer.analyze_batch(images, jobs=jobs, errors="return", aligned=self.aligned)
        for part in parts:
            rows = []
            for number in self.part(part):
                result = next(results)
                rows += rows_of(number, self.photos[number], result)
                yield (0, 1, 1) if isinstance(result, Error) else (len(result.faces), 0, 1)
            table.write_part(part, rows, schema)

    def _image(self, number: int) -> Any:
        """Returns an image for the analyzer. What cannot be got from a URL becomes an image that cannot be read."""
        photo = self.photos[number]
        if not is_url(photo):
            return photo
        try:
            return content_of(photo)
        except (OSError, Error) as reason:
            return Unreadable(str(reason))


class Unreadable(os.PathLike):  # type: ignore[type-arg]
    """Stands for a photo that could not be got; analyzing it raises the reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __fspath__(self) -> str:
        raise ImageError(self._reason)


class Report:
    """Counts, and shows progress on a terminal."""

    def __init__(self, photos: int, before: int, shown: bool) -> None:
        self._photos, self._before, self._shown = photos, before, shown
        self._start = self._last = time.monotonic()
        self.done = self.faces = self.errors = 0

    def add(self, photos: int, faces: int, errors: int) -> None:
        """Counts photos that are done."""
        self.done, self.faces, self.errors = self.done + photos, self.faces + faces, self.errors + errors
        now = time.monotonic()
        if self._shown and now > self._last + 0.5:
            self._last = now
            rate = self.done / max(now - self._start, 1e-9)
            left = (self._photos - self._before - self.done) / max(rate, 1e-9)
            print(f"\r\033[K{self._before + self.done} of {self._photos} photos, {rate:.1f} a second, {left / 60:.0f} min left",
                  end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Removes the line of progress."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def main(arguments: Optional[list[str]] = None) -> int:
    """Runs the command line. Returns 0, 1 for a failure, or 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m faceptor.batch", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="folders, photos, manifests (.txt .csv .jsonl .parquet), or URLs of them")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder or URL of the Parquet files; the same batch goes on there")
    parser.add_argument("--tasks", metavar="NAMES", help="names with commas, or all; default: all but recognition")
    parser.add_argument("--model", metavar="BUNDLE")
    parser.add_argument("--looks", type=int, default=10, metavar="N", help="views of each face that are averaged: 1, 2, 6, 10 (default)")
    parser.add_argument("--upright", action="store_true", help="look for upright faces alone")
    parser.add_argument("--aligned", action="store_true", help="each photo already is an aligned crop of one face")
    parser.add_argument("--jobs", type=int, metavar="N", help="threads; default: all CPUs")
    parser.add_argument("--part", type=int, default=PART, metavar="N", help=f"photos of one Parquet file, default {PART}")
    parser.add_argument("--force", action="store_true", help="replace the results of another batch")
    parser.add_argument("--ray", action="store_true", help="work on a Ray cluster: that of RAY_ADDRESS, or this machine")
    parser.add_argument("--workers", type=int, metavar="N", help="processes of the cluster; default: one for each of its CPUs")
    given = vars(parser.parse_args(arguments))
    try:
        summary = batch(given.pop("sources"), given.pop("out"), **given, progress=sys.stderr.isatty())
    except (Error, OSError) as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    rate = summary.done / max(summary.seconds, 1e-9)
    before = f" ({summary.done_before} before)" if summary.done_before else ""
    print(
        f"{summary.photos} photos{before}: {summary.faces} faces, {summary.errors} photos that could not be read, "
        f"{summary.seconds:.1f} s, {rate:.1f} photos a second"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
