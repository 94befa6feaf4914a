"""Tests student.widen: the larger network answers like the smaller one, and its copies of a channel are not all equal."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from faceptor_models.student import widen
from faceptor_models.student.evaluate import load
from faceptor_models.student.network import SIZES, Student

MODELS = Path(__file__).parents[1]


@pytest.fixture
def sizes():
    SIZES["wider-nano"] = SIZES["nano"] | {"widths": tuple(2 * w for w in SIZES["nano"]["widths"])}
    SIZES["thrice-nano"] = SIZES["nano"] | {"widths": tuple(3 * w for w in SIZES["nano"]["widths"])}
    yield
    del SIZES["wider-nano"], SIZES["thrice-nano"]


def every_answer(net, images):
    maps = net.encode(images)
    memory, pixels = net.remember(maps), net.pixels(maps)
    return [
        *(net.values(t, net.decode(t, memory)) for t in ("age", "expression", "attributes")),
        net.maps(net.decode("landmarks", memory), pixels),
        net.regions(net.decode("parsing", memory), maps["f2"], pixels),
        net.feature(maps["f16"]),
        *(net.pooled(t, maps["f16"]) for t in ("age", "expression", "attributes")),
    ]


def assert_same(net, large, images):
    for a, b in zip(every_answer(net, images), every_answer(large, images), strict=True):
        assert float((a - b).abs().max()) < 1e-3 * float(a.abs().max())


def settled(size, levels=None):
    """Returns a network whose batch norms have their own statistics."""
    torch.manual_seed(1)
    net = Student(size, levels).train()
    with torch.no_grad():
        net.encode(torch.randn(4, 3, 96, 96))
    return net.eval()


@pytest.mark.parametrize("size,levels", [("wider-nano", 3), ("wider-nano", 1), ("thrice-nano", 1)])
@torch.no_grad()
def test_the_widened_network_answers_like_the_smaller_one(sizes, size, levels):
    net, images = settled("nano", levels), torch.randn(2, 3, 96, 96)
    large = widen.widen(net, size)
    assert large.size == size and sum(p.numel() for p in large.parameters()) > 2 * sum(p.numel() for p in net.parameters())
    assert_same(net, large, images)


def test_the_copies_of_a_channel_diverge_in_training(sizes):
    large = widen.widen(settled("nano"), "wider-nano")
    sum(x.square().sum() for x in every_answer(large, torch.randn(2, 3, 96, 96))).backward()
    gradient = large.encoder.stage8[1].first[0].weight.grad
    first, second = gradient.chunk(2)
    assert float((first - second).abs().max()) > 0.05 * float(gradient.abs().max())


def test_other_sizes_than_a_widening_are_refused(sizes):
    with pytest.raises(ValueError, match="dim, heads"):
        widen.times("edge", "nano")
    SIZES["uneven"] = SIZES["nano"] | {"widths": (32, 64, 128, 128)}
    try:
        with pytest.raises(ValueError, match="no common multiple"):
            widen.times("uneven", "nano")
    finally:
        del SIZES["uneven"]


def test_the_command_writes_a_start_for_the_teacher(tmp_path):
    start = tmp_path / "start.pt"
    run = lambda *more: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "faceptor_models.student.widen", "edge/weights.pt", "--out", start, *more], cwd=MODELS, capture_output=True, text=True
    )
    done = run()
    assert done.returncode == 0 and "17.09 M parameters from 5.67 M" in done.stdout, done.stdout + done.stderr
    net, _ = load(start)
    edge, _ = load(MODELS / "edge/weights.pt")
    with torch.no_grad():
        assert_same(edge, net, torch.randn(1, 3, 96, 96))
    refused = run("--size", "nano")
    assert refused.returncode == 1 and "no common multiple" in refused.stderr
