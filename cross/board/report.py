"""Reports the results of the board's cases: a text table, JSON, JUnit XML for CI, and an HTML page for people."""

import dataclasses
import json
import xml.etree.ElementTree as ElementTree

import page


@dataclasses.dataclass
class Case:
    """One tested item. `failures` is empty if it passed."""

    scenario: str
    name: str
    failures: list = dataclasses.field(default_factory=list)
    # Numbers with units in their names, or short words.
    facts: dict = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def check(self, condition, complaint):
        """Records `complaint` unless `condition` holds."""
        if not condition:
            self.failures.append(complaint)

    def limit(self, name, value, most):
        """Records a value, and a failure if it exceeds `most` or is not known."""
        self.facts[name] = value
        self.check(value is not None and value <= most, f"{name} is {value}, the limit is {most}")


def table(cases):
    """Returns one line a case, with a failure's reasons below it."""
    width = max(len(case.name) for case in cases)
    lines = []
    for case in cases:
        facts = ", ".join(f"{name} {value}" for name, value in case.facts.items())
        lines.append(f"{'FAILED' if case.failures else 'passed'}  {case.scenario:<9} {case.name:<{width}}  {facts}".rstrip())
        lines += [f"        - {failure}" for failure in case.failures]
    return "\n".join(lines)


def faults(cases):
    """Returns a Markdown table of the faults."""
    columns = ["without_frames_ms", "frames_lost", "recovered_after_ms"]
    titles = ["fault", *(column.replace("_", " ") for column in columns), "counted"]
    lines = ["| " + " | ".join(titles) + " |", "|---|--:|--:|--:|---|"]
    for case in cases:
        if "without_frames_ms" in case.facts:
            counted = ", ".join(f"{name} {value}" for name, value in case.facts.items() if name not in (*columns, "node"))
            cells = [case.name + (" FAILED" if case.failures else ""), *(str(case.facts.get(column)) for column in columns)]
            lines.append("| " + " | ".join([*cells, counted]) + " |")
    return "\n".join(lines) + "\n"


def write(cases, board, folder):
    """Writes board.json, board.xml, board.html and, if faults were tested, faults.md; `board` describes the machine."""
    measured = folder / "ssh/bench.json"
    bench = json.loads(measured.read_text()) if any(case.scenario == "ssh" for case in cases) and measured.exists() else None
    (folder / "board.html").write_text(page.page(cases, board, bench))
    if any("without_frames_ms" in case.facts for case in cases):
        (folder / "faults.md").write_text(faults(cases))
    result = {"board": board, "passed": not any(case.failures for case in cases)}
    result["cases"] = [dataclasses.asdict(case) for case in cases]
    (folder / "board.json").write_text(json.dumps(result, indent=1) + "\n")
    root = ElementTree.Element("testsuites")
    for scenario in dict.fromkeys(case.scenario for case in cases):
        mine = [case for case in cases if case.scenario == scenario]
        failed = sum(bool(case.failures) for case in mine)
        suite = ElementTree.SubElement(root, "testsuite", name=scenario, tests=str(len(mine)), failures=str(failed))
        for case in mine:
            attributes = {"classname": f"board.{scenario}", "name": case.name, "time": f"{case.seconds:.3f}"}
            element = ElementTree.SubElement(suite, "testcase", attributes)
            if case.failures:
                ElementTree.SubElement(element, "failure", message=case.failures[0]).text = "\n".join(case.failures)
            ElementTree.SubElement(element, "system-out").text = json.dumps(case.facts)
    ElementTree.ElementTree(root).write(folder / "board.xml", encoding="unicode", xml_declaration=True)
