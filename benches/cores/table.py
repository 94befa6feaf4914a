"""Predicts the inner loops of a build on each core, and writes the tables of docs/engine.md. `make bench-cores` starts it."""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import loops
import machine

BEGIN, END = "<!-- make bench-cores: begin -->", "<!-- make bench-cores: end -->"
NAMES = {"neon": "`neon`", "sdot": "`sdot`", "i8mm": "`i8mm`", "grouped": "float, `neon`", "float": "float, `sdot` and `i8mm`"}
# Families of float loops: a core runs one of them, whatever else it is told to run.
FLOATS = ("grouped", "float")
# The documentation has only the largest of the many float loops: multiply-accumulates of a round.
FLOAT_MACS = 192


def short(core):
    """Returns a core's usual name."""
    return core.replace("cortex-a", "A").replace("neoverse-", "").upper()


def cell(core, loop, predicted):
    """Returns cycles, predicted and at best, multiply-accumulates a cycle and percent of peak; bold above the bound."""
    text = f"{predicted.cycles:.4g} / {predicted.best:.4g}"
    text = text if predicted.is_within(core) else f"**{text}**"
    return f"{text}, {loop.macs() / predicted.cycles:.3g}, {100 * predicted.products / predicted.cycles:.0f} %"


def table(family, found, predictions):
    """Returns the Markdown table of a family: a row for each core, a column for each loop."""
    columns = [f"{loop.title()}" for loop in found]
    lines = [f"| {NAMES[family]} | {' | '.join(columns)} |", "|---|" + "---|" * len(found)]
    for core, chosen in machine.CORES.items():
        if family in machine.families(core):
            mark = "" if family in (chosen, *FLOATS) else " (forced)"
            cells = (cell(core, loop, predictions[core, id(loop)]) for loop in found)
            lines.append(f"| {short(core)}{mark} | {' | '.join(cells)} |")
    return "\n".join(lines)


def replace(text, tables):
    """Returns a page with the tables between the two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("disassembly", type=Path, help="what llvm-objdump printed of the library")
    parser.add_argument("--mca", default="llvm-mca", help="the program llvm-mca")
    parser.add_argument("--page", type=Path, help="the page whose tables are replaced; without it they are only printed")
    parser.add_argument("--all", action="store_true", help="every float loop")
    options = parser.parse_args()
    if options.all and options.page:
        parser.error("--all is too long for a page: leave out --page")

    found = {family: [] for family in NAMES}
    for loop in loops.inner_loops(options.disassembly.read_text()):
        if loop.family not in FLOATS or options.all or loop.macs() >= FLOAT_MACS:
            found[loop.family].append(loop)
    for family, here in found.items():
        if not here:
            sys.exit(f"bench-cores: {options.disassembly} has no loop of {family}: are its symbols stripped?")
        here.sort(key=lambda loop: (loop.title().endswith("wide"), -loop.macs()))
        # Code that the compiler has copied is listed once.
        found[family] = list({(loop.title(), len(loop.body)): loop for loop in here}.values())

    jobs = [(core, loop) for family, here in found.items() for loop in here for core in machine.CORES if family in machine.families(core)]
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda job: machine.predict(options.mca, *job), jobs)
        predictions = {(core, id(loop)): predicted for (core, loop), predicted in zip(jobs, results)}
    tables = "\n\n".join(table(family, here, predictions) for family, here in found.items())
    print(tables)
    above = [
        f"{short(core)} {loop.family} {loop.title()}"
        for core, loop in jobs
        if loop.family in (machine.CORES[core], *FLOATS) and not predictions[core, id(loop)].is_within(core)
    ]
    print(f"\n{len(jobs)} predictions; above the bound where the family is chosen: {', '.join(above) or 'none'}")
    if options.page:
        options.page.write_text(replace(options.page.read_text(), tables))


if __name__ == "__main__":
    main()
