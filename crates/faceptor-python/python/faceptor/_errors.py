"""The exceptions. Their texts name the file or value, the reason and, where there is one, the remedy."""

from __future__ import annotations


class Error(Exception):
    """The base of every exception of this package."""


class BundleError(Error, ValueError):
    """The bundle cannot be read, is damaged, contradicts itself, or cannot be run on this CPU."""


class TaskError(Error, ValueError):
    """The bundle has no task of that name."""


class ImageError(Error, ValueError):
    """The image cannot be read, or its size or shape does not fit."""


class ImageTypeError(ImageError, TypeError):
    """The image is of a type that holds no image: a list, or an array of floats."""


class UnsupportedError(Error, ValueError):
    """An argument has a value that is not allowed, or the bundle lacks what was requested, such as a face detector."""


class GalleryError(Error, ValueError):
    """The gallery or its key cannot be read or changed, or a request to it was refused."""


class NetworkError(Error, RuntimeError):
    """The network failed on an image: a defect of the bundle or of this package."""
