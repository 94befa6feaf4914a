"""Tests files that hold a known system in another form: wrappers, number types, orders of axes, missing parts."""

import argparse
import collections
import pathlib

import numpy as np
import pytest
import torch

from faceptor_models.published.mae_vit import sincos_table
from tests import official_files as files
from tests.imports import FACEPTOR_OPTIONS, RNG, close, image, outputs, refused

torch.set_num_threads(1)


def cast(state, kind):
    return {k: v.to(kind) for k, v in state.items()}


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_other_number_types_are_the_same_network(tmp_path, kind):
    """The counters of batches change too: a cast or an average of a state turns them into fractions."""
    state = files.dmlcsr_model(edges=False).state_dict()
    arrays = {"image": image(1, 3, 65)}
    rounded = cast(cast(state, kind), torch.float32)
    expected = outputs(tmp_path, files.save(tmp_path / "a.pth", rounded), arrays)
    found = outputs(tmp_path, files.save(tmp_path / "b.pth", cast(state, kind)), arrays)
    np.testing.assert_array_equal(found["seg"], expected["seg"])


def test_wrappers_containers_and_older_files_are_read(tmp_path, capsys):
    model = files.faceptor_model()
    held, arrays = files.ddp(model), {"image_small": image(1, 3, 112)}
    expected = outputs(tmp_path, files.save(tmp_path / "c.pth", held), arrays, *FACEPTOR_OPTIONS)
    state = held["state_dict"]
    forms = {
        "bare": state, "another name": {"net": state, "epoch": 3}, "ordered": held | {"state_dict": collections.OrderedDict(state)},
        "parameters": {"state_dict": {k: torch.nn.Parameter(v, requires_grad=False) for k, v in state.items()}},
        "as saved": {
            "step": 1, "state_dict": torch.nn.DataParallel(model).state_dict(), "optimizer": torch.optim.AdamW(model.parameters()).state_dict()
        },
        "settings": held | {"lr": np.float64(1e-3), "args": argparse.Namespace(rate=np.float32(1), out=pathlib.Path("runs/1"))},
    }  # fmt: skip
    for form in forms.values():
        found = outputs(tmp_path, files.save(tmp_path / "c.pth", form), arrays, *FACEPTOR_OPTIONS)
        assert found.keys() == expected.keys() and all(np.array_equal(found[k], expected[k]) for k in found)
    assert 'lie under "net"' in capsys.readouterr().out
    torch.save(held, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    files.save_npz(tmp_path / "c.npz", state)
    np.savez(tmp_path / "swapped.npz", **{k: v.numpy().astype(v.numpy().dtype.newbyteorder(">")) for k, v in state.items()})
    for name in ("old.pth", "c.npz", "swapped.npz"):
        found = outputs(tmp_path, tmp_path / name, arrays, *FACEPTOR_OPTIONS)
        assert all(np.array_equal(found[k], expected[k]) for k in expected)


@pytest.mark.parametrize("kind", [np.float64, np.dtype(">f4"), np.longdouble])
def test_pictures_of_other_number_types_give_the_same_answers(tmp_path, kind):
    path, arrays = files.save(tmp_path / "t.pth", files.tcdcn_model().state_dict()), {"image": image(1, 1, 40)}
    expected = outputs(tmp_path, path, arrays)
    found = outputs(tmp_path, path, {"image": arrays["image"].astype(kind)})
    assert all(np.array_equal(found[k], expected[k]) for k in expected)


def test_an_interpreter_without_a_task_is_left_out_by_name(tmp_path, capsys):
    held = files.ddp(files.faceptor_model())
    held["state_dict"] = {k: v for k, v in held["state_dict"].items() if "query_" not in k or "rafdb" in k}
    found = outputs(tmp_path, files.save(tmp_path / "c.pth", held), {"image_small": image(1, 3, 112)}, *FACEPTOR_OPTIONS)
    assert set(found) == {"recog_ms1mv3", "affect_rafdb"}
    assert "map_v2.mask_map.0.weight (interpreter map_v2, which no task" in capsys.readouterr().out


def test_missing_numbers_of_heads_are_asked_for(tmp_path, capsys):
    model = files.mcf_model()
    path = files.save(tmp_path / "c.pth", {"model": dict(model.state_dict())})
    outputs(tmp_path, path, {"image": image(1, 3, 32)}, "--encoder-heads", "4")
    assert "no tensor tells them: --decoder-heads for others" in capsys.readouterr().out
    (tmp_path / "out.npz").unlink()
    odd = files.save(tmp_path / "c.pth", files.ddp(files.faceptor_model()))
    error = refused(tmp_path, capsys, odd, "--encoder-heads", "5")
    assert "5 attention heads do not divide the encoder's width 24" in error and "--encoder-heads" in error


def stripped(model):
    """Returns MCF's online encoder as it is converted for other programs."""
    start = "online_encoder."
    state = {k[len(start) :]: v for k, v in model.state_dict().items() if k.startswith(start)}
    return {k: v for k, v in state.items() if not k.startswith("fc.")}


def test_a_stripped_encoder_is_an_mcf_encoder(tmp_path, capsys):
    model = files.mcf_model()
    with torch.no_grad():
        model.online_encoder.pos_embed.copy_(sincos_table(24, 4))
    arrays = {"image": image(2, 3, 32), "noise_online": RNG.random((2, 16), dtype=np.float32)}
    whole = outputs(tmp_path, files.save(tmp_path / "whole.pth", files.mcf_file(model)), arrays, *FACEPTOR_OPTIONS)
    state = stripped(model)
    with_head = state | {"head.weight": torch.zeros(3, 24), "head.bias": torch.zeros(3)}
    kept_names = {"model": {f"online_encoder.{k}": v for k, v in state.items()}}
    for held, said in ((state, "nothing says that MCF"), (with_head, "left out on purpose: head.weight"), (kept_names, "without its projector")):
        path = files.save(tmp_path / "vit.pth", held)
        found = outputs(tmp_path, path, arrays, "--encoder-heads", "4", "--out", tmp_path / "export")
        out = capsys.readouterr().out
        assert said in out and "table of positions" not in out
        assert set(whole) - set(found) == {"decoder_pred"}
        for key in found:
            close(found[key], whole[key], 1e-6)
    outputs(tmp_path, files.save(tmp_path / "vit.pth", state | {"pos_embed": torch.zeros(1, 17, 24)}), arrays, "--encoder-heads", "4")
    assert "not MCF's fixed one" in capsys.readouterr().out


def test_other_vits_are_no_stripped_encoder(tmp_path, capsys):
    state = stripped(files.mcf_model())
    path = files.save(tmp_path / "vit.pth", state | {"blocks.0.ls1.gamma": torch.zeros(24)})
    assert "not known" in refused(tmp_path, capsys, path, "--encoder-heads", "4")
    path = files.save(tmp_path / "vit.pth", {k: v for k, v in state.items() if k != "norm.bias"})
    assert "norm.bias" in refused(tmp_path, capsys, path, "--encoder-heads", "4")
    path = files.save(tmp_path / "vit.pth", {f"module.base_encoder.{k}": v for k, v in state.items()})
    assert "wrong prefix" in refused(tmp_path, capsys, path, "--encoder-heads", "4")


def test_the_frozen_network_of_mcf_may_lack_its_classifier(tmp_path):
    model, arrays = files.mcf_model(), {"image": image(1, 3, 32)}
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("perceptual_loss.model.head.")}
    found = outputs(tmp_path, files.save(tmp_path / "m.pth", {"model": state}), arrays, *FACEPTOR_OPTIONS)
    with torch.no_grad():
        features = model.online_encoder.features(torch.from_numpy(arrays["image"]))
    close(found["vit_block08"], features[8].numpy(), 1e-6)


