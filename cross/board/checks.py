"""Checks the results of the scenarios of inside/ in the shared folder: one function a scenario, which returns its cases."""

import json
import math
import re

import screen
from report import Case

# On an emulated board on a busy machine, milliseconds of a real one may become this long.
SLOW_S = 8.0
PERIOD_US = 200_000  # from one frame of the fed camera to the next


def cameras(shared):
    """Checks that v4l2-ctl read the frames that were fed, in order."""
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
        # The first frames do not count: v4l2loopback begins with the frames of an earlier feed in its memory.
        order = order[-5:]
        case.check(len(order) == 5, f"{len(order)} frames came, not 5")
        case.check(None not in order, f"a frame was changed: {order}")
        # The feeder plays the frames forward and backward.
        follows = all(abs(a - b) == 1 for a, b in zip(order, order[1:]) if None not in (a, b))
        case.check(follows, f"out of order: {order}")
        case.facts["frames"] = len(order)
        cases.append(case)
    return cases


def split(path, kind):
    """Returns the frames of a clip of 640 x 480."""
    data = path.read_bytes()
    if kind == "yuyv":
        size = 640 * 480 * 2
        return [data[at : at + size] for at in range(0, len(data), size)]
    starts = [match.start() for match in re.finditer(rb"\xff\xd8\xff", data)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)])]


def doctor(shared):
    """Checks the program's reports about the board."""
    results = shared / "results" / "doctor"
    devices = Case("doctor", "devices lists both cameras with their formats")
    text = (results / "devices.json").read_text()
    devices.check(json.loads(text), "no JSON")
    for word in ["vivid", "/dev/video0", "/dev/video10", "YUYV"]:
        devices.check(word in text, f"{word} is not named")
    case = Case("doctor", "doctor examines the board")
    text = (results / "doctor.json").read_text()
    case.check(json.loads(text), "no JSON")
    case.check("6.1" in text, "the kernel is not named")
    status = int((results / "exit").read_text())
    case.facts["exit_status"] = status
    case.check(status in (0, 1), f"exit status {status}")
    return [devices, case]


class Run:
    """The output of a run of the loop: its JSON lines, and the times of the scenario's actions (seconds since the board's start)."""

    def __init__(self, results):
        self.results = results
        text = (results / "run.jsonl").read_text()
        self.torn = not text.endswith("\n")
        self.lines = [json.loads(line) for line in text.splitlines()]
        self.events = []
        for line in (results / "events").read_text().splitlines():
            moment, _, words = line.partition(" ")
            self.events.append((float(moment), words))

    def at(self, words):
        """Returns the time of the first event with these words, in microseconds of the board's clock."""
        return next(moment for moment, event in self.events if event == words) * 1e6

    def between(self, start_us, end_us=math.inf):
        return [line for line in self.lines if start_us < line["captured_us"] <= end_us]

    def ended(self, scenario):
        """Checks that the loop ran to the end, and that every line is complete and in order."""
        case = Case(scenario, "the loop ends on request, and not before")
        status = int((self.results / "exit").read_text())
        case.check(status == 0, f"exit status {status}: {(self.results / 'run.log').read_text()[-2000:]}")
        case.check(not self.torn, "the last line is torn")
        times = [line["captured_us"] for line in self.lines]
        case.check(times == sorted(times), "captured_us goes back")
        end_s = float((self.results / "time").read_text().split()[1])
        case.check(times and times[-1] < (end_s + 1) * 1e6, "captured_us lies in the future")
        counts = [line["sequence"] for line in self.lines]
        case.check(all(a < b for a, b in zip(counts, counts[1:])), "sequence does not grow")
        case.facts.update(frames=len(self.lines), log_lines=len((self.results / "run.log").read_text().splitlines()))
        return case


def faces(shared):
    """Checks that faces are found where they are drawn, through V4L2, while tasks and the camera's format change."""
    results = shared / "results" / "faces"
    run = Run(results)
    truth = [json.loads(line) for line in (shared / "clips" / "truth.json").read_text().splitlines()]
    cases = []

    def drawn(name, lines, fed):
        case = Case("faces", name)
        fed = [tuple(map(int, line.split())) for line in (results / fed).read_text().splitlines()]
        worst = 0.0
        for line in lines:
            found = line["faces"]
            case.check(len(found) == 1, f"frame {line['frame']}: {len(found)} faces, not 1")
            if len(found) == 1 and "landmarks" in found[0]:
                # The frames that the camera may have shown at that time.
                poses = [truth[n] for us, n in fed if -600_000 < us - line["captured_us"] < PERIOD_US]
                off = min((distance(found[0], pose) for pose in poses), default=math.inf)
                case.check(off < 0.15, f"frame {line['frame']}: the landmarks lie {off:.2f} faces off")
                worst = max(worst, off)
        with_landmarks = sum("landmarks" in face for line in lines for face in line["faces"])
        case.check(with_landmarks >= 3, f"{with_landmarks} frames with landmarks, not 3")
        case.facts.update(frames=len(lines), worst_offset_faces=round(worst, 3))
        return case

    dies = run.at("camera dies")
    cases.append(drawn("YUYV: one face, its landmarks where it is drawn", run.between(run.at("yuyv"), dies), "fed.yuyv"))

    case = Case("faces", "ctl set-tasks changes what is decoded")
    # Frames that were captured after ctl received its response.
    first, back = run.at("chosen age,expression"), run.at("chosen landmarks")
    for name, lines, keys in [
        ("age,expression", run.between(first, run.at("choosing landmarks")), {"age", "expression"}),
        ("landmarks", run.between(back, dies), {"landmarks"}),
    ]:
        chosen = [{"landmarks", "age", "expression"} & face.keys() == keys for line in lines for face in line["faces"]]
        before = chosen.index(True) if True in chosen else None
        case.facts[f"old_frames_before_{name}"] = before
        case.check(before is not None and before <= 1, f"set-tasks {name} took {before} frames: {chosen}")
        case.check(before is None or all(chosen[before:]), f"set-tasks {name} did not stay: {chosen}")
    case.check("nose" in (results / "refused").read_text(), "an unknown task was not refused by its name")
    cases.append(case)

    mjpg = run.at("mjpg")
    again = [event for event, words in run.events if words == "camera dies"][1] * 1e6
    lines = run.between(mjpg, again)
    cases.append(drawn("MJPG after YUYV: one face, its landmarks where it is drawn", lines, "fed.mjpg"))
    cases[-1].limit("recovered_after_s", round((lines[0]["captured_us"] - mjpg) / 1e6, 2) if lines else None, SLOW_S)
    counters = find(json.loads((results / "status.json").read_text()), "format_changes")
    cases[-1].check(counters and counters["format_changes"] >= 1, "the change of format was not counted")
    still = run.between(run.at("still"))
    cases.append(screen.judge(shared / "faces.ppm", (shared / "clips" / "still.yuyv").read_bytes(), still))
    return [*cases, run.ended("faces")]


