"""Tests `faceptor-models runtime` on a synthetic reference folder: the tests of models/ need no compiled program."""

import json

import cv2
import numpy as np
import torch

from faceptor_models import command
from tests import official_files as files


def reference(folder, model, more=0.0):
    """Writes what `faceptor reference` would store of two faces, with `more` added to one number."""
    folder.mkdir()
    images = torch.randn(2, 1, 1, 40, 40, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        smile = torch.stack([model(image)["smile"].softmax(-1) for image in images]).numpy()
    smile[1, 0, 1] += more
    images.numpy().astype("<f4").tofile(folder / "input.image_grey.f32")
    smile.astype("<f4").tofile(folder / "task.smile.f32")
    rows = {"inputs": [{"tensor": "image_grey", "shape": [1, 1, 40, 40], "file": "input.image_grey.f32"}]}
    rows["tasks"] = [{"tensor": "out_smile", "shape": [1, 2], "file": "task.smile.f32"}]
    (folder / "reference.json").write_text(json.dumps(rows | {"pictures": [{"faces": [{}, {}]}]}))
    return str(folder)


def test_a_bundles_answers_are_compared_face_by_face(tmp_path, capsys):
    model = files.tcdcn_model()
    path = files.save(tmp_path / "tcdcn.pth", model.state_dict())
    export = str(tmp_path / "export")
    assert command.main(["import", str(path), "--out", export, "--finder", ""]) == 0
    assert command.main(["runtime", export, reference(tmp_path / "right", model)]) == 0
    assert "out_smile                    of 2 faces" in capsys.readouterr().out
    assert command.main(["runtime", export, reference(tmp_path / "wrong", model, 0.002)]) == 1
    assert "NOT within" in capsys.readouterr().out


def test_a_folder_of_another_kind_is_refused(tmp_path, capsys):
    assert command.main(["runtime", str(tmp_path), str(tmp_path)]) == 1
    assert "no folder of `faceptor reference`" in capsys.readouterr().err
    model = files.tcdcn_model()
    folder = tmp_path / "short"
    reference(folder, model)
    np.zeros(3, "<f4").tofile(folder / "task.smile.f32")
    assert command.main(["runtime", str(tmp_path), str(folder)]) == 1
    assert "has 3 numbers" in capsys.readouterr().err


def test_a_view_by_the_authors_sampling_is_compared_in_grey_levels(tmp_path, capsys):
    model = files.tcdcn_model()
    path = files.save(tmp_path / "tcdcn.pth", model.state_dict())
    export = str(tmp_path / "export")
    assert command.main(["import", str(path), "--out", export, "--finder", ""]) == 0
    folder = tmp_path / "reference"
    reference(folder, model)
    # Luma rises by one a column and two a row; the box makes a tensor's pixel two picture pixels wide.
    rows, columns = np.mgrid[0:100, 0:100]
    cv2.imwrite(str(folder / "000.png"), np.repeat((columns + rows)[..., None], 3, 2).astype(np.uint8))
    box = {"edges": [10.0, 5.0, 90.0, 85.0], "keypoints": [[0.0, 0.0]] * 5}
    index = json.loads((folder / "reference.json").read_text())
    index["pictures"] = [{"file": "000.png", "faces": [box]}]
    pixel = np.arange(40) * 2.0
    # By the official boxes tensor pixel i lies at x1 + (i + 0.5) * side / size; three levels are added.
    seen = (10 + 1 + pixel)[None, :] + (5 + 1 + pixel)[:, None] + 3.0
    view = ((seen - 127.5) / 127.5)[None, None].astype("<f4")
    view.tofile(folder / "input.image_grey.f32")
    with torch.no_grad():
        smile = model(torch.from_numpy(view))["smile"].softmax(-1).numpy()
    smile.astype("<f4").tofile(folder / "task.smile.f32")
    (folder / "reference.json").write_text(json.dumps(index))
    assert command.main(["runtime", export, str(folder), "--sampling"]) == 0
    said = capsys.readouterr().out
    # A ramp's mean over a pixel is the ramp's value in its middle.
    assert said.count("mean 3.0, largest 3 grey levels") == 2 and said.count("smile                        numbers differ by at most 0.") == 2, said
