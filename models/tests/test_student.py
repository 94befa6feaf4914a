"""Tests the student's invariants; no test needs the research data."""

from functools import partial

import numpy as np
import pytest
import torch

from faceptor_models.common import augment, geometry, labels
from faceptor_models.common import packed_crops as data
from faceptor_models.common.area_sampling import network_image
from faceptor_models.common.metrics import landmark_error, verification
from faceptor_models.student import losses, release
from faceptor_models.student.evaluate import answer, label_map, twice
from faceptor_models.student.loader import hinted, mask_chances
from faceptor_models.student.network import AGE_BINS, ANSWERS, QUERIES, FeatureHead, Student, age_distribution, soft_argmax
from faceptor_models.student.parts import cut, run

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(3)
    net = Student("edge").train()
    with torch.no_grad():
        for _ in range(3):  # batch statistics that are not the identity
            net.feature(net.encode(torch.rand(4, 3, 96, 96) * 2 - 1)["f16"])
    return net.eval()


def test_warp_is_inverted_exactly_inside_and_outside_the_frame():
    v = np.linspace(-1.6, 1.6, 101)
    assert np.abs(geometry.warp(geometry.unwarp(v)) - v).max() < 1e-12
    points = np.random.default_rng(0).uniform(-0.2, 1.2, (50, 2))
    assert np.abs(geometry.network_to_frame(geometry.frame_to_network(points)) - points).max() < 1e-12


def test_similarity_recovers_a_known_motion_and_never_mirrors():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 100, (5, 2))
    angle, scale = 0.4, 1.7
    matrix = np.array([[np.cos(angle) * scale, -np.sin(angle) * scale, 5], [np.sin(angle) * scale, np.cos(angle) * scale, -3]])
    assert np.abs(geometry.similarity(points, geometry.apply(matrix, points)) - matrix).max() < 1e-9
    mirrored = points * [-1, 1]
    assert np.linalg.det(geometry.similarity(points, mirrored)[:, :2]) > 0


def test_the_template_has_the_contracts_eye_distance():
    left, right = geometry.TEMPLATE[:2]
    assert abs(np.linalg.norm(right - left) - 40 / 192) < 1e-4
    assert np.abs((left + right) / 2 - np.array([96, 82]) / 192).max() < 2e-3


@pytest.mark.parametrize("table", [labels.LANDMARK_FLIP, labels.PARSING_FLIP])
def test_mirroring_twice_changes_nothing(table):
    assert [table[i] for i in table] == list(range(len(table)))


def test_points_follow_the_picture_through_augmentation(monkeypatch):
    """A bright dot at a labelled point lies at the moved label, mirrored or not."""
    monkeypatch.setattr(augment, "colours", lambda rng, image: image)
    monkeypatch.setattr(augment, "border_look", lambda rng, side, light: None)
    side, size, seen = 192, 96, 0
    for seed in range(12):
        points = np.full((68, 2), 0.5)
        points[30] = [0.42, 0.55]
        image = np.zeros((side, side, 4), np.uint8)
        x, y = (points[30] * side).round().astype(int)
        image[y - 1 : y + 2, x - 1 : x + 2, :3] = 255
        points[30] = np.array([x, y]) / side
        out, _, moved, flip = augment.sample(np.random.default_rng(seed), image, size, None, points)
        weight = out[0].astype(float)
        rows, columns = np.mgrid[:size, :size] + 0.5
        found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum() / size
        assert np.abs(found - moved[30]).max() * size < 0.35, f"seed {seed}, mirrored {flip}"
        seen += flip
    assert 0 < seen < 12


def test_lightly_augmented_samples_stay_near_the_photo():
    """With the same draws, a light sample's turn and colours stay within the difference of two good photos."""
    crop = np.full((96, 96, 4), [120, 90, 60, 0], np.uint8)
    for seed in range(40):
        jitter = augment.Jitter(np.random.default_rng(seed), light=True)
        turn = np.degrees(np.arctan2(jitter.to_photo[1, 0], abs(jitter.to_photo[0, 0])))
        assert abs(turn) < 20 and abs(np.log(abs(np.linalg.det(jitter.to_photo[:, :2])))) < 0.4
        # The rim may show pixels from beyond the photo.
        image = augment.sample(np.random.default_rng(seed), crop, 48, light=True)[0][:, 12:36, 12:36].reshape(3, -1).astype(float)
        grey = np.ptp(image.mean(1)) < 16  # with a tint
        assert grey or np.abs(image.mean(1) - [120, 90, 60]).max() < 30
        assert image.std(1).max() < 1.5, "nothing is cut away and no noise is added"


