"""Runs every engine on the same network and images, one thread, interleaved: the time of each, and whether its results are right.

    python benches/peers/table.py --export models/edge --binary .../faceptor --runner .../peers-runner --out target/peers

`make bench-peers` installs the peers, builds the rest and calls this. Each round gives every engine a few runs in turn,
so that a slow minute of the machine affects all of them. Ratios are of medians over all rounds.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

import engines
import network
import spread

# The lowest mean cosine to the float network at which an engine's results count as right.
RIGHT = 0.99
# The load average above which other programs ran too.
BUSY = 1.5


def attempt(made, failures, name, build):
    """Adds an engine, or records the reason why it cannot run: a failed conversion is a result too."""
    try:
        made.append(build())
    except Exception as reason:  # noqa: BLE001  a foreign library may throw anything
        failures.append((name, str(reason).strip().splitlines()[0][:160] if str(reason).strip() else type(reason).__name__))


def static_u8(source, target, images, name):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self):
            self.rows = iter([{name: x[None]} for x in images])

        def get_next(self):
            return next(self.rows, None)

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    # ONNX Runtime's own defaults (QOperator would lack Softmax and LayerNormalization): everything it can quantize, u8 by u8.
    quantize_static(str(prepared), str(target), Images(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return target


def dynamic_int8(source, target):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(source), str(target), weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    return target


def cosines(engine, float_answers, outputs):
    """Returns {output: cosine to the float network for each image}."""
    values = {name: [] for name in outputs}
    for i, wanted in enumerate(float_answers):
        said = engine.answer(i)
        for name in outputs:
            a, b = np.ravel(said[name]).astype(np.float64), np.ravel(wanted[name]).astype(np.float64)
            # A converter that loses a reduction yields another shape: the worst possible cosine.
            values[name].append(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12) if a.shape == b.shape else 0.0)
    return values


def machine():
    facts = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line}
    flags = [f for f in facts.get("flags", "").split() if f.startswith(("avx", "amx"))]
    return f"{facts.get('model name', platform.machine())}, {os.cpu_count()} cores, {' '.join(f for f in flags if 'vnni' in f or f in ('avx2', 'avx512f', 'amx_int8', 'avx512_bf16'))}"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--export", required=True)
    p.add_argument("--floats", required=True, help="folder of the float parts (student.export --float-only)")
    p.add_argument("--bundle", required=True)
    p.add_argument("--runner", required=True)
    p.add_argument("--golden", default="target/golden")
    p.add_argument("--portrait", default="models/demo/astronaut.jpg")
    p.add_argument("--specialists", help="folder with pfld.onnx and MobileFaceNet.onnx, for context")
    p.add_argument("--out", required=True)
    p.add_argument("--rounds", type=int, default=50)
    p.add_argument("--runs", type=int, default=4, help="runs of an engine in a round")
    p.add_argument("--cpu", type=int, default=os.sched_getaffinity(0) and max(os.sched_getaffinity(0)), help="the core that everything runs on")
    args = p.parse_args()
    os.sched_setaffinity(0, {args.cpu})
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    description = network.manifest(args.export)
    size, name = description["input"]["size"], description["input"]["tensor"]
    outputs = [task["output"] for task in description["task"]]
    files = network.write(args.export, args.floats, out)
    images, what = network.inputs(args.golden, args.portrait, size, 32)
    images = np.ascontiguousarray(images)
    images.astype("<f4").tofile(out / "images.f32")
    made, failures = [], []
    runner = lambda title, kind, path, settings: lambda: engines.Runner(title, kind, path, out / "images.f32", size, args.runner, settings, args.cpu)  # noqa: E731
    ours = runner("**faceptor-edge**", "ours", args.bundle, "kernel chosen by the CPU")()
    made.append(ours)
    attempt(made, failures, "onnxruntime f32", lambda: engines.Ort("f32", files["float"], images, "all optimizations"))
    attempt(made, failures, "onnxruntime QDQ", lambda: engines.Ort("QDQ (the shipped file)", files["qdq"], images, "all optimizations"))
    attempt(made, failures, "onnxruntime static u8", lambda: engines.Ort("its own static u8", static_u8(files["float"], out / "static.onnx", images, name), images, "per channel, calibrated on the same images"))
    attempt(made, failures, "onnxruntime dynamic", lambda: engines.Ort("its own dynamic int8", dynamic_int8(files["float"], out / "dynamic.onnx"), images, "MatMul and Gemm"))
    for label, path, precision in (("f32", "float", "f32"), ("bf16", "float", "bf16"), ("QDQ", "qdq", "f32"), ("QDQ + bf16", "qdq", "bf16")):
        attempt(made, failures, f"OpenVINO {label}", lambda label=label, path=path, precision=precision: engines.OpenVino(label, files[path], images, precision))
    try:
        param, weights = engines.convert_ncnn(files["float"], out, size)
        for bf16 in (False, True):
            attempt(made, failures, "ncnn", lambda bf16=bf16: engines.Ncnn("bf16" if bf16 else "f32", param, weights, images, outputs, bf16))
    except Exception as reason:  # noqa: BLE001
        failures.append(("ncnn", str(reason).strip()[:160]))
    for label, options, precision, memory in (("f32", (), "high", "normal"), ("bf16", (), "low", "normal"), ("int8 weights, dynamic", ("--weightQuantBits", "8"), "low", "low")):
        attempt(made, failures, f"MNN {label}", lambda label=label, options=options, precision=precision, memory=memory: engines.Mnn(label, engines.convert_mnn(files["float"], out, *options), images, outputs, precision, memory))
    attempt(made, failures, "rten f32", runner("rten 0.27 f32", "rten", files["float"], "prepacked weights"))
    attempt(made, failures, "rten QDQ", runner("rten 0.27 QDQ", "rten", files["qdq"], "prepacked weights"))
    attempt(made, failures, "tract f32", runner("tract 0.23.9 f32", "tract", files["float"], "into_optimized"))
    reference = next(engine for engine in made if engine.name.endswith("f32") and engine.name.startswith("onnxruntime"))
    float_answers = [reference.answer(i) for i in range(len(images))]
    rows, right, differs = [], [], {}
    for engine in list(made):
        try:
            found = cosines(engine, float_answers, outputs)
            if engine is ours:
                differs = {name: np.mean(values) for name, values in found.items() if np.mean(values) < RIGHT}
            right.append((engine, float(np.mean(list(found.values()))), float(np.min(list(found.values())))))
        except Exception as reason:  # noqa: BLE001
            failures.append((engine.name, str(reason).strip()[:160]))
            made.remove(engine)
    extras = [runner("faceptor-edge, encoder alone", "ours-encoder", args.bundle, "")(), runner("faceptor-edge, landmarks", "ours-landmarks", args.bundle, "")()]
    extras.append(runner("faceptor-edge, landmarks and attributes", "ours-landmarks-attributes", args.bundle, "")())
    extras.append(runner("faceptor-edge, labels", "ours-labels", args.bundle, "")())
    if args.specialists:
        rng = np.random.default_rng(5)
        plain = rng.random((8, 3, 112, 112), np.float32)
        for title, file in (("PFLD (68 points only)", "pfld.onnx"), ("MobileFaceNet (recognition only)", "MobileFaceNet.onnx")):
            attempt(extras, failures, title, lambda title=title, file=file: engines.Ort(title, Path(args.specialists) / file, plain, "all optimizations"))
    times = {engine.name: [] for engine in [*made, *extras]}
    ended = set()
    for round_ in range(args.rounds + 1):
        for engine in [*made, *extras]:
            if engine.name in ended:
                continue
            try:
                taken = engine.time(args.runs)
            except Exception as reason:  # noqa: BLE001  a foreign library may throw anything; ours may not fail
                if engine in (ours, *extras[:4]):
                    raise
                failures.append((engine.name, f"ended in round {round_}: {str(reason).strip()[:120]}"))
                ended.add(engine.name)
                continue
            if round_:  # the first round warms up
                times[engine.name] += taken
        print(f"\rround {round_}/{args.rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    load = os.getloadavg()[0]
    right = [row for row in right if row[0].name not in ended]
    extras = [engine for engine in extras if engine.name not in ended]
    median = {k: float(np.median(v)) for k, v in times.items() if k not in ended}
    base = median[ours.name]
    for engine, mean, least in sorted(right, key=lambda r: median[r[0].name]):
        verdict = "yes" if mean >= RIGHT else "**no**"
        rows.append((engine.name, engine.settings, median[engine.name] / 1000, median[engine.name] / base, mean, least, verdict))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = [
        f"{description['name']} {description['version']}, six tasks of one face, one thread, medians of {args.rounds * args.runs} interleaved runs on {what}. {machine()}; commit {commit}.",
        "",
        "| engine | settings | ms a face, p50 | p50 to ours | cosine to float, mean (least) | right |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {n} | {s} | {ms:.2f} | {ratio:.2f} | {mean:.4f} ({least:.3f}) | {ok} |" for n, s, ms, ratio, mean, least, ok in rows]
    peers = [r for r in rows if r[0] != ours.name and r[6] == "yes"]
    best = min(peers, key=lambda r: r[2])
    tract = next((r for r in rows if r[0].startswith("tract")), None)
    encoder, one, two = (median[e.name] for e in extras[:3])
    lines += ["", f"Ours takes {base / 1000 / best[2]:.2f} of the time of the fastest peer that gives right answers ({best[0]})" + (f" and {base / 1000 / tract[2]:.2f} of plain tract's." if tract else ".")]
    lines += [f"The encoder alone takes {encoder / 1000:.2f} ms; attributes on top of landmarks cost {100 * (two - one) / encoder:.1f} % of it."]
    lines += [spread.describe(times[ours.name], args.runs, times[extras[3].name])]
    for engine in extras[4:]:
        lines += [f"For context: {engine.name} on onnxruntime takes {median[engine.name] / 1000:.2f} ms, {median[engine.name] / base:.2f} of our time for all six tasks."]
    if differs:
        description_of = ", ".join(f"{name} {value:.3f}" for name, value in differs.items())
        lines += ["", f"OURS DIFFERS from the float network: {description_of}. Was the export made of weights.pt by this version of models/faceptor_models?", ""]
    if load > BUSY:
        lines += ["", f"DISTURBED: the load average was {load:.1f} at the end; this benchmark alone makes it 1.", ""]
    lines += [f"Not run: {name}: {reason}" for name, reason in failures]
    text = "\n".join(lines)
    print(text)
    (out / "peers.md").write_text(text + "\n")
    (out / "peers.json").write_text(json.dumps({"median_us": median, "rows": rows, "not_run": failures}, indent=1))


if __name__ == "__main__":
    main()
