"""Tests distillation: teachers' answers in the aligned frame, the student's targets, losses by the formulas, a whole run."""

import csv
import math

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from faceptor_models import command
from faceptor_models.common import geometry
from faceptor_models.common.distributed import World
from faceptor_models.common.errors import Refused
from faceptor_models.common.labels import ATTRIBUTES, EXPRESSIONS, LANDMARK_FLIP, PARSING
from faceptor_models.published import distillation_students, task_matching, teachers
from faceptor_models.published.clip_vit import ClipVitConfig
from faceptor_models.published.decoder import DecoderConfig
from faceptor_models.published.faceptor import Faceptor, FaceptorConfig
from faceptor_models.published.losses import distillation as losses
from faceptor_models.published.recipes import distill
from faceptor_models.published.recipes.crops import FACEPTOR_NAMES, PARSING_TABLE
from faceptor_models.published.recipes.distillation import Distillation, DistillationSettings, StudentSettings
from faceptor_models.published.recipes.run import Run
from faceptor_models.student.network import AGE_BINS, Student
from tests import official_files, small_crops

torch.set_num_threads(1)
CONFIGS = small_crops.CONFIGS
CROPS = small_crops.crops(8)
PICTURE = np.random.default_rng(5).integers(0, 255, (96, 96, 3), np.uint8)
HEADS = ["--encoder-heads", "4", "--decoder-heads", "4", "--levels", "2", "--new-levels", "0"]


