"""The results, as dataclasses with numpy arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from faceptor import _native
from faceptor._errors import UnsupportedError
from faceptor._image import ImageLike, native_image

#: An array of 32 bit floats.
Floats = npt.NDArray[np.float32]


class Line:
    """The JSON of an analysis, which it shares with its faces; made when it is asked for."""

    def __init__(self, record: Optional[_native.Record]) -> None:
        self.record = record
        self._json: Optional[str] = None

    def json(self) -> str:
        """Returns the line of the command line."""
        if self._json is None:
            if self.record is None:
                raise UnsupportedError("this result was not made by an analyzer")
            self._json = self.record.json()
        return self._json

    def __getstate__(self) -> dict[str, Any]:
        return {"record": None, "_json": self.json()}


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points of a face, in iBUG order."""

    #: Pixels of the image: shape (68, 2), x and y.
    points: Floats


@dataclass(frozen=True, eq=False)
class Parsing:
    """Holds the class of each pixel."""

    #: Names of the classes, in the order of their numbers in a mask.
    classes: tuple[str, ...]
    #: The classes' shares of the face's crop, which sum to 1.
    share: Floats
    _source: Optional[tuple[_native.Record, int, int]] = field(repr=False, default=None)
    _cache: list[npt.NDArray[np.uint8]] = field(repr=False, default_factory=list)

    #: The value of a mask's pixels outside the face's crop.
    OUTSIDE = 255

    @property
    def mask(self) -> npt.NDArray[np.uint8]:
        """The class of each pixel of the image, shape (height, width); 255 outside the face's crop. Painted when asked for."""
        if not self._cache:
            if self._source is None:
                raise UnsupportedError("a result that was pickled has no mask, unless the mask was read before")
            record, face, index = self._source
            self._cache.append(record.mask(face, index))
        return self._cache[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True)
class Age:
    """Age in years."""

    years: float
    #: Standard deviation of the estimate.
    std: float


@dataclass(frozen=True, eq=False)
class Expression:
    """Probabilities of classes that exclude each other."""

    #: The most probable class.
    label: str
    labels: tuple[str, ...]
    #: One for each of `labels`; they sum to 1.
    scores: Floats

    def __getitem__(self, label: str) -> float:
        """Returns the probability of a class."""
        return named(self.labels, self.scores, label)

    def as_dict(self) -> dict[str, float]:
        """Returns the probabilities by name."""
        return dict(zip(self.labels, self.scores.tolist()))


@dataclass(frozen=True, eq=False)
class Attributes:
    """Probabilities of properties that are independent of each other."""

    labels: tuple[str, ...]
    #: One for each of `labels`, 0 to 1.
    probabilities: Floats

    def __getitem__(self, label: str) -> float:
        """Returns the probability of an attribute."""
        return named(self.labels, self.probabilities, label)

    def as_dict(self) -> dict[str, float]:
        """Returns the probabilities by name."""
        return dict(zip(self.labels, self.probabilities.tolist()))


@dataclass(frozen=True, eq=False)
class Recognition:
    """Numbers that are similar for faces of one person."""

    #: Of unit length.
    embedding: Floats

    def similarity(self, other: Union[Recognition, npt.ArrayLike]) -> float:
        """Returns the cosine between this and another embedding of the same network: -1 to 1, high for one person."""
        numbers = other.embedding if isinstance(other, Recognition) else np.asarray(other, dtype=np.float32)
        if numbers.shape != self.embedding.shape:
            raise UnsupportedError(f"an embedding of shape {numbers.shape}, but this one has {self.embedding.shape}")
        return float(np.dot(self.embedding, numbers))


#: The result of a task.
Result = Union[Landmarks, Parsing, Age, Expression, Attributes, Recognition]


@dataclass(frozen=True)
class Quality:
    """Says how well a face can be seen."""

    #: False where the results are not to be trusted.
    trusted: bool
    #: The reasons, such as `too_small`.
    why: tuple[str, ...]
    #: Pixels between the eyes.
    eyes_px: float
    #: Offset of the nose tip in distances between the eyes: 0 is frontal; `None` where it is unknown.
    turn: Optional[float]
    #: Degrees by which the face is turned clockwise in the image.
    roll: float
    #: Mean grey level of the face, 0 to 255.
    brightness: Optional[float]
    #: Standard deviation of its grey levels.
    contrast: Optional[float]
    #: About 1 when the face is sharp.
    sharpness: Optional[float]
    #: Probability that it is a face.
    likeness: Optional[float]
    #: Share of the face's area inside the image.
    visible: float
    #: Share of the landmarks inside the image.
    landmarks_visible: Optional[float]


@dataclass(frozen=True)
class Identity:
    """Says who a face is, or why it has no name."""

    #: The person's name; `None` for a stranger.
    name: Optional[str]
    #: Cosine similarity of the best person; `None` in an empty gallery.
    similarity: Optional[float]
    #: Similarity of the second-best person.
    second_similarity: Optional[float]
    #: The least similarity for a name.
    threshold: float
    #: Why there is no name: `below_threshold`, `ambiguous` or `empty_gallery`.
    unknown: Optional[str]