def laid(state, weight, bias):
    """Returns filters per region with their axes in another order: `weight` and `bias` are permutations of ours."""
    orders = {6: weight, 3: bias}
    return {k: v.permute(orders[v.dim()]).contiguous() if v.dim() in orders else v for k, v in state.items()}


ORDERS = {
    "oirckl": ((2, 3, 0, 1, 4, 5), (2, 0, 1)), "oiklrc": ((2, 3, 4, 5, 0, 1), (2, 0, 1)), "orcikl": ((2, 0, 1, 3, 4, 5), (2, 0, 1)),
    "rcoikl": ((0, 1, 2, 3, 4, 5), (2, 0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("blocks", [(2, 2, 3, 2), (36, 16, 6, 2), (1, 3, 6, 1)])
@pytest.mark.parametrize("order", list(ORDERS))
def test_filters_of_tcdcn_are_read_in_every_order_of_their_axes(tmp_path, blocks, order):
    state, arrays = files.tcdcn_model(blocks).state_dict(), {"image": image(1, 1, 40)}
    expected = outputs(tmp_path, files.save_npz(tmp_path / "ours.npz", state), arrays)
    found = outputs(tmp_path, files.save_npz(tmp_path / "theirs.npz", laid(state, *ORDERS[order])), arrays)
    assert all(np.array_equal(found[k], expected[k]) for k in expected)


def test_locally_connected_layers_with_one_kernel_axis_are_read(tmp_path, capsys):
    """The layout is [1, out, in, rows, columns, k * k] with a bias [1, out, rows, columns], or a bias that all places share."""
    state, arrays = files.tcdcn_model((36, 16, 6, 2)).state_dict(), {"image": image(1, 1, 40)}
    for name in [k for k in state if k.startswith("conv") and k.endswith("bias")]:
        state[name] = state[name][:1, :1].expand(state[name].shape).contiguous()
    expected = outputs(tmp_path, files.save_npz(tmp_path / "ours.npz", state), arrays)
    moved = {
        k: v.permute(2, 3, 0, 1, 4, 5).flatten(4)[None] if v.dim() == 6 else v.permute(2, 0, 1)[None] if v.dim() == 3 else v for k, v in state.items()
    }
    once = {k: v[0, :, 0, 0] if k.startswith("conv") and k.endswith("bias") else v for k, v in moved.items()}
    for held in (moved, once):
        found = outputs(tmp_path, files.save_npz(tmp_path / "theirs.npz", {k: v.contiguous() for k, v in held.items()}), arrays)
        assert "axes 1oircK" in capsys.readouterr().out
        assert all(np.array_equal(found[k], expected[k]) for k in expected)


def test_filters_that_fit_two_orders_need_the_option(tmp_path, capsys):
    """Two regions a side and a kernel of two: [out, in, rows, columns, k, k] and [out, in, k, k, rows, columns] look alike."""
    state, arrays = files.tcdcn_model((1, 1, 1, 2)).state_dict(), {"image": image(1, 1, 40)}
    expected = outputs(tmp_path, files.save(tmp_path / "ours.pth", state), arrays)
    (tmp_path / "out.npz").unlink()
    path = files.save(tmp_path / "theirs.pth", laid(state, *ORDERS["oiklrc"]))
    error = refused(tmp_path, capsys, path)
    assert "oirckl, oiklrc" in error and "--filters" in error
    found = outputs(tmp_path, path, arrays, "--filters", "oiklrc")
    assert all(np.array_equal(found[k], expected[k]) for k in expected)
    other = outputs(tmp_path, path, arrays, "--filters", "oirckl")
    assert not np.array_equal(other["out.pose"], expected["out.pose"])
    (tmp_path / "out.npz").unlink()
    assert "known orders" in refused(tmp_path, capsys, path, "--filters", "hwio")
    assert "fit no chain" in refused(tmp_path, capsys, path, "--filters", "rcoikl")


def test_regions_or_an_option_determine_the_picture_of_tcdcn(tmp_path, capsys):
    """The pools round, so fc's inputs fit eight sides. Filters for each place determine which."""
    path = files.save(tmp_path / "a.pth", files.tcdcn_model(size=60).state_dict())
    assert outputs(tmp_path, path, {"image": image(1, 1, 60)})["out.pose"].shape == (1, 5)
    assert "56, 57, 58, 59, 60, 61, 62, 63 fit as well: --size" in capsys.readouterr().out
    outputs(tmp_path, path, {"image": image(1, 1, 60)}, "--size", "60", "--out", tmp_path / "export")
    assert "size = 60" in (tmp_path / "export/manifest.toml").read_text() and "60 x 60, by" in capsys.readouterr().out
    model = files.tcdcn_model((56, 26, 11, 4), size=60)
    path, arrays = files.save(tmp_path / "b.pth", model.state_dict()), {"image": image(1, 1, 60)}
    found = outputs(tmp_path, path, arrays)
    with torch.no_grad():
        close(found["out.landmark"], model(torch.from_numpy(arrays["image"]))["landmark"].numpy(), 1e-5)
    for name in ("in.npz", "out.npz"):
        (tmp_path / name).unlink()
    assert "--size 50" in refused(tmp_path, capsys, path, "--size", "50")
