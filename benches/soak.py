#!/usr/bin/env python3
"""Runs the live loop for a long time and measures it from outside: memory, gaps, rate.

    benches/soak.py [--minutes 60] [--fps 30] [--program target/release/faceptor] [--out FILE.json] [-- MORE OPTIONS OF RUN]

Every line of the loop's JSON is read, as a user's program would. Resident memory is read from /proc every five seconds;
its slope is that of a straight line through all samples after the first minute. A gap is a jump in `sequence`; it is
explained if the loop itself counted as many frames as dropped or lost, up to the request at the end. Fails (exit status 1)
if memory grows by 1 MiB an hour or more, if a gap is not explained, or if the loop ends by itself.
"""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time

WARM_UP_S = 60
SAMPLE_S = 5
LIMIT_MIB_PER_HOUR = 1.0


class Reader(threading.Thread):
    """Counts frames and gaps in the loop's output."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe = pipe
        self.lines = self.bad = self.faces = self.missed = 0
        self.first = self.last = None
        self.lost = self.longest_gap = 0
        # (sequence after the gap, frames in it)
        self.gaps = []
        self.longest_silence_s = 0.0
        self.seen = time.monotonic()

    def run(self):
        for line in self.pipe:
            now = time.monotonic()
            if self.lines:
                self.longest_silence_s = max(self.longest_silence_s, now - self.seen)
            self.seen = now
            try:
                frame = json.loads(line)
                sequence = frame["sequence"]
            except (ValueError, KeyError, TypeError):
                self.bad += 1
                continue
            self.lines += 1
            self.faces += bool(frame.get("faces"))
            self.missed += bool((frame.get("deadline") or {}).get("missed"))
            if self.last is not None and sequence != self.last + 1:
                self.gaps.append((sequence, sequence - self.last - 1))
                self.lost += sequence - self.last - 1
                self.longest_gap = max(self.longest_gap, sequence - self.last - 1)
            self.first = sequence if self.first is None else self.first
            self.last = sequence


    def lost_before(self, sequence):
        """Returns the number of frames missing before one that was published."""
        return sum(frames for after, frames in list(self.gaps) if after <= sequence)


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return None


def slope(samples):
    """Returns the least-squares slope of (seconds, KiB) in KiB per second."""
    n = len(samples)
    if n < 2:
        return 0.0
    mean_t = sum(t for t, _ in samples) / n
    mean_v = sum(v for _, v in samples) / n
    spread = sum((t - mean_t) ** 2 for t, _ in samples)
    return sum((t - mean_t) * (v - mean_v) for t, v in samples) / spread if spread else 0.0


def cpu_name():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def ask(program, control, verb):
    asked = subprocess.run([program, "ctl", "--control", control, "--json", verb], capture_output=True, text=True)
    try:
        return json.loads(asked.stdout)
    except ValueError:
        print(f"soak: ctl {verb} gave no JSON: {asked.stderr.strip()}", file=sys.stderr)
        return {}


# Counters of `ctl status`: frames dropped for a newer one, lost by the source, skipped by the loop, not handed over, or lost
# by a slow sink.
COUNTERS = ("stale_dropped", "sequence_gaps", "skipped_frames", "bad_frames", "dropped_results", "lost_lines")


def explained(statistics):
    """Returns the number of frames that the loop itself counted as not published, and the counters."""
    found = {}

    def walk(value, path):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, path + [key])
        elif isinstance(value, int) and path and path[-1] in COUNTERS:
            found[".".join(path)] = value

    walk(statistics, [])
    return sum(found.values()), found



def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--program", default="target/release/faceptor")
    parser.add_argument("--out")
    parser.add_argument("more", nargs="*")
    arguments = parser.parse_args()
    control = os.path.join(tempfile.gettempdir(), f"faceptor-soak-{os.getpid()}.sock")
    command = [arguments.program, "run", "--source", "demo", "--fps", f"{arguments.fps:g}", "--tasks", "all", "--json"]
    # More frames than will be published: a signal ends the run.
    command += ["--frames", str(int(arguments.minutes * 60 * arguments.fps * 2) + 1000), "--control", control]
    command += arguments.more
    loop = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    errors = []
    threading.Thread(target=lambda: errors.extend(loop.stderr.readlines()), daemon=True).start()
    reader = Reader(loop.stdout)
    reader.start()
    start = time.monotonic()
    samples = []
    while time.monotonic() - start < arguments.minutes * 60 and loop.poll() is None:
        time.sleep(min(SAMPLE_S, max(0.1, arguments.minutes * 60 - (time.monotonic() - start))))
        kib = resident_kib(loop.pid) if loop.poll() is None else None
        if kib is not None:
            samples.append((time.monotonic() - start, kib))
    ended_early = loop.poll() is not None
    seconds = time.monotonic() - start
    statistics = {}
    if not ended_early:
        for verb in ("status", "stats"):
            statistics[verb] = ask(arguments.program, control, verb)
        loop.send_signal(signal.SIGTERM)
    status = loop.wait(timeout=60)
    reader.join(timeout=10)
    warm = [sample for sample in samples if sample[0] > WARM_UP_S] or samples
    mib_per_hour = slope(warm) * 3600 / 1024
    known, counters = explained(statistics.get("status"))
    # Counts up to the loop's current frame at the time of the request; its counters do not include later losses.
    source = statistics.get("status", {}).get("source_counters", {})
    asked_at = sum(source.get(name, 0) for name in ("frames", "stale_dropped", "sequence_gaps"))
    unexplained = max(0, reader.lost_before(asked_at) - known)
    result = {
        "command": " ".join(command).replace(control, "SOCKET"),
        "machine": f"{cpu_name()}, {os.cpu_count()} CPUs, Linux {platform.release()}",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "load_average": list(os.getloadavg()),
        "seconds": round(seconds, 1),
        "lines": reader.lines,
        "bad_lines": reader.bad,
        "frames_with_a_face": reader.faces,
        "deadlines_missed": reader.missed,
        "gaps": len(reader.gaps),
        "frames_in_gaps": reader.lost,
        "longest_gap_frames": reader.longest_gap,
        "longest_silence_s": round(reader.longest_silence_s, 3),
        "counted_by_the_loop": counters,
        "unexplained": unexplained,
        "rss_mib": {
            "first": round(samples[0][1] / 1024, 2) if samples else None,
            "after_a_minute": round(warm[0][1] / 1024, 2) if warm else None,
            "last": round(samples[-1][1] / 1024, 2) if samples else None,
            "highest": round(max(kib for _, kib in samples) / 1024, 2) if samples else None,
        },
        "rss_kib_by_minute": [kib for _, kib in samples[:: int(60 / SAMPLE_S)]],
        "mib_per_hour": round(mib_per_hour, 3),
        "exit_status": status,
        "statistics": statistics,
    }
    failures = []
    if ended_early:
        failures.append(f"the loop ended by itself with status {status}: {b' '.join(errors[-3:]).decode().strip()}")
    elif status != 0:
        failures.append(f"the loop ended with status {status}")
    if reader.bad or not reader.lines:
        failures.append(f"{reader.bad} lines were no JSON, {reader.lines} were frames")
    if unexplained:
        failures.append(f"{unexplained} frames are missing and the loop did not count them")
    if seconds > 5 * WARM_UP_S and mib_per_hour >= LIMIT_MIB_PER_HOUR:
        failures.append(f"memory grows by {mib_per_hour:.2f} MiB an hour")
    result["failures"] = failures
    if arguments.out:
        with open(arguments.out, "w") as out:
            json.dump(result, out, indent=1)
            out.write("\n")
    rss = result["rss_mib"]
    print(f"`{result['command']}` on {result['machine']}, {result['date']}\n")
    print("| minutes | frames | gaps | frames in gaps, all counted | RSS after 1 min | at the end | highest | slope |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {seconds / 60:.1f} | {reader.lines} | {len(reader.gaps)} | {reader.lost}, {'yes' if not unexplained else 'NO'} "
        f"| {rss['after_a_minute']} MiB | {rss['last']} MiB | {rss['highest']} MiB | {mib_per_hour:+.3f} MiB/h |"
    )
    for failure in failures:
        print(f"\nFAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
