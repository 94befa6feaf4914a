"""Tests `faceptor-models import`: official files of every system load, run and export (test_published_refusals has damaged ones)."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from faceptor_models import command
from faceptor_models.published import official
from tests import official_files as files
from tests.imports import FACEPTOR_OPTIONS, RNG, close, image, npz, outputs, refused, run_import

torch.set_num_threads(1)
SHARED = Path(os.environ.get("FACEPTOR_SHARED", Path(__file__).resolve().parents[2] / "../shared"))


def answers(folder, images):
    """Runs the exported folder in ONNX Runtime, connected by tensor name: {tensor: array}."""
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    found = dict(images)
    for part in manifest["part"]:
        session = ort.InferenceSession(str(folder / part["file"]), providers=["CPUExecutionProvider"])
        inner_in, inner_out = part.get("graph_inputs", part["inputs"]), part.get("graph_outputs", part["outputs"])
        found |= zip(part["outputs"], session.run(inner_out, {g: found[n] for g, n in zip(inner_in, part["inputs"])}))
    return manifest, found


@pytest.mark.parametrize("name", ["faceptor_tiny_level", "naive_tiny"])
def test_official_references_agree(tmp_path, name):
    reference = SHARED / "spec/reference" / name
    if not reference.is_dir():
        pytest.skip(f"the reference checkpoints are not in FACEPTOR_SHARED ({SHARED})")
    expected = np.load(reference / "outputs.npz")
    out = tmp_path / "out.npz"
    assert run_import(reference / "checkpoint_rank0_iter_50000.pth.tar", "--encoder-heads", 4, "--npz", reference / "inputs.npz", out) == 0
    found = np.load(out)
    for key in expected.files:
        tolerance = 1e-5 if key.endswith(".landmark") else 1e-4
        assert found[key].shape == expected[key].shape
        np.testing.assert_allclose(found[key], expected[key], atol=tolerance, rtol=tolerance, err_msg=key)


def test_encoder_agrees_with_the_reference_at_three_grids():
    reference = SHARED / "spec/reference/faceptor_tiny_level"
    if not reference.is_dir():
        pytest.skip(f"the reference checkpoints are not in FACEPTOR_SHARED ({SHARED})")
    from faceptor_models.published.checkpoint import read
    from faceptor_models.published.recognise import Options, recognise

    model = recognise(read(reference / "checkpoint_rank0_iter_50000.pth.tar"), Options(encoder_heads=4)).model
    inputs, inner = np.load(reference / "inputs.npz"), np.load(reference / "intermediates.npz")
    with torch.no_grad():
        for which, picture in (("small", inputs["image_small"]), ("large", inputs["image_large"]), ("mid", inner["image_mid"])):
            maps = model.backbone_module(torch.from_numpy(picture))
            for level, found in enumerate(maps):
                key = f"backbone_{which}_layer{level:02d}"
                if key in inner.files:
                    np.testing.assert_allclose(found.numpy(), inner[key], atol=1e-4, rtol=1e-4, err_msg=key)
        for which, side in (("small", 7), ("large", 8)):
            np.testing.assert_allclose(model.heads_module.decoder.position(side, side).numpy(), inner[f"pos_embed_{which}"][:, 0], atol=1e-5)


@pytest.mark.parametrize("new_levels", [(), (1, 3, 5, 7, 9)])
def test_faceptor_runs_and_exports(tmp_path, new_levels):
    model = files.faceptor_model(new_levels)
    path = files.save(tmp_path / "checkpoint_rank0_iter_newest.pth.tar", files.ddp(model))
    arrays = {"image_small": image(2, 3, 112), "image_large": image(2, 3, 64)}
    found = outputs(tmp_path, path, arrays, "--out", tmp_path / "export", *FACEPTOR_OPTIONS)
    assert found["parsing_lapa"].shape == (2, 64, 64, 11) and found["align_300w.landmark"].shape == (2, 68, 2)
    with torch.no_grad():
        small = model(torch.from_numpy(arrays["image_small"]), ["age_morph2", "recog_ms1mv3"])
        large = model(torch.from_numpy(arrays["image_large"]), ["align_aflw"])
    close(found["age_morph2"], small["age_morph2"].numpy(), 1e-5)
    close(found["recog_ms1mv3"], small["recog_ms1mv3"].numpy(), 1e-5)
    close(found["align_aflw.landmark"], large["align_aflw"]["landmark"].numpy(), 1e-5)
    groups = {"face112": "image_small", "celebam": "image_large", "lapa": "image_large", "box80": "image_large", "box100": "image_large"}
    manifest, tensors = answers(tmp_path / "export", {f"image_{g}": arrays[a][:1] for g, a in groups.items()})
    assert [g["name"] for g in manifest["group"]] == list(groups)
    assert {t["name"]: t["kind"] for t in manifest["task"]}["affect_rafdb"] == "expression"
    for task in ("align_300w", "align_aflw"):
        close(tensors[f"out_{task}"], found[f"{task}.landmark"][:1])
    age = torch.sigmoid(torch.from_numpy(found["age_morph2"][:1]))
    close(tensors["out_age_morph2"], (age / age.sum()).numpy())
    close(tensors["out_biattr_celeba"], torch.sigmoid(torch.from_numpy(found["biattr_celeba"][:1])).numpy())
    close(tensors["out_recog_ms1mv3"], found["recog_ms1mv3"][:1])
    up = torch.nn.functional.interpolate(torch.from_numpy(tensors["out_parsing_lapa"]), size=(64, 64), mode="bilinear")
    close(up.permute(0, 2, 3, 1).numpy(), found["parsing_lapa"][:1])


def test_stage_2_without_classifier_and_without_the_tied_copies(tmp_path):
    state = {k: v for k, v in files.ddp(files.faceptor_model((1, 3, 5, 7, 9)))["state_dict"].items() if ".ln." not in k and "losses" not in k}
    path = files.save(tmp_path / "stage2.pth.tar", {"step": 20000, "state_dict": state, "optimizer": {}})
    found = outputs(tmp_path, path, {"image_small": image(1, 3, 112)}, *FACEPTOR_OPTIONS)
    assert found["recog_ms1mv3"].shape == (1, 12) and "parsing_lapa" not in found


def test_the_deepest_level_feeds_the_pixels_wherever_it_is_named(tmp_path):
    """The levels' tensors in another order, named in that order, are the same network."""
    state = files.ddp(files.faceptor_model((1, 3)))["state_dict"]
    decoder = "module.heads_module.decoder."
    rows = torch.cat([state.pop(decoder + "level_embed.weight"), state.pop(decoder + "new_level_embed.weight")])
    projections = [{}, {}, {}]
    for name in [k for k in state if "input_proj." in k]:
        kind, rest = name[len(decoder) :].split("input_proj.")
        level, ending = rest.split(".", 1)
        projections[int(level) + (kind == "new_")][ending] = state.pop(name)
    arrays, found = {"image_small": image(1, 3, 112), "image_large": image(1, 3, 64)}, []
    for order, levels in (((0, 1, 2), "11,1,3"), ((1, 2, 0), "1,3,11")):
        moved = state | {decoder + "level_embed.weight": rows[list(order)]}
        moved |= {f"{decoder}input_proj.{n}.{k}": v for n, i in enumerate(order) for k, v in projections[i].items()}
        path = files.save(tmp_path / "levels.pth.tar", {"step": 1, "state_dict": moved, "optimizer": {}})
        options = (*FACEPTOR_OPTIONS, "--levels", levels, "--out", tmp_path / "export")
        found.append(outputs(tmp_path, path, arrays, *options))
        _, tensors = answers(
            tmp_path / "export",
            {f"image_{g}": arrays["image_large"] for g in ("celebam", "lapa", "box80", "box100")} | {"image_face112": arrays["image_small"]},
        )
        close(tensors["out_align_300w"], found[-1]["align_300w.landmark"])
    assert len(found[0]) > 8 and found[0].keys() == found[1].keys()
    for key in found[0]:
        close(found[1][key], found[0][key], 1e-4)


