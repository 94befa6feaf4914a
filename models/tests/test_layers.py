"""Checks the order of the subpackages: imports point one way, and no modules import each other in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "faceptor_models"
# Each subpackage with those that it may import.
ALLOWED = {
    "common": set(),
    "finder": {"common"},
    "prepare": {"common"},
    "student": {"common", "finder"},
    "published": {"common", "student"},
}


def modules():
    """Returns {module name below the package: file}."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name, path, known):
    """Yields the package's modules that a module imports, also inside functions."""
    folder = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            origins = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["faceptor_models", *folder[: len(folder) - node.level + 1]] if node.level else []
            origin = ".".join([*[b for b in base if b], *([node.module] if node.module else [])])
            origins = [f"{origin}.{a.name}" for a in node.names]
        else:
            continue
        for origin in origins:
            below = origin.removeprefix("faceptor_models.") if origin.startswith("faceptor_models") else ""
            target = below if below in known else below.rpartition(".")[0]
            if target in known and target:
                yield target


def test_subpackages_import_only_what_lies_under_them():
    known = modules()
    assert {n for n in known if "." not in n} >= set(ALLOWED)
    seen = set()
    for name, path in known.items():
        package = name.split(".")[0]
        for target in imported(name, path, known) if package in ALLOWED else ():
            other = target.split(".")[0]
            assert other == package or other in ALLOWED[package], f"{name} imports {target}"
            seen.add((package, other))
    assert {("student", "common"), ("published", "student")} <= seen


def test_no_module_imports_itself_through_others():
    known = modules()
    graph = {name: {t for t in imported(name, path, known) if t != name} for name, path in known.items()}
    assert sum(map(len, graph.values())) > 200
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)
