"""Holds what the tests share: frames of the portrait, pipelines that are fed frame by frame, and the program's answers."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstApp, GstVideo  # noqa: E402, F401

Gst.init(None)

ROOT = pathlib.Path(__file__).resolve().parents[3]
PORTRAIT = ROOT / "models/demo/astronaut.jpg"
PERIOD = Gst.SECOND // 30
FORMATS = ("RGB", "BGR", "I420", "NV12", "YUY2")


def caps(form, width, height):
    return f"video/x-raw,format={form},width={width},height={height},framerate=30/1"


def portrait(form, width=400, height=400, left=0):
    """Returns the bytes of a part of the portrait."""
    right, bottom = 512 - width - left, 512 - height
    text = (
        f"filesrc location={PORTRAIT} ! jpegdec ! videocrop left={left} right={right} bottom={bottom} ! videoconvert dither=none"
        f" ! video/x-raw,format={form} ! appsink name=out sync=false"
    )
    pipeline = Gst.parse_launch(text)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        sample = pipeline.get_by_name("out").emit("pull-sample")
        assert sample is not None, "the portrait could not be read"
        return contents(sample.get_buffer())
    finally:
        pipeline.set_state(Gst.State.NULL)


def contents(buffer):
    return bytes(buffer.extract_dup(0, buffer.get_size()))


def answers(*arguments):
    """Returns the lines of `faceptor run --json`."""
    command = [os.environ["FACEPTOR_PROGRAM"], "run", "--json", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def without_times(answer):
    """An answer without what differs from run to run, and the path that only a file has."""
    return {key: value for key, value in answer.items() if key not in ("timing_us", "captured_us", "path")}


class Stream:
    """A pipeline with the element, which is given frames and gives them back one by one: no test depends on a clock."""

    def __init__(self, form, width, height, options="", sink="appsink name=out sync=false"):
        self.size = (form, width, height)
        text = f"appsrc name=in format=time caps={caps(form, width, height)} ! faceptor name=faces {options} ! {sink}"
        self.pipeline = Gst.parse_launch(text)
        self.source, self.faces, self.sink = map(self.pipeline.get_by_name, ("in", "faces", "out"))
        self.bus = self.pipeline.get_bus()
        self.number = 0
        self.pipeline.set_state(Gst.State.PLAYING)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pipeline.set_state(Gst.State.NULL)

    def frame(self, data, stamp=True):
        """Sends a frame, and returns it as the element passed it on."""
        buffer = Gst.Buffer.new_wrapped(data)
        if stamp:
            buffer.pts, buffer.duration = self.number * Gst.SECOND // 30, PERIOD
        self.number += 1
        return self.send(buffer)

    def send(self, buffer):
        assert self.source.emit("push-buffer", buffer) == Gst.FlowReturn.OK
        sample = self.sink.emit("pull-sample")
        assert sample is not None, [message.parse_error() for message in self.messages(Gst.MessageType.ERROR)]
        return sample.get_buffer()

    def messages(self, kind):
        """Takes the messages of a kind from the bus; the others are left out."""
        found = []
        while (message := self.bus.pop()) is not None:
            if message.type == kind:
                found.append(message)
        return found

    def answers(self):
        """Takes the answers from the bus."""
        structures = [message.get_structure() for message in self.messages(Gst.MessageType.ELEMENT)]
        return [json.loads(structure.get_string("json")) for structure in structures if structure.get_name() == "faceptor"]

    def texts(self, kind):
        """Takes warnings or errors from the bus, in words."""
        parse = Gst.Message.parse_error if kind == Gst.MessageType.ERROR else Gst.Message.parse_warning
        return [parse(message)[0].message for message in self.messages(kind)]


def regions(buffer, most=8):
    """Returns the regions of interest of a frame, by the number of the face."""
    found = {number: GstVideo.buffer_get_video_region_of_interest_meta_id(buffer, number) for number in range(1, most)}
    return {number: region for number, region in found.items() if region is not None}


def refusal(text):
    """Returns the error of a pipeline that cannot start."""
    pipeline = Gst.parse_launch(text)
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.ERROR | Gst.MessageType.EOS)
    pipeline.set_state(Gst.State.NULL)
    assert message is not None and message.type == Gst.MessageType.ERROR, "it started"
    return message.parse_error()[0].message
