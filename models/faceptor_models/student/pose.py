"""Compares the pose that the program fits to its own landmarks with the one that fits to the points people set (w300 dev photos).

python -m faceptor_models.student.pose --binary ../target/release/faceptor
"""

import argparse
import re
from pathlib import Path

import numpy as np

from .accuracy import ask
from .development import Development
from .mean_face import projection

MEAN_FACE = Path(__file__).parents[3] / "crates" / "faceptor" / "src" / "mean_face.rs"


def mean_face():
    """Reads the mean face of the library."""
    rows = re.findall(r"\[(-?[\d.]+), (-?[\d.]+), (-?[\d.]+)\],", MEAN_FACE.read_text())
    return np.array(rows, float)


def angles(points, face):
    """Returns yaw, pitch and roll in degrees, as `Pose::of_landmarks` of the library does."""
    _, (right, down) = projection(face, points - points.mean(0))
    into = np.cross(right, down)
    return np.degrees([np.arctan2(into[0], into[2]), -np.arcsin(np.clip(into[1], -1, 1)), np.arctan2(-right[1], down[1])])


def ranks(values):
    return np.argsort(np.argsort(values))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--binary", default="../target/release/faceptor")
    args = p.parse_args()
    dev, face = Development(args.faces), mean_face()
    rows = [i for i in dev.rows("w300") if dev.labels["landmarks_source"][i] == 1]
    lines = ask(args.binary, None, ["--aligned", "--tasks", "landmarks"], [dev.file(i) for i in rows])
    found = np.array([[line["faces"][0]["pose"][f"{name}_deg"] for name in ("yaw", "pitch", "roll")] for line in lines])
    people = np.array([angles(dev.labels["landmarks"][i] / 8192, face) for i in rows])
    print(f"{len(rows)} photos\n\n| | range of the people's points | mean error | 95 % | rank correlation |\n|---|---|---|---|---|")
    for k, name in enumerate(("yaw", "pitch", "roll")):
        error = np.abs(found[:, k] - people[:, k])
        order = np.corrcoef(ranks(found[:, k]), ranks(people[:, k]))[0, 1]
        low, high = people[:, k].min(), people[:, k].max()
        print(f"| {name} | {low:.0f} to {high:.0f} | {error.mean():.1f} | {np.percentile(error, 95):.1f} | {order:.3f} |")


if __name__ == "__main__":
    main()
