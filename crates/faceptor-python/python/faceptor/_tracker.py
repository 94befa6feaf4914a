"""The tracker of videos."""

from __future__ import annotations

from typing import Optional

from faceptor import _native
from faceptor._analyzer import Analyzer, number, whole
from faceptor._errors import UnsupportedError
from faceptor._image import ImageLike, native_image
from faceptor._results import Analysis, analysis_of


class Tracker:
    """Tracks the faces of a video: a face keeps its number from frame to frame.

    Every face gets every task in every frame, with one view of it. Landmarks are smoothed, and so are age, expression and attributes.

    >>> import faceptor
    >>> tracker = faceptor.Tracker(faceptor.Analyzer(tasks=["landmarks"]))
    """

    def __init__(self, analyzer: Optional[Analyzer] = None, *, max_faces: int = 4) -> None:
        """Takes network, tasks and options of an analyzer (an `Analyzer()` without one); it tracks 1 to 16 faces."""
        analyzer = Analyzer() if analyzer is None else analyzer
        if not isinstance(analyzer, Analyzer):
            raise UnsupportedError(f"a tracker takes an Analyzer, not {type(analyzer).__name__}")
        self._max_pixels = analyzer._max_pixels
        self._native = _native.Tracker(analyzer._session, whole("max_faces", max_faces))

    def update(
        self,
        frame: ImageLike,
        elapsed: float = 1 / 30,
        *,
        bgr: bool = False,
        format: Optional[str] = None,
        colour: Optional[str] = None,
        size: Optional[tuple[int, int]] = None,
    ) -> Analysis:
        """Processes the next frame, taken `elapsed` seconds after the last one. The other arguments are those of `Analyzer.analyze`."""
        native = native_image(frame, bgr=bgr, format=format, colour=colour, size=size, max_pixels=self._max_pixels)
        return analysis_of(self._native.update(native, number("elapsed", elapsed)))

    def cut(self) -> None:
        """Declares that the next frame shows another scene: earlier results are dropped."""
        self._native.cut()
