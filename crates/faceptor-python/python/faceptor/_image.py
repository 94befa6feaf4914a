"""Lists the types that an image may have."""

from __future__ import annotations

import os
from typing import Any, Optional, Union

import numpy as np

from faceptor import _native
from faceptor._errors import ImageError, ImageTypeError, UnsupportedError

#: A path, the bytes of a file, or pixels: a numpy array of uint8, or an object that numpy makes one of (a Pillow image).
ImageLike = Union[str, bytes, bytearray, memoryview, "os.PathLike[str]", "np.ndarray[Any, Any]", Any]


def native_image(
    image: ImageLike,
    *,
    bgr: bool,
    format: Optional[str],
    colour: Optional[str],
    size: Optional[tuple[int, int]],
    max_pixels: int,
) -> _native.Image:
    """Reads, decodes or copies an image."""
    if bgr:
        if format is not None and format.upper() != "BGR":
            raise UnsupportedError(f"bgr=True and format={format!r} contradict each other: give one of them")
        format = "BGR"
    raw = format is not None or colour is not None or size is not None
    if isinstance(image, (bytes, bytearray, memoryview)):
        if format is not None and size is not None:
            try:
                flat = np.frombuffer(image, dtype=np.uint8)
            except (ValueError, BufferError) as reason:
                raise ImageError(f"these bytes are no pixels: {reason}") from None
            return _native.Image.from_array(flat, format, colour, checked_size(size), max_pixels)
        if raw and not bgr:
            raise UnsupportedError("pixels as bytes need both format= and size=(width, height)")
        # A bytearray could be changed by another thread while it is decoded.
        content = image if isinstance(image, bytes) else bytes(image)
        return _native.Image.decode(content, max_pixels)
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        if raw and not bgr:
            raise UnsupportedError(f"{path!r}: a file states its own format; format=, colour= and size= are for pixels")
        if "\0" in path if isinstance(path, str) else b"\0" in path:
            raise UnsupportedError("a path with a null character names no file")
        return _native.Image.open(path, os.fsdecode(path), max_pixels)
    if not isinstance(image, np.ndarray):
        image = as_array(image)
    return _native.Image.from_array(image, format, colour, checked_size(size), max_pixels)


def as_array(image: Any) -> np.ndarray[Any, Any]:
    """Makes an array of an object that offers its pixels, such as a Pillow image or a tensor on the CPU."""
    mode = getattr(image, "mode", None)
    if isinstance(mode, str) and hasattr(image, "convert") and mode not in ("RGB", "L"):
        # Numbers of a palette, for example, are no colours.
        raise ImageTypeError(f"a Pillow image of mode {mode} is not RGB: image.convert('RGB')")
    if not any(hasattr(image, name) for name in ("__array__", "__array_interface__")):
        kind = type(image).__name__
        raise ImageTypeError(f"an image is a numpy array of uint8, a path or the bytes of a file, not {kind}")
    return np.asarray(image)


def checked_size(size: Optional[tuple[int, int]]) -> Optional[tuple[int, int]]:
    """Checks (width, height)."""
    if size is None:
        return None
    try:
        width, height = (int(side) for side in size)
    except (TypeError, ValueError):
        raise UnsupportedError(f"size={size!r}: (width, height) is needed") from None
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise UnsupportedError(f"size={size!r}: width and height of an image are needed, in pixels")
    return width, height
