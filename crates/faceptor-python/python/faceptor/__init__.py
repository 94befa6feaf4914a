"""Finds faces in images and reads each of them, by one small network that travels inside the package.

>>> import faceptor
>>> analyzer = faceptor.Analyzer(tasks=["age", "expression"])
>>> for face in analyzer.analyze("photo.jpg").faces:  # doctest: +SKIP
...     print(face.box, face.age.years, face.expression.label)

An image is a path, the bytes of a file, or a numpy array of uint8: RGB or grey, or with ``bgr=True`` or ``format=`` in another
layout. Coordinates are pixels of the image; the centre of its top-left pixel is (0, 0).
"""

from faceptor._analyzer import Analyzer
from faceptor._camera import Camera, Frame, open_camera
from faceptor._errors import (
    BundleError,
    Error,
    GalleryError,
    ImageError,
    ImageTypeError,
    NetworkError,
    TaskError,
    UnsupportedError,
)
from faceptor._gallery import Enrolment, Gallery, Person, PhotoOutcome
from faceptor._image import ImageLike
from faceptor._native import __version__
from faceptor._results import (
    Age,
    Analysis,
    Attributes,
    Expression,
    Face,
    Identity,
    Landmarks,
    Parsing,
    Quality,
    Recognition,
    Result,
)
from faceptor._tracker import Tracker

__all__ = [
    "Age",
    "Analysis",
    "Analyzer",
    "Attributes",
    "BundleError",
    "Camera",
    "Enrolment",
    "Error",
    "Expression",
    "Face",
    "Frame",
    "Gallery",
    "GalleryError",
    "Identity",
    "ImageError",
    "ImageLike",
    "ImageTypeError",
    "Landmarks",
    "NetworkError",
    "Parsing",
    "Person",
    "PhotoOutcome",
    "Quality",
    "Recognition",
    "Result",
    "TaskError",
    "Tracker",
    "UnsupportedError",
    "__version__",
    "open_camera",
]
