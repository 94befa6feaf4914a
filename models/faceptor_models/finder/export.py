"""Writes the trained finder as ONNX (from `models/`).

    python -m faceptor_models.finder.export

One graph with free height and width is quantized (QDQ: uint8 activations, int8 weights for each channel) and calibrated on
training scenes at several sizes. Every static size is that graph with its shapes filled in, so weights and scales are the same
tensors in all files. The module also writes finder.toml, the manifest's [finder] tables.
"""

import argparse
import copy
import hashlib
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from faceptor_models.common.paths import FACES, FINDER, FINDER_EXPORT

from .data import load_scenes
from .decode import letterbox
from .network import CHANNELS, MEAN, STD, STRIDES, TAPS, Finder, macs
from .train import load_weights

OPSET = 17
INPUT = "finder_image"


class Size:
    """Describes one static input size and the names that its graph uses."""

    def __init__(self, width: int, height: int, photo: bool, live: bool):
        self.width, self.height, self.photo, self.live = width, height, photo, live
        tag = str(width) if width == height else f"{width}x{height}"
        self.part, self.input = f"finder_{tag}", f"{INPUT}_{tag}"
        self.outputs = [f"f{tag}_s{stride}" for stride in STRIDES]


SIZES = (
    Size(160, 120, photo=False, live=True),
    Size(160, 160, photo=True, live=False),
    Size(320, 320, photo=True, live=False),
    Size(640, 640, photo=True, live=False),
)
SCORE_THRESHOLD = 0.72
NMS_IOU = 0.3


def float_graph(network: Finder) -> onnx.ModelProto:
    """Returns the folded network as ONNX with free height and width."""
    network = network.folded()
    nodes, constants, outputs = [], [], []

    def convolution(conv, source: str, name: str) -> str:
        constants.append(numpy_helper.from_array(conv.weight.detach().numpy(), f"{name}.weight"))
        constants.append(numpy_helper.from_array(conv.bias.detach().numpy(), f"{name}.bias"))
        kernel, stride, pad = list(conv.kernel_size), list(conv.stride), list(conv.padding) * 2
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [name], name, kernel_shape=kernel, strides=stride, pads=pad))
        return name

    def node(kind: str, sources: list[str], name: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, sources, [name], name, **attributes))
        return name

    x = INPUT
    for index, layer in enumerate(network.trunk):
        x = node("Relu", [convolution(layer[0], x, f"trunk{index}")], f"trunk{index}.relu")
        if index in TAPS:
            stride, head = STRIDES[TAPS.index(index)], network.heads[TAPS.index(index)]
            score = convolution(head.score, x, f"s{stride}.score")
            box = node("Relu", [convolution(head.box, x, f"s{stride}.box")], f"s{stride}.box.relu")
            points = convolution(head.keypoints, x, f"s{stride}.keypoints")
            name = node("Concat", [score, box, points], f"map_s{stride}", axis=1)
            shape = [1, CHANNELS, f"rows{stride}", f"columns{stride}"]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, 3, "height", "width"])
    graph = helper.make_graph(nodes, "finder", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model


class Photos(CalibrationDataReader):
    """Gives the calibrator training scenes, letterboxed to each size in turn."""

    def __init__(self, faces: Path, count: int, seed: int):
        scenes = load_scenes(faces, "train", count * 3)
        # Portrait crops (muxspace) fill a third of the training scenes, so calibration takes all sources evenly.
        by_source = [[s for s in scenes if s.source == name] for name in ("w300", "muxspace", "objects")]
        dice, self.batches = np.random.default_rng(seed), []
        for turn in range(count):
            source = by_source[turn % len(by_source)]
            side = (160, 224, 320)[turn // len(by_source) % 3]
            picture = source[dice.integers(len(source))].levels[0]
            self.batches.append({INPUT: letterbox(picture, side, side)[0]})
        self.next_batch = iter(self.batches)

    def get_next(self):
        return next(self.next_batch, None)


def quantized_graph(model: onnx.ModelProto, photos: Photos) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source, target, photos,
            quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": False, "WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": ["Conv"],
            },
        )  # fmt: skip
        return onnx.load(target)


def fill_shapes(model: onnx.ModelProto, size: Size) -> onnx.ModelProto:
    """Returns `model` with the static shapes and the tensor names of `size`."""
    model = copy.deepcopy(model)
    names = {INPUT: size.input} | {f"map_s{s}": name for s, name in zip(STRIDES, size.outputs)}
    graph = model.graph
    del graph.value_info[:]
    for node in graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    for value in [*graph.input, *graph.output]:
        stride = next((s for s in STRIDES if value.name == f"map_s{s}"), 1)
        value.name = names[value.name]
        dims = value.type.tensor_type.shape.dim
        # Each of the stride-2 convolutions rounds up, which equals rounding up once.
        dims[2].dim_value, dims[3].dim_value = -(-size.height // stride), -(-size.width // stride)
    graph.name = size.part
    model.producer_name, model.producer_version = "faceptor-edge finder", ""
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def manifest(files: dict[str, Path], network: Finder) -> str:
    """Returns the [finder] tables and the finder's [[part]] tables."""
    lines = ["# Written by `python -m faceptor_models.finder.export`; merged into models/edge/manifest.toml."]
    lines += ["[finder]", 'name = "faceptor-finder"', f"score_threshold = {SCORE_THRESHOLD}", f"nms_iou = {NMS_IOU}"]
    lines += ['colour = "rgb"', f"mean = {[MEAN] * 3}", f"std = {[STD] * 3}", f"strides = {list(STRIDES)}"]
    for size in SIZES:
        quoted = ", ".join(f'"{name}"' for name in size.outputs)
        lines += ["", "[[finder.size]]", f'part = "{size.part}"', f"width = {size.width}", f"height = {size.height}"]
        lines += [f'input = "{size.input}"', f"outputs = [{quoted}]"]
        lines += [f"photo = {str(size.photo).lower()}", f"live = {str(size.live).lower()}"]
        lines += [f"# {macs(network, size.width, size.height) / 1e6:.1f} MMAC"]
    for size in SIZES:
        path = files[size.part]
        quoted = ", ".join(f'"{name}"' for name in size.outputs)
        lines += ["", "[[part]]", f'name = "{size.part}"', f'file = "{path.name}"']
        lines += [f'sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"']
        lines += [f'inputs = ["{size.input}"]', f"outputs = [{quoted}]"]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=FACES)
    parser.add_argument("--weights", type=Path, default=FINDER / "finder.pt")
    parser.add_argument("--out", type=Path, default=FINDER_EXPORT)
    parser.add_argument("--photos", type=int, default=300, help="training scenes to calibrate with")
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    args.out.mkdir(parents=True, exist_ok=True)
    network = load_weights(args.weights)
    model = quantized_graph(float_graph(network), Photos(args.faces, args.photos, args.seed))
    files = {}
    for size in SIZES:
        files[size.part] = args.out / f"{size.part}.onnx"
        onnx.save(fill_shapes(model, size), files[size.part])
        print(f"{files[size.part].name}: {files[size.part].stat().st_size:,} bytes")
    (args.out / "finder.toml").write_text(manifest(files, network))


if __name__ == "__main__":
    main()
