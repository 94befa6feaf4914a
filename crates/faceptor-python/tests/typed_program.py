"""A user's program, which mypy --strict reads and test_types.py runs."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

import faceptor


def eyes(face: faceptor.Face) -> npt.NDArray[np.float32]:
    return face.keypoints[:2]


def describe(path: str) -> list[str]:
    analyzer = faceptor.Analyzer(tasks=["age", "expression"], looks=1)
    lines: list[str] = []
    analysis = analyzer.analyze(path)
    for face in analysis.faces:
        if face.age is not None and face.expression is not None:
            years: float = face.age.years
            lines.append(f"{years:.0f} {face.expression.label} {eyes(face).shape}")
    for one in analyzer.analyze_batch([path], errors="return"):
        lines.append(str(one) if isinstance(one, faceptor.Error) else str(len(one.faces)))
    frame: npt.NDArray[np.uint8] = np.zeros((48, 64, 3), np.uint8)
    tracked: faceptor.Analysis = faceptor.Tracker(analyzer).update(frame, 0.04)
    drawn: npt.NDArray[np.uint8] = tracked.draw(frame)
    lines.append(str(drawn.shape))
    try:
        analyzer.analyze(b"")
    except faceptor.ImageError as error:
        lines.append(str(error))
    return lines


if __name__ == "__main__":
    print("\n".join(describe(sys.argv[1])))
