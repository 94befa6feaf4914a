"""The gallery: who a face is."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Optional, Union

from faceptor import _native
from faceptor._analyzer import Model, model_arguments, number, whole
from faceptor._errors import GalleryError, ImageError, ImageTypeError, UnsupportedError
from faceptor._image import ImageLike, native_image
from faceptor._results import Analysis, analysis_of

#: A path of a file.
Path = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Person:
    """A person of a gallery."""

    name: str
    #: Photos whose embeddings are held.
    templates: int
    #: Time of the enrolment, such as `2026-11-30T10:15:00Z`.
    enrolled: str
    #: Who enrolled the person.
    enrolled_by: str
    purpose: str
    #: End of the enrolment; `None` for never.
    expires: Optional[str]
    #: The end is over: the person is not matched any more.
    expired: bool
    #: A photo was accepted despite reasons against it.
    forced: bool
    #: The person's number in this gallery, as `gallery push` writes it: 32 hexadecimal digits.
    id: str


@dataclass(frozen=True)
class PhotoOutcome:
    """Holds the outcome for a photo in an enrolment."""

    enrolled: bool
    #: The very same photo was enrolled before.
    known: bool
    #: Reasons against the photo, such as `too_small` or `several_faces`; those of an enrolled photo were overruled.
    reasons: tuple[str, ...]
    #: Why the photo could not be read.
    error: Optional[ImageError] = None


@dataclass(frozen=True)
class Enrolment:
    """Says what an enrolment changed."""

    #: The person was not in the gallery before.
    new: bool
    #: Photos that were added.
    added: int
    #: Photos of the person in the gallery now.
    templates: int
    #: One for each image, in their order.
    photos: tuple[PhotoOutcome, ...]


class Gallery:
    """People in an encrypted file, which names the faces of images. It is the file of `faceptor enroll` and `faceptor identify`.

    Many readers may use a file while one writer changes it; a reader has the state of the moment in which it opened the file. A
    change is on the disk when its method returns. Threads may share a gallery.

    >>> import faceptor
    >>> with faceptor.Gallery("door.gallery", key="door.key") as gallery:  # doctest: +SKIP
    ...     for face in gallery.identify("visitor.jpg").faces:
    ...         print(face.identity.name or face.identity.unknown)
    """

    def __init__(
        self,
        path: Path,
        *,
        key: Optional[Path] = None,
        passphrase: Optional[str] = None,
        writable: bool = False,
        model: Model = None,
        max_pixels: int = 1 << 26,
    ) -> None:
        """Opens a gallery.

        Args:
            path: The file.
            key: The file of the key, which only its owner may read: `Gallery.make_key` makes one.
            passphrase: In place of `key`, for a gallery that was made with one.
            writable: Become the one that may change it.
            model: The network, as of `Analyzer`: the one with which the people were enrolled.
            max_pixels: Larger images are refused.

        Raises:
            GalleryError: The gallery or the key cannot be read, the key is another one, the file was changed, belongs to another
                network, or is changed by another process now.
            BundleError: The network cannot be read or has no recognition.
        """
        self._open(path, key, passphrase, model, max_pixels, "write" if writable else "read")

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        key: Optional[Path] = None,
        passphrase: Optional[str] = None,
        model: Model = None,
        max_pixels: int = 1 << 26,
    ) -> Gallery:
        """Makes an empty gallery for a network and opens it for changes. It raises `GalleryError` if the file exists."""
        gallery = cls.__new__(cls)
        gallery._open(path, key, passphrase, model, max_pixels, "create")
        return gallery

    def _open(
        self,
        path: Path,
        key: Optional[Path],
        passphrase: Optional[str],
        model: Model,
        max_pixels: int,
        access: str,
    ) -> None:
        self._path = file_name("path", path)
        key_path = None if key is None else file_name("key", key)
        if passphrase is not None and not isinstance(passphrase, str):
            raise UnsupportedError(f"passphrase: a string is needed, not {type(passphrase).__name__}")
        self._max_pixels = whole("max_pixels", max_pixels)
        self._native = _native.Gallery(*model_arguments(model), self._path, key_path, passphrase, access)

    @staticmethod
    def make_key(path: Path) -> None:
        """Writes a new key into a file that only its owner may read. It replaces no file. Without its key a gallery cannot be read."""
        _native.Gallery.make_key(file_name("path", path))

    def identify(
        self,
        image: ImageLike,
        *,
        fpir: float = 0.01,
        threshold: Optional[float] = None,
        margin: float = 0.02,
        bgr: bool = False,
        format: Optional[str] = None,
        colour: Optional[str] = None,
        size: Optional[tuple[int, int]] = None,
    ) -> Analysis:
        """Finds the faces of an image and names them: `face.identity`. `to_dict()` is what `faceptor identify --json` prints.

        Args:
            image: Whatever `Analyzer.analyze` takes, as the arguments after `margin`.
            fpir: The share of strangers that may get a name (false positive identification rate), from which the threshold follows.
            threshold: The least cosine similarity for a name, in place of `fpir`.
            margin: The least distance between the best and the second-best person; below it the face gets no name.
        """
        native = native_image(
            image, bgr=bgr, format=format, colour=colour, size=size, max_pixels=self._max_pixels
        )
        least = None if threshold is None else number("threshold", threshold)
        return analysis_of(self._native.identify(native, number("fpir", fpir), least, number("margin", margin)))

    def enroll(
        self,
        name: str,
        images: Union[ImageLike, Iterable[ImageLike]],
        *,
        purpose: str = "",
        expires: Union[None, str, datetime.date] = None,
        by: Optional[str] = None,
        force: bool = False,
        fpir: float = 0.01,
        threshold: Optional[float] = None,
        bgr: bool = False,
        format: Optional[str] = None,
        colour: Optional[str] = None,
        size: Optional[tuple[int, int]] = None,
    ) -> Enrolment:
        """Enrols a person from the images that are good enough, or adds them to the person of that name.

        Args:
            name: The person's name, of any script, on one line.
            images: One image of this person alone, or several: whatever `Analyzer.analyze` takes.
            purpose: Why the person is enrolled; stored for a new person.
            expires: End of the enrolment of a new person: a date, or `12h`, `30d`, `2w`, `6m`, `1y` from now.
            by: Who enrols the person; the account's name without it.
            force: Enrol also images that there are reasons against; the reasons are stored with them.
            fpir: As of `identify`: an image that is as similar to another person is refused.
            threshold: A similarity in place of `fpir`.

        Raises:
            GalleryError: The gallery was opened for reading, a text cannot be stored, or the file cannot be written. Images that
                are not good enough, or cannot be read, are no error: the result says why.
        """
        if not isinstance(name, str) or not isinstance(purpose, str) or not isinstance(by, (str, type(None))):
            raise UnsupportedError("name, purpose and by are texts")
        loaded: list[Optional[_native.Image]] = []
        errors: list[Optional[ImageError]] = []
        for image in one_or_many(images):
            try:
                loaded.append(
                    native_image(image, bgr=bgr, format=format, colour=colour, size=size, max_pixels=self._max_pixels)
                )
                errors.append(None)
            except ImageTypeError:
                raise
            except ImageError as error:
                loaded.append(None)
                errors.append(error)
        least = None if threshold is None else number("threshold", threshold)
        new, added, templates, photos = self._native.enroll(
            name, loaded, by, purpose, end_of_enrolment(expires), bool(force), number("fpir", fpir), least
        )
        outcomes = tuple(
            PhotoOutcome(enrolled, known, tuple(reasons), error)
            for (enrolled, known, reasons), error in zip(photos, errors)
        )
        return Enrolment(new, added, templates, outcomes)

    def people(self) -> tuple[Person, ...]:
        """Returns the people, in the order of their enrolment."""
        return tuple(Person(**entry) for entry in self._list()["people"])

    def remove(self, name: str) -> None:
        """Removes a person: the file is written anew without the person's key and records."""
        self._native.remove(text("name", name))

    def rename(self, name: str, to: str) -> None:
        """Gives a person another name. The former name does not stay in the file."""
        self._native.rename(text("name", name), text("to", to))

    @property
    def network(self) -> str:
        """Name and version of the network whose embeddings the gallery holds."""
        return str(self._list()["network"])

    @property
    def generation(self) -> int:
        """The number of changes so far: an older file that was put in place of a newer one has a smaller number."""
        return int(self._list()["generation"])

    def close(self) -> None:
        """Closes the file, so that another process may change it. A closed gallery does nothing any more."""
        self._native.close()

    def _list(self) -> dict[str, Any]:
        listed: dict[str, Any] = json.loads(self._native.listing())
        return listed

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Person]:
        return iter(self.people())

    def __len__(self) -> int:
        return len(self._list()["people"])

    def __bool__(self) -> bool:
        """Is true also without people."""
        return True

    def __contains__(self, name: object) -> bool:
        return any(person.name == name for person in self.people())

    def __repr__(self) -> str:
        return f"<faceptor.Gallery {self._path}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise GalleryError(f"{self._path}: an open gallery cannot be copied to another process: open the file there")


def text(name: str, value: object) -> str:
    """Checks a string."""
    if not isinstance(value, str):
        raise UnsupportedError(f"{name}={value!r}: a string is needed")
    return value


def file_name(name: str, path: Path) -> str:
    """Checks the path of a file."""
    if not isinstance(path, (str, os.PathLike)):
        raise UnsupportedError(f"{name}: the path of a file is needed, not {type(path).__name__}")
    file = os.fspath(path)
    if not isinstance(file, str) or "\0" in file or not file:
        raise UnsupportedError(f"{name}: {file!r} names no file")
    return file


def one_or_many(images: Union[ImageLike, Iterable[ImageLike]]) -> Iterator[ImageLike]:
    """Yields the images of a list, or the one image that was given."""
    if isinstance(images, (list, tuple, set, frozenset, Iterator)):
        yield from images
    else:
        yield images


def end_of_enrolment(expires: Union[None, str, datetime.date]) -> str:
    """Returns the end of an enrolment in the form of the command line."""
    if expires is None:
        return "never"
    if isinstance(expires, datetime.datetime):
        raise UnsupportedError(f"expires={expires!r}: the day is needed: .date()")
    return expires.isoformat() if isinstance(expires, datetime.date) else text("expires", expires)
