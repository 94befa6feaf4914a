#!/usr/bin/env python3
"""Pushes a gallery of many templates to Qdrant's engine, and compares what it finds with the gallery's exact search.

    compare.py --program FACEPTOR --answers EXACT_ANSWERS [--people 10000] [--templates 10] [--queries 100]

Prints a Markdown table; the exit status is 1 when an answer differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

# Templates that are asked for, and the ways to ask.
BEST = 50
# Rounding of 32-bit floats in sums of 128 products.
ROUNDING = 2e-6
# What rounding a query to 8 bits may change a score by.
ROUNDED = 5e-3


def call(port, method, path, content=None):
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/collections/faces{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=7200) as answer:
        return json.load(answer)["result"]


def compare(port, queries, parameters, asked="query", rounding=ROUNDING):
    """Returns figures of the store's answers: share of our best templates, largest difference of scores, wrong answers, time."""
    shared, largest, wrong, seconds = 0, 0.0, 0, 0.0
    for query in queries:
        ours = {(person, place): score for person, place, score, _ in query["found"]}
        begun = time.perf_counter()
        points = call(port, "POST", "/points/query", {"query": query[asked], "limit": BEST, "params": parameters, "with_payload": True})
        seconds += time.perf_counter() - begun
        points = points["points"]
        least = min(ours.values())
        wrong += len({point["id"] for point in points}) != BEST
        for point in points:
            key = point["payload"]["person"], point["payload"]["template"]
            if key in ours:
                shared += 1
                largest = max(largest, abs(ours[key] - point["score"]))
            # What is not among our best must be less similar, but for rounding.
            elif point["score"] > least + rounding:
                wrong += 1
        scores = [point["score"] for point in points]
        wrong += scores != sorted(scores, reverse=True)
        # The score of a person is that of the person's best template, as `identify` computes it.
        people = {}
        for point in points:
            people.setdefault(point["payload"]["person"], point["score"])
        for person, _, _, score in query["found"]:
            wrong += person in people and parameters.get("exact", False) and abs(people[person] - score) > rounding
    count = len(queries)
    return {"shared": shared / (BEST * count), "largest": largest, "wrong": wrong + (largest > rounding), "ms": 1e3 * seconds / count}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--answers", required=True)
    parser.add_argument("--people", type=int, default=10000)
    parser.add_argument("--templates", type=int, default=10)
    parser.add_argument("--queries", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = [arguments.people, arguments.templates, arguments.queries, BEST]
        made = subprocess.run([arguments.answers, folder, *map(str, sizes)], check=True, stdout=subprocess.PIPE, text=True)
        queries = [json.loads(line) for line in made.stdout.splitlines()]
        here = os.path.dirname(os.path.abspath(__file__))
        server = subprocess.Popen(
            [sys.executable, os.path.join(here, "server.py"), os.path.join(folder, "store")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "QDRANT_API_KEY": ""},
        )
        try:
            failures = measure(arguments, folder, int(server.stdout.readline()), queries)
        finally:
            server.stdin.close()
            server.wait()
    sys.exit(1 if failures else 0)


def measure(arguments, folder, port, queries):
    count = arguments.people * arguments.templates
    gallery = ["--gallery", f"{folder}/gallery", "--key", f"{folder}/key"]
    failures = 0

    def push(*more):
        command = [arguments.program, "gallery", "push", f"qdrant://127.0.0.1:{port}/faces", "--json", *more, *gallery]
        begun = time.perf_counter()
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        seconds = time.perf_counter() - begun
        return [report[key] for key in ("pushed", "deleted", "unchanged")], seconds

    print(f"{count:,} templates of 128 numbers, {arguments.people:,} people, {len(queries)} queries, the best {BEST} of each.\n")
    print("| `gallery push` | pushed | deleted | unchanged | s |\n|---|---|---|---|---|")

    def row(what, expected, *more):
        nonlocal failures
        counts, seconds = push(*more)
        failures += counts != expected
        print(f"| {what} | {counts[0]:,} | {counts[1]:,} | {counts[2]:,} | {seconds:.1f} |", flush=True)

    row("first", [count, 0, 0])
    row("again", [0, 0, count])
    print("\n| search in the store | of our best 50 | largest difference of scores | answers that differ | ms a query |\n|---|---|---|---|---|")

    def search(what, least, *asked):
        nonlocal failures
        found = compare(port, queries, *asked)
        failures += found["wrong"] or found["shared"] < least
        print(f"| {what} | {100 * found['shared']:.2f} % | {found['largest']:.1e} | {found['wrong']} | {found['ms']:.1f} |", flush=True)

    exact = {"exact": True}
    search("exact", 0.999, exact)
    search("exact, queries not rounded to 8 bits", 0.9, exact, "embedding", ROUNDED)
    index = call(port, "POST", "/optimize", {})
    search(f"by its index (HNSW) of {index['indexed_vectors_count']:,} vectors", 0.0, {})
    search("by its index, `hnsw_ef` 512", 0.0, {"hnsw_ef": 512})
    search("exact, beside the index", 0.999, exact)
    subprocess.run([arguments.program, "gallery", "remove", "person 3", *gallery], check=True, stdout=subprocess.DEVNULL)
    print("\n| `gallery push` | pushed | deleted | unchanged | s |\n|---|---|---|---|---|")
    row("after `gallery remove`", [0, arguments.templates, count - arguments.templates])
    row("`--delete`", [0, count - arguments.templates, 0], "--delete")
    failures += call(port, "POST", "/points/count", {"exact": True})["count"] != 0
    return failures


if __name__ == "__main__":
    main()
