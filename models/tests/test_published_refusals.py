"""Tests that `faceptor-models import` refuses damaged, hostile and foreign files with the reason, and writes nothing."""

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from faceptor_models import command
from tests import official_files as files
from tests.imports import FACEPTOR_OPTIONS, image, npz, refused, run_import

torch.set_num_threads(1)


def drop(name):
    return lambda held: held["state_dict"].pop(name)


def reshape(name, *shape):
    return lambda held: held["state_dict"].update({name: torch.zeros(*shape)})


def rename(old, new):
    def change(held):
        held["state_dict"] = {k.replace(old, new, 1): v for k, v in held["state_dict"].items()}

    return change


DECODER = "module.heads_module.decoder."
FAULTS = {
    "missing tensor": (drop(DECODER + "input_proj.0.bias"), "missing: heads_module.decoder.input_proj.0.bias"),
    "missing block": (drop("module.backbone_module.visual.transformer.resblocks.3.ln_1.weight"), "resblocks.3.ln_1.weight"),
    "changed shape": (reshape(DECODER + "query_feat.align_300w.weight", 67, 16), "query_embed.align_300w.weight"),
    "changed rank": (reshape("module.backbone_module.visual.class_embedding", 4, 6), "class_embedding"),
    "table not square": (reshape("module.backbone_module.visual.positional_embedding", 16, 24), "square"),
    "extra tensor": (reshape("module.heads_module.decoder.surprise", 3), "not known: heads_module.decoder.surprise"),
    "not finite": (reshape(DECODER + "input_proj.0.bias", 16, ), ""),
    "prefix of another wrapper": (rename("module.", "model."), 'begin with "model."'),
    "no prefix": (rename("module.", ""), "wrong prefix"),
    "one name without prefix": (rename("module.backbone_module.visual.proj", "backbone_module.visual.proj"), "lack the prefix"),
    "unknown task": (rename("age_morph2", "gaze_mpii"), "unknown task gaze_mpii"),
    "untied copies": (reshape("module.heads_module.interpreters.map_v2.mask_map.1.ln.bias", 16), "different values"),
    "another network": (rename("module.", "resnet50."), "wrong prefix"),
}  # fmt: skip
FAULTS["not finite"] = (lambda held: held["state_dict"][DECODER + "input_proj.0.bias"].fill_(float("nan")), "not finite")


def renamed_task(held):
    held["state_dict"] = {k.replace("age_morph2", "gaze_mpii"): v for k, v in held["state_dict"].items()}


FAULTS["unknown task"] = (renamed_task, "unknown task gaze_mpii")


@pytest.mark.parametrize("fault", list(FAULTS))
def test_faulty_files_are_refused_with_the_reason(tmp_path, capsys, fault):
    change, reason = FAULTS[fault]
    held = files.ddp(files.faceptor_model())
    held["state_dict"] = dict(held["state_dict"])
    change(held)
    error = refused(tmp_path, capsys, files.save(tmp_path / "c.pth.tar", held), *FACEPTOR_OPTIONS)
    assert reason in error, error


def test_damaged_and_foreign_files_are_refused(tmp_path, capsys):
    good = files.save(tmp_path / "good.pth.tar", files.ddp(files.faceptor_model()))
    data = good.read_bytes()
    for name, content in {
        "cut.pth": data[: len(data) // 2],
        "start.pth": data[:40],
        "empty.pth": b"",
        "text.pth": b"hello",
        "cut.npz": data[:99],
    }.items():
        (tmp_path / name).write_bytes(content)
        assert name in refused(tmp_path, capsys, tmp_path / name)
    files.save(tmp_path / "other.pth", {"fc.weight": torch.zeros(2, 2), "layer1.0.conv1.weight": torch.zeros(1)})
    assert "no checkpoint of Faceptor" in refused(tmp_path, capsys, tmp_path / "other.pth")
    files.save(tmp_path / "list.pth", [1, 2])
    assert "list" in refused(tmp_path, capsys, tmp_path / "list.pth")
    assert "is not there" in refused(tmp_path, capsys, tmp_path / "absent.pth")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def test_a_pickle_that_calls_something_is_refused_before_it_does(tmp_path, capsys):
    mark = tmp_path.parent / f"{tmp_path.name}_called"
    held = files.mcf_file(files.mcf_model())
    files.save(tmp_path / "bad.pth", held | {"args": Malicious(mark)})
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Malicious(mark)}))
    np.savez(tmp_path / "bad.npz", **{"conv1.weight": np.array([Malicious(mark)], dtype=object)})
    for name in ("bad.pth", "plain.pth", "bad.npz"):
        error = refused(tmp_path, capsys, tmp_path / name)
        assert name in error
    assert not mark.exists()


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path, capsys):
    """Sizes come from tensors; one repeated number must not make us build a network of a hundred gigabytes."""
    state = {f"module.{k}": torch.zeros(()).expand(v.shape) for k, v in files.faceptor_model().state_dict().items()}
    path = files.save(tmp_path / "hollow.pth.tar", {"step": 1, "state_dict": state, "optimizer": {}})
    assert "claims to be larger" in refused(tmp_path, capsys, path, *FACEPTOR_OPTIONS)
    state["module.backbone_module.visual.class_embedding"] = torch.zeros(1).expand(6_000_000)
    path = files.save(tmp_path / "huge.pth.tar", {"step": 1, "state_dict": state, "optimizer": {}})
    assert "do not fit" in refused(tmp_path, capsys, path, *FACEPTOR_OPTIONS)


