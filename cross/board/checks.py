"""Judges what the scenarios of inside/ left in the shared folder."""

import re

from report import Case


def cameras(shared):
    """The frames that v4l2-ctl read are the frames that were fed, in order."""
    results = shared / "results" / "cameras"
    cases = []
    for name in ["yuyv", "mjpg"]:
        case = Case("cameras", f"{name.upper()} through v4l2loopback is what was fed")
        frames = split(shared / "clips" / f"face.{name}", name)
        buffers = (results / f"buffers.{name}").read_text()
        sizes = [int(size) for size in re.findall(r"bytesused: (\d+)", buffers)]
        got = (results / f"got.{name}").read_bytes()
        order = []
        for size in sizes:
            frame, got = got[:size], got[size:]
            order.append(frames.index(frame) if frame in frames else None)
        # The first does not count: v4l2loopback begins with what lies in its memory from an earlier feed.
        order = order[1:]
        case.check(len(order) == 4, f"{len(order)} frames came, not 4")
        case.check(None not in order, f"a frame was changed: {order}")
        follows = all((a + 1) % len(frames) == b for a, b in zip(order, order[1:]) if None not in (a, b))
        case.check(follows, f"out of order: {order}")
        case.facts["frames"] = len(order)
        cases.append(case)
    return cases


def split(path, kind):
    """The frames of a clip of 640 x 480."""
    data = path.read_bytes()
    if kind == "yuyv":
        size = 640 * 480 * 2
        return [data[at : at + size] for at in range(0, len(data), size)]
    starts = [match.start() for match in re.finditer(rb"\xff\xd8\xff", data)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)])]


# What the board can be put through, in this order, and who judges it.
SCENARIOS = {"cameras": cameras}