def test_naive_runs_and_exports(tmp_path):
    model = files.naive_model()
    path = files.save(tmp_path / "naive.pth.tar", files.ddp(model))
    arrays = {"image_small": image(1, 3, 112), "image_large": image(1, 3, 64)}
    found = outputs(tmp_path, path, arrays, "--out", tmp_path / "export", "--encoder-heads", "4")
    images = {"image_face112": arrays["image_small"], "image_celebam": arrays["image_large"], "image_box80": arrays["image_large"]}
    _, tensors = answers(tmp_path / "export", images)
    close(tensors["out_align_300w"], found["align_300w.landmark"])
    close(tensors["out_affect_rafdb"], torch.softmax(torch.from_numpy(found["affect_rafdb"]), -1).numpy())
    up = torch.nn.functional.interpolate(torch.from_numpy(tensors["out_parsing_celebam"]), size=(64, 64), mode="bilinear")
    close(up.permute(0, 2, 3, 1).numpy(), found["parsing_celebam"])


def test_mcf_runs_and_exports(tmp_path):
    model = files.mcf_model()
    path = files.save(tmp_path / "checkpoint-15.pth", files.mcf_file(model))
    arrays = {"image": image(2, 3, 32), "noise_online": RNG.random((2, 16), dtype=np.float32)}
    found = outputs(tmp_path, path, arrays, "--out", tmp_path / "export", *FACEPTOR_OPTIONS)
    assert found["vit_cls"].shape == (2, 24) and found["vit_block05"].shape == (2, 17, 24)
    assert found["latent"].shape == (2, 5, 24) and found["mask"].sum(1).tolist() == [12, 12]
    assert found["decoder_pred"].shape == (2, 16, 8 * 8 * 3)
    # The mask lies where the noise is not among the four smallest of its row.
    for noise, mask in zip(arrays["noise_online"], found["mask"]):
        assert set(np.flatnonzero(mask == 0)) == set(np.argsort(noise)[:4])
    manifest, tensors = answers(tmp_path / "export", {"image_face": arrays["image"][:1]})
    assert "task" not in manifest
    close(tensors["class_face"], found["vit_cls"][:1])
    close(tensors["tokens8_face"], found["vit_block08"][:1])


