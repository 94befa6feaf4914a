"""Tests `faceptor-models prepare` on tiny layouts made from the demo's photo; detector and teacher are stand-ins."""

import csv
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from faceptor_models.command import main
from faceptor_models.common.errors import Refused
from faceptor_models.common.geometry import TEMPLATE
from faceptor_models.common.labels import ATTRIBUTES, EXPRESSIONS, PARSING
from faceptor_models.common.packed_crops import Labels, more, table
from faceptor_models.prepare import align, build, screen
from faceptor_models.prepare.sets import aaf
from faceptor_models.student.loader import Batches, shares

PHOTO = Path(__file__).parent.parent / "demo/astronaut.jpg"
# In the photo's pixels.
EYES_NOSE_MOUTH = np.array([[207.0, 113.0], [242.0, 112.0], [226.0, 133.0], [211.0, 150.0], [242.0, 148.0]])
BOX = np.array([183.0, 62.0, 84.0, 112.0])
CENTRED = slice(107, 343)  # columns of the square of the photo's first rows that has the face in its middle


@pytest.fixture(scope="module")
def photo():
    return np.asarray(Image.open(PHOTO).convert("RGB"))


@pytest.fixture
def networks(monkeypatch, tmp_path, photo):
    """Returns options with a detector that knows the photo's face at any size, and a teacher that answers with mean colours."""

    class Detector:
        def __init__(self, path):
            pass

        def faces(self, rgb):
            if rgb.shape[1] == CENTRED.stop - CENTRED.start:  # the part of the photo with the face in its middle
                return [align.Found(0.9, BOX - [CENTRED.start, 0, 0, 0], (EYES_NOSE_MOUTH - [CENTRED.start, 0]).astype(np.float32))]
            times = rgb.shape[1] / photo.shape[1]
            return [] if rgb.max() == 0 else [align.Found(0.9, BOX * times, (EYES_NOSE_MOUTH * times).astype(np.float32))]

    monkeypatch.setattr(build, "Detector", Detector)
    (tmp_path / "detector.onnx").write_bytes(b"-")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 112, 112])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, 128])
    weight = np.random.default_rng(1).normal(size=(3 * 16, 128)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["image"], ["small"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["small"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["vector"]),
    ]
    graph = helper.make_graph(nodes, "teacher", [image], [vector], [helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel())])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "teacher.onnx")
    return ["--detector", str(tmp_path / "detector.onnx"), "--teacher", str(tmp_path / "teacher.onnx")]


