"""Tests the finder: shapes, limits, and that targets, mirror and decoding agree with each other. Needs no data."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faceptor_models.finder import data, decode, export
from faceptor_models.finder.loss import assign, loss
from faceptor_models.finder.network import CHANNELS, STRIDES, Finder, cells, flatten, macs, parameters

FACE = torch.tensor([[40.0, 30.0, 90.0, 95.0]])
POINTS = torch.tensor([[[52.0, 55.0], [77.0, 53.0], [65.0, 68.0], [55.0, 80.0], [76.0, 79.0]]])
NOTHING = torch.zeros(0, 4)


@pytest.fixture
def network():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return Finder()


def test_the_finder_stays_within_its_size_limits(network):
    assert parameters(network) < 120_000
    assert macs(network, 160, 120) < 60e6


@pytest.mark.parametrize("size", export.SIZES, ids=lambda s: s.part)
def test_maps_have_the_shapes_of_their_strides(network, size):
    maps = network.eval()(torch.zeros(1, 3, size.height, size.width))
    assert [tuple(m.shape) for m in maps] == [(1, CHANNELS, -(-size.height // stride), -(-size.width // stride)) for stride in STRIDES]
    assert all((m[:, 1:5] >= 0).all() for m in maps)


def test_folding_keeps_the_answer(network):
    torch.manual_seed(1)
    for layer in network.trunk:
        layer.norm.running_mean.normal_(0, 0.3)
        layer.norm.running_var.uniform_(0.5, 2)
    image = torch.randn(1, 3, 120, 160)
    with torch.no_grad():
        pairs = zip(network.eval()(image), network.folded()(image))
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


def target_maps(faces, points, width=160, height=120):
    """Returns maps with exactly the targets of `assign`, and the number of cells that have a face."""
    shapes = [(-(-height // s), -(-width // s)) for s in STRIDES]
    centres, strides = cells(shapes)
    guess = torch.cat([centres - 2 * strides[:, None], centres + 2 * strides[:, None]], 1)
    owner, _ = assign(centres, strides, torch.zeros(len(centres)), guess, faces)
    rows = torch.zeros(len(centres), CHANNELS)
    rows[:, 0] = -12
    mine = owner >= 0
    box, point = faces[owner[mine]], points[owner[mine]]
    rows[mine, 0] = 12
    rows[mine, 1:3] = (centres[mine] - box[:, :2]) / strides[mine, None]
    rows[mine, 3:5] = (box[:, 2:] - centres[mine]) / strides[mine, None]
    rows[mine, 5:] = ((point - centres[mine, None]) / strides[mine, None, None]).flatten(1)
    parts = rows.split([r * c for r, c in shapes])
    return [p.T.reshape(1, CHANNELS, r, c) for p, (r, c) in zip(parts, shapes)], int(mine.sum())


def test_decoding_reproduces_the_target():
    small = torch.tensor([[120.0, 60.0, 140.0, 84.0]])
    faces = torch.cat([FACE, small])
    points = torch.cat([POINTS, (POINTS - 40) * 0.4 + 110])
    maps, answering = target_maps(faces, points)
    assert answering >= 2
    scale = 0.25  # the photo is four times as large as the network's input
    found = decode.suppress(decode.decode([m.numpy() for m in maps], scale, 0.5), 0.4)
    order = np.argsort(found.boxes[:, 0])
    assert len(order) == 2
    np.testing.assert_allclose(found.boxes[order], (faces.numpy() + 0.5) / scale - 0.5, atol=1e-3)
    np.testing.assert_allclose(found.keypoints[order], (points.numpy() + 0.5) / scale - 0.5, atol=1e-3)


def test_perfect_maps_have_a_lower_loss_than_wrong_ones():
    maps, _ = target_maps(FACE, POINTS)
    right, _ = loss(maps, [(FACE, POINTS, NOTHING)])
    wrong, _ = loss(maps, [(FACE + 20, POINTS + 20, NOTHING)])
    assert right < 0.05 < wrong


def test_ignored_regions_have_no_loss():
    maps, _ = target_maps(FACE, POINTS)
    none = (NOTHING, torch.zeros(0, 5, 2))
    punished, _ = loss(maps, [(*none, NOTHING)])
    ignored, _ = loss(maps, [(*none, FACE)])
    assert ignored < 0.01 < punished


def test_cells_of_maps_and_flatten_agree():
    maps = [torch.arange(r * c).float().reshape(1, 1, r, c) for r, c in ((15, 20), (8, 10), (4, 5))]
    centres, strides = cells([m.shape[2:] for m in maps])
    flat = flatten(maps)[0, :, 0]
    column = (centres[:300, 0] + 0.5) / strides[:300] - 0.5
    row = (centres[:300, 1] + 0.5) / strides[:300] - 0.5
    assert torch.equal(flat[:300], row * 20 + column)


def test_mirroring_labels_twice_changes_nothing():
    boxes, points = FACE.numpy(), POINTS.numpy()
    mirror, width = np.diag([-1.0, 1.0]), np.array([159.0, 0.0])
    once = data.move_labels(boxes, points, mirror, width, True)
    # They are still named left to right in the image.
    assert once[1][0, 0, 0] < once[1][0, 1, 0] and once[1][0, 3, 0] < once[1][0, 4, 0]
    twice = data.move_labels(*once, mirror, width, True)
    np.testing.assert_allclose(twice[0], boxes, atol=1e-4)
    np.testing.assert_allclose(twice[1], points, atol=1e-4)


def test_samples_depend_on_seed_and_index_only():
    dice = np.random.default_rng(5)
    scenes = []
    for source, boxes in (("w300", FACE.numpy()), ("muxspace", FACE.numpy()), ("objects", NOTHING.numpy())):
        picture = dice.integers(0, 256, (120, 160, 3), np.uint8)
        points = np.repeat(POINTS.numpy(), len(boxes), 0)
        scenes.append(data.Scene(source, [picture], boxes, points, np.full(len(boxes), 0.9)))
    first, second = data.Sampler(scenes, 96, 1), data.Sampler(scenes, 96, 1)
    for index in (7, 3):
        a, b = first.sample(index), second.sample(index)
        assert all(np.array_equal(x, y) for x, y in zip(a, b))
        assert a[0].shape == (96, 96, 3) and len(a[1]) == len(a[2])
    assert not np.array_equal(first.sample(0)[0], first.sample(1)[0])


def test_letterbox_pads_with_the_mean():
    tensor, scale = decode.letterbox(np.full((50, 100, 3), 255, np.uint8), 160, 120)
    assert tensor.shape == (1, 3, 120, 160) and scale == 1.6
    assert (tensor[:, :, :80] == 1).all() and (tensor[:, :, 80:] == 0).all()


def test_the_worse_of_two_overlapping_faces_is_suppressed():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [30, 30, 40, 40]], float)
    faces = decode.Faces(np.array([0.9, 0.8, 0.7]), boxes, np.zeros((3, 5, 2)))
    assert decode.suppress(faces, 0.4).scores.tolist() == [0.9, 0.7]


def test_exported_graph_matches_the_network(network):
    import onnxruntime

    graph = export.fill_shapes(export.float_graph(network.eval()), export.SIZES[0])
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    image = torch.randn(1, 3, 120, 160)
    outputs = session.run(export.SIZES[0].outputs, {export.SIZES[0].input: image.numpy()})
    with torch.no_grad():
        for ours, theirs in zip(network(image), outputs):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)
