"""Tests training losses against the official code's values where the reference has them, else against the formulas."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from faceptor_models.common import edge_criterion
from faceptor_models.common.lovasz import lovasz_softmax
from faceptor_models.published.checkpoint import read
from faceptor_models.published.losses import faceptor, mcf, tcdcn

torch.set_num_threads(1)
SHARED = Path(os.environ.get("FACEPTOR_SHARED", Path(__file__).resolve().parents[2] / "../shared"))
REFERENCE = SHARED / "spec/reference"
CHECKPOINT = REFERENCE / "faceptor_tiny_level/checkpoint_rank0_iter_50000.pth.tar"


def reference(path):
    if not path.exists():
        pytest.skip(f"{path.name} is not in FACEPTOR_SHARED ({SHARED})")
    return path


def test_every_faceptor_loss_is_the_official_one():
    """It compares each task's loss, its terms, the total and the effective weights on the reference's outputs and labels."""
    folder = reference(CHECKPOINT).parent
    outputs, inputs = np.load(folder / "outputs.npz"), np.load(folder / "inputs.npz")
    expected, meta = json.loads((folder / "losses.json").read_text()), json.loads((folder / "meta.json").read_text())
    classifier = read(CHECKPOINT)["state_dict"]["module.losses_module.losses.recog_ms1mv3.classifier"]
    sizes = {
        "recog_ms1mv3": 64,
        "age_morph2": 16,
        "age_utkface": 4,
        "biattr_celeba": 16,
        "affect_affectnet": 16,
        "affect_rafdb": 4,
        "affect_ferplus": 4,
    }
    types = {"recog": 5, "age": 5, "biattr": 2, "affect": 10, "parsing": 200, "align": 1000}
    weights = faceptor.effective_weights({t: sizes.get(t, 1) for t in meta["task_names"]}, types)
    assert weights == pytest.approx(meta["effective_loss_weights"])
    losses = {}
    for task in meta["task_names"]:
        if task.startswith("align"):
            output = {k: torch.from_numpy(outputs[f"{task}.{k}"]) for k in ("landmark", "heatmap")}
        else:
            output = torch.from_numpy(outputs[task])
        batch = {"label": torch.from_numpy(inputs[f"{task}.avg_label" if task.startswith("age") else f"{task}.label"])}
        if task.startswith("align"):
            # The reference's labels are pixels of the 128 px input.
            batch["label"] = (batch["label"] + 0.5) / 128
        losses[task], terms = faceptor.task_loss(task, output, batch, classifier)
        assert [float(t) for t in terms] == pytest.approx(expected["parts"][task], rel=2e-5, abs=2e-6), task
        if task.startswith("age"):
            target = faceptor.age_target(batch["label"])
            np.testing.assert_allclose(target.numpy(), inputs[f"{task}.distribution"], atol=1e-6)
    assert float(faceptor.total(losses, weights)) == pytest.approx(expected["total"], rel=1e-5)


def test_heatmaps_and_soft_argmax_are_the_official_ones():
    held = np.load(reference(REFERENCE / "geometry/geometry.npz"))
    from faceptor_models.published.interpreters import soft_argmax, weighted_mean_place

    maps = faceptor.heatmap_target(torch.from_numpy(held["normalized"]), 128)
    np.testing.assert_allclose(maps.numpy(), held["heatmap128_r5"], atol=1e-4)
    np.testing.assert_allclose(soft_argmax(torch.from_numpy(held["logits"])).numpy(), held["soft_argmax"], atol=1e-6)
    zero = weighted_mean_place(torch.zeros(1, 1, 32, 48))
    assert zero.flatten().tolist() == pytest.approx([0.5 / 48, 0.5 / 32])


def test_cosface_takes_the_margin_from_the_true_class():
    embedding, classifier = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    loss = faceptor.cosface(embedding, classifier, torch.tensor([1]))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(0 - 64 * (1 - 0.4))), abs=1e-6)
    loss = faceptor.cosface(embedding, classifier, torch.tensor([0]))
    assert float(loss) == pytest.approx(64 * (1 + 0.4), rel=1e-6)


def test_unknown_attributes_have_no_loss_and_the_sum_is_over_the_batch():
    logits = torch.tensor([[0.0, 5.0, 2.0], [1.0, 0.0, -7.0]])
    labels = torch.tensor([[1, -1, 0], [-1, 0, -1]])
    expected = (math.log(2) + math.log(1 + math.exp(2)) + math.log(2)) / 2
    assert float(faceptor.attributes(logits, labels)) == pytest.approx(expected, rel=1e-6)


def test_heatmap_target_off_the_grid_and_beyond_the_radius():
    size = 16
    point = torch.tensor([[[(4.3 + 0.5) / size, (9.0 + 0.5) / size]]])
    target = faceptor.heatmap_target(point, size)[0, 0]
    assert float(target[9, 4]) == pytest.approx(math.exp(-8 * 0.3**2 / 25), rel=1e-4) and float(target.max()) < 1
    assert target[9, 10] == 0 and target[9, 9] > 0
    outside = faceptor.heatmap_target(torch.tensor([[[-2.5 / size, 0.5]]]), size)[0, 0]
    assert outside[8, 0] > 0 and outside.max() < 1


def test_the_total_is_divided_by_the_weights_of_the_present_tasks():
    losses = {"age_a": torch.tensor(2.0), "align_b": torch.tensor(8.0)}
    assert float(faceptor.total(losses, {"age_a": 1.0, "align_b": 3.0, "parsing_c": 100.0})) == pytest.approx((2 + 24) / 4)


def test_perceptual_features_have_unit_length_over_the_tokens():
    found, target = torch.tensor([[[3.0], [4.0]]]), torch.tensor([[[0.0], [2.0]]], requires_grad=True)
    expected = ((0.6 - 0) ** 2 + (0.8 - 1) ** 2) / 2
    loss = mcf.perceptual([found, found], [target, target])
    assert float(loss) == pytest.approx(2 * expected) and not loss.requires_grad


def test_contrast_labels_follow_the_rank_and_the_key_gets_no_gradient():
    query = torch.tensor([[2.0, 0.0], [0.0, 1.0]], requires_grad=True)
    keys = torch.tensor([[0.0, 3.0], [0.0, 3.0], [5.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = mcf.contrastive(query, keys, temperature=0.2, rank=1)
    # Query 0 equals key 2 alone, query 1 equals keys 0, 1 and 3.
    first, second = math.log(1 + 3 * math.exp(-5)), math.log(3 + math.exp(-5))
    assert loss.item() == pytest.approx((first + second) / 2 * 0.4, rel=1e-5)
    loss.backward()
    assert keys.grad is None and query.grad is not None


def test_the_total_of_mcf_weights_the_reconstruction_by_a_thousand():
    torch.manual_seed(0)
    features = [torch.randn(2, 5, 3) for _ in range(4)]
    output = {"features_pseudo": features, "features_real": [f + 0.1 for f in features], "query": torch.randn(2, 4), "key": torch.randn(2, 4)}
    loss, mim, contrast = mcf.total(output)
    assert float(loss) == pytest.approx(1000 * float(mim) + float(contrast), rel=1e-6) and float(mim) > 0


def test_the_objective_of_tcdcn_equals_values_computed_by_hand():
    outputs = {"landmark": torch.tensor([[1.0, 2.0]]), "smile": torch.tensor([[0.0, 0.0]]), "pose": torch.tensor([[1.0, 0.0]])}
    labels = {"landmark": torch.tensor([[0.0, 4.0]]), "smile": torch.tensor([1]), "pose": torch.tensor([0])}
    weights = [torch.tensor([[2.0, 1.0]]), torch.tensor([9.0])]
    loss, terms = tcdcn.objective(outputs, labels, {"smile": 0.5, "pose": 0.0}, weights, decay=0.1)
    assert float(terms["landmark"]) == 2.5 and float(terms["smile"]) == pytest.approx(math.log(2))
    assert float(loss) == pytest.approx(2.5 + 0.5 * math.log(2) + 0.1 * 5)


def jaccard_of_hard(prediction, labels, classes):
    """Returns the mean Jaccard loss over the classes present, which Lovasz-softmax equals on certain predictions."""
    losses = []
    for c in classes:
        a, b = prediction == c, labels == c
        losses.append(1 - (a & b).sum().item() / (a | b).sum().item())
    return sum(losses) / len(losses)


def test_lovasz_of_certain_predictions_is_the_jaccard_loss():
    torch.manual_seed(3)
    labels, prediction = torch.randint(0, 3, (2, 6, 6)), torch.randint(0, 4, (2, 6, 6))
    logits = F.one_hot(prediction, 4).permute(0, 3, 1, 2).float() * 100
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(jaccard_of_hard(prediction, labels, [0, 1, 2]), abs=1e-5)
    labels[:, :3] = 255
    held = labels != 255
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(jaccard_of_hard(prediction[held], labels[held], [0, 1, 2]), abs=1e-5)
    assert float(lovasz_softmax(logits, torch.full_like(labels, 255))) == 0


def test_edges_lie_where_the_class_changes_and_not_at_ignored_pixels():
    labels = torch.zeros(1, 7, 9, dtype=torch.long)
    labels[:, :, 4:] = 2
    binary, category = edge_criterion.edges_of(labels)
    assert binary[0, 3].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert category[0, 3].tolist() == [0, 0, 0, 0, 2, 2, 0, 0, 0]
    labels[:, :, 4] = 255
    binary, category = edge_criterion.edges_of(labels)
    assert not binary.any() and category[0, 3, 4] == 255


def case(seed=0, classes=3, side=6):
    torch.manual_seed(seed)
    labels = torch.randint(0, classes, (2, side, side))
    labels[0, 0, :2] = 255
    binary, category = edge_criterion.edges_of(labels)
    outputs = {
        "seg": torch.randn(2, classes, side, side), "binary_edge": torch.randn(2, 2, side, side),
        "semantic_edge": torch.randn(2, classes, side, side),
    }  # fmt: skip
    binary = (binary * (torch.rand(2, side, side) > 0.5)).long()
    return outputs, edge_criterion.Targets(labels, binary, torch.where(category == 255, category, category * binary))


def test_criterion_counts_each_term_once_and_the_flag_as_the_official_code():
    outputs, targets = case()
    loss, terms = edge_criterion.criterion(outputs, targets)
    assert float(loss) == pytest.approx(sum(float(v) for v in terms.values()) + 3 * float(terms["attention_binary"]), rel=1e-5)
    loss, bugs = edge_criterion.criterion(outputs, targets, official_bugs=True)
    by_hand = 4 * bugs["parsing"] + bugs["binary"] + 2 * bugs["category"] + 4 * bugs["attention_binary"] + bugs["attention_category"]
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-5)
    seg, labels = outputs["seg"], targets.parsing
    assert float(terms["parsing"]) == pytest.approx(
        0.5 * float(lovasz_softmax(seg, labels) + F.cross_entropy(seg, labels, ignore_index=255)), rel=1e-5
    )


def test_class_weights_of_the_edges_follow_the_formula():
    labels = torch.tensor([[[1, 0, 0, 0, 255]]])
    assert edge_criterion.binary_weights(labels).tolist() == [0.25, 0.75]
    labels = torch.tensor([[[0, 0, 0, 2, 255]]])
    assert edge_criterion.category_weights(labels, 3, True).tolist() == [0.75, 0.0, 0.25]
    assert edge_criterion.category_weights(labels, 3, False).tolist() == [0.25, 1.0, 0.75]


def test_attention_is_a_mean_over_edge_pixels_and_survives_images_without_any():
    logits = torch.zeros(2, 2, 1, 4)
    labels, edges = torch.zeros(2, 1, 4, dtype=torch.long), torch.tensor([[[0, 2, 1, 255]], [[0, 0, 0, 0]]])
    assert float(edge_criterion.attention(logits, labels, edges, False)) == pytest.approx(math.log(2) / 2)
    assert math.isnan(float(edge_criterion.attention(logits, labels, edges, True)))
    edges[1, 0, 0] = 1
    edges[0, 0, 3] = 0
    assert float(edge_criterion.attention(logits, labels, edges, True)) == pytest.approx((1.5 + 1) * math.log(2) / 2)


def test_refined_targets_mix_logits_and_labels_by_the_cycle():
    soft = torch.tensor([2.0, -2.0]).reshape(1, 2, 1, 1)
    labels = torch.tensor([[[1]]])
    found = edge_criterion.refined(soft, labels, 3).flatten().tolist()
    assert found == pytest.approx([0.75 * 2, 0.75 * -2 + 0.25])
    target = torch.tensor(found).softmax(0)
    logits = torch.tensor([0.3, 0.1]).reshape(1, 2, 1, 1)
    expected = float((target * (target.log() - torch.tensor([0.3, 0.1]).log_softmax(0))).sum())
    loss = edge_criterion.divergence(logits, edge_criterion.refined(soft, labels, 3), torch.tensor([[[True]]]))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_ignored_pixels_stay_ignored_in_the_cycles_unless_the_flag_is_set():
    outputs, targets = case(1)
    soft = {f"soft_{k}": outputs[n].clone() for k, n in (("parsing", "seg"), ("binary", "binary_edge"), ("category", "semantic_edge"))}
    targets = edge_criterion.Targets(targets.parsing, targets.binary, targets.category, **soft)
    before = edge_criterion.criterion(outputs, targets, cycle=2)[0]
    kept = targets.parsing.clone()
    moved = {k: v.clone() for k, v in outputs.items()}
    for value in moved.values():
        value[0, :, 0, :2] += torch.randn(value.shape[1], 2)
    assert float(edge_criterion.criterion(moved, targets, cycle=2)[0]) == pytest.approx(float(before), rel=1e-5)
    bugs = [float(edge_criterion.criterion(o, targets, cycle=2, official_bugs=True)[0]) for o in (outputs, moved)]
    assert abs(bugs[0] - bugs[1]) > 1e-4 and torch.equal(targets.parsing, kept)


def test_in_the_official_cycles_the_category_attention_counts_the_ignored_pixels_as_background():
    outputs, targets = case(2)
    soft = {f"soft_{k}": outputs[n].clone() for k, n in (("parsing", "seg"), ("binary", "binary_edge"), ("category", "semantic_edge"))}
    targets = edge_criterion.Targets(targets.parsing, targets.binary, targets.category, **soft)
    assert (targets.category == 255).any()
    _, terms = edge_criterion.criterion(outputs, targets, cycle=1, official_bugs=True)
    cross = F.cross_entropy(outputs["seg"], targets.parsing * (targets.parsing != 255), reduction="none")
    edges = targets.category * (targets.category != 255)
    by_hand = sum(float((c * e).sum() / (e > 0).sum()) for c, e in zip(cross, edges)) / 2
    assert float(terms["attention_category"]) == pytest.approx(by_hand, rel=1e-5)


def test_a_batch_without_labels_has_a_finite_loss():
    outputs, targets = case(3)
    ignored = torch.full_like(targets.parsing, 255)
    loss, terms = edge_criterion.criterion(outputs, edge_criterion.Targets(ignored, torch.zeros_like(ignored), ignored))
    assert torch.isfinite(loss) and float(terms["parsing"]) == 0
