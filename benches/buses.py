#!/usr/bin/env python3
"""Measures whether servers that hang delay the live loop: the demo clip without buses, and with those that hang, interleaved.

    benches/buses.py [--program target/release/faceptor] [--rounds 7] [--frames 300] [--fps 30]

A server that hangs accepts connections and never answers. Prints a Markdown table: the loop's own time of a frame, and the time
from the capture to the line on standard output, each as the median over the rounds of a run's median and 99th percentile.
"""

import argparse
import json
import socket
import statistics
import subprocess
import threading
import time

# Frames at the start of a run that are not counted.
WARM_UP = 30


class HangingServer(threading.Thread):
    """Accepts connections, keeps them, and answers nothing."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []

    def run(self):
        while True:
            self.connections.append(self.listener.accept())


def percentile(values, share):
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def run(arguments, more):
    """Returns, for each counted frame, the loop's time and the time until its line, in milliseconds."""
    command = [arguments.program, "run", "--source", "demo", "--json", "--tasks", "age,expression"]
    command += ["--fps", str(arguments.fps), "--frames", str(arguments.frames), *more]
    loop, line_at = [], []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        for line in process.stdout:
            now = time.monotonic()
            frame = json.loads(line)
            loop.append(frame["timing_us"]["total"] / 1e3)
            line_at.append(now * 1e3 - frame["captured_us"] / 1e3)
    if process.returncode != 0 or len(loop) <= WARM_UP:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}, {len(loop)} frames")
    return loop[WARM_UP:], line_at[WARM_UP:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/faceptor")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--fps", type=int, default=30)
    arguments = parser.parse_args()
    server = HangingServer()
    server.start()
    variants = {
        "none": [],
        "`--mqtt`, a broker that hangs": ["--mqtt", f"mqtt://127.0.0.1:{server.port}/x"],
        "`--webhook`, a server that hangs": ["--webhook", f"http://127.0.0.1:{server.port}/x"],
    }
    figures = {name: [] for name in variants}
    for place in range(arguments.rounds):
        # Each bus comes first as often as the others.
        order = list(variants.items())
        for name, more in order[place % len(order):] + order[:place % len(order)]:
            before = len(server.connections)
            loop, line_at = run(arguments, more)
            if more and len(server.connections) == before:
                raise SystemExit(f"{name}: nothing has connected")
            figures[name].append([percentile(values, share) for values in (loop, line_at) for share in (0.5, 0.99)])
    print(f"{arguments.rounds} rounds, {arguments.frames - WARM_UP} frames each, {arguments.fps} frames/s.\n")
    print("| bus | loop p50 ms | p99 ms | capture to line p50 ms | p99 ms |\n|---|---|---|---|---|")
    for name, rounds in figures.items():
        middle = [statistics.median(values) for values in zip(*rounds)]
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in middle) + " |")


if __name__ == "__main__":
    main()
