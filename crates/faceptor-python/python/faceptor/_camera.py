"""Frames of cameras and films, read by OpenCV."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from faceptor._analyzer import number, whole
from faceptor._errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a camera or film."""

    #: Pixels in RGB: shape (height, width, 3).
    image: npt.NDArray[np.uint8]
    #: Frames before this one.
    number: int
    #: Seconds since the last frame, for `Tracker.update`.
    elapsed: float


class Camera:
    """Frames of a camera or film, one after the other: `open_camera` makes one.

    A camera's time is measured, a film's follows from its rate. Frames that come while a camera's last one is processed are passed
    over, except those in the driver's memory.
    """

    def __init__(self, capture: Any, name: str, rate: Optional[float]) -> None:
        self._capture, self._name, self._rate = capture, name, rate
        self._number = 0
        self._last: Optional[float] = None

    def __iter__(self) -> Iterator[Frame]:
        while self._capture is not None:
            there, image = self._capture.read()
            if not there:
                if self._number == 0:
                    raise UnsupportedError(f"{self._name}: it was opened, but gives no frame")
                return
            now = time.monotonic()
            elapsed = 0.0 if self._last is None else 1 / self._rate if self._rate else now - self._last
            self._last = now
            frame = Frame(image[..., ::-1], self._number, elapsed)
            self._number += 1
            yield frame

    def close(self) -> None:
        """Closes the camera."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<faceptor.Camera {self._name}>"


def open_camera(
    source: Union[int, str, os.PathLike[str]] = 0,
    *,
    width: Optional[int] = None,
    height: Optional[int] = None,
    fps: Optional[float] = None,
) -> Camera:
    """Opens a camera or film by OpenCV, which has to be installed (`pip install 'faceptor[camera]'`).

    Args:
        source: Number of a camera, its node (`/dev/video0`), a film, or a URL that OpenCV reads (`rtsp://`).
        width: Pixels of a row that the camera is asked for; it may choose others.
        height: Rows that the camera is asked for.
        fps: Frames a second that the camera is asked for.

    Raises:
        UnsupportedError: OpenCV is not installed, or the source cannot be opened.
    """
    name = source if isinstance(source, int) else os.fspath(source)
    if isinstance(source, bool) or not isinstance(name, (int, str)) or name == "" or (isinstance(name, str) and "\0" in name):
        raise UnsupportedError(f"source={source!r}: the number of a camera, a path or a URL is needed")
    wishes = [
        ("CAP_PROP_FRAME_WIDTH", None if width is None else whole("width", width)),
        ("CAP_PROP_FRAME_HEIGHT", None if height is None else whole("height", height)),
        ("CAP_PROP_FPS", None if fps is None else number("fps", fps)),
    ]
    try:
        import cv2
    except ImportError:
        raise UnsupportedError("open_camera needs OpenCV: pip install 'faceptor[camera]'") from None
    try:
        capture = cv2.VideoCapture(name)
    except cv2.error as reason:
        raise UnsupportedError(f"{name}: {reason}") from None
    if not capture.isOpened():
        is_camera = isinstance(name, int) or name.startswith("/dev/")
        hint = "is it plugged in, used by another program, or closed to this user (group video)?" if is_camera else "is it a film?"
        raise UnsupportedError(f"{name}: it cannot be opened: {hint}")
    for wish, value in wishes:
        if value is not None:
            capture.set(getattr(cv2, wish), value)
    is_film = isinstance(name, str) and os.path.isfile(name)
    if not is_film:
        # The newest frame, where the driver permits.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return Camera(capture, str(name), rate if is_film and rate > 0 else None)
