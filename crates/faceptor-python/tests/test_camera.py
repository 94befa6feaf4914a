"""`open_camera`: frames of a film, their times, and what cannot be opened."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import faceptor


def test_without_opencv_the_message_says_what_to_install():
    program = "import sys; sys.modules['cv2'] = None; import faceptor\ntry: faceptor.open_camera()\nexcept faceptor.UnsupportedError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "open_camera needs OpenCV: pip install 'faceptor[camera]'\n"


def test_arguments_are_checked():
    for arguments in ({"source": True}, {"source": 1.5}, {"source": ""}, {"source": "a\0b"}, {"source": 0, "width": "wide"}):
        with pytest.raises((faceptor.UnsupportedError, TypeError)):
            faceptor.open_camera(**arguments)


def test_the_frames_of_a_film_follow_its_rate(tmp_path, rgb):
    cv2 = pytest.importorskip("cv2")
    height, width = rgb.shape[:2]
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height))
    for _ in range(3):
        writer.write(np.ascontiguousarray(rgb[..., ::-1]))
    writer.release()
    tracker = faceptor.Tracker(faceptor.Analyzer(tasks=["expression"]))
    with faceptor.open_camera(film) as camera:
        assert "film.avi" in repr(camera)
        frames = list(camera)
    assert [frame.number for frame in frames] == [0, 1, 2] and [frame.elapsed for frame in frames] == [0.0, 0.1, 0.1]
    # RGB: the skin is red.
    assert frames[0].image.shape == rgb.shape and abs(frames[0].image.astype(int) - rgb).mean() < 8
    ids = [face.id for frame in frames for face in tracker.update(frame.image, frame.elapsed).faces]
    assert ids == [1, 1, 1]
    assert list(camera) == [], "it is closed"


def test_what_cannot_be_opened(tmp_path):
    pytest.importorskip("cv2")
    (tmp_path / "text.avi").write_text("no film")
    for source, words in [(tmp_path / "text.avi", "is it a film"), (tmp_path / "absent.mp4", "is it a film"), ("/dev/video99", "group video"), (99, "plugged in")]:
        with pytest.raises(faceptor.UnsupportedError, match=words):
            faceptor.open_camera(source)