def test_mcf_uses_the_masking_ratio_of_its_settings_and_the_exact_noise(tmp_path, capsys):
    held = files.mcf_file(files.mcf_model())
    held["args"].mask_ratio = 0.5
    path = files.save(tmp_path / "checkpoint-15.pth", held)
    # Equal as float32, ordered as float64.
    noise = 0.5 + 1e-12 * RNG.random((2, 16))
    found = outputs(tmp_path, path, {"image": image(2, 3, 32), "noise_online": noise}, *FACEPTOR_OPTIONS)
    assert found["mask"].sum(1).tolist() == [8, 8] and "masking ratio 0.5" in capsys.readouterr().out
    for row, mask in zip(noise, found["mask"]):
        assert set(np.flatnonzero(mask == 0)) == set(np.argsort(row)[:8])
    source = npz(tmp_path / "in.npz", image=image(2, 3, 32), noise_online=noise[:1])
    assert run_import(path, *FACEPTOR_OPTIONS, "--npz", source, tmp_path / "out.npz") == 1
    assert "is for 1 images" in capsys.readouterr().err


def test_the_encoder_of_mcf_alone_runs_and_exports(tmp_path, capsys):
    model, arrays = files.mcf_model(), {"image": image(1, 3, 32), "noise_online": RNG.random((1, 16), dtype=np.float32)}
    whole = outputs(tmp_path, files.save(tmp_path / "whole.pth", files.mcf_file(model)), arrays, *FACEPTOR_OPTIONS)
    state = {k: v for k, v in model.state_dict().items() if k.startswith("online_encoder.")}
    path = files.save(tmp_path / "encoder.pth", {"model": state})
    alone = outputs(tmp_path, path, arrays, "--out", tmp_path / "export", *FACEPTOR_OPTIONS)
    assert "the online encoder alone" in capsys.readouterr().out
    assert set(whole) - set(alone) == {"decoder_pred"} and all(np.array_equal(alone[k], whole[k]) for k in alone)
    _, tensors = answers(tmp_path / "export", {"image_face": arrays["image"]})
    close(tensors["class_face"], alone["vit_cls"])


