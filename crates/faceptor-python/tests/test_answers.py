"""The answers equal those of the program."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from conftest import PORTRAIT, program, without_times

import faceptor


@pytest.fixture(scope="module")
def answer():
    return program("--tasks", "all", PORTRAIT)[0]


def test_every_task_of_a_path_equals_the_program(every, answer):
    found = every.analyze(PORTRAIT).to_dict()
    assert without_times(found) == without_times(answer)
    assert found["path"] == answer["path"] == str(PORTRAIT)
    assert list(found) == list(answer)
    assert list(found["timing_us"]) == list(answer["timing_us"])
    assert found["timing_us"]["decode"].keys() == answer["timing_us"]["decode"].keys()
    assert found["timing_us"]["total"] > found["timing_us"]["encode"] > 0


def test_bytes_and_an_array_give_the_same(every, rgb, answer):
    assert without_times(every.analyze(PORTRAIT.read_bytes()).to_dict()) == without_times(answer)
    assert without_times(every.analyze(rgb).to_dict()) == without_times(answer)


def test_options_are_those_of_the_program():
    for options, arguments in [
        ({"tasks": ["age"], "looks": 2}, ["--tasks", "age", "--looks", "2"]),
        ({"tasks": ["landmarks", "age"], "looks": 1, "upright": True}, ["--tasks", "landmarks,age", "--looks", "1", "--upright"]),
        ({"tasks": [], "min_face": 60}, ["--tasks", "none", "--min-face", "60"]),
        ({"looks": 1, "max_faces": 1, "fine_masks": False}, ["--looks", "1", "--max-faces", "1"]),
    ]:
        found = faceptor.Analyzer(**options).analyze(PORTRAIT)
        assert without_times(found.to_dict()) == without_times(program(*arguments, PORTRAIT)[0]), options


def test_arrays_hold_the_numbers_of_the_json(every, rgb):
    analysis = every.analyze(rgb)
    (face,) = analysis.faces
    expected = face.to_dict()
    assert (face.id, round(face.score, 4)) == (expected["id"], expected["score"])
    for array, shape, numbers, decimals in [
        (face.box, (4,), expected["box"], 2),
        (face.keypoints, (5, 2), expected["keypoints"], 2),
        (face.landmarks.points, (68, 2), expected["landmarks"]["points"], 2),
        (face.parsing.share, (19,), expected["parsing"]["share"], 4),
        (face.expression.scores, (8,), list(expected["expression"]["scores"].values()), 4),
        (face.attributes.probabilities, (40,), list(expected["attributes"].values()), 4),
        (face.recognition.embedding, (len(expected["recognition"]["embedding"]),), expected["recognition"]["embedding"], 6),
    ]:
        assert array.dtype == np.float32 and array.shape == shape
        assert np.abs(array - np.array(numbers)).max() <= 0.51 * 10.0**-decimals
    assert abs(face.age.years - expected["age"]["years"]) < 0.01
    assert face.expression.label == expected["expression"]["label"]
    assert face.expression[face.expression.label] == face.expression.scores.max()
    assert face.attributes["Smiling"] == face.attributes.as_dict()["Smiling"]
    assert list(face.parsing.classes) == expected["parsing"]["classes"]
    assert face.recognition.similarity(face.recognition) == pytest.approx(1, abs=1e-5)
    assert face.quality.trusted is expected["quality"]["trusted"] and round(face.quality.eyes_px, 1) == expected["quality"]["eyes_px"]
    assert list(face.results) == [key for key in expected if key in every.known_tasks]
    assert json.loads(analysis.to_json()) == analysis.to_dict()


def test_a_mask_is_the_file_that_the_program_writes(every, rgb, tmp_path):
    image = pytest.importorskip("PIL.Image")
    expected = program("--tasks", "parsing", "--masks", tmp_path, PORTRAIT)[0]
    mask = every.analyze(rgb).faces[0].parsing.mask
    assert mask.shape == rgb.shape[:2] and mask.dtype == np.uint8
    with image.open(expected["faces"][0]["parsing"]["mask"]) as written:
        assert (np.asarray(written) == mask).all()


def test_a_drawing_is_the_file_that_the_program_writes(every, rgb, tmp_path):
    image = pytest.importorskip("PIL.Image")
    expected = program("--tasks", "all", "--out", tmp_path, PORTRAIT)[0]
    analysis = every.analyze(rgb)
    drawn = analysis.draw(rgb)
    with image.open(expected["annotated"]) as written:
        assert (np.asarray(written.convert("RGB")) == drawn).all()
    assert (analysis.draw(rgb[..., ::-1], bgr=True) == drawn[..., ::-1]).all()
    assert (drawn != rgb).any()


def test_an_aligned_crop_equals_the_program(quick, rgb, tmp_path):
    image = pytest.importorskip("PIL.Image")
    crop = np.ascontiguousarray(rgb[:300, 80:380])
    image.fromarray(crop).save(tmp_path / "crop.png")
    expected = program("--tasks", "age", "--looks", "1", "--aligned", tmp_path / "crop.png")[0]
    assert without_times(quick.analyze(crop, aligned=True).to_dict()) == without_times(expected)
    with pytest.raises(faceptor.ImageError):
        quick.analyze(crop[:100], aligned=True)


def test_orientation_of_a_file_is_applied(quick, rgb, tmp_path):
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[0x0112] = 6
    image.fromarray(np.rot90(rgb)).save(tmp_path / "turned.png", exif=exif)
    found = quick.analyze(tmp_path / "turned.png")
    assert without_times(found.to_dict()) == without_times(quick.analyze(rgb).to_dict())


def test_a_result_is_pickled_with_its_json(every, rgb):
    analysis = every.analyze(rgb)
    mask = analysis.faces[0].parsing.mask
    copy = pickle.loads(pickle.dumps(analysis))
    assert copy.to_dict() == analysis.to_dict() and copy.faces[0].to_dict() == analysis.faces[0].to_dict()
    assert (copy.faces[0].parsing.mask == mask).all() and (copy.faces[0].box == analysis.faces[0].box).all()
    with pytest.raises(faceptor.UnsupportedError, match="pickled"):
        copy.draw(rgb)
