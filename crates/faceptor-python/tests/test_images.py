"""Arrays of every layout, and what is not an image."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import PORTRAIT, without_times

import faceptor


def answer(analyzer, image, **arguments):
    return without_times(analyzer.analyze(image, **arguments).to_dict())


def test_strides_do_not_matter(quick, rgb):
    expected = answer(quick, rgb)
    height, width, _ = rgb.shape
    wide = np.full((height + 5, width + 9, 3), 77, np.uint8)
    wide[3 : 3 + height, 4 : 4 + width] = rgb
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    four = np.zeros((height, width, 4), np.uint8)
    four[..., :3] = rgb
    flipped = np.ascontiguousarray(rgb[::-1, ::-1])
    doubled = np.repeat(np.repeat(rgb, 2, axis=0), 2, axis=1)
    locked = rgb.copy()
    locked.setflags(write=False)
    for name, image in {
        "a part of an image": wide[3 : 3 + height, 4 : 4 + width],
        "planes": planes.transpose(1, 2, 0),
        "three of four channels": four[..., :3],
        "Fortran": np.asfortranarray(rgb),
        "negative rows and columns": flipped[::-1, ::-1],
        "every second pixel": doubled[::2, ::2],
        "read-only": locked,
    }.items():
        assert answer(quick, image) == expected, name
    for name, image in {"a negative channel stride": rgb[..., ::-1], "contiguous": rgb[..., ::-1].copy()}.items():
        assert answer(quick, image, bgr=True) == expected, name
        assert answer(quick, image, format="bgr") == expected, name


def test_grey_equals_grey_as_rgb(quick, rgb):
    grey = rgb[..., 1]
    expected = answer(quick, np.repeat(grey[..., None], 3, axis=2))
    assert expected["faces"]
    assert answer(quick, grey) == answer(quick, grey[..., None]) == answer(quick, grey, format="GREY") == expected


def yuv_planes(width, height, seed):
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (height, width), np.uint8), *random.integers(0, 256, (2, height // 2, width // 2), np.uint8)]


def test_formats_of_cameras_hold_the_same_pixels(quick):
    # One picture in each format: chroma is constant over the blocks that the formats share.
    width, height = 64, 48
    y, u, v = yuv_planes(width, height, 1)
    y[:], u, v = np.linspace(16, 235, width, dtype=np.uint8), u // 8 + 110, v // 8 + 110
    wide = [np.repeat(plane, 2, axis=0) for plane in (u, v)]
    full = [np.repeat(plane, 2, axis=1) for plane in wide]
    packed = lambda first: np.stack(  # noqa: E731
        [np.stack(pair, axis=-1) for pair in ([(y[:, ::2], wide[0]), (y[:, 1::2], wide[1])] if first else [(wide[0], y[:, ::2]), (wide[1], y[:, 1::2])])],
        axis=2,
    ).reshape(height, width, 2)
    interleaved = np.stack([u, v], axis=-1).reshape(height // 2, width)
    images = {
        "NV12": np.vstack([y, interleaved]),
        "I420": np.concatenate([y.ravel(), u.ravel(), v.ravel()]).reshape(height * 3 // 2, width),
        "I422": np.concatenate([y.ravel(), wide[0].ravel(), wide[1].ravel()]).reshape(height * 2, width),
        "I444": np.vstack([y, *full]),
        "YUYV": packed(True),
        "UYVY": packed(False),
    }
    tracker = faceptor.Analyzer(tasks=[], looks=1).analyze(np.zeros((height, width, 3), np.uint8))
    # Nothing is drawn for no faces: a drawing shows how the pixels were read.
    seen = {name: tracker.draw(image, format=name) for name, image in images.items()}
    for name, pixels in seen.items():
        assert (pixels == seen["I444"]).all(), name
    raw = np.concatenate([y.ravel(), u.ravel(), v.ravel()])
    for flat in (raw, raw.tobytes(), bytearray(raw.tobytes()), memoryview(raw.tobytes())):
        assert (tracker.draw(flat, format="I420", size=(width, height)) == seen["I444"]).all()
    padded = np.zeros((height * 3 // 2, width + 16), np.uint8)
    padded[:, :width] = images["NV12"]
    assert (tracker.draw(padded[:, :width], format="NV12") == seen["NV12"]).all()
    for colour in ("bt601-full", "bt709-limited", "bt709-full"):
        assert (tracker.draw(images["NV12"], format="NV12", colour=colour) != seen["NV12"]).any(), colour
    assert quick.analyze(images["NV12"], format="nv12").width == width


def test_an_odd_size_is_read_with_its_size():
    width, height = 5, 3
    blank = faceptor.Analyzer(tasks=[], looks=1).analyze(np.zeros((height, width, 3), np.uint8))
    nv12 = np.full(6 * 3 + 6 * 2, 128, np.uint8)
    assert blank.draw(nv12, format="NV12", size=(width, height)).shape == (height, width, 3)
    with pytest.raises(faceptor.ImageError, match="have 30"):
        blank.draw(nv12[:-1], format="NV12", size=(width, height))


@pytest.mark.parametrize(
    ("image", "arguments", "error", "text"),
    [
        (np.zeros((4, 4, 3), np.float32), {}, faceptor.ImageTypeError, "array of float32 is not an image: uint8"),
        (np.zeros((4, 4, 3), np.uint16), {}, faceptor.ImageTypeError, "uint16"),
        (np.zeros((4, 4, 3), bool), {}, faceptor.ImageTypeError, "bool"),
        (np.zeros((4, 4, 3), object), {}, faceptor.ImageTypeError, "object"),
        (np.zeros((4, 4, 3), np.int8), {}, TypeError, "int8"),
        (np.zeros((4, 4, 3), [("a", np.uint8)]), {}, faceptor.ImageTypeError, "uint8 is needed"),
        (np.zeros((4, 4, 4), np.uint8), {}, faceptor.ImageError, r"image\[..., :3\]"),
        (np.zeros((3, 6, 5), np.uint8), {}, faceptor.ImageError, "transpose"),
        (np.zeros((1, 4, 4, 3), np.uint8), {}, faceptor.ImageError, "analyze_batch"),
        (np.zeros(48, np.uint8), {}, faceptor.ImageError, r"\(48,\)"),
        (np.array(7, np.uint8), {}, faceptor.ImageError, r"shape \(\)"),
        (np.zeros((0, 4, 3), np.uint8), {}, faceptor.ImageError, "no pixels"),
        (np.zeros((4, 0, 3), np.uint8), {}, faceptor.ImageError, "no pixels"),
        (np.zeros((4, 4, 0), np.uint8), {}, faceptor.ImageError, "no pixels"),
        (np.zeros((0,), np.uint8), {}, faceptor.ImageError, "no pixels"),
        (np.broadcast_to(np.uint8(0), (100_000, 100_000, 3)), {}, faceptor.ImageError, "max_pixels"),
        (np.broadcast_to(np.uint8(0), (1 << 20, 1 << 20, 3)), {}, faceptor.ImageError, "max_pixels"),
        (np.broadcast_to(np.uint8(0), (1 << 40, 1 << 20)), {}, faceptor.ImageError, "max_pixels"),
        (np.zeros((5, 4), np.uint8), {"format": "NV12"}, faceptor.ImageError, "height \\* 3 / 2"),
        (np.zeros((6, 5), np.uint8), {"format": "NV12"}, faceptor.ImageError, "even width"),
        (np.zeros((6, 4, 3), np.uint8), {"format": "NV12"}, faceptor.ImageError, "NV12"),
        (np.zeros((6, 5, 2), np.uint8), {"format": "YUYV"}, faceptor.ImageError, "even width"),
        (np.zeros((4, 4, 3), np.uint8), {"format": "GREY"}, faceptor.ImageError, "GREY"),
        (np.zeros((4, 4, 3), np.uint8), {"format": "RGBA"}, faceptor.UnsupportedError, "unknown pixel format 'RGBA'"),
        (np.zeros((4, 4, 3), np.uint8), {"format": ""}, faceptor.UnsupportedError, "unknown pixel format"),
        (np.zeros((4, 4, 3), np.uint8), {"colour": "srgb"}, faceptor.UnsupportedError, "bt601-limited"),
        (np.zeros((4, 4, 3), np.uint8), {"bgr": True, "format": "RGB"}, faceptor.UnsupportedError, "contradict"),
        (np.zeros((4, 4, 3), np.uint8), {"size": (5, 4)}, faceptor.ImageError, "have 60"),
        (np.zeros((4, 4, 3), np.uint8), {"size": (-5, 4)}, faceptor.UnsupportedError, "size="),
        (np.zeros((4, 4, 3), np.uint8), {"size": 4}, faceptor.UnsupportedError, "size="),
        (np.zeros(9, np.uint8), {"format": "NV12", "size": (1 << 30, 1 << 30)}, faceptor.ImageError, "max_pixels"),
        (b"", {}, faceptor.ImageError, "the file is empty"),
        (b"hello, this is text", {}, faceptor.ImageError, "not a JPEG, PNG"),
        (b"\xff\xd8\xff", {}, faceptor.ImageError, "JPEG"),
        (b"1234", {"format": "RGB"}, faceptor.UnsupportedError, "size="),
        (b"1234", {"format": "RGB", "size": (1, 1)}, faceptor.ImageError, "have 3"),
        (memoryview(b"12345678")[::2], {"format": "RGB", "size": (1, 1)}, faceptor.ImageError, "no pixels"),
        ("no such file.jpg", {}, faceptor.ImageError, "no such file.jpg: no such file or directory"),
        ("", {}, faceptor.ImageError, "no such file"),
        ("a\0b", {}, faceptor.UnsupportedError, "null character"),
        (str(PORTRAIT.parent), {}, faceptor.ImageError, "a folder, not a photo"),
        (str(PORTRAIT), {"format": "NV12"}, faceptor.UnsupportedError, "states its own format"),
        (None, {}, faceptor.ImageTypeError, "not NoneType"),
        (7, {}, faceptor.ImageTypeError, "not int"),
        ([[1, 2], [3, 4]], {}, faceptor.ImageTypeError, "not list"),
        (io.BytesIO(b"1"), {}, faceptor.ImageTypeError, "not BytesIO"),
    ],
)
def test_what_is_no_image_is_refused(quick, image, arguments, error, text):
    with pytest.raises(error, match=text) as caught:
        quick.analyze(image, **arguments)
    assert isinstance(caught.value, faceptor.Error)
    # The analyzer goes on.
    assert quick.analyze(np.zeros((1, 1, 3), np.uint8)).faces == ()


def test_tiny_and_narrow_images_have_no_faces(quick):
    for shape in [(1, 1, 3), (1, 2000, 3), (2000, 1, 3), (2, 3), (7, 7, 3)]:
        assert not quick.analyze(np.zeros(shape, np.uint8)).faces, shape


def test_a_changed_or_freed_array_does_not_matter(quick, rgb):
    image = rgb.copy()
    analysis = quick.analyze(image)
    expected = analysis.to_dict()
    image[:] = 0
    del image
    assert analysis.to_dict() == expected
    with pytest.raises(faceptor.ImageError, match="results are of one of"):
        analysis.draw(rgb[:100])


def test_pillow_images(quick, rgb):
    image = pytest.importorskip("PIL.Image")
    picture = image.fromarray(rgb)
    assert answer(quick, picture) == answer(quick, rgb)
    assert answer(quick, picture.convert("L"))["faces"]
    for mode in ("P", "RGBA", "CMYK", "1", "LA", "YCbCr"):
        with pytest.raises(faceptor.ImageTypeError, match="convert"):
            quick.analyze(picture.convert(mode))


def test_a_photo_beyond_the_limit_is_refused():
    with pytest.raises(faceptor.ImageError, match="more than the 1000"):
        faceptor.Analyzer(tasks=[], max_pixels=1000).analyze(PORTRAIT)