@pytest.mark.parametrize("edges", [True, False])
def test_dmlcsr_runs_and_exports(tmp_path, edges):
    model = files.dmlcsr_model(edges=edges)
    path = files.save(tmp_path / "best.pth", model.state_dict())
    arrays = {"image": image(1, 3, 97)}
    found = outputs(tmp_path, path, arrays, "--out", tmp_path / "export", "--size", "97")
    assert found["seg"].shape == (1, 19, 25, 25)
    for side in (473, 97):
        at = torch.nn.functional.interpolate(torch.from_numpy(found["seg"]), size=(side, side), mode="bilinear", align_corners=True)
        np.testing.assert_array_equal(found[f"argmax_{side}"], at.argmax(1).numpy())
    assert ("binary_edge" in found, "semantic_edge" in found) == (edges, edges)
    manifest, tensors = answers(tmp_path / "export", {"image_bgr": arrays["image"]})
    assert manifest["group"][0]["colour"] == "bgr" and manifest["task"][0]["labels"] == official.CELEBAMASK_OWN
    up = torch.nn.functional.interpolate(torch.from_numpy(found["seg"]), size=(97, 97), mode="bilinear", align_corners=True)
    close(tensors["out_parsing"], up.numpy())


def test_dmlcsr_of_an_older_library_lacks_counters(tmp_path):
    state = {k: v for k, v in files.dmlcsr_model().state_dict().items() if not k.endswith("num_batches_tracked")}
    assert "seg" in outputs(tmp_path, files.save(tmp_path / "best.pth", state), {"image": image(1, 3, 65)})


def test_tcdcn_of_other_layers_or_pictures_is_refused_or_reported(tmp_path, capsys):
    state = files.tcdcn_model().state_dict()
    path = files.save(
        tmp_path / "t.pth",
        {k: v for k, v in state.items() if not k.startswith(("conv4", "fc"))} | {"fc.weight": torch.zeros(5, 4), "fc.bias": torch.zeros(5)},
    )
    assert "four convolutions" in refused(tmp_path, capsys, path)
    path = files.save(tmp_path / "t.pth", {k: v for k, v in state.items() if not k.startswith("pose")})
    side = files.tcdcn_model().config.size
    found = outputs(tmp_path, path, {"image": image(1, 1, side)})
    assert "without pose" in capsys.readouterr().out and "out.pose" not in found
    assert run_import(path, "--npz", npz(tmp_path / "in.npz", image=image(1, 1, side - 2)), tmp_path / "out.npz") == 1
    assert f"made for {side} x {side}" in capsys.readouterr().err


@pytest.mark.parametrize("blocks", [(1, 1, 1, 1), (2, 2, 3, 2), (36, 16, 6, 2)])
@pytest.mark.parametrize("ending", ["npz", "pth"])
def test_tcdcn_runs_and_exports(tmp_path, blocks, ending):
    model = files.tcdcn_model(blocks)
    path = tmp_path / f"tcdcn.{ending}"
    (files.save_npz if ending == "npz" else files.save)(path, model.state_dict())
    arrays = {"image": image(2, 1, 40)}
    found = outputs(tmp_path, path, arrays, "--out", tmp_path / "export")
    assert {k: v.shape[1] for k, v in found.items()} == {"out.landmark": 10, "out.gender": 2, "out.smile": 2, "out.glasses": 2, "out.pose": 5}
    manifest, tensors = answers(tmp_path / "export", {"image_grey": arrays["image"][:1]})
    assert manifest["group"][0] | {"frame": 0} == {
        "name": "grey", "tensor": "image_grey", "size": 40, "colour": "grey", "mean": [127.5], "std": [127.5], "frame": 0,
    }  # fmt: skip
    close(tensors["out_landmarks"][0, :, 1], found["out.landmark"][0, 5:])
    close(tensors["out_pose"], torch.softmax(torch.from_numpy(found["out.pose"][:1]), -1).numpy())