def save(rgb, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tinted(photo, i):
    """Returns another person by mean colours: the photo with its colours changed."""
    rng = np.random.default_rng(i)
    patches = cv2.resize(rng.uniform(0, 255, (24, 24, 3)).astype(np.float32), photo.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return np.clip(0.4 * photo + 0.6 * patches, 1, 255).astype(np.uint8)


def layouts(photo, root):
    """Writes every data set in its owners' layout, with two training photos and one for dev."""
    a, b, c = (tinted(photo, i) for i in range(3))
    points = np.repeat(EYES_NOSE_MOUTH, [14, 14, 14, 13, 13], axis=0) + 1
    pts = "version: 1\nn_points:  68\n{\n" + "\n".join(f"{x} {y}" for x, y in points) + "\n}\n"
    for part, picture in (("helen/trainset", a), ("afw", b), ("helen/testset", c)):
        save(picture, root / "w300" / part / "1_1.jpg")
        write(root / "w300" / part / "1_1.pts", pts)
    mask = np.zeros((256, 256), np.uint8)
    mask[70:, 90:130] = 255
    hair = np.zeros((256, 256), np.uint8)
    hair[:60] = 255
    for i, picture in enumerate((a, b, c)):
        save(picture, root / "celebamask/CelebA-HQ-img" / f"{i}.jpg")
        save(mask, root / "celebamask/CelebAMask-HQ-mask-anno/0" / f"{i:05d}_skin.png")
        save(hair, root / "celebamask/CelebAMask-HQ-mask-anno/0" / f"{i:05d}_hair.png")
    write(root / "celebamask/CelebA-HQ-to-CelebA-mapping.txt", "idx orig_idx orig_file\n" + "".join(f"{i} {i} {i:06d}.jpg\n" for i in range(3)))
    write(root / "celebamask/list_eval_partition.txt", "000000.jpg 0\n000001.jpg 0\n000002.jpg 2\n")
    for i, picture in enumerate((a, b, c)):
        save(picture, root / "utk" / f"{30 + i}_1_2_2017010{i}.jpg.chip.jpg")
        save(picture, root / "utk" / f"{30 + i}_1_2017010{i}.jpg")  # lacks a field
    for part, pictures, rows in (("train", (a, b), "3-9,Male|Oct-19,Female"), ("val", (c,), "more than 70,Male")):
        lines = [f"{part}/{i + 1}.jpg,{row},Indian,TRUE" for i, row in enumerate(rows.split("|"))]
        write(root / f"fairface/fairface_label_{part}.csv", "file,age,gender,race,service_test\n" + "\n".join(lines) + "\n")
        for i, picture in enumerate(pictures):
            save(picture, root / "fairface" / part / f"{i + 1}.jpg")
    head = f"4\n{' '.join(ATTRIBUTES)} \n"
    write(root / "celeba/list_attr_celeba.txt", head + "".join(f"00000{i}.jpg " + " ".join(["1", "-1"] * 20) + "\n" for i in range(1, 5)))
    write(root / "celeba/list_eval_partition.txt", "000001.jpg 0\n000002.jpg 0\n000003.jpg 2\n000004.jpg 1\n")
    write(root / "celeba/identity_CelebA.txt", "000001.jpg 77\n000002.jpg 78\n000003.jpg 79\n")
    for i, picture in enumerate((a, b, c)):
        save(picture, root / "celeba/img_align_celeba" / f"00000{i + 1}.jpg")
    write(root / "rafdb/basic/EmoLabel/list_patition_label.txt", "train_00001.jpg 5\ntrain_00002.jpg 7\ntest_0001.jpg 4\n")
    for name, picture in (("train_00001", a), ("train_00002", b), ("test_0001", c)):
        save(picture, root / "rafdb/basic/Image/aligned" / f"{name}_aligned.jpg")
    votes = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    rows = [
        "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0",
        "Training,fer0000001.png,0,0,0,0,0,0,0,0,2,8",
        "PrivateTest,fer0000002.png,9,1,0,0,0,0,0,0,0,0",
    ]
    write(root / "ferplus/fer2013new.csv", f"Usage,Image name,{votes}\n" + "\n".join(rows) + "\n")
    for part, name, picture in (("FER2013Train", "fer0000000", a), ("FER2013Test", "fer0000002", c)):
        save(cv2.cvtColor(cv2.resize(picture, (48, 48)), cv2.COLOR_RGB2GRAY), root / "ferplus/data" / part / f"{name}.png")
    write(root / "lfw/pairs.txt", "1\t1\nAda\t1\t2\nAda\t1\tBob\t1\n")
    for name, i, picture in (("Ada", 1, tinted(photo, 8)), ("Ada", 2, tinted(photo, 9)), ("Bob", 1, tinted(photo, 10))):
        save(picture[:236, CENTRED], root / "lfw" / name / f"{name}_{i:04d}.jpg")
    save(a, root / "muxspace/images/George_W_Bush_0001.jpg")
    save(b, root / "muxspace/images/web-face 7.jpg")
    return root


def prepare(sets, out, *options):
    return main(["prepare", *sets, "--out", str(out), *options])


def test_every_data_set_becomes_crops_with_its_labels(networks, photo, tmp_path, monkeypatch):
    root = layouts(photo, tmp_path / "owners")
    monkeypatch.setattr(screen, "OTHERS", 2.0)
    monkeypatch.setattr(screen, "NEAR_COPY", {})
    monkeypatch.setattr(screen, "LFW_PERSON", 2.0)
    names = [d.name for d in sorted(root.iterdir()) if d.name != "lfw"]
    assert prepare([f"{n}={root / n}" for n in names], tmp_path / "faces", *networks) == 0
    train = table(tmp_path / "faces/train/labels.npz")
    dev = table(tmp_path / "faces/dev/labels.npz")
    count = {n: (int((train["source"] == n).sum()), int((dev["source"] == n).sum())) for n in names}
    both = (2, 1)
    # UTKFace is split by name; in FER+ one photo is no face, in muxspace one is LFW's.
    utk = count.pop("utk")
    assert sum(utk) == 3
    assert count == {"w300": both, "celebamask": both, "fairface": both, "celeba": both, "rafdb": both, "ferplus": (1, 1), "muxspace": (1, 0)}
    row = {n: int(np.nonzero(train["source"] == n)[0][0]) for n in names}
    assert (train["age_low"][row["fairface"]], train["age_high"][row["fairface"]], train["male"][row["fairface"]]) == (3, 9, 1)
    assert train["age"][row["utk"]] in (30, 31, 32) and train["male"][row["utk"]] == 0
    assert train["attributes"][row["celeba"]].tolist() == [1, -1] * 20 and train["identity"][row["celeba"]] == 77
    assert EXPRESSIONS[train["expression_votes"][row["rafdb"]].argmax()] == "sadness"
    assert train["expression_votes"][row["ferplus"]].tolist() == [4, 0, 0, 1, 3, 2, 0, 0]
    assert train["landmarks_source"][row["w300"]] == 1
    # A labelled point lies where the keypoint of the same photo pixel lies.
    assert np.abs(train["landmarks"][row["w300"]][0] - train["keypoints"][row["w300"]][0]).max() <= 1
    assert np.abs((train["embedding"].astype(np.float32) ** 2).sum(1) - 1).max() < 1e-2
    # The keypoints determine the crops; the mask moves with its photo.
    with zipfile.ZipFile(tmp_path / "faces/train/celebamask.zip") as archive:
        crop = np.asarray(Image.open(archive.open(str(train["path"][row["celebamask"]]))).convert("RGB"))
        mask = np.asarray(Image.open(archive.open(str(train["mask"][row["celebamask"]]))))
    matrix = align.to_template(EYES_NOSE_MOUTH, TEMPLATE * 256)
    source = np.asarray(Image.open(root / "celebamask/CelebA-HQ-img/0.jpg").convert("RGB"))
    assert np.abs(crop.astype(int) - cv2.warpAffine(source, matrix, (256, 256))).mean() < 4
    assert {PARSING[v] for v in np.unique(mask) if v != 255} == {"background", "skin", "hair"}
    where = np.array([[220.0, 190.0]]) @ matrix[:, :2].T + matrix[:, 2]  # the mask has half the photo's size
    x, y = where[0].round().astype(int)
    assert 0 <= y < 256 and mask[y, x] == PARSING.index("skin")


def test_lfw_is_kept_out_of_training_and_its_pairs_are_written(networks, photo, tmp_path):
    root = layouts(photo, tmp_path / "owners")
    save(tinted(photo, 8), root / "muxspace/images/same.jpg")
    assert prepare([f"muxspace={root / 'muxspace'}"], tmp_path / "alone", *networks) == 0
    assert len(table(tmp_path / "alone/train/labels.npz")["path"]) == 2
    assert prepare([f"muxspace={root / 'muxspace'}", f"lfw={root / 'lfw'}"], tmp_path / "faces", *networks) == 0
    assert [str(p) for p in table(tmp_path / "faces/train/labels.npz")["path"]] == ["muxspace/web_face_7.webp"]
    rows = list(csv.reader((tmp_path / "faces/dev/lfw_pairs.csv").read_text().splitlines()))
    assert rows[1:] == [["1", "lfw/Ada_0001.webp", "lfw/Ada_0002.webp", "1"], ["1", "lfw/Ada_0001.webp", "lfw/Bob_0001.webp", "0"]]
    assert not (tmp_path / "faces/train/lfw.zip").exists()


def test_own_photos_may_have_a_task_of_their_own(networks, photo, tmp_path):
    folder = tmp_path / "mine"
    for i in range(3):
        save(tinted(photo, i), folder / f"p/{i}.png")
    save(np.zeros_like(photo), folder / "empty.png")
    write(folder / "broken.jpg", "no picture")
    lines = ["p/0.png,train,31,male,happiness,1,helmet", "p/1.png,train,20-29,,,,bare", "p/2.png,dev,,female,,,helmet"]
    lines += ["empty.png,train,,,,,", "broken.jpg,train,,,,,"]
    write(folder / "labels.csv", "file,split,age,sex,expression,Eyeglasses,task.head\n" + "\n".join(lines) + "\n")
    assert prepare([f"own={folder}"], tmp_path / "faces", *networks, "--packed", str(tmp_path / "packed")) == 0
    train = table(tmp_path / "faces/train/labels.npz")
    assert train["task.head"].tolist() == ["helmet", "bare"]
    assert train["age"][0] == 31 and (train["age_low"][1], train["age_high"][1]) == (20, 29)
    assert train["attributes"][0][ATTRIBUTES.index("Eyeglasses")] == 1 and train["male"].tolist() == [1, -1]
    assert '"own: no face found": 1' in (tmp_path / "faces/removed.json").read_text()
    assert '"own: unreadable": 1' in (tmp_path / "faces/removed.json").read_text()
    arrays, labels = more(tmp_path / "packed")
    assert arrays["own"].shape == (2, 192, 192, 4)
    assert Labels(labels, "own").age_high.tolist() == [31, 29]


@pytest.mark.parametrize(
    "line,said",
    [("a.png,old", "no CelebA"), ("a.png,-3x", "not a number"), ("b.png,31", "not in"), ("a.png,", "")],
)
def test_invalid_labels_are_refused_with_their_place(networks, photo, tmp_path, capsys, line, said):
    save(photo, tmp_path / "mine/a.png")
    write(tmp_path / "mine/labels.csv", f"file,{'Shoes' if said == 'no CelebA' else 'age'}\n{line}\n")
    code = prepare([f"own={tmp_path / 'mine'}"], tmp_path / "faces", *networks)
    assert code == (1 if said else 0)
    message = capsys.readouterr().err
    assert (said.replace("no CelebA", "unknown column Shoes") in message) if said else not message


@pytest.mark.parametrize("sets", [["fairface"], ["nothing=."], ["w300=."], ["own=/no/such/folder"]])
def test_wrong_sets_are_refused(networks, tmp_path, capsys, monkeypatch, sets):
    monkeypatch.chdir(tmp_path)
    assert prepare(sets, tmp_path / "faces", *networks) == 1
    assert "faceptor-models prepare: " in capsys.readouterr().err


def test_photos_of_another_folder_and_copies_of_its_dev_split_are_left_out(networks, photo, tmp_path):
    root = layouts(photo, tmp_path / "owners")
    assert prepare([f"fairface={root / 'fairface'}"], tmp_path / "first", *networks) == 0
    save(tinted(photo, 2), root / "fairface/train/3.jpg")  # the dev photo under another name
    save(tinted(photo, 5), root / "fairface/train/4.jpg")
    with open(root / "fairface/fairface_label_train.csv", "a") as file:
        file.write("train/3.jpg,20-29,Male,Indian,TRUE\ntrain/4.jpg,20-29,Male,Indian,TRUE\n")
    options = ["--known", str(tmp_path / "first"), "--suffix", "_more"]
    assert prepare([f"fairface={root / 'fairface'}"], tmp_path / "second", *networks, *options) == 0
    found = table(tmp_path / "second/train/labels.npz")
    assert [str(p) for p in found["path"]] == ["fairface_more/train_4.webp"]
    assert "near copy of a fairface dev photo" in (tmp_path / "second/removed.json").read_text()


def test_a_turned_head_is_placed_by_most_of_its_points():
    points = TEMPLATE * 192 * 1.3 + [20, -4]
    points[2] += [25, 0]  # the nose of a head in profile
    placed = points @ align.to_template(points, TEMPLATE * 192)[:, :2].T + align.to_template(points, TEMPLATE * 192)[:, 2]
    assert np.abs(placed - TEMPLATE * 192)[[0, 1, 3, 4]].max() < 1e-2
    assert align.to_template(np.zeros((5, 2)) + 7) is None


def test_small_photos_are_magnified_and_crops_of_large_ones_averaged():
    assert align.magnified(np.zeros((48, 48, 3), np.uint8)).shape == (144, 144, 3)
    assert align.magnified(np.zeros((96, 60, 3), np.uint8)).shape == (96, 60, 3)
    checks = np.uint8(np.indices((400, 400)).sum(0) % 2 * 255)
    checks = np.repeat(checks[..., None], 3, 2)
    quarter = np.array([[0.25, 0, 0], [0, 0.25, 0]])
    assert np.ptp(align.crop(checks, quarter, 90, average=True)[5:-5, 5:-5].astype(int)) <= 2
    # Its middle keeps its place: a ramp keeps its values.
    ramp = np.repeat(np.tile(np.arange(400) * 0.5, (400, 1))[..., None], 3, 2).astype(np.uint8)
    close = align.crop(ramp, quarter, 90, average=True).astype(int) - align.crop(ramp, quarter, 90)
    assert np.abs(close[5:-5, 5:-5]).max() <= 1


def test_points_near_the_middle_choose_the_face():
    faces = [align.Found(0.9, np.array([0, 0, 20, 20]), None), align.Found(0.8, np.array([50, 50, 20, 20]), None)]
    assert align.choose(list(faces)).score == 0.9
    assert align.choose(list(faces), np.array([[55, 55], [64, 66]])).score == 0.8
    assert align.choose(list(faces), np.array([[30, 30], [40, 40]])) is None and align.choose([]) is None


def test_batches_draw_further_sources_by_their_share():
    sizes = {"w300": 4, "celebamask": 4, "utk": 4, "fairface": 10, "celeba": 4, "rafdb": 4, "ferplus": 4, "fairface_more": 20, "own": 5}
    share = shares(sizes)
    assert (share["fairface"], share["fairface_more"], share["own"], share["utk"]) == (6, 12, 8, 18)
    assert shares(sizes, {"utk": 3})["utk"] == 3
    with pytest.raises(ValueError, match="no source moon"):
        shares(sizes, {"moon": 3})
    crops = {s: np.full((n, 32, 32, 4), 40 + i, np.uint8) for i, (s, n) in enumerate(sizes.items())}
    rows = [{"path": f"{s}/{i}", "source": s, "embedding": np.eye(128)[0], "age": 30} for s, n in sizes.items() for i in range(n)]
    from faceptor_models.prepare.rows import table as made

    archive = made(rows)
    archive = type("Archive", (dict,), {"files": property(list)})(archive)
    first = {s: crops[s] for s in sizes if s not in ("own", "fairface_more")} | {"masks": np.zeros((4, 32, 32), np.uint8)}
    batches = Batches([(first, archive), ({s: crops[s] for s in ("own", "fairface_more")}, archive)], 128, 32)
    batch = batches.make(3)
    assert len(batch["image"]) == sum(share.values()) and len(batch["parsing"]) == share["celebamask"]
    assert (batch["age_low"] == 30).all()


def test_clothing_labels_become_masks_with_unknown_skin(networks, photo, tmp_path):
    """The photo has a hat above the face, skin about it and hair at the left: skin is unknown, the rest has CelebAMask-HQ's classes."""
    savemat = pytest.importorskip("scipy.io").savemat
    root = tmp_path / "owners/ccp"
    save(photo, root / "photos/0001.jpg")
    labels = np.zeros(photo.shape[:2], np.uint8)
    labels[60:170, 190:260], labels[20:60, 180:270], labels[50:170, 170:195], labels[200:, :] = 2, 1, 3, 4
    labels[50:80, 240:270] = 3
    names = np.empty((1, 5), object)
    names[0] = [np.array([n]) for n in ("null", "hat", "skin", "hair", "coat")]
    (root / "annotations/pixel-level").mkdir(parents=True)
    savemat(root / "annotations/pixel-level/0001.mat", {"groundtruth": labels})
    savemat(root / "label_list.mat", {"label_list": names})
    assert prepare([f"ccp={root}"], tmp_path / "faces", "--packed", str(tmp_path / "packed"), *networks) == 0
    arrays, archive = more(tmp_path / "packed")
    mask = arrays["masks"][0]
    assert arrays["ccp"].shape == (1, 256, 256, 4) and mask.shape == (256, 256)
    left, right, *_ = np.round(archive["keypoints"][0] / 8192 * 256).astype(int)
    assert mask[left[1], left[0]] == 255 and mask[left[1] - 90, (left[0] + right[0]) // 2] == PARSING.index("hat")
    assert {PARSING.index(n) for n in ("hair", "hat", "cloth", "background")} | {255} == set(np.unique(mask))
    # Batches take the masks of such a folder in addition to those of celebamask.
    sizes = ["w300", "celebamask", "utk", "fairface", "celeba", "rafdb", "ferplus"]
    from faceptor_models.prepare.rows import table as made

    rows = made([{"path": f"{s}/0", "source": s, "embedding": np.eye(128)[0]} for s in sizes])
    first = {s: np.full((1, 256, 256, 4), 90, np.uint8) for s in sizes} | {"masks": np.zeros((1, 256, 256), np.uint8)}
    batch = Batches([(first, type("Archive", (dict,), {"files": property(list)})(rows)), (arrays, archive)], 128, 48).make(1)
    hats = (batch["parsing"] == PARSING.index("hat")).any((1, 2)).sum()
    assert len(batch["parsing"]) == len(batch["parsing_rows"]) == 24 and hats >= 7


def test_frames_of_rendered_faces_get_lenses(networks, photo, tmp_path):
    root = tmp_path / "owners/facesynthetics"
    save(photo, root / "000001.png")
    labels = np.zeros(photo.shape[:2], np.uint8)
    labels[60:170, 180:265] = 1  # skin
    labels[100:125, 192:220] = 16  # a frame about an eye on the picture's left
    labels[104:121, 196:216], labels[108:116, 202:210] = 1, 3
    labels[150:158, 215:240] = 18  # facewear
    save(labels, root / "000001_seg.png")
    assert prepare([f"facesynthetics={root}"], tmp_path / "faces", "--packed", str(tmp_path / "packed"), *networks) == 0
    mask = more(tmp_path / "packed")[0]["masks"][0]
    counts = {n: int((mask == PARSING.index(n)).sum()) for n in ("eye_g", "r_eye", "l_eye", "skin")}
    assert counts["l_eye"] > 0 and counts["r_eye"] == 0, "left and right are the person's"
    # Frame and lens without the eye, in the crop's scale.
    scale = (mask == PARSING.index("l_eye")).sum() / 64
    assert 0.8 * (700 - 64) * scale < counts["eye_g"] < 1.2 * (700 - 64) * scale and (mask == 255).any()
    assert prepare([f"facesynthetics={tmp_path}"], tmp_path / "none", *networks) == 1


def test_a_missing_network_or_an_existing_folder_is_refused_before_the_start(networks, photo, tmp_path, capsys):
    root = layouts(photo, tmp_path / "owners")
    assert main(["prepare", f"utk={root / 'utk'}", "--out", str(tmp_path / "faces"), "--detector", str(tmp_path / "no.onnx")]) == 1
    assert "no.onnx" in capsys.readouterr().err and not (tmp_path / "faces").exists()
    assert prepare([f"utk={root / 'utk'}"], tmp_path / "faces", *networks) == 0
    assert prepare([f"utk={root / 'utk'}"], tmp_path / "faces", *networks) == 1
    with pytest.raises(Refused):
        build.Known(tmp_path / "nowhere")


NETWORKS = Path(os.environ.get("NETWORKS", Path(__file__).parents[3] / "shared/networks"))


@pytest.mark.skipif(not NETWORKS.is_dir(), reason="YuNet, MobileFaceNet and PFLD are not part of this project")
def test_the_real_networks_align_the_demo_portrait(photo, tmp_path):
    found = align.choose(align.Detector(NETWORKS / "yunet_n_dynamic.onnx").faces(photo))
    assert found.score > 0.8 and np.abs(found.keypoints - EYES_NOSE_MOUTH).max() < 14
    # A photo twice as large is shrunk for the detector, and its points are mapped back to its own pixels.
    large = align.choose(align.Detector(NETWORKS / "yunet_n_dynamic.onnx").faces(cv2.resize(photo, None, fx=2.5, fy=2.5)))
    assert np.abs(large.keypoints / 2.5 - found.keypoints).max() < 6
    save(np.asarray(photo), tmp_path / "mine/a.png")
    write(tmp_path / "mine/labels.csv", "file,split\na.png,train\n")
    options = ["--detector", str(NETWORKS / "yunet_n_dynamic.onnx"), "--teacher", str(NETWORKS / "MobileFaceNet.onnx")]
    options += ["--landmark-teacher", str(NETWORKS / "pfld.onnx"), "--processes", "2"]
    assert prepare([f"own={tmp_path / 'mine'}"], tmp_path / "faces", *options) == 0
    train = table(tmp_path / "faces/train/labels.npz")
    placed = train["keypoints"][0] / 8192
    assert np.abs(placed - TEMPLATE).max() < 0.04
    assert train["landmarks_source"][0] in (0, 2) and abs(float((train["embedding"][0].astype(np.float32) ** 2).sum()) - 1) < 1e-2


def test_all_age_faces_have_years_and_sex_and_only_named_photos_are_taken(networks, photo, tmp_path, capsys):
    folder = tmp_path / "All-Age-Faces Dataset"
    for i, name in enumerate(("00000A02", "07380A33", "07381A80", "note")):
        save(tinted(photo, i), folder / "original images" / f"{name}.jpg")
    save(photo, folder / "aglined faces" / "00000A02.jpg")
    assert prepare([f"aaf={tmp_path}"], tmp_path / "all", *networks) == 0
    labels = table(tmp_path / "all/train/labels.npz")
    assert [str(p) for p in labels["path"]] == ["aaf/00000A02.webp", "aaf/07380A33.webp", "aaf/07381A80.webp"]
    assert labels["age"].tolist() == [2, 33, 80] and labels["male"].tolist() == [0, 0, 1]
    (tmp_path / "names.txt").write_text("07381A80\n00000A02\nother\n")
    assert prepare([f"aaf={folder}"], tmp_path / "some", "--only", str(tmp_path / "names.txt"), *networks) == 0
    assert [str(p) for p in table(tmp_path / "some/train/labels.npz")["path"]] == ["aaf/00000A02.webp", "aaf/07381A80.webp"]
    # The owners of UTKFace's larger set add to its names.
    utk = tmp_path / "utk"
    for i, name in enumerate(("31_0_0_20170112213500902", "32_1_0_20170112213500903")):
        save(tinted(photo, i), utk / f"{name}.jpg.chip.jpg")
    (tmp_path / "names.txt").write_text("32_1_0_20170112213500903\n")
    assert prepare([f"utk={utk}"], tmp_path / "new", "--only", str(tmp_path / "names.txt"), *networks) == 0
    split = [table(tmp_path / f"new/{split}/labels.npz") for split in ("train", "dev")]
    assert [float(v) for labels in split for v in labels["age"]] == [32]
    for text, said in ((None, "cannot read"), ("\n", "names no photo")):
        (tmp_path / "names.txt").unlink(missing_ok=True)
        if text:
            (tmp_path / "names.txt").write_text(text)
        assert prepare([f"aaf={folder}"], tmp_path / "none", "--only", str(tmp_path / "names.txt"), *networks) == 1
        assert said in capsys.readouterr().err
    with pytest.raises(Refused, match="holds no original images"):
        list(aaf.photos(utk))
