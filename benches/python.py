#!/usr/bin/env python3
"""Compares `faceptor.Analyzer.analyze` with the library itself on a 640 x 480 array, image by image in turn. `make bench-python`.

The array holds the demo portrait. A line for each set of tasks: the medians of both, and their ratio; then the same for the time on
a CPU, which other programs of the machine disturb less.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np

import faceptor

ROOT = pathlib.Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 640, 480
CASES = [("landmarks", 1), ("landmarks,age,expression,attributes,parsing", 1), ("landmarks,age,expression,attributes,parsing", 10)]


def frame():
    """The portrait in a 640 x 480 array."""
    blank = faceptor.Analyzer(tasks=[], looks=1)
    size = blank.analyze(ROOT / "models/demo/astronaut.jpg")
    portrait = blank.analyze(np.zeros((size.height, size.width, 3), np.uint8)).draw(ROOT / "models/demo/astronaut.jpg")
    array = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    part = portrait[:HEIGHT, :WIDTH]
    array[: part.shape[0], : part.shape[1]] = part
    return array


def compare(library, array, tasks, looks, count):
    """The times of both sides in microseconds, taken in turn: (elapsed, on a CPU) of each image."""
    analyzer = faceptor.Analyzer(tasks=tasks.split(","), looks=looks)
    with tempfile.NamedTemporaryFile() as file:
        file.write(array.tobytes())
        file.flush()
        command = [library, file.name, str(WIDTH), str(HEIGHT), str(looks), tasks]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            python, rust = [], []
            for number in range(count + 3):
                other.stdin.write("\n")
                other.stdin.flush()
                *its, faces = map(int, other.stdout.readline().split())
                start, busy = time.perf_counter(), time.thread_time()
                found = analyzer.analyze(array)
                mine = [(time.perf_counter() - start) * 1e6, (time.thread_time() - busy) * 1e6]
                assert len(found.faces) == faces == 1
                # The first ones warm the caches.
                if number >= 3:
                    python.append(mine)
                    rust.append(its)
            other.stdin.close()
    return python, rust


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, help="the example library_time")
    parser.add_argument("--count", type=int, default=50, help="images of each case")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to a file")
    arguments = parser.parse_args()
    array, rows = frame(), []
    print("| tasks | looks | library ms | Python ms | ratio | library CPU ms | Python CPU ms | ratio |\n|---|--:|--:|--:|--:|--:|--:|--:|")
    for tasks, looks in CASES:
        sides = compare(arguments.library, array, tasks, looks, arguments.count)
        (python, python_cpu), (rust, rust_cpu) = ([statistics.median(times) for times in zip(*side)] for side in sides)
        row = {"tasks": tasks, "looks": looks, "library_us": rust, "python_us": python, "library_cpu_us": rust_cpu, "python_cpu_us": python_cpu}
        rows.append(row)
        cells = [f"{number / 1e3:.1f}" for number in (rust, python, rust_cpu, python_cpu)]
        cells.insert(2, f"{python / rust:.3f}")
        print(f"| {tasks.replace(',', ', ')} | {looks} | {' | '.join(cells)} | {python_cpu / rust_cpu:.3f} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