def test_dense_tasks_of_naive_faceptor_follow_from_their_outputs_or_an_option(tmp_path, capsys):
    tasks = {"parsing_lapa": 11, "align_300w": 68, "align_cofw": 29}
    model = files.naive_model(tasks)
    path = files.save(tmp_path / "n.pth.tar", files.ddp(model))
    arrays = {"image_large": image(1, 3, 64)}
    found = outputs(tmp_path, path, arrays, "--encoder-heads", "4")
    assert found["align_cofw.heatmap"].shape == (1, 29, 16, 16) and found["parsing_lapa"].shape == (1, 64, 64, 11)
    named = outputs(tmp_path, path, arrays, "--encoder-heads", "4", "--map-tasks", "parsing_lapa=11,align_cofw=29,align_300w=68")
    np.testing.assert_array_equal(
        named["align_cofw.heatmap"][:, :29], torch.cat([torch.from_numpy(found[f"align_{t}.heatmap"]) for t in ("300w", "cofw")], 1)[:, :29]
    )
    (tmp_path / "out.npz").unlink()
    odd = files.save(tmp_path / "o.pth.tar", files.ddp(files.naive_model({"align_300w": 70})))
    assert "--map-tasks" in refused(tmp_path, capsys, odd, "--encoder-heads", "4")


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    path = files.save(tmp_path / "t.pth", files.tcdcn_model().state_dict())
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    assert run_import(path, "--out", folder) == 1
    assert "holds other files" in capsys.readouterr().err and [p.name for p in folder.iterdir()] == ["letter.txt"]
    assert run_import(path, "--out", tmp_path / "export") == 0
    assert run_import(path, "--out", tmp_path / "export", "--tasks", "landmarks,pose") == 0
    assert not (tmp_path / "export" / "task_smile.onnx").exists()


def test_a_custom_task_takes_the_place_of_an_official_one(tmp_path):
    held = files.ddp(files.faceptor_model())
    held["state_dict"] = {k.replace("align_aflw", "align_mine"): v for k, v in held["state_dict"].items()}
    path = files.save(tmp_path / "c.pth.tar", held)
    options = [*FACEPTOR_OPTIONS, "--like", "align_mine=align_aflw", "--tasks", "align_mine"]
    assert run_import(path, "--out", tmp_path / "export", *options) == 0
    manifest = tomllib.loads((tmp_path / "export/manifest.toml").read_text())
    assert [(t["name"], t["group"]) for t in manifest["task"]] == [("align_mine", "box100")]


def test_parity_separates_agreement_from_disagreement(tmp_path, capsys):
    model = files.tcdcn_model()
    files.save(tmp_path / "tcdcn.pth", model.state_dict())
    arrays = {"image": image(2, 1, 40)}
    npz(tmp_path / "inputs.npz", **arrays)
    with torch.no_grad():
        out = {f"out.{k}": v.numpy() for k, v in model(torch.from_numpy(arrays["image"])).items()}
    npz(tmp_path / "outputs.npz", **out)
    assert command.main(["parity", str(tmp_path)]) == 0 and "out.pose" in capsys.readouterr().out
    out["out.pose"][1, 2] += 1e-3
    npz(tmp_path / "outputs.npz", **out)
    assert command.main(["parity", str(tmp_path)]) == 1
    npz(tmp_path / "outputs.npz", **out, more=np.zeros(1))
    assert command.main(["parity", str(tmp_path)]) == 1 and "more" in capsys.readouterr().err


def test_the_module_is_a_program(tmp_path):
    path = files.save(tmp_path / "t.pth", files.tcdcn_model().state_dict())
    source = npz(tmp_path / "in.npz", image=image(1, 1, 40))
    models = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "faceptor_models", "import", path, "--npz", source, tmp_path / "o.npz"],
        cwd=models,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "o.npz")["out.pose"].shape == (1, 5)
