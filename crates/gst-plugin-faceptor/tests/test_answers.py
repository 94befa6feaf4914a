"""The element's answers equal those of the program for the same frames, in every format."""

from __future__ import annotations

import json
import pathlib
import subprocess
import tempfile
import unittest

from streams import FORMATS, Gst, GstVideo, Stream, answers, contents, portrait, regions, without_times

SIDE = 400
FRAMES = 12


def shifted(planes, number):
    """Moves a picture to the left by so many pairs of pixels; what leaves it enters on the right. A plane: bytes, bytes a row,
    bytes of a pair."""
    rows = []
    for plane, row_bytes, pair in planes:
        cut = number * pair
        for at in range(0, len(plane), row_bytes):
            row = plane[at : at + row_bytes]
            rows.append(row[cut:] + row[:cut])
    return b"".join(rows)


def i420_film():
    data = portrait("I420", SIDE, SIDE)
    luma, quarter = SIDE * SIDE, SIDE * SIDE // 4
    planes = [(data[:luma], SIDE, 2)]
    planes += [(data[luma + quarter * index :][:quarter], SIDE // 2, 1) for index in (0, 1)]
    return [shifted(planes, 2 * number) for number in range(FRAMES)]


def nv12_of(frame):
    luma, quarter = SIDE * SIDE, SIDE * SIDE // 4
    u, v = frame[luma : luma + quarter], frame[luma + quarter :]
    chroma = bytearray(2 * quarter)
    chroma[::2], chroma[1::2] = u, v
    return frame[:luma] + bytes(chroma)


def y42b_of(frame):
    """The planes Y, U, V of Y U Y V."""
    return frame[::2] + frame[1::4] + frame[3::4]


def film(folder, name, chroma, frames):
    path = pathlib.Path(folder) / name
    head = f"YUV4MPEG2 W{SIDE} H{SIDE} F30:1 Ip A1:1 C{chroma}\n".encode()
    path.write_bytes(head + b"".join(b"FRAME\n" + frame for frame in frames))
    return path


class Answers(unittest.TestCase):
    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.i420 = i420_film()
        cls.told = [without_times(answer) for answer in answers("--source", film(cls.folder.name, "film.y4m", "420jpeg", cls.i420), "--tasks", "all")]
        assert len(cls.told) == FRAMES and all(len(answer["faces"]) == 1 for answer in cls.told)

    def through(self, form, frames, options="tasks=all"):
        with Stream(form, SIDE, SIDE, options) as stream:
            for frame in frames:
                self.assertEqual(contents(stream.frame(frame)), frame, "frames are passed on as they are")
            found = stream.answers()
            self.assertEqual(stream.faces.get_property("analyzed"), len(frames))
            return found

    def test_i420_equals_the_program(self):
        found = self.through("I420", self.i420)
        self.assertEqual([without_times(answer) for answer in found], self.told)
        self.assertEqual([answer["captured_us"] for answer in found], [number * 1_000_000 // 30 for number in range(FRAMES)])
        timing = found[0]["timing_us"]
        self.assertTrue(timing["total"] >= timing["find"] > 0 and timing["encode"] > 0 and set(timing["decode"]) > {"age", "landmarks"})

    def test_nv12_equals_the_program(self):
        found = self.through("NV12", [nv12_of(frame) for frame in self.i420])
        self.assertEqual([without_times(answer) for answer in found], self.told)

    def test_yuy2_equals_the_program(self):
        data = portrait("YUY2", SIDE, SIDE)
        frames = [shifted([(data, 2 * SIDE, 4)], 2 * number) for number in range(FRAMES)]
        told = answers("--source", film(self.folder.name, "film422.y4m", "422", map(y42b_of, frames)), "--tasks", "all")
        self.assertEqual([without_times(answer) for answer in self.through("YUY2", frames)], [without_times(answer) for answer in told])

    def test_rgb_and_bgr_equal_the_program(self):
        rgb = portrait("RGB", SIDE, SIDE)
        png = pathlib.Path(self.folder.name) / "portrait.png"
        save_png(rgb, png)
        (told,) = answers("--source", png, "--tasks", "all", "--frames", "1")
        swapped = bytearray(rgb)
        swapped[::3], swapped[2::3] = rgb[2::3], rgb[::3]
        for form, frame in (("RGB", rgb), ("BGR", bytes(swapped))):
            (found,) = self.through(form, [frame])
            self.assertEqual(without_times(found), without_times(told), form)

    def test_without_stamps_frames_count_as_thirty_a_second(self):
        with Stream("I420", SIDE, SIDE, "tasks=all") as stream:
            for frame in self.i420:
                stream.frame(frame, stamp=False)
            self.assertEqual([without_times(answer) for answer in stream.answers()], self.told)

    def test_from_file_to_file(self):
        raw, out = (pathlib.Path(self.folder.name) / name for name in ("film.raw", "out.raw"))
        raw.write_bytes(b"".join(self.i420))
        shape = f"format=i420 width={SIDE} height={SIDE} framerate=30/1"
        command = ["gst-launch-1.0", "-m", *f"filesrc location={raw} ! rawvideoparse {shape} ! faceptor tasks=all ! filesink location={out}".split()]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        self.assertEqual(out.read_bytes(), raw.read_bytes())
        messages = [line for line in done.stdout.splitlines() if "faceptor, json=" in line]
        self.assertEqual(len(messages), FRAMES, done.stdout[:2000])

    def test_metadata_holds_the_same_faces(self):
        with Stream("I420", SIDE, SIDE, "tasks=all") as stream:
            buffer = stream.frame(self.i420[0])
            (answer,) = stream.answers()
            (face,) = answer["faces"]
            (region,) = regions(buffer).values()
            left, top, width, height = face["box"]
            for found, told in [(region.x, left), (region.y, top), (region.x + region.w, left + width), (region.y + region.h, top + height)]:
                self.assertLessEqual(abs(found - told), 1.01)
            self.assertEqual(region.id, face["id"])
            structure = region.get_param("faceptor")
            self.assertEqual(json.loads(structure.get_string("json")), face)
            self.assertEqual(structure.get_string("expression"), face["expression"]["label"])
            self.assertAlmostEqual(structure.get_double("age-years")[1], face["age"]["years"], 2)
            self.assertEqual(structure.get_boolean("trusted")[1], face["quality"]["trusted"])

    def test_planes_with_gaps_give_the_same(self):
        with Stream("I420", SIDE, SIDE, "tasks=all") as stream:
            for number, frame in enumerate(self.i420[:3]):
                padded, offsets, at = bytearray(), [], 0
                for width, rows, stride in ((SIDE, SIDE, 512), (SIDE // 2, SIDE // 2, 208), (SIDE // 2, SIDE // 2, 224)):
                    padded += b"\xee" * 64
                    offsets.append(len(padded))
                    for _ in range(rows):
                        padded += frame[at : at + width] + b"\xee" * (stride - width)
                        at += width
                buffer = Gst.Buffer.new_wrapped(bytes(padded))
                buffer.pts = number * Gst.SECOND // 30
                GstVideo.buffer_add_video_meta_full(
                    buffer, GstVideo.VideoFrameFlags.NONE, GstVideo.VideoFormat.I420, SIDE, SIDE, 3, [*offsets, 0], [512, 208, 224, 0]
                )
                stream.send(buffer)
            self.assertEqual([without_times(answer) for answer in stream.answers()], self.told[:3])

    def test_several_elements_do_not_disturb_each_other(self):
        with Stream("I420", SIDE, SIDE, "tasks=all ! faceptor tasks=age messages=false threads=2") as stream:
            for frame in self.i420[:3]:
                stream.frame(frame)
            self.assertEqual([without_times(answer) for answer in stream.answers()], self.told[:3])


def save_png(rgb, path):
    text = f"appsrc name=in format=time caps=video/x-raw,format=RGB,width={SIDE},height={SIDE},framerate=1/1 ! pngenc snapshot=true ! filesink location={path}"
    pipeline = Gst.parse_launch(text)
    pipeline.set_state(Gst.State.PLAYING)
    source = pipeline.get_by_name("in")
    source.emit("push-buffer", Gst.Buffer.new_wrapped(rgb))
    source.emit("end-of-stream")
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.ERROR | Gst.MessageType.EOS)
    assert message is not None and message.type == Gst.MessageType.EOS
    pipeline.set_state(Gst.State.NULL)


assert set(FORMATS) == {"RGB", "BGR", "I420", "NV12", "YUY2"}, "a test for each"

if __name__ == "__main__":
    unittest.main()