@dataclass(frozen=True, eq=False)
class Face:
    """A face with the results of the tasks. A task that was not chosen is `None`."""

    #: From 1 on: in an image by falling score, in a video the same from frame to frame.
    id: int
    #: Score of the face detector, 0 to 1.
    score: float
    #: Left, top, width, height in pixels: shape (4,).
    box: Floats
    #: Eyes, nose tip, mouth corners, left to right in the image: shape (5, 2).
    keypoints: Floats
    quality: Quality
    #: The results by the names of their tasks: also those of a bundle's own tasks.
    results: dict[str, Result]
    #: Age in frames of the results of earlier frames, by task.
    stale_frames: dict[str, int]
    landmarks: Optional[Landmarks] = None
    parsing: Optional[Parsing] = None
    age: Optional[Age] = None
    expression: Optional[Expression] = None
    attributes: Optional[Attributes] = None
    recognition: Optional[Recognition] = None
    #: The answer of `Gallery.identify`; `None` elsewhere.
    identity: Optional[Identity] = None
    _line: Line = field(repr=False, default_factory=lambda: Line(None))

    def to_dict(self) -> dict[str, Any]:
        """Returns what the command line prints for this face with ``--json``."""
        faces: list[dict[str, Any]] = json.loads(self._line.json())["faces"]
        return next(face for face in faces if face["id"] == self.id)


@dataclass(frozen=True, eq=False)
class Analysis:
    """The faces of one image."""

    #: Best score first; of a `Tracker`, in the order of their numbers.
    faces: tuple[Face, ...]
    width: int
    height: int
    #: The file that was read; `None` for bytes and arrays.
    path: Optional[str]
    #: What is wrong with a file although it could be decoded.
    warnings: tuple[str, ...]
    #: Faces that were found and left out because of `max_faces`: at least as many, in a crowd.
    faces_left_out: int
    #: Longer side of the smallest faces that the image was searched for, pixels; `None` for aligned crops and videos.
    searched_from_px: Optional[float]
    _line: Line = field(repr=False, default_factory=lambda: Line(None))

    def to_json(self) -> str:
        """Returns the line that the command line prints with ``--json``."""
        return self._line.json()

    def to_dict(self) -> dict[str, Any]:
        """Returns the object that the command line prints with ``--json``."""
        result: dict[str, Any] = json.loads(self.to_json())
        return result

    def draw(
        self,
        image: ImageLike,
        *,
        bgr: bool = False,
        format: Optional[str] = None,
        colour: Optional[str] = None,
        size: Optional[tuple[int, int]] = None,
        max_pixels: int = 1 << 26,
    ) -> npt.NDArray[np.uint8]:
        """Draws the results on a copy of the image that was analyzed, and returns it: shape (height, width, 3).

        The arguments are those of `Analyzer.analyze`. The result is RGB, or BGR if the image is.
        """
        record = self._line.record
        if record is None:
            raise UnsupportedError("a result that was pickled cannot be drawn")
        native = native_image(image, bgr=bgr, format=format, colour=colour, size=size, max_pixels=max_pixels)
        return record.draw(native, bgr or (format or "").upper() == "BGR")

    def __len__(self) -> int:
        return len(self.faces)

    def __iter__(self) -> Iterator[Face]:
        return iter(self.faces)

    def __bool__(self) -> bool:
        """Is true also without faces: `if analysis.faces` asks for them."""
        return True


def named(labels: tuple[str, ...], values: Floats, label: str) -> float:
    """Returns the value of a label."""
    try:
        return float(values[labels.index(label)])
    except ValueError:
        raise KeyError(f"no label {label!r}: there are {', '.join(labels)}") from None


def analysis_of(record: _native.Record) -> Analysis:
    """Makes the dataclasses of a record."""
    faces: list[Face] = []
    line = Line(record)
    for position, entry in enumerate(record.faces()):
        quality = entry.pop("quality")
        quality["why"] = tuple(quality["why"])
        found = entry.pop("identity")
        identity = None if found is None else Identity(**found)
        results: dict[str, Result] = {}
        first: dict[str, Any] = {}
        for task, kind, content in entry.pop("results"):
            results[task] = result_of(kind, content, record, position)
            first.setdefault(kind, results[task])
        faces.append(Face(**entry, quality=Quality(**quality), results=results, **first, identity=identity, _line=line))
    return Analysis(
        faces=tuple(faces),
        width=record.width,
        height=record.height,
        path=record.path,
        warnings=tuple(record.warnings),
        faces_left_out=record.faces_left_out,
        searched_from_px=record.searched_from_px,
        _line=line,
    )


def result_of(kind: str, content: dict[str, Any], record: _native.Record, face: int) -> Result:
    """Makes the dataclass of a result."""
    if kind == "landmarks":
        return Landmarks(**content)
    if kind == "parsing":
        return Parsing(tuple(content["classes"]), content["share"], (record, face, content["index"]))
    if kind == "age":
        return Age(**content)
    if kind == "expression":
        return Expression(content["label"], tuple(content["labels"]), content["scores"])
    if kind == "attributes":
        return Attributes(tuple(content["labels"]), content["probabilities"])
    return Recognition(**content)
