#!/usr/bin/env python3
"""Photos a second of a batch: the program, `python -m faceptor.batch` in one process, and on a Ray cluster of this machine.

`make bench-batch` runs it. The photos are made of the demo portrait. All three run one after the other on the same photos, the rows of
the second and the third are compared, and the CPU time of the second gives what a million photos cost on a machine of which you name
the price: --machine NAME --vcpus N --price DOLLARS-AN-HOUR.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "crates/faceptor-python/tests"))

from pictures import make_photos  # noqa: E402
from pyarrow import parquet  # noqa: E402



def measured(command, environment=None):
    """Runs a command. Returns its seconds, and the CPU seconds of it and its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    # The program ends with 1 where photos cannot be read, as some of these.
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rows(out):
    return parquet.read_table(out).sort_by([("photo", "ascending"), ("face", "ascending")]).to_pylist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--tasks", help="as of the program; default: all but recognition")
    parser.add_argument("--program", default=os.environ.get("FACEPTOR_PROGRAM"), help="default: FACEPTOR_PROGRAM")
    parser.add_argument("--machine", default="the machine", help="its name, for the last line")
    parser.add_argument("--vcpus", type=int, help="processors of the machine whose price is given")
    parser.add_argument("--price", type=float, help="dollars an hour of that machine")
    arguments = parser.parse_args()
    options = ["--looks", "1", "--upright", *(["--tasks", arguments.tasks] if arguments.tasks else [])]
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        manifest = make_photos(work / "photos", arguments.photos)
        python = [sys.executable, "-m", "faceptor.batch", str(manifest), *options, "--part", "64", "--out"]
        program = [arguments.program, "image", *options, "--results", str(work / "faces.jsonl"), str(work / "photos")]
        # A cluster of its own, whose workers do not give way to other programs, as neither of the others does.
        ray = {"RAY_ADDRESS": "local", "RAY_worker_niceness": "0", "RAY_agent_register_timeout_ms": "300000"}
        table = [
            ("`faceptor image photos --results FILE`", measured(program)),
            ("`python -m faceptor.batch photos --out DIR`", measured([*python, str(work / "one")])),
            ("`python -m faceptor.batch photos --out DIR --ray`", measured([*python, str(work / "ray"), "--ray"], ray)),
        ]
        lines = len((work / "faces.jsonl").read_text().splitlines())
        one, many = rows(work / "one"), rows(work / "ray")
    if one != many or lines != arguments.photos:
        sys.exit("the rows of one process and of the cluster differ, or photos are missing")
    errors, faces = sum(row["error"] is not None for row in one), sum(row["face"] is not None for row in one)
    print(f"{arguments.photos} photos, {errors} of them broken, {faces} faces, equal rows in both tables, {os.cpu_count()} CPUs\n")
    print("| command | seconds | photos a second | CPU seconds |\n|---|--:|--:|--:|")
    for name, (seconds, busy) in table:
        # The processes of a cluster are no children of the command.
        cpu = "" if "--ray" in name else f"{busy:.1f}"
        print(f"| {name} | {seconds:.1f} | {arguments.photos / seconds:.1f} | {cpu} |")
    hours = table[1][1][1] / arguments.photos * 1e6 / 3600
    print(f"\nA million such photos: {hours:.1f} hours of one CPU.")
    if arguments.price and arguments.vcpus:
        alone = hours / arguments.vcpus
        print(f"On {arguments.machine}: {alone:.1f} hours, {alone * arguments.price:.2f} USD at {arguments.price} USD an hour.")


if __name__ == "__main__":
    main()
