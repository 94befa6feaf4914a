"""Tests what each recipe does to its system: views, losses, steps, trained parameters, cycles; numbers from the formulas."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from faceptor_models.common import augment, edge_criterion
from faceptor_models.common.errors import Refused
from faceptor_models.common.geometry import TEMPLATE
from faceptor_models.published import recognise
from faceptor_models.published.groups import ARCFACE_112
from faceptor_models.published.losses.faceptor import task_loss
from faceptor_models.published.recipes import augmentation, dmlcsr
from faceptor_models.published.recipes import crops as adapter
from faceptor_models.published.recipes.run import to_device
from tests import small_crops
from tests.test_recipes import copied, run

torch.set_num_threads(1)
QUIET = ["run.iterations=2", "model.drop_path=0.0"]


def dot(side, point, width=2):
    """Returns a black picture with a white square about a point in units of the side."""
    picture = np.zeros((side, side, 3), np.uint8)
    x, y = (np.array(point) * side).round().astype(int)
    picture[y - width : y + width + 1, x - width : x + width + 1] = 255
    return picture, np.array([x, y]) / side


def middle(image):
    """Returns the centre of the light of [size, size], in 0..1 with pixel centres at (i + 0.5) / size."""
    light = image.astype(float) - image.min()
    rows, columns = np.mgrid[: len(light), : len(light)] + 0.5
    return np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum() / len(light)


def test_the_112_px_view_is_the_arcface_crop():
    matrix = augmentation.frame(augmentation.small(112), 192)
    found = (matrix @ np.c_[TEMPLATE * 192, np.ones(5)].T).T[:, :2]
    np.testing.assert_allclose(found, ARCFACE_112, atol=2e-2)
    tensor = augmentation.value_view(augmentation.small(112), np.full((192, 192, 3), 255, np.uint8))
    assert tensor.shape == (3, 112, 112) and np.allclose(tensor, 1.0)


def test_points_follow_the_picture_through_every_dense_view(monkeypatch):
    monkeypatch.setattr(augmentation, "photo", lambda rng, seen: seen)
    monkeypatch.setattr(augmentation, "noise", lambda rng, seen: seen)
    monkeypatch.setattr(augmentation, "occluded", lambda rng, seen: seen)
    points = np.random.default_rng(1).uniform(0.3, 0.7, (68, 2))
    picture, points[5] = dot(192, (0.45, 0.55))
    for seed in range(6):
        rng = np.random.default_rng(seed) if seed else None
        tensor, found = augmentation.align_view(augmentation.clip("large", 128), picture, points, rng)
        assert np.abs(middle(tensor[0]) - found[5]).max() < 0.5 / 128, seed
    # Without jitter the points' square fills `scale_mu` of the side about its middle.
    tensor, found = augmentation.align_view(augmentation.clip("large", 128), picture, points)
    assert np.abs((found.min(0) + found.max(0)) / 2 - 0.5).max() < 1e-2 and 0.77 < np.ptp(found, 0).max() <= 0.801


def test_masks_follow_the_picture_and_have_each_systems_class_order(monkeypatch):
    monkeypatch.setattr(augmentation, "photo", lambda rng, seen: seen)
    own = {name: i for i, name in enumerate(adapter.official.CELEBAMASK_OWN)}
    picture, _ = dot(128, (0.5, 0.5), 16)
    mask = np.zeros((128, 128), np.uint8)
    mask[picture[..., 0] > 0] = own["l_eye"]
    mask[:20] = 255
    for seed in range(4):
        rng = (lambda s: np.random.default_rng(s) if s else None)(seed)
        tensor, classes = augmentation.parsing_view(augmentation.clip("celebam", 96, augmentation.celeba_hq()), picture, mask, rng)
        expected = adapter.official.CELEBAMASK.index("re")
        inside = classes == expected
        assert set(np.unique(classes)) <= {0, expected, 255} and np.abs(middle(inside) - middle(tensor[0])).max() < 0.02
        tensor, classes = augmentation.edge_view(augmentation.bgr(97), picture, mask, rng)
        assert (classes == own["l_eye"]).any() and (classes == 255).any()


def test_dml_csr_sees_bgr_with_the_statistics_of_rgb():
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    tensor, _ = augmentation.edge_view(augmentation.bgr(33), red, np.zeros((64, 64), np.uint8))
    assert tensor[:, 16, 16] == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225], rel=1e-4)


class Extreme:
    """Replaces a random generator: draws one normal number, and turns nothing."""

    def __init__(self, value):
        self.value = value

    def normal(self):
        return self.value

    def random(self):
        return 0.9


@pytest.mark.parametrize(("drawn", "zoom"), [(9.0, 1 / 1.25), (-9.0, 1 / 0.75), (0.4, 1 / 1.1)])
def test_the_scale_of_dml_csr_applies_to_the_box_that_is_cut_out(drawn, zoom):
    """A box a quarter wider shows the face smaller by 1.25, in the picture and in the labels."""
    picture = np.zeros((192, 192, 3), np.uint8)
    picture[64:128, 64:128] = 255
    mask = (picture[..., 0] > 0).astype(np.uint8)
    plain, moved = (augmentation.edge_view(augmentation.bgr(193), picture, mask, rng) for rng in (None, Extreme(drawn)))
    for channel in (lambda v: v[0][0] > v[0][0].mean(), lambda v: v[1] == 1):
        assert (channel(moved).sum() / channel(plain).sum()) ** 0.5 == pytest.approx(zoom, rel=0.02)


def test_points_and_pose_of_tcdcn_are_mirrored_with_the_picture():
    keypoints = TEMPLATE.copy()
    for seed in range(8):
        picture, keypoints[0] = dot(192, TEMPLATE[0], 3)
        tensor, coordinates, flipped = augmentation.grey_view(augmentation.grey(40), picture, keypoints, np.random.default_rng(seed))
        x, y = coordinates[:5], coordinates[5:]
        # The marked left eye is the right one of a mirrored picture; left stays left of right in the labels.
        marked = 1 if flipped else 0
        assert np.abs(middle(tensor[0]) - [x[marked], y[marked]]).max() < 0.7 / 40 and x[0] < x[1] and x[3] < x[4]
    turned = TEMPLATE.copy()
    turned[2] += (0.5 * (TEMPLATE[1] - TEMPLATE[0])[0], 0)
    assert [adapter.pose(TEMPLATE), adapter.pose(turned), adapter.pose(turned, True)] == [2, 3, 1]


def test_labels_are_translated_for_each_system():
    held = small_crops.crops()
    labels = held.labels["rafdb"]
    votes = "neutral happiness surprise sadness anger disgust fear".split()
    order = "neutral happiness sadness surprise fear disgust anger".split()
    for row in range(6):
        assert order[held.value("affect_rafdb", "rafdb", row)] == votes[int(labels.expression[row].argmax())]
    contempt = held.labels["ferplus"].expression.argmax(1) == 7
    rows = held.with_label("affect_ferplus", "ferplus", np.arange(20))
    assert contempt.any() and not contempt[rows].any() and len(rows) == (~contempt).sum()
    held.labels["celeba"].attributes[0, :3] = (1, -1, 0)
    assert held.value("biattr_celeba", "celeba", 0)[:3].tolist() == [1, 0, -1]
    held.labels["celeba"].attributes[0, [20, 31, 15]] = (1, -1, 0)
    facts = held.facts("celeba", 0)
    assert (facts["gender"], facts["smile"], facts["glasses"]) == (0, 1, adapter.IGNORED)
    assert not set(held.training("utk")) & set(held.held_out("utk")) and len(held.held_out("utk")) == 5


def test_joint_losses_equal_those_of_each_task_alone(tmp_path):
    """One pass of the encoder for each size, cut into tasks, equals a batch for each task; the total is the weighted mean."""
    made = run("faceptor_stage1.toml", tmp_path, *QUIET)
    recipe, model = made.recipe, made.recipe.model.eval()
    batch = to_device(recipe.batch(0), "cpu")
    losses = recipe.losses(model, batch)
    assert list(losses) == recipe.tasks and len(recipe.left_out) == 6
    for task in recipe.tasks:
        classifier = model.losses_module.losses[task].classifier if task == "recog_ms1mv3" else None
        alone, _ = task_loss(task, model(batch[f"image {task}"], [task])[task], {"label": batch[f"label {task}"]}, classifier)
        assert losses[task].item() == pytest.approx(alone.item(), rel=1e-5), task
    # Effective weights by hand: a type's weight is split among its tasks by their loss weights.
    weights = {
        "recog_ms1mv3": 5,
        "age_utkface": 5,
        "biattr_celeba": 2,
        "affect_rafdb": 5,
        "affect_ferplus": 5,
        "parsing_celebam": 200,
        "align_300w": 1000,
    }
    assert recipe.weights == pytest.approx(weights)
    by_hand = sum(weights[t] * float(v) for t, v in losses.items()) / sum(weights.values())
    assert float(recipe.total(losses)) == pytest.approx(by_hand, rel=1e-5)


def test_a_step_is_adamw_with_each_groups_rate_and_decay_on_everything(tmp_path):
    made = run("faceptor_stage1.toml", tmp_path, *QUIET, "optimizer.decay=0.5", "optimizer.base_rate=1e-3")
    recipe = made.recipe
    grouped = [p for g in made.optimizer.param_groups for p in g["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in recipe.model.parameters()} and all(
        g["weight_decay"] == 0.5 for g in made.optimizer.param_groups
    )
    before = copied(recipe.model.state_dict())
    made.train(until=0)
    after = recipe.model.state_dict()
    for name, rate in (("backbone_module.visual.ln_pre.weight", 1e-3), ("heads_module.interpreters.value.fc.weight", 1e-2)):
        # Adam's first step has the length of the rate, whatever the gradient.
        step = after[name] - before[name] * (1 - rate * 0.5)
        assert float(step.abs().median()) == pytest.approx(rate, rel=1e-2), name
    assert recipe.rate(0, 10.0) == recipe.rate(1, 10.0) == pytest.approx(1e-2)
    assert made.rows[0]["rate"] == pytest.approx(1e-3)


def test_stage_2_trains_only_the_new_tensors(tmp_path):
    run("faceptor_stage1.toml", tmp_path / "one", *QUIET).train()
    changes = [
        "run.iterations=3", f"faceptor.start_from='{tmp_path}/one/model.pth'", "model={heads=2,decoder_heads=2,levels=[2],new_levels=[0,1]}",
        "input.small_px=16", "optimizer.warm=1", "optimizer.base_rate=1e-3", "optimizer.peak_rate=1e-3", "task.affect_rafdb.batch=3",
    ]  # fmt: skip
    made = run("faceptor_stage2.toml", tmp_path / "two", *changes)
    model, first = made.recipe.model, torch.load(tmp_path / "one/model.pth", weights_only=True)["state_dict"]
    before = copied(model.state_dict())
    shared = [k for k in before if f"module.{k}" in first]
    assert all(torch.equal(before[k], first[f"module.{k}"]) for k in shared)
    assert {f"module.{k}" for k in shared} == {k for k in first if "losses_module" not in k}
    made.train()
    after = model.state_dict()
    moved = {k for k in after if not torch.equal(before[k], after[k])}
    new = {"heads_module.decoder.new_level_embed.weight"} | {
        f"heads_module.decoder.new_input_proj.{i}.{k}" for i in (0, 1) for k in ("weight", "bias")
    }
    assert moved == new == set(after) - set(shared)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * 16 + 2 * (16 * 16 + 16)
    options = recognise.Options(encoder_heads=2, decoder_heads=2, levels=(2,), new_levels=(0, 1))
    found = recognise.recognise(torch.load(tmp_path / "two/model.pth", weights_only=True), options)
    assert found.system == "faceptor" and "with Layer-Attention (stage 2)" in found.notes
    for wrong in ("faceptor.start_from=''", "model.new_levels=[7]", "task={affect_none={source='rafdb'}}"):
        with pytest.raises(Refused):
            run("faceptor_stage2.toml", tmp_path / "x", *changes, wrong)


def test_the_sparse_task_draws_only_its_few_labels_and_shares_the_batch(tmp_path):
    tiny = small_crops.TINY["faceptor_stage1.toml"]
    changes = [c for c in tiny if c.startswith(("model", "input", "optimizer"))]
    changes += ["run.iterations=30", "task.biattr_celeba={batch=2,samples=3}"]
    changes += [f"task.{t}.batch=2" for t in ("age_utkface", "affect_rafdb", "align_300w")]
    recipe = run("auxiliary.toml", tmp_path, *changes).recipe
    few = {row for i in range(30) for _, row in recipe.samplers["biattr_celeba"].draw(i)}
    many = {row for i in range(30) for _, row in recipe.samplers["age_utkface"].draw(i)}
    assert few == set(recipe.crops.training("celeba")[:3]) and many == set(recipe.crops.training("utk"))
    batch = recipe.batch(0)
    assert [k for k in batch if k.startswith("image")] == [f"image {t}" for t in recipe.settings.task]
    # A stopped auxiliary task leaves the loss and the weights' sum; the sparse task never stops.
    assert "biattr_celeba" not in recipe.early_stopping.rule.coefficients
    recipe.early_stopping.rule.stopped_at = {"affect_rafdb": 0, "align_300w": 0}
    losses = recipe.losses(recipe.model, to_device(batch, "cpu"))
    assert list(losses) == ["biattr_celeba", "age_utkface"]
    assert float(recipe.total(losses)) == pytest.approx((5 * float(losses["biattr_celeba"]) + float(losses["age_utkface"])) / 6, rel=1e-5)
    alone = run("auxiliary.toml", tmp_path / "alone", *changes, "sampler.only=['biattr_celeba']").recipe
    assert alone.tasks == ["biattr_celeba"] and set(alone.rows["biattr_celeba"]) == few


def test_the_objective_of_tcdcn_has_coefficients_unknown_labels_and_a_penalty(tmp_path):
    made = run("tcdcn.toml", tmp_path, "optimizer.penalty=0.01", "stopping.coefficients={gender=0.5,pose=2.0}")
    recipe, model = made.recipe, made.recipe.model
    batch = to_device(recipe.batch(0), "cpu")
    batch["smile"][:] = adapter.IGNORED
    losses, outputs = recipe.losses(model, batch), model(batch["image"])
    by_hand = {"landmark": 0.5 * float(((outputs["landmark"] - batch["landmark"]) ** 2).sum()) / 4, "smile": 0.0}
    known = batch["gender"] != adapter.IGNORED
    by_hand["gender"] = float(F.cross_entropy(outputs["gender"][known], batch["gender"][known], reduction="sum")) / 4
    for task, value in by_hand.items():
        assert float(losses[task]) == pytest.approx(value, rel=1e-5), task
    weights = sum(float((p**2).sum()) for n, p in model.named_parameters() if n.endswith("weight"))
    coefficients = recipe.early_stopping.rule.coefficients
    assert coefficients == {"gender": 0.5, "smile": 0.1, "glasses": 0.1, "pose": 2.0}
    expected = float(losses["landmark"]) + sum(coefficients[t] * float(losses[t]) for t in coefficients) + 0.01 * weights
    assert float(recipe.total(losses)) == pytest.approx(expected, rel=1e-5)
    recipe.early_stopping.rule.stopped_at["pose"] = 0
    assert float(recipe.total(losses)) == pytest.approx(expected - 2.0 * float(losses["pose"]), rel=1e-5)
    assert run("tcdcn.toml", tmp_path / "less", "task.auxiliary=['smile']").recipe.early_stopping.rule.coefficients == {"smile": 0.1}


@pytest.mark.parametrize(
    "name, change",
    [
        ("faceptor_stage1.toml", "input.small_px=20"), ("faceptor_stage1.toml", "sampler.split=half"),
        ("faceptor_stage1.toml", "sampler.skip_missing=false"),
        ("faceptor_stage1.toml", "faceptor.stage=3"), ("faceptor_stage1.toml", "sampler.only=['age']"), ("tcdcn.toml", "task.auxiliary=['hair']"),
        ("tcdcn.toml", "task.source=ms1mv3"), ("tcdcn.toml", "model.filters=some"), ("tcdcn.toml", "stopping.main=pose"),
        ("dmlcsr.toml", "loss.over=none"), ("dmlcsr.toml", "stopping.every=3"), ("dmlcsr.toml", "loss.edges=false"),
        ("dmlcsr.toml", "run.precision=half"),
        ("tcdcn.toml", "run.log_every=0"),
    ],
)  # fmt: skip
def test_invalid_settings_are_refused_by_name(name, change, tmp_path):
    with pytest.raises(Refused, match=change.split("=")[0].split(".")[-1].split("_")[0]):
        run(name, tmp_path, change)


def test_the_average_is_the_mean_at_the_ends_of_the_cycles_with_its_own_statistics(tmp_path):
    """Epochs 1, 2 and 3 of four end a cycle (start 2, cycle 1, counted from 0)."""
    made = run("dmlcsr.toml", tmp_path)
    recipe, ends = made.recipe, []
    join = recipe.rule.join
    recipe.rule.join = lambda model: (ends.append(copied(dict(model.named_parameters()))), join(model))[1]
    made.train()
    assert [(r["epoch"], r["n"]) for r in recipe.cycles] == [(1, 1), (2, 2), (3, 3)]
    for name, value in recipe.rule.average.named_parameters():
        torch.testing.assert_close(value, torch.stack([e[name] for e in ends]).mean(0), atol=1e-6, rtol=1e-5)
    # The stem's statistics by hand: the mean over the epoch's batches of its convolution's output.
    average = recipe.rule.average
    with torch.no_grad():
        made_maps = [average.conv1(torch.from_numpy(recipe.batch(recipe.iterations - 1 - i)["image"])) for i in range(recipe.per_epoch)]
    means = torch.stack([m.mean((0, 2, 3)) for m in made_maps]).mean(0)
    torch.testing.assert_close(average.bn1.running_mean, means, atol=1e-5, rtol=1e-4)
    assert recipe.best["f1"] == max(r["f1_average"] for r in recipe.cycles)
    assert (tmp_path / "cycles.csv").read_text().count("\n") == 4


def test_the_loss_of_refined_labels_follows_the_formula(tmp_path):
    """After n cycles it is the KL to softmax((1 - 1 / (n + 1)) average + 1 / (n + 1) label), over the pixels that show the photo."""
    made = run("dmlcsr.toml", tmp_path)
    recipe = made.recipe
    made.train(until=3)
    assert recipe.rule.n == 1
    with torch.no_grad():
        recipe.rule.average.layer6.conv4.bias.add_(torch.linspace(-1, 1, 19))
    recipe.rule.n = 3
    batch = to_device(recipe.batch(4), "cpu")
    model = recipe.model
    losses = recipe.losses(model, batch)
    labels, outputs = batch["label"].long(), model(batch["image"])
    seg = F.interpolate(outputs["seg"], size=labels.shape[1:], mode="bilinear", align_corners=True)
    soft = F.interpolate(recipe.rule.average(batch["image"])["seg"], size=labels.shape[1:], mode="bilinear", align_corners=True)
    valid = labels != 255
    hot = F.one_hot(torch.where(valid, labels, 0), 19).permute(0, 3, 1, 2)
    target = (0.75 * soft + 0.25 * hot).softmax(1)
    divergence = (target * (target.log() - seg.log_softmax(1))).sum(1)[valid].mean()
    expected = 0.5 * (edge_criterion.lovasz_softmax(seg, labels) + divergence)
    assert valid.any() and not valid.all()
    assert float(losses["parsing"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(recipe.total(losses)) == float(losses["weighted"])


def test_edges_are_for_training_only_and_the_flag_brings_the_official_schedule(tmp_path, monkeypatch):
    made = run("dmlcsr.toml", tmp_path)
    recipe = made.recipe
    image = torch.from_numpy(recipe.batch(0)["image"])
    model = recipe.model.eval()
    plain = dmlcsr.exported(model)
    with torch.no_grad():
        whole, cut = model(image), plain(image)
    assert set(whole) == {"seg", "binary_edge", "semantic_edge"} and set(cut) == {"seg"} and torch.equal(whole["seg"], cut["seg"])
    # The branches see only low-level features: layers after the third stage get no gradient from them.
    out = model(image)
    (out["binary_edge"].sum() + out["semantic_edge"].sum()).backward()
    touched = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert {"conv1", "layer1", "layer2", "layer3", "edge_layer"} <= touched and not touched & {"layer4", "context", "layer6"}
    found = recognise.recognise(recipe.official(), recognise.Options())
    assert found.system == "dmlcsr" and found.notes == ["without edge branches"]
    bugs = run("dmlcsr.toml", tmp_path / "bugs", "loss.official_bugs=true").recipe
    # Polynomial to the start, then a restart that counts iterations: 8 iterations, start after 4, base 0.05.
    assert [bugs.rate(i, 1.0) for i in (0, 3, 4, 5)] == pytest.approx([0.05, 0.05 * (5 / 8) ** 0.9, 0.025, 0.025])
    assert [recipe.rate(i, 1.0) for i in (0, 2, 4, 5)] == pytest.approx([5e-4, 0.05, 0.025, 5e-4 + 0.0245 * 0.5 * (1 + math.cos(0.5 * math.pi))])
    # One process has no norms of the class whose statistics the official code re-estimates: its average keeps the first ones.
    taken = []
    monkeypatch.setattr("faceptor_models.published.recipes.dmlcsr.reestimate", lambda net, batches: taken.append(net))
    for r in (recipe, bugs):
        r.after(r.rule.start * r.per_epoch - 1, made)
    assert taken == [recipe.rule.average] and bugs.rule.average is not None
    batch = to_device(recipe.batch(0), "cpu")
    ours, theirs = (r.losses(model, batch) for r in (recipe, bugs))
    assert float(theirs["weighted"]) > 1.5 * float(ours["weighted"])


def test_the_samples_place_determines_its_augmentation(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(augment, "colours", lambda rng, image: (calls.append(rng.random()), image)[1])
    recipe = run("faceptor_stage1.toml", tmp_path, *QUIET).recipe
    first, again, other = recipe.batch(1), recipe.batch(1), recipe.batch(0)
    assert all(np.array_equal(first[k], again[k]) for k in first) and not all(np.array_equal(first[k], other[k]) for k in first)
    third = len(calls) // 3
    assert calls[:third] == calls[third : 2 * third] and len(set(calls[:third])) == third


def test_farls_encoder_is_loaded_whole_with_its_positions_resized(tmp_path):
    torch.manual_seed(4)
    visual = run("faceptor_stage1.toml", tmp_path / "a", *QUIET).recipe.model.backbone_module.visual
    state = {f"visual.{k}": torch.randn_like(v) for k, v in visual.state_dict().items()}
    state["visual.positional_embedding"] = torch.randn(3 * 3 + 1, 16)
    torch.save({"state_dict": state | {"text.weight": torch.ones(2)}}, tmp_path / "farl.pth")
    change = f"faceptor.encoder='{tmp_path}/farl.pth'"
    loaded = run("faceptor_stage1.toml", tmp_path / "b", *QUIET, change).recipe.model.backbone_module.visual.state_dict()
    table = state["visual.positional_embedding"]
    square = F.interpolate(table[1:].T.reshape(1, 16, 3, 3), size=(4, 4), mode="bicubic", align_corners=False)
    assert torch.equal(loaded["positional_embedding"][0], table[0])
    torch.testing.assert_close(loaded["positional_embedding"][1:], square[0].flatten(1).T)
    assert all(torch.equal(v, state[f"visual.{k}"]) for k, v in loaded.items() if k != "positional_embedding")
    del state["visual.ln_pre.bias"]
    torch.save({"state_dict": state}, tmp_path / "farl.pth")
    with pytest.raises(Refused, match="ln_pre"):
        run("faceptor_stage1.toml", tmp_path / "c", *QUIET, change)


def test_dml_csr_loads_a_backbone_and_refuses_a_foreign_one(tmp_path):
    first = run("dmlcsr.toml", tmp_path / "a", "run.seed=5").recipe
    torch.save({k: v for k, v in first.model.state_dict().items() if k.startswith(("conv", "bn", "layer"))}, tmp_path / "r.pth")
    state = run("dmlcsr.toml", tmp_path / "b", f"model.start_from='{tmp_path}/r.pth'").recipe.model.state_dict()
    same = {k.split(".")[0] for k, v in first.model.state_dict().items() if v.dim() > 1 and torch.equal(v, state[k])}
    assert same & {"conv1", "layer1", "layer4"} == {"conv1", "layer1", "layer4"} and not same & {"context", "edge_layer"}
    torch.save({"conv1.weight": torch.ones(3)}, tmp_path / "r.pth")
    with pytest.raises(Refused, match="backbone"):
        run("dmlcsr.toml", tmp_path / "c", f"model.start_from='{tmp_path}/r.pth'")