# Of the portrait, in pixels: the width of its landmarks and the distance of their mean below the middle of the face, from
# `faceptor image models/demo/astronaut.jpg --tasks landmarks --json`.
FACE_WIDTH, BELOW = 91.5, 15.1


def distance(face, pose):
    """Returns the distance of the landmarks from the drawn face, or their excess in size, in widths of that face."""
    points = face["landmarks"]["points"]
    x, y = (sum(point[axis] for point in points) / len(points) for axis in (0, 1))
    width = max(point[0] for point in points) - min(point[0] for point in points)
    scale = pose["scale"]
    middle_x, middle_y = pose["middle"]
    off = math.hypot(x - middle_x, y - middle_y - BELOW * scale) / (FACE_WIDTH * scale)
    return max(off, abs(width / (FACE_WIDTH * scale) - 1))


def find(tree, key):
    """Returns the first object in a JSON tree that has the key."""
    if isinstance(tree, dict):
        if key in tree:
            return tree
        tree = list(tree.values())
    if isinstance(tree, list):
        return next((found for branch in tree if (found := find(branch, key))), None)
    return None


# The counters that each fault must increase.
FAULTS = {
    "none": [],
    "dropped-30-percent": ["sequence_gaps"],
    "dropped-all": ["timeouts"],
    "buffer-flag-error": ["flagged"],
    "qbuf-error": ["requeue_errors"],
    "fatal-streaming-error": ["io_errors", "reopened"],
    "reqbufs-error": ["io_errors", "reopened"],
    "streamon-error": ["io_errors", "reopened"],
    "disconnect": ["lost", "reopened"],
    "wrap-timestamp-64": ["reopened"],
    "wrap-timestamp-32": ["reopened"],
    "unbind": ["lost", "reopened"],
    "another-number": ["lost", "reopened"],
}


def faults(shared):
    """Checks that the loop recovered from every fault by itself."""
    results = shared / "results" / "faults"
    run = Run(results)
    before = find(json.loads((results / "status.start.json").read_text()), "sequence_gaps")
    cases = []
    for name, moved in FAULTS.items():
        case = Case("faults", name)
        begin, over, end = (run.at(f"{word} {name}") for word in ("begin", "over", "end"))
        times = [line["captured_us"] for line in run.lines if line["captured_us"] <= end]
        longest = max((b - a for a, b in zip(times, times[1:]) if b > begin), default=None)
        first = next((moment for moment in times if moment > over), None)
        case.seconds = (end - begin) / 1e6
        if longest:
            case.facts.update(without_frames_ms=round(longest / 1000), frames_lost=max(0, round(longest / VIVID_US) - 1))
        # From the end of the fault; a lasting fault ends when it is switched off.
        case.limit("recovered_after_ms", first and round((first - over) / 1000), SLOW_S * 1000)
        after = find(json.loads((results / f"status.{name}.json").read_text()), "sequence_gaps")
        case.facts.update({key: after[key] - before[key] for key in COUNTERS if after[key] != before[key]})
        for key in moved:
            case.check(after[key] > before[key], f"{key} did not count")
        before = after
        cases.append(case)
    cases[-1].facts["node"] = node = (results / "node").read_text().strip()
    cases[-1].check(node != "/dev/video0", "the camera came back under its old number")
    return [*cases, run.ended("faults")]


VIVID_US = 40_000  # from one frame of vivid to the next, at the size that the loop chooses
COUNTERS = ["sequence_gaps", "timeouts", "flagged", "requeue_errors", "io_errors", "lost", "reopened"]
COUNTERS += ["format_changes", "decode_errors"]


# The scenarios in their order, each with its check. The steps over ssh are checked as they happen.
SCENARIOS = {"cameras": cameras, "doctor": doctor, "faces": faces, "faults": faults, "ssh": None}