def test_wrong_usage_exits_with_status_2(capsys):
    for arguments in (["import", "c.pth"], ["import"], ["import", "c.pth", "--out", "d", "--levels", "x"], ["export"]):
        with pytest.raises(SystemExit) as stop:
            command.main(arguments)
        assert stop.value.code == 2
    assert "--npz" in capsys.readouterr().err


def test_wrong_options_are_refused(tmp_path, capsys):
    path = files.save(tmp_path / "c.pth.tar", files.ddp(files.faceptor_model()))
    assert "unknown task gaze" in refused(tmp_path, capsys, path, *FACEPTOR_OPTIONS, "--tasks", "gaze")
    assert "--encoder-heads" in refused(tmp_path, capsys, path, "--encoder-heads", "7")
    assert "--levels" in refused(tmp_path, capsys, path, *FACEPTOR_OPTIONS, "--levels", "12")
    assert "--levels" in refused(tmp_path, capsys, path, *FACEPTOR_OPTIONS, "--levels", "1,2")


def test_arrays_that_do_not_fit_are_refused(tmp_path, capsys):
    path = files.save(tmp_path / "c.pth.tar", files.ddp(files.faceptor_model()))
    cases = {
        "has no array": {"picture": image(1, 3, 32)}, "shape": {"image_small": image(1, 1, 112)},
        "finite": {"image_small": image(1, 3, 112) * np.nan},
        "square": {"image_small": image(1, 3, 112)[:, :, :96]},
    }  # fmt: skip
    for reason, arrays in cases.items():
        source = npz(tmp_path / "in.npz", **arrays)
        assert run_import(path, *FACEPTOR_OPTIONS, "--out", tmp_path / "export", "--npz", source, tmp_path / "out.npz") == 1
        assert reason in capsys.readouterr().err
        assert not (tmp_path / "export").exists() and not (tmp_path / "out.npz").exists()


def test_answers_that_are_not_finite_are_refused(tmp_path, capsys):
    state = files.dmlcsr_model().state_dict()
    next(v for k, v in state.items() if k.endswith("running_var")).fill_(-1.0)
    path, source = files.save(tmp_path / "d.pth", state), npz(tmp_path / "in.npz", image=image(1, 3, 33))
    assert run_import(path, "--npz", source, tmp_path / "out.npz") == 1
    assert "seg" in capsys.readouterr().err and not (tmp_path / "out.npz").exists()


