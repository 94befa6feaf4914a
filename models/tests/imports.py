"""Calls `faceptor-models import` for the tests and reads what it writes."""

import numpy as np

from faceptor_models import command

RNG = np.random.default_rng(4)
FACEPTOR_OPTIONS = ["--encoder-heads", "4", "--decoder-heads", "4"]


def image(batch, channels, side):
    return RNG.standard_normal((batch, channels, side, side)).astype(np.float32)


def run_import(*arguments):
    return command.main(["import", *map(str, arguments), "--finder", ""])


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def outputs(tmp_path, checkpoint, arrays, *options):
    """Returns what `--npz` writes for `arrays`."""
    out = tmp_path / "out.npz"
    assert run_import(checkpoint, "--npz", npz(tmp_path / "in.npz", **arrays), out, *options) == 0
    return dict(np.load(out))


def close(a, b, atol=1e-3):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, atol=atol, rtol=1e-3)


def refused(tmp_path, capsys, path, *options):
    """Returns the message of a refusal after a check that nothing was written."""
    before = sorted(p.name for p in tmp_path.iterdir())
    source = npz(tmp_path.parent / f"{tmp_path.name}_in.npz", image=image(1, 3, 32), image_small=image(1, 3, 112))
    assert run_import(path, "--out", tmp_path / "export", "--npz", source, tmp_path / "out.npz", *options) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    error = capsys.readouterr().err
    assert error.startswith("faceptor-models import: ") and "Traceback" not in error
    return error
