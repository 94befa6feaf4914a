"""Writes the results of a board's test as one HTML page with the latencies drawn, to attach to a ticket."""

import html
import math

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2430; background: #fff; max-width: 62em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em; margin: 0 } h2 { font-size: 1.15em; margin: 1.8em 0 .5em }
table { border-collapse: collapse; width: 100% } td, th { border-bottom: 1px solid #d9dfe7; padding: .3em .6em; text-align: left; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.passed { color: #126b3a } .failed { color: #b3261e; font-weight: 600 } .plain { color: #5a6675 } pre { white-space: pre-wrap; margin: .2em 0 }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: #5a6675 } .bar { fill: #3b6fb5 } .mark { stroke: #b3261e; stroke-dasharray: 4 3 }
"""
WIDTH_PX, HEIGHT_PX, LEFT_PX, BELOW_PX = 860, 180, 10, 22
BARS = 60


def page(cases, board, bench=None):
    """Returns the page. `cases` are a report's, `board` describes the machine, `bench` is the report of `faceptor bench --json`."""
    failed = sum(bool(case.failures) for case in cases)
    verdict = f"{failed} of {len(cases)} cases failed" if failed else f"all {len(cases)} cases passed"
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"]
    parts += [f"<title>Faceptor board test: {verdict}</title><style>{STYLE}</style>"]
    parts += [f"<h1>Faceptor board test</h1><p class={'failed' if failed else 'passed'}>{verdict}</p>"]
    parts += [facts({**board, **machine(bench)}), "<h2>Cases</h2>", table(cases)]
    if bench:
        parts += [latencies(bench)]
    return "\n".join(parts) + "\n"


def facts(named):
    rows = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in named.items() if value not in (None, ""))
    return f"<table>{rows}</table>"


def machine(bench):
    """The facts of the benchmark's report that describe board, program and network."""
    if not bench:
        return {}
    board, build, model = bench["machine"], bench["build"], bench["model"]
    return {
        "board": board["model"],
        "processor": f"{board['cpus']} x {board['cpu']}, kernels {bench['kernel']}",
        "system": f"Linux {board['kernel']}, {board['libc']}" + (", virtual machine" if board["virtual_machine"] else ""),
        "program": f"{build['version']} ({build['git']}), SHA-256 {build['program_sha256']}",
        "network": f"{model['name']} {model['version']}, SHA-256 {model['sha256']}",
        "benchmark": "valid" if bench["valid"] else f"not valid: {bench['invalid_because']}",
    }


def table(cases):
    rows = []
    for case in cases:
        known = ", ".join(f"{name} {value}" for name, value in case.facts.items())
        reasons = "".join(f"<pre class=failed>{text(reason)}</pre>" for reason in case.failures)
        word = "failed" if case.failures else "passed"
        rows.append(f"<tr><td class={word}>{word}<td>{text(case.scenario)}<td>{text(case.name)}{reasons}<td class=plain>{text(known)}</tr>")
    return "<table><tr><th>result<th>scenario<th>case<th>facts</tr>" + "".join(rows) + "</table>"


def latencies(bench):
    """The benchmark's quantiles, and its histograms where it was recorded with them."""
    columns = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"]
    heads = "".join(f"<th class=number>{name.removesuffix('_us').replace('p999', 'p99.9')}, ms" for name in columns)
    stages = {**bench["stages"], "frame": bench["frame"]}
    rows = ""
    for name, stage in stages.items():
        cells = "".join(f"<td class=number>{stage[column] / 1000:.2f}" for column in columns)
        rows += f"<tr><td>{text(name)}<td class=number>{stage['n']}{cells}</tr>"
    drawn = f"<h2>Latency</h2><table><tr><th>stage<th class=number>n{heads}</tr>{rows}</table>"
    drawn += f"<p class=plain>Tasks {text(', '.join(bench['tasks']))}; {bench['frames']} frames, {bench['deadline']['missed']} beyond the budget.</p>"
    for name, pairs in bench.get("histograms", {}).items():
        budget_us = bench["deadline"]["budget_us"] if name == "frame" else 0
        drawn += f"<h2>{text(name)}</h2>" + histogram(pairs, stages[name], budget_us)
    return drawn


def histogram(pairs, summary, budget_us):
    """Draws pairs of (microseconds, frames) on a logarithmic axis of time, with the quantiles and the budget."""
    low, high = math.log(max(min(us for us, _ in pairs), 1) * 0.95), math.log(max(*(us for us, _ in pairs), budget_us, 2) * 1.05)
    counts = [0] * BARS
    for us, count in pairs:
        counts[min(int((math.log(max(us, 1)) - low) / (high - low) * BARS), BARS - 1)] += count
    # The root shows a single slow frame next to thousands of usual ones.
    most, inner = math.sqrt(max(counts)), WIDTH_PX - 2 * LEFT_PX

    def x_px(us):
        return LEFT_PX + (math.log(max(us, 1)) - low) / (high - low) * inner

    shapes = []
    for index, count in enumerate(counts):
        if count:
            height = max(math.sqrt(count) / most * (HEIGHT_PX - 30), 2)
            x, y = LEFT_PX + index * inner / BARS, HEIGHT_PX - height
            shapes.append(f"<rect class=bar x={x:.1f} y={y:.1f} width={inner / BARS - 1:.1f} height={height:.1f}><title>{count}</title></rect>")
    marks = [(summary["p50_us"], "p50"), (summary["p99_us"], "p99"), (summary["max_us"], "max")]
    for row, (us, name) in enumerate([*marks, *([(budget_us, "budget")] if budget_us else [])]):
        x, y = x_px(us), 10 + 11 * (row % 2)
        side = "end" if x > WIDTH_PX * 0.85 else "start"
        shapes.append(f"<line class=mark x1={x:.1f} x2={x:.1f} y1={y + 3} y2={HEIGHT_PX} />")
        shapes.append(f"<text x={x:.1f} y={y} text-anchor={side}>{name} {us / 1000:.2f} ms</text>")
    ends = f"<text x={LEFT_PX} y={HEIGHT_PX + 15}>{math.exp(low) / 1000:.2f} ms</text>"
    ends += f"<text x={WIDTH_PX - LEFT_PX} y={HEIGHT_PX + 15} text-anchor=end>{math.exp(high) / 1000:.2f} ms</text>"
    return f"<svg viewBox='0 0 {WIDTH_PX} {HEIGHT_PX + BELOW_PX}' role=img>{''.join(shapes)}{ends}</svg>"


def text(value):
    return html.escape(str(value))