@pytest.fixture(scope="module")
def faceptor(tmp_path_factory):
    """Imports a Faceptor of a small size."""
    folder = tmp_path_factory.mktemp("teacher")
    vit = ClipVitConfig(width=24, layers=3, heads=4, patch=16, mlp=48, grid=4, proj=8)
    decoder = DecoderConfig(16, 4, 2, 32, (2,), (0,))
    tasks = {"recog_ms1mv3": 2, "age_utkface": 101, "biattr_celeba": 40, "affect_rafdb": 7, "parsing_celebam": 19, "align_300w": 68, "align_aflw": 19}
    model = official_files.shaken(Faceptor(FaceptorConfig(tasks, vit, decoder, 24, 12)))
    path = official_files.save(folder / "teacher.pth.tar", official_files.ddp(model))
    assert command.main(["import", str(path), "--out", str(folder / "export"), *HEADS]) == 0
    return folder / "export", model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Writes ONNX files of a recognition network and of one with 68 points."""
    folder = tmp_path_factory.mktemp("files")
    for name, out in (("mobilefacenet_small", 6), ("pfld_small", 136)):
        torch.manual_seed(out)
        model = nn.Sequential(nn.Conv2d(3, 4, 7, 7), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(16, out), nn.Sigmoid())
        torch.onnx.export(model, torch.zeros(1, 3, 112, 112), str(folder / f"{name}.onnx"), dynamo=False)
    return folder


def recipe(folder, config, teachers_, *changes):
    small = ["run={iterations=6,log_every=1,save_every=3}", "targets={px=16,held_out=12}", "data.hold_out=0.25", "task.batch=4"]
    held = distill.prepared(CONFIGS / config, "tiny", [*small, *changes], teachers_)
    torch.manual_seed(0)
    return Distillation(held, CROPS, World(), folder, log=lambda *a: None), held


def test_answers_of_an_export_equal_the_imported_networks(faceptor):
    folder, model = faceptor
    teacher = teachers.open_teacher(folder)
    answer = teacher.answer(PICTURE, 16)
    views = {taught.name: taught.view for taught in teacher.tasks}
    with torch.no_grad():
        image = torch.from_numpy(views["affect_rafdb"].tensor(PICTURE))[None]
        raw = model.logits(image, ["affect_rafdb", "age_utkface", "recog_ms1mv3"])
        box = torch.from_numpy(views["align_300w"].tensor(PICTURE))[None]
        dense = model.logits(box, ["align_300w"])["align_300w"]
        decoder = model.heads_module.decoder
        decoded = decoder.decode("align_300w", decoder.remember(model.backbone_module(box))[0])
    np.testing.assert_allclose(answer["affect_rafdb"]["values"], raw["affect_rafdb"].softmax(-1)[0], atol=1e-5)
    embedding = raw["recog_ms1mv3"][0]
    np.testing.assert_allclose(answer["recog_ms1mv3"]["vector"], embedding / embedding.norm(), atol=1e-5)
    np.testing.assert_allclose(answer["align_300w"]["queries"], decoded[0], atol=1e-4)
    # The heat map's place of a frame's grid point is where the group sees that point of the crop.
    places = views["align_300w"].places(16, 16)
    expected = cv2.remap(
        dense[0].permute(1, 2, 0).numpy(), *np.moveaxis(places, -1, 0).astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    np.testing.assert_allclose(answer["align_300w"]["maps"], expected.transpose(2, 0, 1), atol=1e-3)
    assert answer["align_300w"]["points"].shape == (68, 2) and answer["parsing_celebam"]["maps"].shape == (19, 16, 16)


def test_points_and_maps_of_a_view_agree(faceptor):
    teacher = teachers.open_teacher(faceptor[0])
    for taught in teacher.tasks:
        grid = taught.view.places(8, 32)
        # Map pixels to 0..1 of the tensor, and back to the frame as a point: the requested grid.
        points = taught.view.points(((grid + 0.5) / 32).reshape(-1, 2)).reshape(8, 8, 2)
        expected = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1) / 8
        assert np.abs(points - expected).max() < 1e-6, taught.name


def test_points_and_places_of_the_fovea_agree():
    view = teachers.FoveaView(32, [127.5] * 3, [127.5] * 3)
    points = view.points(((view.places(8, 16) + 0.5) / 16).reshape(-1, 2)).reshape(8, 8, 2)
    np.testing.assert_allclose(points, np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1) / 8, atol=1e-6)
    assert view.tensor(PICTURE).shape == (3, 32, 32)


def test_single_files_are_known_by_name_or_described(files, tmp_path):
    answer = teachers.open_teacher(files / "mobilefacenet_small.onnx").answer(PICTURE, 8)["recognition"]
    assert answer["vector"].shape == (6,) and np.linalg.norm(answer["vector"]) == pytest.approx(1, abs=1e-5)
    points = teachers.open_teacher(files / "pfld_small.onnx").answer(PICTURE, 8)["landmarks"]["points"]
    # All points lie in the box that the network was shown: nine tenths of the side are the face.
    x, y, side = teachers.FACE_BOX
    assert points.shape == (68, 2) and (np.abs(points - (x, y)) < side / 0.9 / 2 + 1e-6).all()
    other = tmp_path / "other.onnx"
    other.write_bytes((files / "pfld_small.onnx").read_bytes())
    with pytest.raises(Refused, match="describe it"):
        teachers.open_teacher(other)
    described = teachers.open_teacher(other, {"other": teachers.OnnxFile("landmarks", align="keypoints")})
    assert described.tasks[0].view.group.template is not None
    other.write_bytes(b"no network")
    for path in (other, tmp_path / "nothing", tmp_path):
        with pytest.raises(Refused):
            teachers.open_teacher(path, {"other": teachers.OnnxFile("landmarks")})


def test_losses_equal_values_computed_by_hand():
    target = torch.tensor([[0.5, 0.5, 0.0]])
    logits = torch.log(torch.tensor([[0.25, 0.5, 0.25]]))
    assert float(losses.divergence(logits, target)) == pytest.approx(0.5 * math.log(2), abs=1e-5)
    # A class that the teacher does not have does not count: 1/3 and 2/3 are left.
    known = torch.tensor([[True, True, False]])
    assert float(losses.divergence(logits, target, known)) == pytest.approx(0.5 * math.log(0.5 / (1 / 3)) + 0.5 * math.log(0.5 / (2 / 3)), abs=1e-4)
    assert float(losses.distribution_divergence(torch.tensor([[0.25, 0.75]]), torch.tensor([[1.0, 1.0]]))) == pytest.approx(
        0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-5
    )
    p, q = 0.2, 0.7
    expected = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
    assert float(losses.binary(torch.tensor([math.log(p / (1 - p))]), torch.tensor([q]))) == pytest.approx(expected, abs=1e-5)
    maps, seen = torch.zeros(1, 2, 1, 2), torch.tensor([[[1.0, 0.0]]])
    teacher = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    assert float(losses.pixels(maps, teacher, seen)) == pytest.approx(math.log(2), abs=1e-4)
    heat = torch.tensor([[[[3.0, 1.0, 9.0]]]])
    part = torch.tensor([[[True, True, False]]])
    assert float(losses.places(torch.zeros(1, 1, 1, 3), heat, part)) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-4)
    a, b = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert float(losses.relation(a, b)) == pytest.approx(0.5) and float(losses.relation(a, 3 * a)) == 0
    assert losses.vectors(a, torch.tensor([[1.0, 0.0], [0.0, -1.0]])).tolist() == pytest.approx([0, 2]) and not losses.vectors(a, b).any()
    assert float(losses.queries(a[None], a[None] * 5)) == pytest.approx(0, abs=1e-6)


def test_answers_are_in_the_students_order_and_bins():
    names = [FACEPTOR_NAMES[n] for n in PARSING][::-1]
    m = task_matching.match(0, teachers.TeacherTask("p", "parsing", names, queries=19), {})
    maps = np.arange(19, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    made = task_matching.translated(m, {"maps": maps, "queries": maps[:, :, 0]})
    assert made["maps"][:, 0, 0].tolist() == list(range(18, -1, -1)) and made["queries"][:, 0].tolist() == list(range(18, -1, -1))
    # The order agrees with the table by which Faceptor's own training reads the same masks.
    official = task_matching.match(0, teachers.TeacherTask("p", "parsing", teachers.official.CELEBAMASK, queries=19), {})
    assert official.index == PARSING_TABLE[:19].tolist()
    m = task_matching.match(0, teachers.TeacherTask("e", "expression", ["happiness", "neutral"]), {})
    made = task_matching.translated(m, {"values": np.float32([0.75, 0.25])})["values"]
    assert made[EXPRESSIONS.index("happiness")] == 0.75 and made[EXPRESSIONS.index("neutral")] == 0.25 and made.sum() == 1 and m.known.sum() == 2
    m = task_matching.match(0, teachers.TeacherTask("smile", "classes", ["smiling", "not_smiling"]), {})
    made = task_matching.translated(m, {"values": np.float32([0.9, 0.1])})["values"]
    assert [ATTRIBUTES[i] for i in np.nonzero(m.known)[0]] == ["Smiling"] and made[m.known] == np.float32(0.9)
    m = task_matching.match(0, teachers.TeacherTask("age", "age", bins=[float(i) for i in range(101)]), {})
    made = task_matching.translated(m, {"values": np.eye(101, dtype=np.float32)[37]})["values"]
    assert made @ np.array(AGE_BINS) == pytest.approx(37) and made.sum() == pytest.approx(1)
    for taught, shapes in (
        (teachers.TeacherTask("lapa", "parsing", ["background", "face"]), {}), (teachers.TeacherTask("aflw", "landmarks"), {"points": (19, 2)}),
        (teachers.TeacherTask("pose", "classes", ["left", "right"]), {}), (teachers.TeacherTask("e", "expression", ["boredom"]), {}),
    ):  # fmt: skip
        assert isinstance(task_matching.match(0, taught, shapes), str)


@pytest.mark.parametrize("seed", range(4))
def test_points_and_maps_move_with_the_jittered_crop(seed):
    """The teacher's heat maps have their peaks at its points, and its mask is a disc about one of them."""
    student = distillation_students.OwnStudent(DistillationSettings(student=StudentSettings(size="nano", px=64)))
    rng, n = np.random.default_rng(seed), 64
    points = (0.5 + rng.uniform(-0.15, 0.15, (68, 2))).astype(np.float32)
    y, x = np.mgrid[0:n, 0:n] / n
    heat = 8 - 400 * ((x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2)
    mask = np.full((19, n, n), -9.0)
    mask[PARSING.index("l_eye")] = np.where((x - points[45, 0]) ** 2 + (y - points[45, 1]) ** 2 < 0.004, 9, -20)
    seen = np.ones((n, n), bool)
    landmarks = task_matching.Match(0, teachers.TeacherTask("points", "landmarks"), "landmarks", list(range(68)))
    parsing = task_matching.Match(0, teachers.TeacherTask("mask", "parsing"), "parsing", list(range(19)))
    answers = {landmarks.key: {"points": points, "maps": heat, "seen": seen}, parsing.key: {"maps": mask, "seen": seen}}
    crop = np.zeros((96, 96, 4), np.uint8)
    made = student.sample(crop, rng, [landmarks, parsing], answers, lambda task: None)
    found, chances = made["0.points.points"], made["0.points.maps"]
    row, column = np.unravel_index(chances.reshape(68, -1).argmax(1), (32, 32))
    inner = (np.abs(found - 0.5) < 0.4).all(1)
    assert inner.sum() > 30 and np.abs((np.stack([column, row], -1) + 0.5) / 32 - found)[inner].max() < 1.2 / 32
    # Names follow the mirror: the person's left eye stays the person's left eye.
    eye = made["0.mask.maps"][PARSING.index("l_eye")] > 0.5
    place = np.argwhere(made["0.mask.maps"][PARSING.index("r_eye" if made["flip"] else "l_eye")] > 0.5)
    assert len(place) and not (made["flip"] and eye.any())
    corner = LANDMARK_FLIP.index(45) if made["flip"] else 45
    assert np.abs((place.mean(0)[::-1] + 0.5) / 32 - found[corner]).max() < 2.5 / 32


def test_labels_replace_the_teachers_answers(faceptor, tmp_path):
    made, _ = recipe(tmp_path / "t", "distill_student.toml", [faceptor[0]])
    seen = set()
    for position, (source, row) in enumerate(made.entries):
        with_labels, without = (made.sample(position, None, labels=v) for v in (True, False))
        held = CROPS.labels[source]
        changed = {k.split(".")[1] for k in with_labels if "." in k and not np.array_equal(with_labels[k], without[k])}
        seen |= {(source, c) for c in changed}
        if source == "celeba":
            values, known = with_labels["0.biattr_celeba.values"], held.attributes[row] != 0
            assert np.array_equal(values[known], (held.attributes[row] > 0)[known])
            assert np.array_equal(values[~known], without["0.biattr_celeba.values"][~known])
        elif source == "utk":
            assert float(with_labels["0.age_utkface.values"] @ np.array(AGE_BINS)) == pytest.approx(np.clip(held.age_low[row], 2, 98), abs=3)
        elif source == "w300":
            np.testing.assert_allclose(with_labels["0.align_300w.points"], geometry.frame_to_network(held.landmarks[row]), atol=1e-5)
            assert with_labels["0.align_300w.people"] and not with_labels["0.align_300w.seen"].any()
        elif source in ("rafdb", "ferplus"):
            assert with_labels["0.affect_rafdb.values"].argmax() == held.expression[row].argmax() and with_labels["0.affect_rafdb.known"].all()
            assert without["0.affect_rafdb.known"].sum() == 7
    wanted = {"celeba": "biattr_celeba", "utk": "age_utkface", "w300": "align_300w", "rafdb": "affect_rafdb", "ferplus": "affect_rafdb"}
    assert seen == {*wanted.items(), ("celebamask", "parsing_celebam")}


def test_labels_for_a_small_faceptor_are_in_its_own_order(faceptor, tmp_path):
    made, _ = recipe(tmp_path / "t", "distill_faceptor.toml", [faceptor[0]])
    changed = set()
    for position, (source, row) in enumerate(made.entries):
        with_labels, without = (made.sample(position, None, labels=v) for v in (True, False))
        held = CROPS.labels[source]
        changed |= {(source, k.split(".")[1]) for k in with_labels if not np.array_equal(with_labels[k], without[k])}
        if source == "utk":
            assert with_labels["0.age_utkface.values"] @ np.arange(101) == pytest.approx(held.age_low[row], abs=3)
        elif source == "rafdb":
            name = EXPRESSIONS[int(held.expression[row].argmax())]
            assert teachers.official.EXPRESSIONS[int(with_labels["0.affect_rafdb.values"].argmax())] == name
        elif source == "celebamask":
            maps, (said,) = with_labels["0.parsing_celebam.maps"], CROPS.masks[row : row + 1]
            present = {int(PARSING_TABLE[v]) for v in np.unique(said) if v != 255}
            sure = maps.max(0) == 1.0
            assert sure.any() and set(np.unique(maps.argmax(0)[sure])) <= present
        elif source == "w300":
            view = made.student.views["box80"][0]
            found = view.points(with_labels["0.align_300w.points"])
            np.testing.assert_allclose(found, held.landmarks[row], atol=1e-4)
    wanted = {("utk", "age_utkface"), ("rafdb", "affect_rafdb"), ("ferplus", "affect_rafdb"), ("celeba", "biattr_celeba"), ("w300", "align_300w")}
    assert changed == wanted | {("celebamask", "parsing_celebam")}


def test_query_features_are_matched_where_both_have_the_task(faceptor, files, tmp_path):
    made, _ = recipe(tmp_path / "t", "distill_student.toml", [faceptor[0], files / "mobilefacenet_small.onnx"])
    assert sorted(made.model.adapters) == ["0 affect_rafdb queries", "0 align_300w queries", "0 parsing_celebam queries"]
    batch = {k: torch.from_numpy(v) for k, v in made.batch(0).items()}
    before = made.losses(made.model, batch)
    for v in before.values():
        assert torch.isfinite(v)
    # A teacher of another vector length teaches only similarities; its own width does not matter.
    assert made.targets.shapes(1, made.teachers[1].tasks[0])["vector"] == (6,)
    made.settings.weight.queries = 0.0
    after = made.losses(made.model, batch)
    more = {k for k in before if float(before[k]) > float(after[k])}
    assert more <= {"expression", "landmarks", "parsing"} and (more or bool(batch["flip"].all()))
    made.model.train()
    made.total(before).backward()
    assert made.model.adapters["0 parsing_celebam queries"].weight.grad is not None


def test_a_task_is_learned_from_the_named_teacher_task_and_unknown_ones_are_refused(faceptor, tmp_path):
    made, _ = recipe(tmp_path / "t", "distill_student.toml", [faceptor[0], faceptor[0]], "match.age=age_utkface")
    assert sum(m.task == "age" for m in made.matches) == 2 and "export: align_aflw" in made.left_out
    for change in ("match.age=age_nobody", "targets.sources=['nobody']", "student.kind=cnn", "student.px=50", "student.size=huge"):
        with pytest.raises(Refused):
            recipe(tmp_path / "u", "distill_student.toml", [faceptor[0]], change)
    with pytest.raises(Refused, match="other teachers"):
        recipe(tmp_path / "t", "distill_student.toml", [faceptor[0]])


def test_a_resumed_distillation_repeats_an_unbroken_one(faceptor, tmp_path):
    def run(out, resume=False):
        made, held = recipe(tmp_path / "targets", "distill_faceptor.toml", [faceptor[0]])
        return Run(made, held, tmp_path / out, World(), resume, log=lambda *a: None)

    whole = run("whole").train()
    run("parts").train(until=2)
    assert run("parts", True).train() == whole and len(whole) == 6


@pytest.mark.parametrize("config", ["distill_faceptor.toml", "distill_student.toml"])
def test_the_student_approaches_its_teacher_and_is_exported(config, faceptor, tmp_path, monkeypatch, capsys):
    """It runs the command, measures on held-out crops, and compares ONNX Runtime's answers of the exported student."""
    monkeypatch.setattr(distill, "crops_of", lambda *a: CROPS)
    changes = ["run={iterations=25,log_every=25,save_every=25}", "targets={px=16,held_out=12,labels=false}", "task.batch=8", "optimizer.rate=3e-3"]
    out = tmp_path / "run"
    arguments = [
        "distill",
        "--teacher",
        str(faceptor[0]),
        "--data",
        str(tmp_path),
        "--student",
        str(CONFIGS / config),
        "--variant",
        "tiny",
        "--out",
        str(out),
    ]
    assert command.main([*arguments, "--device", "cpu", *(v for c in changes for v in ("--set", c))]) == 0
    assert "held-out error" in capsys.readouterr().out
    with open(out / "errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    first, last = ({r["lesson"]: float(r["error"]) for r in rows if int(r["iteration"]) == i} for i in (0, 25))
    ratios = {k: last[k] / first[k] for k in first}
    assert np.exp(np.mean(np.log(list(ratios.values())))) < 0.6, ratios
    exported = teachers.open_teacher(out / "export")
    held = next(taught for taught in exported.tasks if taught.kind == "expression")
    values = exported.answer(PICTURE, 16)[held.name]["values"]
    assert values.sum() == pytest.approx(1, abs=1e-4)
    assert len([onnx.checker.check_model(str(path)) for path in (out / "export").glob("*.onnx")]) > 8
    if config == "distill_student.toml":
        net = Student("nano")
        net.load_average(torch.load(out / "model.pth", weights_only=True)["average"])


def test_a_folder_of_pictures_counts_as_data_without_labels(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((50, 50, 3), (10, 20, 30 + i), np.uint8))
    crops = distill.crops_of(tmp_path, tmp_path, 0.1)
    assert crops.pictures["folder"].shape == (3, 192, 192, 4) and crops.rgb("folder", 1)[0, 0].tolist() == [31, 20, 10]
    assert len(crops.held_out("folder")) == 1 and len(crops.training("folder")) == 2
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(Refused, match="60x50"):
        distill.crops_of(tmp_path, tmp_path, 0.1)
    (tmp_path / "wide.png").write_bytes(b"no picture")
    with pytest.raises(Refused, match="wide.png"):
        distill.crops_of(tmp_path, tmp_path, 0.1)
    with pytest.raises(Refused, match="neither"):
        distill.crops_of(tmp_path / "nothing", tmp_path, 0.1)
