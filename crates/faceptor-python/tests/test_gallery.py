"""The gallery: its file is the program's, its answers are those of `faceptor identify`, and its refusals have their texts."""

from __future__ import annotations

import datetime
import json
import os
import pickle
import subprocess

import numpy as np
import pytest
from conftest import PORTRAIT, without_times

import faceptor

NAME = "Eileen Collins"


def program(*arguments):
    """Runs a verb of the program and returns the objects that it prints."""
    command = [os.environ["FACEPTOR_PROGRAM"], *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "door.key"
    faceptor.Gallery.make_key(path)
    return path


@pytest.fixture(scope="module")
def door(tmp_path_factory, key):
    """A gallery with one person, which no test changes."""
    path = tmp_path_factory.mktemp("gallery") / "door.gallery"
    with faceptor.Gallery.create(path, key=key) as gallery:
        enrolment = gallery.enroll(NAME, PORTRAIT, purpose="front door", expires="1y", by="the tests")
        assert enrolment == faceptor.Enrolment(True, 1, 1, (faceptor.PhotoOutcome(True, False, ()),))
    return path


def test_the_answers_are_those_of_the_program(door, key, rgb):
    options = ("--gallery", door, "--key", key, "--json")
    [expected] = program("identify", PORTRAIT, *options)
    with faceptor.Gallery(door, key=key) as gallery:
        found = gallery.identify(PORTRAIT)
        assert without_times(found.to_dict()) == without_times(expected)
        [face] = found.faces
        assert face.identity.name == NAME and face.identity.unknown is None and face.identity.similarity > 0.99
        assert face.recognition is not None and face.landmarks is None
        # Pixels have the same answer, in any layout.
        for image, arguments in [(rgb, {}), (rgb[..., ::-1], {"bgr": True}), (PORTRAIT.read_bytes(), {})]:
            other = gallery.identify(image, **arguments)
            assert other.faces[0].identity == face.identity
        for arguments in ({"fpir": 0.001}, {"threshold": 0.9}, {"margin": 0.5}, {"threshold": 1.0}):
            flags = [text for name, value in arguments.items() for text in (f"--{name}", value)]
            [expected] = program("identify", PORTRAIT, *options, *flags)
            assert without_times(gallery.identify(PORTRAIT, **arguments).to_dict()) == without_times(expected)
        assert gallery.identify(np.zeros((64, 64, 3), np.uint8)).faces == ()


def test_a_stranger_has_no_name(door, key, rgb):
    with faceptor.Gallery(door, key=key) as gallery:
        [face] = gallery.identify(rgb[::2, ::2], threshold=0.9999).faces
        assert face.identity.name is None and face.identity.unknown == "below_threshold"


def test_the_program_reads_what_python_wrote(door, key):
    [listed] = program("gallery", "list", "--gallery", door, "--key", key, "--json")
    with faceptor.Gallery(door, key=key) as gallery:
        assert [person.__dict__ for person in gallery] == listed["people"]
        assert (gallery.generation, gallery.network) == (listed["generation"], listed["network"])
        assert len(gallery) == 1 and NAME in gallery and "Ada" not in gallery and repr(door)[12:-2] in repr(gallery)
        [person] = gallery.people()
        assert (person.purpose, person.enrolled_by, person.templates, person.forced) == ("front door", "the tests", 1, False)
        assert len(bytes.fromhex(person.id)) == 16


def test_python_reads_what_the_program_wrote(tmp_path, key):
    path = tmp_path / "other.gallery"
    program("enroll", NAME, PORTRAIT, "--gallery", path, "--key", key, "--json")
    with faceptor.Gallery(path, key=key, writable=True) as gallery:
        assert gallery.identify(PORTRAIT).faces[0].identity.name == NAME
        # The very same photo is known, from the file and from its pixels.
        again = gallery.enroll(NAME, [PORTRAIT, PORTRAIT.read_bytes()])
        assert (again.new, again.added, again.templates) == (False, 0, 1)
        assert all(photo.known and not photo.enrolled for photo in again.photos)


def test_changes(tmp_path, key, rgb):
    path = tmp_path / "a.gallery"
    with faceptor.Gallery.create(path, key=key) as gallery:
        assert len(gallery) == 0 and gallery and gallery.people() == ()
        assert gallery.identify(rgb).faces[0].identity.unknown == "empty_gallery"
        blank = np.zeros((64, 64, 3), np.uint8)
        refused = gallery.enroll("Ada", iter([blank, b"no photo", rgb[:150]]))
        assert not refused.new and refused.added == 0 and len(gallery) == 0
        assert [photo.enrolled for photo in refused.photos] == [False] * 3
        assert refused.photos[0].reasons == ("no_face",) and refused.photos[1].reasons == ("unreadable",)
        assert isinstance(refused.photos[1].error, faceptor.ImageError) and refused.photos[0].error is None
        small = rgb[::5, ::5]
        [photo] = gallery.enroll("Ada", small).photos
        assert not photo.enrolled and "too_small" in photo.reasons
        forced = gallery.enroll("Ada", small, force=True, expires=datetime.date(2999, 1, 31))
        assert forced.added == 1 and gallery.people()[0].forced
        assert gallery.people()[0].expires == "2999-01-31T00:00:00Z"
        before = gallery.generation
        gallery.rename("Ada", "Ada Lovelace")
        assert "Ada Lovelace" in gallery and gallery.generation > before
        gallery.remove("Ada Lovelace")
        assert len(gallery) == 0
    with faceptor.Gallery(path, key=key) as gallery:
        assert len(gallery) == 0


def test_a_passphrase(tmp_path, key):
    path = tmp_path / "a.gallery"
    faceptor.Gallery.create(path, passphrase="a long sentence").close()
    with faceptor.Gallery(path, passphrase="a long sentence") as gallery:
        assert len(gallery) == 0
    for arguments, words in [
        ({"passphrase": "another sentence"}, "wrong key or passphrase"),
        ({"passphrase": "short"}, "at least 8 characters"),
        ({"key": key}, "opened with a passphrase, not with a key file"),
        ({"key": key, "passphrase": "a long sentence"}, "are both given"),
        ({}, "a key is needed"),
    ]:
        with pytest.raises(faceptor.GalleryError, match=words) as raised:
            faceptor.Gallery(path, **arguments)
        assert "sentence" not in str(raised.value), "no message holds a passphrase"


def test_one_writer_and_many_readers(door, key):
    with faceptor.Gallery(door, key=key, writable=True) as writer, faceptor.Gallery(door, key=key) as reader:
        assert len(writer) == len(reader) == 1
        with pytest.raises(faceptor.GalleryError, match="another process changes this gallery now"):
            faceptor.Gallery(door, key=key, writable=True)
        for change in (lambda: reader.remove(NAME), lambda: reader.rename(NAME, "B"), lambda: reader.enroll("B", PORTRAIT)):
            with pytest.raises(faceptor.GalleryError, match="opened for reading only"):
                change()
    faceptor.Gallery(door, key=key, writable=True).close()


def test_a_closed_gallery_and_a_copy(door, key):
    gallery = faceptor.Gallery(door, key=key)
    with pytest.raises(faceptor.GalleryError, match="open the file there"):
        pickle.dumps(gallery)
    gallery.close()
    gallery.close()
    for use in (gallery.people, lambda: gallery.identify(PORTRAIT), lambda: gallery.enroll("B", PORTRAIT), lambda: len(gallery)):
        with pytest.raises(faceptor.GalleryError, match="door.gallery: this gallery is closed"):
            use()


def test_what_is_refused(door, key, tmp_path):
    damaged = tmp_path / "damaged.gallery"
    content = bytearray(door.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    open_key = tmp_path / "open.key"
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)
    text = tmp_path / "text"
    text.write_text("no gallery")
    short_key = tmp_path / "short.key"
    short_key.write_text("abc")
    short_key.chmod(0o600)
    for path, secret, words in [
        (damaged, key, "damaged.gallery: .*damaged"),
        (text, key, "not a Faceptor gallery"),
        (tmp_path, key, "regular file"),
        (tmp_path / "absent", key, "absent: "),
        (door, open_key, r"open.key: can be read by others than its owner \(mode 0644\): chmod 0400"),
        (door, short_key, "a key is 32 bytes or 64 hexadecimal digits"),
        (door, tmp_path / "no.key", "no.key: cannot be read"),
    ]:
        with pytest.raises(faceptor.GalleryError, match=words):
            faceptor.Gallery(path, key=secret)
    with pytest.raises(faceptor.GalleryError):
        faceptor.Gallery.create(door, key=key)
    with pytest.raises(faceptor.GalleryError, match="cannot write the key"):
        faceptor.Gallery.make_key(key)
    for arguments in ({"path": 3}, {"path": ""}, {"path": "a\0b"}, {"path": door, "key": 7}, {"path": door, "passphrase": b"x"}):
        with pytest.raises(faceptor.UnsupportedError):
            faceptor.Gallery(**{"key": key, **arguments})
    with pytest.raises(faceptor.BundleError):
        faceptor.Gallery(door, key=key, model=b"no bundle")
    with faceptor.Gallery(door, key=key, writable=True) as gallery:
        for arguments, words in [
            ({"fpir": 0}, "fpir is 0"),
            ({"fpir": float("nan")}, "fpir is NaN"),
            ({"threshold": 2}, "threshold is 2"),
            ({"margin": -1}, "margin is -1"),
        ]:
            with pytest.raises(faceptor.GalleryError, match=words):
                gallery.identify(PORTRAIT, **arguments)
        for name, words in [("", "it is empty"), ("a\nb", "one line"), ("x" * 201, "200 characters")]:
            with pytest.raises(faceptor.GalleryError, match=words):
                gallery.enroll(name, PORTRAIT)
        with pytest.raises(faceptor.GalleryError, match="expires: .*is over"):
            gallery.enroll("Ada", PORTRAIT, expires="2000-01-01")
        with pytest.raises(faceptor.GalleryError, match="no person of that name"):
            gallery.remove("Ada")
        for call in (
            lambda: gallery.enroll(3, PORTRAIT),
            lambda: gallery.remove(None),
            lambda: gallery.enroll("Ada", PORTRAIT, expires=datetime.datetime(2999, 1, 1)),
            lambda: gallery.enroll("Ada", PORTRAIT, expires=7),
        ):
            with pytest.raises(faceptor.UnsupportedError):
                call()
        with pytest.raises(faceptor.ImageTypeError):
            gallery.enroll("Ada", [np.zeros((3, 3))])
        assert len(gallery) == 1
