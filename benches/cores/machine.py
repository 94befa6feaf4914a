"""What LLVM's models of machines (`llvm-mca`) predict for a loop."""

import json
import subprocess
from dataclasses import dataclass

# The cores, with the kernel family that each of them runs, and those that execute in order.
CORES = {
    "cortex-a53": "neon",
    "cortex-a57": "neon",
    "cortex-a72": "neon",
    "cortex-a55": "sdot",
    "cortex-a76": "sdot",
    "cortex-a78": "sdot",
    "neoverse-n1": "sdot",
    "cortex-a510": "i8mm",
    "neoverse-v1": "i8mm",
    "neoverse-v2": "i8mm",
}
IN_ORDER = {"cortex-a53", "cortex-a55", "cortex-a510"}
# Predicted cycles at most, relative to the best.
BOUND, BOUND_IN_ORDER = 1.10, 1.15
# Features that a core's own list may lack in LLVM although the loop is only read, not run.
FEATURES = "+dotprod,+i8mm"
# Rounds of two simulations: their difference leaves out the first rounds, in which nothing waits yet.
ROUNDS = (100, 300)


def families(core):
    """Returns the families that a core can run."""
    order = ["neon", "sdot", "i8mm"]
    return {*order[: order.index(CORES[core]) + 1], "grouped" if CORES[core] == "neon" else "float"}


@dataclass(frozen=True)
class Summary:
    """The figures that this project reads of a report."""

    cycles: int
    best: float


def parse(report):
    """Reads a report of `llvm-mca --json` on one piece of code."""
    regions = json.loads(report)["CodeRegions"]
    if len(regions) != 1:
        raise ValueError(f"the report of llvm-mca has {len(regions)} regions instead of one")
    view = regions[0]["SummaryView"]
    return Summary(int(view["TotalCycles"]), float(view["BlockRThroughput"]))


def simulate(program, core, assembly, rounds):
    """Runs `llvm-mca`."""
    command = [program, "-mtriple=aarch64-linux-gnu", f"-mcpu={core}", f"-mattr={FEATURES}", "--json", f"-iterations={rounds}"]
    done = subprocess.run(command, input=assembly, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{program} refused a loop for {core}: {done.stderr.strip()}")
    return parse(done.stdout)


@dataclass(frozen=True)
class Prediction:
    """A loop on a core: cycles of a round, predicted and at best; cycles of its products alone."""

    cycles: float
    best: float
    products: float

    def ratio(self):
        return self.cycles / self.best

    def is_within(self, core):
        """Returns whether the loop meets the bound for that core."""
        return self.ratio() <= (BOUND_IN_ORDER if core in IN_ORDER else BOUND) + 1e-6


def predict(program, core, loop):
    """Predicts a loop on a core."""
    few, many = (simulate(program, core, loop.assembly(), rounds) for rounds in ROUNDS)
    products = simulate(program, core, loop.assembly(arithmetic=True), 1).best
    return Prediction((many.cycles - few.cycles) / (ROUNDS[1] - ROUNDS[0]), few.best, products)
