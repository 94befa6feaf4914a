"""What the element does while it plays: tasks, QoS, drawing, renegotiation; and what it refuses."""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile
import unittest

from streams import FORMATS, GLib, Gst, Stream, answers, caps, contents, portrait, refusal, regions
from test_answers import SIDE, nv12_of, save_png

TASKS = {"landmarks", "parsing", "age", "expression", "attributes", "recognition"}


def tasks_in(answer):
    return TASKS & set(answer["faces"][0])


class Behaviour(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.frame = portrait("I420", SIDE, SIDE)

    def stream(self, options="tasks=age", form="I420"):
        stream = Stream(form, SIDE, SIDE, options)
        self.addCleanup(stream.pipeline.set_state, Gst.State.NULL)
        return stream

    def test_inspect_shows_the_element(self):
        shown = subprocess.run(["gst-inspect-1.0", "faceptor"], check=True, capture_output=True, text=True).stdout
        for words in [*FORMATS, "tasks", "bundle", "threads", "draw", "qos", "messages", "max-faces", "GstBaseTransform", "Filter/Analyzer/Video"]:
            self.assertIn(words, shown)

    def test_tasks_change_while_it_plays(self):
        stream = self.stream()
        stream.frame(self.frame)
        stream.faces.set_property("tasks", "landmarks,expression")
        stream.frame(self.frame)
        stream.faces.set_property("tasks", "none")
        stream.frame(self.frame)
        stream.faces.set_property("tasks", None)
        stream.frame(self.frame)
        found = [tasks_in(answer) for answer in stream.answers()]
        self.assertEqual(found, [{"age"}, {"landmarks", "expression"}, set(), TASKS - {"recognition"}])

    def test_an_unknown_task_is_a_warning_and_changes_nothing(self):
        for name in ("mood", "", "age,mood", "all,age"):
            stream = self.stream()
            stream.frame(self.frame)
            stream.faces.set_property("tasks", name)
            (warning,) = stream.texts(Gst.MessageType.WARNING)
            self.assertIn("tasks: ", warning)
            self.assertEqual(stream.faces.get_property("tasks"), "age")
            stream.frame(self.frame)
            (answer,) = stream.answers()
            self.assertEqual(tasks_in(answer), {"age"})

    def test_late_frames_are_passed_on_and_counted(self):
        stream = self.stream()
        pad = stream.faces.get_static_pad("src")
        stream.frame(self.frame)
        # The sink says: the frame of 100 ms was 33 ms late.
        pad.send_event(Gst.Event.new_qos(Gst.QOSType.UNDERFLOW, 1.5, 33_000_000, 100_000_000))
        passed = [stream.frame(self.frame) for _ in range(5)]
        numbers = [answer["sequence"] for answer in stream.answers()]
        # Frames up to 133 ms are late: numbers 1, 2 and 3 (33, 66 and 100 ms).
        self.assertEqual(numbers, [0, 4, 5])
        self.assertEqual([bool(regions(buffer)) for buffer in passed], [False, False, False, True, True])
        self.assertTrue(all(contents(buffer) == self.frame for buffer in passed))
        self.assertEqual((stream.faces.get_property("late"), stream.faces.get_property("analyzed")), (3, 3))

    def test_late_frames_are_told_on_the_bus(self):
        stream = self.stream()
        stream.frame(self.frame)
        stream.faces.get_static_pad("src").send_event(Gst.Event.new_qos(Gst.QOSType.UNDERFLOW, 1.5, 75_000_000, 0))
        stream.frame(self.frame)
        stream.frame(self.frame)
        first, second = stream.messages(Gst.MessageType.QOS)
        self.assertEqual([message.parse_qos_stats()[2] for message in (first, second)], [1, 2])
        self.assertEqual(first.parse_qos_values()[0], 75_000_000 - Gst.SECOND // 30)

    def test_without_qos_every_frame_is_analyzed(self):
        stream = self.stream("tasks=age qos=false")
        stream.frame(self.frame)
        stream.faces.get_static_pad("src").send_event(Gst.Event.new_qos(Gst.QOSType.UNDERFLOW, 1.5, 10**12, 0))
        stream.frame(self.frame)
        self.assertEqual(len(stream.answers()), 2)
        # Turned on again, an event from before does not count.
        stream.faces.set_property("qos", True)
        stream.frame(self.frame)
        self.assertEqual(len(stream.answers()), 1)

    def test_a_flush_begins_anew(self):
        stream = self.stream()
        stream.frame(self.frame)
        stream.faces.get_static_pad("src").send_event(Gst.Event.new_qos(Gst.QOSType.UNDERFLOW, 1.5, 10**12, 0))
        pad = stream.faces.get_static_pad("sink")
        pad.send_event(Gst.Event.new_flush_start())
        pad.send_event(Gst.Event.new_flush_stop(True))
        segment = Gst.Segment()
        segment.init(Gst.Format.TIME)
        pad.send_event(Gst.Event.new_segment(segment))
        buffer = Gst.Buffer.new_wrapped(self.frame)
        buffer.pts = 0
        self.assertEqual(pad.chain(buffer), Gst.FlowReturn.OK)
        self.assertEqual([answer["sequence"] for answer in stream.answers()], [0, 1])

    def test_messages_can_be_turned_off(self):
        stream = self.stream("tasks=age messages=false")
        buffer = stream.frame(self.frame)
        self.assertEqual((stream.answers(), len(regions(buffer))), ([], 1))

    def test_a_drawing_is_that_of_the_program(self):
        rgb = portrait("RGB", SIDE, SIDE)
        with tempfile.TemporaryDirectory() as folder:
            png, drawn = pathlib.Path(folder) / "portrait.png", pathlib.Path(folder) / "drawn.png"
            save_png(rgb, png)
            answers("--source", png, "--tasks", "all", "--frames", "1", "--out", drawn)
            text = f"filesrc location={drawn} ! pngdec ! videoconvert ! video/x-raw,format=RGB ! appsink name=out sync=false"
            pipeline = Gst.parse_launch(text)
            pipeline.set_state(Gst.State.PLAYING)
            told = contents(pipeline.get_by_name("out").emit("pull-sample").get_buffer())
            pipeline.set_state(Gst.State.NULL)
        found = contents(self.stream("tasks=all draw=true", "RGB").frame(rgb))
        self.assertNotEqual(found, rgb)
        self.assertEqual(found, told)
        swapped = bytearray(rgb)
        swapped[::3], swapped[2::3] = rgb[2::3], rgb[::3]
        turned = bytearray(contents(self.stream("tasks=all draw=true", "BGR").frame(bytes(swapped))))
        turned[::3], turned[2::3] = turned[2::3], turned[::3]
        self.assertEqual(bytes(turned), told)

    def test_a_drawing_leaves_other_pixels_alone(self):
        drawn = contents(self.stream("tasks=age draw=true").frame(self.frame))
        changed = sum(a != b for a, b in zip(drawn, self.frame))
        self.assertTrue(0.002 < changed / len(self.frame) < 0.2, changed)
        self.assertEqual(contents(self.stream("tasks=age draw=true", "NV12").frame(nv12_of(self.frame))), nv12_of(drawn))
        yuy2 = portrait("YUY2", SIDE, SIDE)
        twice = contents(self.stream("tasks=age draw=true", "YUY2").frame(yuy2))
        # The luma of the drawing is the same in both.
        luma = [(a, b) for a, b, plain in zip(twice[::2], drawn[: SIDE * SIDE], yuy2[::2]) if a != plain]
        self.assertGreater(len(luma), 500)
        self.assertLess(sum(abs(a - b) > 12 for a, b in luma), len(luma) / 20)

    def test_drawing_can_be_turned_on_while_it_plays(self):
        stream = self.stream("tasks=age")
        self.assertEqual(contents(stream.frame(self.frame)), self.frame)
        stream.faces.set_property("draw", True)
        self.assertNotEqual(contents(stream.frame(self.frame)), self.frame)
        stream.faces.set_property("draw", False)
        self.assertEqual(contents(stream.frame(self.frame)), self.frame)

    def test_a_drawing_does_not_reach_other_branches(self):
        text = (
            f"appsrc name=in format=time caps={caps('I420', SIDE, SIDE)} ! tee name=t ! queue ! faceptor tasks=age draw=true"
            " ! appsink name=drawn sync=false t. ! queue ! appsink name=plain sync=false"
        )
        pipeline = Gst.parse_launch(text)
        self.addCleanup(pipeline.set_state, Gst.State.NULL)
        pipeline.set_state(Gst.State.PLAYING)
        buffer = Gst.Buffer.new_wrapped(self.frame)
        buffer.pts = 0
        pipeline.get_by_name("in").emit("push-buffer", buffer)
        pulled = {name: pipeline.get_by_name(name).emit("pull-sample").get_buffer() for name in ("drawn", "plain")}
        self.assertNotEqual(contents(pulled["drawn"]), self.frame)
        self.assertEqual(contents(pulled["plain"]), self.frame)
        self.assertEqual([len(regions(pulled[name])) for name in ("drawn", "plain")], [1, 0])

    def test_another_size_in_the_middle(self):
        stream = self.stream()
        stream.frame(self.frame)
        stream.source.set_property("caps", Gst.Caps.from_string(caps("NV12", 300, 320)))
        stream.frame(portrait("NV12", 300, 320, left=100))
        found = [(answer["width"], answer["height"], len(answer["faces"])) for answer in stream.answers()]
        self.assertEqual(found, [(400, 400, 1), (300, 320, 1)])

    def test_it_starts_again(self):
        stream = self.stream()
        stream.frame(self.frame)
        (first,) = stream.answers()
        for _ in range(2):
            stream.pipeline.set_state(Gst.State.NULL)
            stream.pipeline.set_state(Gst.State.PLAYING)
            stream.number = 0
            stream.frame(self.frame)
            (again,) = stream.answers()
            self.assertEqual((again["frame"], again["faces"]), (0, first["faces"]))
            self.assertEqual(stream.faces.get_property("analyzed"), 1)

    def test_every_size_in_every_format(self):
        for form in FORMATS:
            for width, height in ((1, 1), (2, 2), (3, 5), (33, 17), (321, 239), (4000, 2), (1, 700)):
                text = (
                    f"videotestsrc num-buffers=2 ! {caps(form, width, height)} ! faceptor draw=true ! videoconvert"
                    " ! fakesink sync=false"
                )
                pipeline = Gst.parse_launch(text)
                pipeline.set_state(Gst.State.PLAYING)
                message = pipeline.get_bus().timed_pop_filtered(
                    60 * Gst.SECOND, Gst.MessageType.ERROR | Gst.MessageType.WARNING | Gst.MessageType.EOS
                )
                pipeline.set_state(Gst.State.NULL)
                self.assertEqual(message.type, Gst.MessageType.EOS, (form, width, height))

    def test_short_buffers_are_passed_on_with_a_warning(self):
        for form in FORMATS:
            stream = self.stream(form=form)
            for size in (1, 100, 80_000, SIDE * SIDE + 10):
                self.assertEqual(stream.send(Gst.Buffer.new_wrapped(bytes(size))).get_size(), size)
                (warning,) = stream.texts(Gst.MessageType.WARNING)
                self.assertIn("does not hold the frame", warning)
            self.assertEqual(stream.faces.get_property("analyzed"), 0)

    def test_what_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            garbage, empty = pathlib.Path(folder) / "garbage.bundle", pathlib.Path(folder) / "empty.bundle"
            garbage.write_bytes(os.urandom(5000))
            empty.write_bytes(b"")
            for options, words in [
                ("bundle=/nowhere/edge.bundle", "/nowhere/edge.bundle: "),
                (f"bundle={garbage}", f"{garbage}: "),
                (f"bundle={empty}", f"{empty}: "),
                (f"bundle={folder}", f"{folder}: "),
                ("tasks=mood", "unknown task 'mood'"),
                ("tasks=,", "no task is named"),
            ]:
                self.assertIn(words, refusal(f"videotestsrc ! {caps('RGB', 64, 48)} ! faceptor {options} ! fakesink"))

    def test_a_bundle_of_ones_own(self):
        with tempfile.TemporaryDirectory() as folder:
            bundle = os.environ.get("FACEPTOR_BUNDLE")
            if bundle is None:
                bundle = pathlib.Path(folder) / "own.bundle"
                command = [os.environ["FACEPTOR_PROGRAM"], "compile", "models/edge", "--out", str(bundle)]
                subprocess.run(command, check=True, capture_output=True)
            stream = self.stream(f"tasks=age bundle={bundle}")
            stream.frame(self.frame)
            (answer,) = stream.answers()
            self.assertEqual(tasks_in(answer), {"age"})
            stream.pipeline.set_state(Gst.State.NULL)

    def test_other_formats_cannot_be_linked(self):
        for form in ("GRAY8", "RGBA", "UYVY", "NV21"):
            with self.assertRaisesRegex(GLib.Error, "can't handle caps"):
                Gst.parse_launch(f"videotestsrc ! {caps(form, 64, 48)} ! faceptor ! fakesink")


if __name__ == "__main__":
    unittest.main()
