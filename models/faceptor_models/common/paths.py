"""Locates the folders of the checkout that the modules read and write by default."""

from pathlib import Path

# `models/` of the checkout; the package is installed in editable mode, so it lies next to the weights and the exports.
MODELS = Path(__file__).resolve().parents[2]
CONFIGS = MODELS / "configs"
FINDER = MODELS / "finder"
# finder.toml and the ONNX files that it names; `student.export` copies them to other exports.
FINDER_EXPORT = MODELS / "edge"
PORTRAIT = MODELS / "demo" / "astronaut.jpg"
# The research photos lie next to the checkout.
FACES = MODELS.parents[1] / "shared" / "faces"
