"""The types: of a user's program, and of the package itself."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest
from conftest import PORTRAIT

import faceptor
from faceptor import _native

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Mypy reads numpy's types once for all tests."""
    return tmp_path_factory.mktemp("mypy")


def run(*command):
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_program_of_a_user_passes_mypy_strict_and_runs(cache):
    run("-m", "mypy", "--strict", "--cache-dir", cache, HERE / "typed_program.py")
    lines = run(HERE / "typed_program.py", PORTRAIT).splitlines()
    assert lines[1:] == ["1", "(48, 64, 3)", "the file is empty"] and "(2, 2)" in lines[0]


def test_the_package_passes_mypy_strict(cache):
    run("-m", "mypy", "--strict", "--config-file", HERE.parent / "pyproject.toml", "--cache-dir", cache, "-p", "faceptor")


def test_wrong_types_of_a_user_are_found(cache, tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import faceptor\nyears: str = faceptor.Age(3.0, 1.0).years\nfaceptor.Analyzer(looks='two')\n")
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), str(wrong)], capture_output=True, text=True)
    assert "Found 2 errors" in done.stdout, done.stdout


def test_the_stub_has_every_name_of_the_compiled_part():
    stub = ast.parse((pathlib.Path(faceptor.__file__).parent / "_native.pyi").read_text())
    expected = {
        node.name: {item.name for item in node.body if isinstance(item, ast.FunctionDef)} - {"__new__"}
        for node in stub.body
        if isinstance(node, ast.ClassDef)
    }
    found = {
        name: {member for member in vars(value) if not member.startswith("_")}
        for name, value in vars(_native).items()
        if isinstance(value, type)
    }
    assert expected == found


def test_everything_public_has_a_docstring():
    for name in faceptor.__all__:
        value = getattr(faceptor, name)
        if isinstance(value, type):
            assert value.__doc__, name
            for member, function in vars(value).items():
                if not member.startswith("_") and callable(function):
                    assert function.__doc__, f"{name}.{member}"
