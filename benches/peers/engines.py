"""Wraps the engines of the comparison: each loads one network with its best settings, runs an image and times itself.

An engine has `name`, `settings`, `answer(i) -> {output: array}` and `time(n) -> microseconds of n runs`, one thread.
Images follow each other, so that no engine sees the same one twice in a row.
"""

import importlib.metadata
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


class Timed:
    """Times `self.once(i)` over the images in turn."""

    def __init__(self, images):
        self.images, self.next = images, 0

    def time(self, runs):
        out = []
        for _ in range(runs):
            i = self.next % len(self.images)
            self.next += 1
            start = time.perf_counter_ns()
            self.once(i)
            out.append((time.perf_counter_ns() - start) / 1000)
        return out


class Ort(Timed):
    def __init__(self, label, path, images, settings):
        import onnxruntime as ort

        super().__init__(images)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        # Subnormal numbers slow some graphs down several times; the documentation recommends this setting for speed.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        # No effect with VNNI; without it sums of two products of u8 and i8 would saturate at 16 bits.
        options.add_session_config_entry("session.x64quantprecision", "1")
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.input = self.session.get_inputs()[0].name
        self.values = [ort.OrtValue.ortvalue_from_numpy(x[None]) for x in images]
        self.name, self.settings = f"onnxruntime {ort.__version__} {label}", settings

    def once(self, i):
        return self.session.run_with_ort_values(self.outputs, {self.input: self.values[i]})

    def answer(self, i):
        return {k: v.numpy() for k, v in zip(self.outputs, self.once(i))}


class OpenVino(Timed):
    def __init__(self, label, path, images, precision):
        import openvino as ov

        super().__init__(images)
        core = ov.Core()
        hints = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        self.compiled = core.compile_model(core.read_model(str(path)), "CPU", hints)
        self.request = self.compiled.create_infer_request()
        self.inputs = [ov.Tensor(np.ascontiguousarray(x[None])) for x in images]
        version = ov.get_version().split("-")[0]
        self.name, self.settings = f"OpenVINO {version} {label}", f"1 stream, latency, {precision} where not quantized"

    def once(self, i):
        self.request.set_input_tensor(self.inputs[i])
        self.request.infer()

    def answer(self, i):
        self.once(i)
        return {o.get_any_name(): self.request.get_tensor(o).data.copy() for o in self.compiled.outputs}


class Ncnn(Timed):
    def __init__(self, label, param, weights, images, outputs, bf16):
        import ncnn

        super().__init__(images)
        self.ncnn, self.net, self.outputs = ncnn, ncnn.Net(), outputs
        self.net.opt.num_threads = 1
        self.net.opt.use_bf16_storage = bf16
        self.net.opt.use_packing_layout = True
        if self.net.load_param(str(param)) or self.net.load_model(str(weights)):
            raise RuntimeError("ncnn does not load the converted network")
        self.blobs = list(self.net.output_names())
        self.inputs = [ncnn.Mat(np.ascontiguousarray(x)) for x in images]
        self.name = f"ncnn {importlib.metadata.version('ncnn')} {label}"
        self.settings = "packing" + (", bf16 storage" if bf16 else "")

    def once(self, i):
        extractor = self.net.create_extractor()
        extractor.input(self.net.input_names()[0], self.inputs[i])
        return [extractor.extract(blob)[1] for blob in self.blobs]

    def answer(self, i):
        return {k: np.array(v) for k, v in zip(self.outputs, self.once(i))}


class Mnn(Timed):
    def __init__(self, label, path, images, outputs, precision, memory):
        import MNN

        super().__init__(images)
        self.plain, self.layout, self.outputs = MNN.expr.convert, MNN.expr.NCHW, outputs
        runtime = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": 1, "precision": precision, "memory": memory},))
        self.module = MNN.nn.load_module_from_file(str(path), ["image"], outputs, runtime_manager=runtime, shape_mutable=False)
        self.inputs = [self.variable(x) for x in images]
        self.name = f"MNN {MNN.version()} {label}"
        self.settings = f"precision {precision}, memory {memory}"

    def variable(self, image):
        import MNN

        made = MNN.expr.placeholder([1, *image.shape], MNN.expr.NCHW)
        made.write(np.ascontiguousarray(image[None]))
        return made

    def once(self, i):
        found = self.module.onForward([self.inputs[i]])
        # A lazy engine computes when the result is read.
        return [np.array(self.plain(value, self.layout).read()) for value in found]

    def answer(self, i):
        return dict(zip(self.outputs, self.once(i)))


class Runner:
    """Runs a Rust engine through runner/, which times the same work in its own process."""

    def __init__(self, name, engine, network, images, size, binary, settings, cpu):
        command = [*(["taskset", "-c", str(cpu)] if cpu is not None else []), str(binary), engine, str(network), str(images), str(size)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(self.process.stderr.read().strip().splitlines()[0])
        self.name, self.settings = name, settings

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer.endswith("\n"):
            raise RuntimeError(self.process.stderr.read().strip())
        return answer

    def time(self, runs):
        return [float(v) for v in self.ask(f"time {runs}").split()]

    def answer(self, i):
        out = {}
        for entry in self.ask(f"answer {i}").strip().split(";"):
            if entry:
                name, *values = entry.split(",")
                out[name] = np.array(values, np.float32)
        return out


def tool(name):
    """Returns the path of a converter's program, next to the running Python."""
    return str(Path(sys.executable).parent / name)


def convert_ncnn(source, folder, size):
    """Converts with pnnx, which writes NAME.ncnn.param and .bin next to its input."""
    work = Path(folder) / "ncnn"
    work.mkdir(exist_ok=True)
    shutil.copyfile(source, work / "net.onnx")
    done = subprocess.run([tool("pnnx"), "net.onnx", f"inputshape=[1,3,{size},{size}]"], cwd=work, capture_output=True, text=True)
    if not (work / "net.ncnn.param").exists():
        raise RuntimeError((done.stdout + done.stderr).strip().splitlines()[-1])
    return work / "net.ncnn.param", work / "net.ncnn.bin"


def convert_mnn(source, folder, *options):
    target = Path(folder) / f"net{''.join(options)}.mnn"
    command = [tool("mnnconvert"), "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "f", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if not target.exists():
        raise RuntimeError((done.stdout + done.stderr).strip().splitlines()[-1])
    return target
