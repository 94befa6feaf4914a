"""Tests training with the export's rounding."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import CalibrationMethod

from faceptor_models.student.export import export_float, quantize
from faceptor_models.student.network import Student
from faceptor_models.student.parts import EncoderPart, folded
from faceptor_models.student.quantized import Range, Rounding, round_input, round_weight

torch.set_num_threads(1)


def test_rounding_has_the_steps_of_u8_and_i8():
    seen = Range()
    x = torch.linspace(-1, 3, 4001)
    seen.see(x)
    rounded = round_input(x, seen)
    assert len(rounded.unique()) == 256 and (rounded - x).abs().max() <= 4 / 255 * 0.51 and (rounded == 0).any()
    assert torch.equal(round_input(torch.tensor([9.0]), seen), rounded.max()[None])
    weight = torch.randn(3, 50) * torch.tensor([[1.0], [100.0], [0.01]])
    assert ((round_weight(weight) - weight).abs() <= weight.abs().amax(1, keepdim=True) / 127 * 0.51).all()


def test_gradients_pass_only_inside_the_range():
    seen = Range()
    seen.see(torch.tensor([0.0, 1.0]))
    seen.frozen = True
    x = torch.tensor([0.5, 2.0], requires_grad=True)
    round_input(x, seen).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0]


def test_a_detached_rounding_leaves_the_network_unchanged():
    torch.manual_seed(1)
    net = Student("nano").eval()
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = net.feature(net.encode(image)["f16"])
        rounding = Rounding(net)
        names = list(net.state_dict())
        during = net.feature(net.encode(image)["f16"])
        rounding.detach()
        after = net.feature(net.encode(image)["f16"])
    assert torch.equal(before, after) and not torch.equal(before, during)
    assert (before - during).norm() < 0.2 * before.norm() and names == list(net.state_dict())


@torch.no_grad()
def test_the_rounding_equals_that_of_the_export(tmp_path):
    torch.manual_seed(2)
    net = Student("nano").train()
    images = torch.rand(12, 3, 64, 64) * 2 - 1
    for _ in range(3):
        net.encode(images)
    net.eval()
    part = EncoderPart(folded(net), ["feature16"])
    tensors = {"image": images}
    export_float(part, tmp_path / "plain.onnx", tensors)
    quantize(tmp_path / "plain.onnx", tmp_path / "rounded.onnx", tensors, ["image"], CalibrationMethod.MinMax)
    options = onnxruntime.SessionOptions()
    # Without VNNI its sums of two products saturate at 16 bits unless an option prevents it.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(tmp_path / "rounded.onnx"), options, providers=["CPUExecutionProvider"])
    exported = np.concatenate([session.run(["feature16"], {"image": images[i : i + 1].numpy()})[0] for i in range(12)])
    plain = net.encode(images)["f16"].numpy()
    rounding = Rounding(net)
    rounding.calibrate()
    assert np.abs(net.encode(images)["f16"].numpy() - plain).max() < 1e-5
    rounding.calibrate(False)
    rounding.freeze()
    ours = net.encode(images)["f16"].numpy()
    # The noise is the same: in size, and mostly in its very values (a slightly different range moves single steps).
    noise = np.linalg.norm(plain - exported)
    assert np.linalg.norm(ours - exported) < 0.75 * noise
    assert 0.8 < np.linalg.norm(ours - plain) / noise < 1.25


@pytest.mark.parametrize("task", ["age", "landmarks"])
def test_every_task_learns_through_the_rounding(task):
    torch.manual_seed(3)
    net = Student("nano")
    rounding = Rounding(net)
    maps = net.encode(torch.rand(2, 3, 64, 64) * 2 - 1)
    decoded = net.decode(task, net.remember(maps))
    out = net.values(task, decoded) if task == "age" else net.maps(decoded, net.pixels(maps))
    out.square().mean().backward()
    reached = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "encoder.stem.0.weight" in reached and "memory.keys.0.weight" in reached
    assert len(rounding.ranges) > 30