def array_bytes(shape, held=b""):
    """Returns an .npy file that claims `shape` of float32 and has the numbers `held`."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return out.getvalue() + held


def test_archives_that_would_fill_the_memory_are_refused(tmp_path, capsys):
    """They are 300 MB of zeros in 300 kB, as weights and as a picture, and an array that claims a terabyte it does not have."""
    zeros = array_bytes((75_000_000,), bytes(300_000_000))
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("conv1.weight.npy", zeros)
        archive.writestr("image.npy", zeros)
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/data/0", zeros)
    np.savez(tmp_path / "claim.npz", **{"conv1.bias": np.zeros(3)})
    with zipfile.ZipFile(tmp_path / "claim.npz", "a") as archive:
        archive.writestr("conv1.weight.npy", array_bytes((1 << 38,), b"1234"))
    for name, reason in (("bomb.npz", "do not shrink"), ("bomb.pth", "do not shrink"), ("claim.npz", "no readable checkpoint")):
        assert reason in refused(tmp_path, capsys, tmp_path / name)
    good = files.save(tmp_path / "t.pth", files.tcdcn_model().state_dict())
    assert run_import(good, "--npz", tmp_path / "bomb.npz", tmp_path / "out.npz") == 1 and not (tmp_path / "out.npz").exists()
    assert "do not shrink" in capsys.readouterr().err


def test_tensors_without_numbers_are_refused(tmp_path, capsys):
    state = files.tcdcn_model().state_dict()
    for made in (
        torch.empty(12, device="meta"),
        torch.zeros(12, dtype=torch.complex64),
        torch.zeros(12).to_sparse(),
        torch.zeros(12, dtype=torch.bool),
    ):
        path = files.save(tmp_path / "t.pth", state | {"fc.bias": made})
        assert "fc.bias" in refused(tmp_path, capsys, path)


def test_filters_for_more_regions_than_the_file_has_numbers_are_refused(tmp_path, capsys):
    """Otherwise a shared bias would first be laid out for all of them."""
    state = files.tcdcn_model((2, 2, 2, 2)).state_dict()
    hollow = {"conv1.weight": torch.zeros(()).expand(60_000, 60_000, 4, 1, 5, 5), "conv1.bias": torch.zeros(4)}
    assert "claims to be larger" in refused(tmp_path, capsys, files.save(tmp_path / "t.pth", state | hollow))


def test_a_refusal_names_the_call_of_a_pickle_and_suggests_no_workaround(tmp_path, capsys):
    path = files.save(tmp_path / "c.pth", files.mcf_file(files.mcf_model()) | {"args": Malicious("x")})
    error = refused(tmp_path, capsys, path)
    assert "posix.system" in error
    held = files.ddp(files.faceptor_model()) | {"made": collections.defaultdict(int)}
    error += refused(tmp_path, capsys, files.save(tmp_path / "c.pth", held))
    assert "it calls collections.defaultdict" in error
    assert "safe_globals" not in error and "weights_only" not in error


def test_an_object_array_is_refused_among_weights_and_not_read_among_pictures(tmp_path, capsys):
    state = {k: v.numpy() for k, v in files.tcdcn_model().state_dict().items()}
    named = np.array(["a", None], dtype=object)
    np.savez(tmp_path / "t.npz", **state, names=named)
    assert "Object arrays" in refused(tmp_path, capsys, tmp_path / "t.npz")
    path = files.save(tmp_path / "t.pth", files.tcdcn_model().state_dict())
    assert run_import(path, "--npz", npz(tmp_path / "in.npz", image=image(1, 1, 40), names=named), tmp_path / "out.npz") == 0


@pytest.mark.parametrize("system", ["naive", "mcf", "dmlcsr", "tcdcn"])
def test_each_system_refuses_a_missing_a_changed_and_a_broken_tensor(tmp_path, capsys, system):
    model = getattr(files, f"{system}_model")()
    prefix, wrap = ("module.", lambda s: {"state_dict": s}) if system == "naive" else ("", lambda s: {"model": s} if system == "mcf" else s)
    state = {prefix + k: v for k, v in model.state_dict().items()}
    options = FACEPTOR_OPTIONS if system in ("naive", "mcf") else []
    chosen = [k for k in state if k.endswith((".bias", ".running_mean")) and state[k].dim() == 1]
    for name in (chosen[0], chosen[len(chosen) // 2], chosen[-1]):
        wrong = {
            "missing": {k: v for k, v in state.items() if k != name}, "of another shape": state | {name: torch.zeros(state[name].numel() + 1)},
            "not finite": state | {name: torch.full_like(state[name], torch.inf)}, "another prefix": {f"net.{k}": v for k, v in state.items()},
        }  # fmt: skip
        for reason, held in wrong.items():
            error = refused(tmp_path, capsys, files.save(tmp_path / "c.pth", wrap(held)), *options)
            assert ("wrong prefix" in error) if reason == "another prefix" else (reason in error and name.removeprefix(prefix) in error), error
