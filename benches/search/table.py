#!/usr/bin/env python3
"""Compares the exact search of a million int8 templates of 128 numbers with FAISS and usearch, on one thread, interleaved.

Prints Markdown: milliseconds a search, bytes a second, and the share of a plain read of the same bytes in the same run. Every search
returns the two nearest, and has to find the template from which the query was made.
"""

import argparse
import pathlib
import statistics
import subprocess
import tempfile
import time

import faiss
import numpy as np
import usearch.index

DIMENSION = 128
SERVER = ["cargo", "bench", "-p", "faceptor-gallery", "--bench", "search", "--quiet", "--", "--serve"]
# The 8 bit codes of FAISS that keep a template's numbers, or scale them.
CODES = {"direct, signed": "QT_8bit_direct_signed", "scaled": "QT_8bit", "scaled, one range": "QT_8bit_uniform"}


class Faceptor:
    """The search of a live loop, in a process of its own."""

    def __init__(self, folder):
        self.process = subprocess.Popen([*SERVER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        _, self.kernel, count, photos = self.process.stdout.readline().split()
        self.count, self.photos = int(count), int(photos)

    def ask(self, line):
        """The answer to a request: nanoseconds first."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()


def timed(search):
    """The seconds that a search takes, and the place of the nearest template."""
    begun = time.perf_counter()
    place = search()
    return time.perf_counter() - begun, int(place)


def faiss_search(index, query):
    return lambda: index.search(query, 2)[1][0][0]


def usearch_search(templates, query, metric):
    return lambda: usearch.index.search(templates, query, 2, metric, exact=True, threads=1).keys[0]


def cpu_name():
    """The CPU as Linux names it."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        faceptor = Faceptor(folder)
        templates = np.fromfile(pathlib.Path(folder) / "templates.i8", np.int8).reshape(-1, DIMENSION)
        queries = np.fromfile(pathlib.Path(folder) / "queries.i8", np.int8).reshape(-1, DIMENSION)
    indexes = {}
    for name, code in CODES.items():
        index = faiss.IndexScalarQuantizer(DIMENSION, getattr(faiss.ScalarQuantizer, code), faiss.METRIC_INNER_PRODUCT)
        index.train(templates[:100_000].astype(np.float32))
        for part in np.array_split(templates, 20):
            index.add(part.astype(np.float32))
        indexes[f"FAISS {faiss.__version__}, flat, 8 bit ({name})"] = index
    metrics = {"cosine": usearch.index.MetricKind.Cos, "inner product": usearch.index.MetricKind.IP}

    times = {}
    for turn in range(options.rounds):
        number = turn % len(queries)
        query = queries[number]
        wanted = number * 61_001
        read = int(faceptor.ask("read")[0])
        times.setdefault("plain read", []).append(read / 1e9)
        nanoseconds, person, _ = faceptor.ask(number)
        if int(person) != wanted // faceptor.photos:
            raise SystemExit(f"query {number}: ours found person {person}")
        times.setdefault("Faceptor", []).append(int(nanoseconds) / 1e9)
        others = {name: faiss_search(index, query[None].astype(np.float32)) for name, index in indexes.items()}
        for name, metric in metrics.items():
            others[f"usearch {usearch.__version__}, exact, int8 ({name})"] = usearch_search(templates, query, metric)
        for name, search in others.items():
            seconds, place = timed(search)
            if place != wanted:
                raise SystemExit(f"query {number}: {name} found template {place}")
            times.setdefault(name, []).append(seconds)

    size = templates.nbytes
    print(f"{len(templates):,} templates of {DIMENSION} numbers, {len(templates) // faceptor.photos:,} people; one thread of "
          f"{cpu_name()}, kernel {faceptor.kernel}; medians of {options.rounds} interleaved rounds.\n")
    print("| | ms a search | GB/s | share of the plain read |\n|---|---|---|---|")
    for name, seconds in times.items():
        share = statistics.median(read / own for read, own in zip(times["plain read"], seconds, strict=True))
        middle = statistics.median(seconds)
        print(f"| {name} | {middle * 1e3:.1f} | {size / middle / 1e9:.1f} | {share * 100:.0f} % |")


if __name__ == "__main__":
    main()
