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


def names(path: str, key: str) -> list[str]:
    with faceptor.Gallery(path, key=key) as gallery:
        people: tuple[faceptor.Person, ...] = gallery.people()
        found: list[str] = [person.name for person in people]
        for face in gallery.identify("photo.jpg", fpir=0.001).faces:
            if face.identity is not None and face.identity.name is not None:
                found.append(face.identity.name)
        outcome: faceptor.Enrolment = gallery.enroll("Ada", ["a.jpg", b""], expires="1y")
        return found + [reason for photo in outcome.photos for reason in photo.reasons]


def followed(source: str) -> list[int]:
    tracker = faceptor.Tracker()
    with faceptor.open_camera(source, width=640) as camera:
        return [face.id for frame in camera for face in tracker.update(frame.image, frame.elapsed).faces]


if __name__ == "__main__":
    print("\n".join(describe(sys.argv[1])))