def test_quarters_of_a_cell_lie_at_their_pixels():
    """There are one region feature and one embedding with four values; each value is one of the cell's four logits."""
    net = Student("edge").eval()
    with torch.no_grad():
        net.region.forward = lambda f2, pixels: torch.nn.functional.one_hot(torch.tensor([[0]]), 32).float().reshape(1, 32, 1, 1) * f2[:, :1]
        net.region_embed[2].weight.zero_()
        bias = torch.zeros(4, 32)
        bias[:, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
        net.region_embed[2].bias.copy_(bias.flatten())
        f2 = torch.tensor([[10.0, 20.0], [30.0, 40.0]]).reshape(1, 1, 2, 2)
        logits = net.regions(torch.randn(1, 19, 128), f2, torch.randn(1, 64, 2, 2))
    expected = torch.tensor([[10.0, 20, 20, 40], [30, 40, 60, 80], [30, 60, 40, 80], [90, 120, 120, 160]])
    assert logits.shape == (1, 19, 4, 4) and torch.allclose(logits[0, 7], expected)


def test_mirrored_masks_swap_left_and_right(monkeypatch):
    monkeypatch.setattr(augment, "colours", lambda rng, image: image)
    mask = np.full((64, 64), labels.PARSING.index("l_eye"), np.uint8)
    for seed in range(8):
        _, out, _, flip = augment.sample(np.random.default_rng(seed), np.full((64, 64, 4), [90, 90, 90, 0], np.uint8), 32, mask)
        values = set(np.unique(out)) - {255}
        assert values == {labels.PARSING.index("r_eye" if flip else "l_eye")}


def test_masks_of_mirrored_photos_get_the_right_sides():
    left, right = labels.PARSING.index("l_ear"), labels.PARSING.index("r_ear")
    mask = np.full((64, 64), labels.PARSING.index("skin"), np.uint8)
    mask[30:40, 56:], mask[20:23, 40:50], mask[20:23, 14:24] = left, labels.PARSING.index("l_brow"), labels.PARSING.index("r_brow")
    mask[0] = 255
    mask[44:46, 10:14] = right
    assert (data.by_side(mask) == mask).all(), "the person's left is on the right"
    named_wrongly = data.by_side(mask[:, ::-1])
    assert (
        (named_wrongly[30:40, :8] == right).all()
        and (named_wrongly[44:46, 50:54] == left).all()
        and (named_wrongly[20:23, 40:50] == labels.PARSING.index("l_brow")).all()
    )
    assert (named_wrongly[0] == 255).all() and (named_wrongly == labels.PARSING.index("skin")).sum() == (mask == labels.PARSING.index("skin")).sum()


def test_missing_labels_have_no_loss():
    logits = torch.randn(3, 40, requires_grad=True)
    target = torch.zeros(3, 40)
    target[0, 5] = 1
    losses.attributes(logits, target).backward()
    assert logits.grad[1:].abs().sum() == 0 and logits.grad[0, 5] != 0
    assert logits.grad[0].abs().sum() == logits.grad[0, 5].abs()


def test_age_inside_its_range_has_no_distance():
    bins = torch.tensor(AGE_BINS)
    logits = torch.full((1, len(AGE_BINS)), -12.0)
    logits[0, (bins - 25).abs().argmin()] = 12.0
    assert losses.age(logits, torch.tensor([20.0]), torch.tensor([29.0]))[1] == 0
    assert losses.age(logits, torch.tensor([40.0]), torch.tensor([49.0]))[1] > 14


def test_soft_argmax_finds_a_subpixel_peak():
    x, y = 0.3125, 0.704
    axis = (torch.arange(48) + 0.5) / 48
    logits = -0.5 * (((axis - x) * 48) ** 2)[None, :] - 0.5 * (((axis - y) * 48) ** 2)[:, None]
    found = soft_argmax(logits[None, None])[0, 0]
    assert torch.allclose(found, torch.tensor([x, y]), atol=1e-4)


def test_the_parts_answer_like_the_whole_network(net):
    image = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.no_grad():
        maps = net.encode(image)
        memory, pixels = net.remember(maps), net.pixels(maps)
        whole = soft_argmax(net.maps(net.decode("landmarks", memory), pixels))
        embedding = net.feature(maps["f16"])
    tensors = run(cut(net, 96), image)
    assert torch.allclose(tensors["out_landmarks"], whole, atol=1e-4)
    assert torch.allclose(tensors["out_recognition"], embedding, atol=1e-3)
    read = {"age": age_distribution, "expression": lambda x: x.softmax(-1), "attributes": torch.sigmoid}
    for task, read_out in read.items():
        with torch.no_grad():
            expected = read_out(net.values(task, net.decode(task, memory)))
        assert torch.allclose(tensors[f"out_{task}"], expected, atol=1e-4), task
    for task in QUERIES:
        assert tensors[f"out_{task}"].shape[1] == QUERIES[task] * ANSWERS.get(task, 1)


def test_mirrored_averaging_answers_an_image_and_its_mirror_image_alike(net):
    image = np.random.default_rng(7).integers(0, 256, (2, 3, 96, 96), dtype=np.uint8)
    once = partial(answer, net)
    seen, mirrored = twice(once)(image), twice(once)(np.ascontiguousarray(image[..., ::-1]))
    for name in ("age", "expression", "attributes", "embedding"):
        assert np.allclose(seen[name], mirrored[name], atol=1e-4), name
        assert not np.allclose(once(image)[name], once(np.ascontiguousarray(image[..., ::-1]))[name], atol=1e-4), name
    points = mirrored["landmarks"][:, labels.LANDMARK_FLIP]
    assert np.allclose(seen["landmarks"], np.stack([1 - points[..., 0], points[..., 1]], -1), atol=1e-4)
    assert np.allclose(seen["parsing"], mirrored["parsing"][:, labels.PARSING_FLIP][..., ::-1], atol=1e-3)


def test_networks_stay_within_their_size_limits(net):
    assert sum(p.numel() for p in net.parameters()) <= 6_000_000


def test_the_label_map_inverts_the_networks_sampling():
    """A disc seen by the network is mapped back to its place in the crop."""
    side, size = 256, 96
    y, x = np.mgrid[:side, :side]
    disc = ((x - 140) ** 2 + (y - 110) ** 2 < 40**2).astype(np.uint8)
    seen = network_image(np.repeat(disc[..., None] * 255, 3, 2), size)[0].astype(np.float32) / 255
    back = label_map(np.stack([1 - seen, seen]), side)
    both = (back & disc).sum() * 2 / (back.sum() + disc.sum())
    assert both > 0.98


def test_measures_of_hand_made_answers_are_right():
    true = np.zeros((1, 68, 2))
    true[0, 36], true[0, 45] = (0.3, 0.4), (0.7, 0.4)
    assert abs(landmark_error(true + [0.04, 0], true)[0] - 0.1) < 1e-9
    vectors = np.eye(4)
    pairs = [(f, a, b, a == b) for f in range(1, 6) for a in range(3) for b in range(3)]
    assert verification(pairs, vectors) == 1.0


def test_value_tasks_read_each_answer_from_its_own_query(net):
    assert QUERIES["attributes"] * ANSWERS["attributes"] == len(labels.ATTRIBUTES)
    assert QUERIES["age"] * ANSWERS["age"] == len(AGE_BINS)
    decoded = torch.randn(2, QUERIES["attributes"], 128, generator=torch.Generator().manual_seed(5))
    other = decoded.clone()
    other[:, 3] += 1.0  # the fourth query answers attributes 15 to 19 and no other
    changed = (net.values("attributes", other) != net.values("attributes", decoded)).all(0)
    assert changed.nonzero().flatten().tolist() == [15, 16, 17, 18, 19]


def test_weights_with_a_query_for_each_answer_are_averaged_in_groups(net):
    state = {k: v.clone() for k, v in net.state_dict().items()}
    state["content.age"] = torch.arange(21.0)[:, None].expand(-1, 128)
    grouped = Student("edge")
    grouped.load_average(state)
    assert torch.equal(grouped.content["age"][:, 0], torch.tensor([3.0, 10.0, 17.0]))


def test_weights_of_a_narrower_recognition_head_keep_their_answers():
    torch.manual_seed(5)
    wide, narrow, maps = Student("edge").eval(), FeatureHead(256, 64).eval(), torch.rand(2, 256, 6, 6)
    state = {k: v for k, v in wide.state_dict().items() if not k.startswith("feature")} | {f"feature.{k}": v for k, v in narrow.state_dict().items()}
    wide.load_average(state)
    assert torch.allclose(wide.feature(maps), narrow(maps), atol=1e-5)
    wide.feature(maps).square().sum().backward()
    assert (wide.feature.weight.grad[:, 64:] != 0).any(), "and what is new learns"


def test_rare_masks_are_drawn_more_often():
    masks = np.zeros((4, 32, 32), np.uint8)
    masks[1, :8, :8] = 15  # earrings
    masks[2, :8, :8] = 3  # glasses
    masks[2, 8, :] = 16  # and a necklace, which is rarer
    masks[3, :1, :8] = 15  # too few pixels to count
    chance = mask_chances(masks)
    assert np.allclose(chance / chance[0], [1, 2, 4, 1]) and abs(chance.sum() - 1) < 1e-12


def test_released_arguments_contain_no_path_of_the_machine():
    arguments = {
        "faces": "/here/faces",
        "cache": "/here/cache",
        "out": "/here",
        "start_from": None,
        "encoder": None,
        "more": ["/here/more"],
        "seed": 3,
    }
    assert release.kept(arguments) == {"more": ["more"], "seed": 3}
    assert release.kept({"tutor": "/here/edge.pt"}) == {"tutor": "edge.pt"} and release.kept({"tutor": None}) == {"tutor": None}
    assert release.kept({"seed": 3, "more": []}) == {"seed": 3, "more": []}


def test_a_released_curve_draws_each_term_for_the_runs_that_have_it():
    log = [{"step": 50, "age": 2.0, "tutor": 4.0}, {"step": 100, "age": 1.0}, {"step": 150, "tutor": 1.0}]
    lines = [line for line in release.curve(log).splitlines() if "polyline" in line]
    assert len(lines) == 2 and [line.count(",") for line in lines] == [2, 2]
    assert "age 1<" in release.curve(log) and "tutor 1<" in release.curve(log)
    assert f"{release.LEFT + release.WIDTH:.1f}," in lines[1], "the last step is at the right edge"


def test_a_transplanted_thing_lies_at_its_label():
    """A dark donor thing lies on a bright crop: its label is where the crop became dark; outside of the photo there is no label."""
    crop = np.full((64, 64, 4), [200, 200, 200, 0], np.uint8)
    mask = np.full((64, 64), 1, np.uint8)
    mask[:, :6] = 255
    donor, donor_mask = np.full((64, 64, 4), [4, 4, 4, 0], np.uint8), np.zeros((64, 64), np.uint8)
    donor_mask[10:30, 2:40] = 14
    for seed in range(10):
        moved, labelled = augment.transplant(np.random.default_rng(seed), crop, mask, donor, donor_mask, 14)
        changed = moved[..., 0] != 200
        assert (labelled == 14).sum() > 400
        assert (changed[labelled == 14]).mean() > 0.98 and set(np.unique(labelled)) == {1, 14, 255}
        assert (labelled == 255).sum() == (mask == 255).sum() and (crop == 200)[..., :3].all() and (mask == 14).sum() == 0


def test_hints_raise_the_surest_pixels_of_present_things_and_lower_those_of_absent_ones():
    column, label, share = labels.HINTS["Wearing_Hat"]
    logits = torch.zeros(1, len(labels.PARSING), 12, 12, requires_grad=True)
    with torch.no_grad():
        logits[0, label, :3] = 3.0
    attributes = torch.zeros(1, len(labels.ATTRIBUTES))
    assert losses.hints(logits, attributes) == 0, "unknown attributes say nothing"
    attributes[0, column] = 1
    loss = losses.hints(logits, attributes)
    chance = float(logits.detach().softmax(1)[0, label].flatten().topk(round(share * 144)).values.mean())
    assert abs(float(loss.detach()) + np.log(chance)) < 1e-5
    loss.backward()
    assert (logits.grad[0, label, :3] <= 0).all() and (logits.grad[0, label, 3:] == 0).all()
    attributes[0, column] = -1
    assert abs(float(losses.hints(logits, attributes)) + np.log(1 - chance)) < 1e-5


def test_hinted_rows_prefer_the_rarest_things_and_skip_crops_with_masks():
    attributes = np.full((5, 40), -1.0)
    attributes[1, labels.HINTS["Wearing_Hat"][0]] = 1
    attributes[2, labels.HINTS["Wearing_Earrings"][0]] = 1
    attributes[3, labels.HINTS["Wearing_Hat"][0]] = 1
    attributes[4] = 0
    assert hinted(attributes, np.array([True, True, True, False, True]), 2).tolist() == [1, 0]
    assert hinted(attributes, np.ones(5, bool), 3).tolist() == [1, 3, 0]
    assert hinted(attributes, np.ones(5, bool), 9).tolist() == [1, 3, 2, 0], "a crop without attributes gives no hint"


def test_a_blend_of_two_states_lies_between_them_and_keeps_counters():
    before = {"w": torch.tensor([0.0, 2.0]).half(), "n": torch.tensor(3)}
    after = {"w": torch.tensor([1.0, 4.0]), "n": torch.tensor(7)}
    mean = release.blended(before, after, 0.25)
    assert mean["w"].tolist() == [0.25, 2.5] and mean["w"].dtype == torch.float32 and int(mean["n"]) == 7
    with pytest.raises(SystemExit, match="another structure"):
        release.blended({"w": torch.zeros(3, 2), "n": torch.tensor(3)}, after, 0.25)


def test_a_run_is_blended_with_the_named_weights(tmp_path, monkeypatch):
    run, out, named = tmp_path / "run", tmp_path / "out", tmp_path / "named.pt"
    run.mkdir()
    out.mkdir()
    terms = dict.fromkeys(release.CURVES, 0.5)
    release.write_log([{"step": 9, "minutes": 1.0} | terms], run / "log.csv")
    release.write_log([{"step": 4, "minutes": 1.0} | terms], out / "training_log.csv")
    (out / "training_arguments.json").write_text("[]")
    state = {"size": "edge", "step": 9, "used_seconds": 60.0, "arguments": {"seed": 3, "batch": 128}}
    torch.save(state | {"average": {"w": torch.tensor([4.0])}}, run / "checkpoint.pt")
    torch.save({"average": {"w": torch.tensor([100.0])}}, out / "weights.pt")
    torch.save({"average": {"w": torch.tensor([0.0])}}, named)
    argv = ["release", str(run), "--out", str(out), "--continued", "--blend-with", str(named)]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit):
        release.main()
    monkeypatch.setattr("sys.argv", [*argv, "--blend", "0.25"])
    release.main()
    kept = torch.load(out / "weights.pt", weights_only=True)
    assert kept["average"]["w"].tolist() == [1.0] and kept["step"] == 13
    assert '"blend_with": "named.pt"' in (out / "training_arguments.json").read_text()


def test_parsing_loss_is_cross_entropy_and_dice_of_the_seen_pixels():
    torch.manual_seed(5)
    logits, labels = torch.randn(2, 19, 12, 12), torch.randint(0, 19, (2, 12, 12))
    labels[labels == 7] = 255
    weight = torch.tensor(losses.PARSING_WEIGHT)
    cross = torch.nn.functional.cross_entropy(logits, labels, weight=weight, ignore_index=255)
    seen = (labels != 255)[:, None]
    hot = torch.nn.functional.one_hot(labels.clamp(max=18), 19).permute(0, 3, 1, 2) * seen
    p = logits.softmax(1) * seen
    dice = [1 - (2 * (p * hot)[:, c].sum() + 1) / ((p + hot)[:, c].sum() + 1) for c in range(1, 19) if hot[:, c].any()]
    assert abs(losses.parsing(logits, labels) - cross - 0.5 * sum(dice) / len(dice)) < 1e-5
