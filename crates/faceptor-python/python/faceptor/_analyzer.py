"""The analyzer of images."""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Optional, Union

from faceptor import _native
from faceptor._errors import Error, TaskError, UnsupportedError
from faceptor._image import ImageLike, native_image
from faceptor._results import Analysis, analysis_of

#: A path, the content of a bundle, or the name of a network inside the package.
Model = Union[None, str, "os.PathLike[str]", bytes, bytearray]


class Analyzer:
    """Finds the faces of an image and runs the chosen tasks on each.

    It holds the network and its memory: make one and use it for every image. Threads may share one; their calls run one after the
    other. It can be pickled, and a process that was forked may go on using it.
    """

    def __init__(
        self,
        tasks: Union[None, str, Iterable[str]] = None,
        model: Model = None,
        *,
        bundle: Model = None,
        threads: int = 1,
        looks: int = 10,
        max_faces: int = 64,
        min_face: float = 24.0,
        upright: bool = False,
        fine_masks: bool = True,
        max_pixels: int = 1 << 26,
    ) -> None:
        """Loads a network.

        Args:
            tasks: Names such as ``["age", "landmarks"]``, ``"all"``, or an empty list for the face detector alone. Without it, the
                bundle's defaults: all but recognition.
            model: A bundle made by ``faceptor compile``, as a path or as bytes; without it, the network inside the package.
            bundle: Another name for `model`.
            threads: Threads that share the work on one image, this one included: 1 to 8. `analyze_batch` has threads of its own.
            looks: How many views of each face are averaged: 1, 2, 6 or 10. Ten take ten times as long as one.
            max_faces: Most faces of an image, best score first: 1 to 64.
            min_face: Longer side of the smallest faces to look for, pixels: 16 or more.
            upright: Look for upright faces alone, turned by up to about 35 degrees: in less than half of the time.
            fine_masks: Parsing masks with smooth borders; without them parsing is faster.
            max_pixels: Larger images are refused.

        Raises:
            BundleError: The bundle cannot be read or run on this CPU.
            TaskError: The bundle has no task of that name.
            UnsupportedError: An argument has a value that is not allowed.
        """
        if model is not None and bundle is not None:
            raise UnsupportedError("model= and bundle= are two names of one argument: give one of them")
        model = bundle if model is None else model
        self._options: dict[str, Any] = {
            "threads": whole("threads", threads),
            "looks": whole("looks", looks),
            "max_faces": whole("max_faces", max_faces),
            "min_face": number("min_face", min_face),
            "upright": bool(upright),
            "fine_masks": bool(fine_masks),
        }
        self._max_pixels = whole("max_pixels", max_pixels)
        self._request = task_names(tasks)
        self._model = model
        self._session = _native.Session(self._request, *model_arguments(model), **self._options)
        self._spare: list[_native.Session] = []

    @property
    def tasks(self) -> tuple[str, ...]:
        """The chosen tasks."""
        return tuple(self._session.tasks)

    @property
    def known_tasks(self) -> tuple[str, ...]:
        """All tasks of the network."""
        return tuple(self._session.known_tasks)

    @property
    def network(self) -> str:
        """Name and version of the network."""
        return self._session.network

    def analyze(
        self,
        image: ImageLike,
        *,
        bgr: bool = False,
        format: Optional[str] = None,
        colour: Optional[str] = None,
        size: Optional[tuple[int, int]] = None,
        aligned: bool = False,
    ) -> Analysis:
        """Finds the faces of an image, best score first, and runs the tasks on each. Other threads run meanwhile.

        Args:
            image: A path or the bytes of a JPEG, PNG, WebP, TIFF, BMP or GIF, whose EXIF orientation is applied; or a numpy array
                of uint8 with any strides: (height, width, 3) in RGB, or (height, width) in grey.
            bgr: The array is BGR, as OpenCV's are. Files state their own order.
            format: Layout of an array: RGB, BGR, GREY, NV12, I420, I422, I444, YUYV or UYVY, in the shapes of OpenCV.
            colour: Encoding of YUV: bt601-limited (cameras, the default), bt601-full (JPEG), bt709-limited, bt709-full.
            size: Width and height of pixels that are a flat array or bytes.
            aligned: The image is a square crop of one face, with eyes where the network expects them; nothing is searched.

        Raises:
            ImageError: The image cannot be read, or its shape or size does not fit; `ImageTypeError` for its type.
            UnsupportedError: An argument has a value that is not allowed.
        """
        native = native_image(
            image, bgr=bgr, format=format, colour=colour, size=size, max_pixels=self._max_pixels
        )
        return analysis_of(self._session.analyze(native, bool(aligned)))

    def analyze_batch(
        self,
        images: Iterable[ImageLike],
        *,
        jobs: Optional[int] = None,
        errors: str = "raise",
        **arguments: Any,
    ) -> Iterator[Union[Analysis, Error]]:
        """Analyzes many images at once and yields the results in the order of the images.

        The images are taken from the iterable as they are needed, so that it may be endless. The threads exist while the results
        are read. What one image yields is equal to what `analyze` gives.

        Args:
            images: Whatever `analyze` takes.
            jobs: Threads: the number of CPUs that this process may use without it.
            errors: ``"raise"`` ends with the first image that cannot be analyzed; ``"return"`` yields the exception in its place.
            **arguments: Those of `analyze`, for every image.
        """
        if errors not in ("raise", "return"):
            raise UnsupportedError(f"errors={errors!r}: 'raise' or 'return' is needed")
        count = len(os.sched_getaffinity(0)) if jobs is None else whole("jobs", jobs)
        if not 1 <= count <= 1024:
            raise UnsupportedError(f"jobs={count}: 1 to 1024 threads are needed")
        unknown = set(arguments) - {"bgr", "format", "colour", "size", "aligned"}
        if unknown:
            raise TypeError(f"analyze_batch() got an unexpected keyword argument {min(unknown)!r}")
        return self._batch(iter(images), count, errors == "return", arguments)

    def _batch(
        self, images: Iterator[ImageLike], jobs: int, keep: bool, arguments: dict[str, Any]
    ) -> Iterator[Union[Analysis, Error]]:
        idle: queue.SimpleQueue[_native.Session] = queue.SimpleQueue()
        aligned = bool(arguments.pop("aligned", False))
        given = {"bgr": False, "format": None, "colour": None, "size": None, **arguments}

        def work(image: ImageLike) -> Union[Analysis, Error]:
            session = idle.get()
            try:
                native = native_image(image, max_pixels=self._max_pixels, **given)
                return analysis_of(session.analyze(native, aligned))
            except Error as error:
                if keep:
                    return error
                raise
            finally:
                idle.put(session)

        taken: list[_native.Session] = []
        while len(taken) < jobs:
            try:
                taken.append(self._spare.pop())
            except IndexError:
                taken.append(self._session.sibling())
            idle.put(taken[-1])
        waiting: deque[Future[Union[Analysis, Error]]] = deque()
        pool = ThreadPoolExecutor(jobs, thread_name_prefix="faceptor")
        try:
            for image in images:
                waiting.append(pool.submit(work, image))
                if len(waiting) >= 2 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._spare.extend(taken)

    def __getstate__(self) -> dict[str, Any]:
        model = bytes(self._model) if isinstance(self._model, bytearray) else self._model
        return {"tasks": self._request, "model": model, "max_pixels": self._max_pixels, **self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"<faceptor.Analyzer of {self.network}: {', '.join(self.tasks) or 'faces alone'}>"


def task_names(tasks: Union[None, str, Iterable[str]]) -> Optional[str]:
    """Returns the request in the form of the command line."""
    if tasks is None or isinstance(tasks, str):
        return tasks
    try:
        names = list(tasks)
    except TypeError:
        raise TaskError(f"tasks={tasks!r}: a list of names is needed, or 'all'") from None
    for name in names:
        if not isinstance(name, str):
            raise TaskError(f"tasks: {name!r} is not a name of a task")
        if not name.strip() or "," in name:
            raise TaskError(f"unknown task {name!r}")
    return ",".join(names) or "none"


def model_arguments(model: Model) -> tuple[Optional[str], Optional[bytes]]:
    """Returns a path and the content of a bundle, one of which may be there."""
    if model is None:
        return None, None
    if isinstance(model, (bytes, bytearray)):
        return None, bytes(model)
    if not isinstance(model, (str, os.PathLike)):
        raise UnsupportedError(f"model: a path or the bytes of a bundle are needed, not {type(model).__name__}")
    path = os.fspath(model)
    if "\0" in path:
        raise UnsupportedError("model: a path with a null character names no file")
    return path, None


def whole(name: str, value: object) -> int:
    """Checks a count."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UnsupportedError(f"{name}={value!r}: a whole number is needed")
    number = value.__index__()
    if not 0 <= number < 1 << 31:
        raise UnsupportedError(f"{name}={number}: this number is out of every range")
    return int(number)


def number(name: str, value: object) -> float:
    """Checks a number."""
    if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise UnsupportedError(f"{name}={value!r}: a number is needed")
    try:
        return float(value)  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        raise UnsupportedError(f"{name}={value!r}: a number is needed") from None
