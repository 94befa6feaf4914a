"""Derives the mean face in three dimensions, from whose 68 points the library fits the pose of a head.

    python -m faceptor_models.student.mean_face --faces ../../shared/faces --out ../crates/faceptor/src/mean_face.rs

Only the points that people set on photos of the training split are used (w300): two coordinates a point, no depth. The photos show
heads at many angles, so the depth follows from them: each photo is taken as a scaled parallel projection of one rigid face, and the
rotations of the photos and the points of the face are fitted in turns, by least squares. Left and right are averaged. The start is
the mean of the photos with the depth of a ball.
"""

import argparse
from pathlib import Path

import numpy as np

# The point of the other side for each of the 68.
MIRROR = (
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
ROUNDS = 60


def eyes_apart(face):
    """The distance between the middles of the eyes."""
    return np.linalg.norm(face[36:42].mean(0) - face[42:48].mean(0))


def projection(face, points):
    """Fits scale and the first two rows of the rotation: points = scale * rows @ face. Both are centred."""
    rows = np.linalg.lstsq(face, points, rcond=None)[0].T
    u, size, v = np.linalg.svd(rows, full_matrices=False)
    return size.mean(), u @ v


def rigid_face(photos):
    """Returns [68, 3] in eye distances, x to the right, y down, z away from the viewer, centred."""
    photos = photos - photos.mean(1, keepdims=True)
    photos = photos / np.array([eyes_apart(photo) for photo in photos])[:, None, None]
    face = np.concatenate([photos.mean(0), np.zeros((68, 1))], 1)
    face[:, 2] = -np.sqrt(np.maximum(2.2 - (face[:, :2] ** 2).sum(1), 0))
    for _ in range(ROUNDS):
        face -= face.mean(0)
        face = (face + face[MIRROR] * [-1, 1, 1]) / 2
        face /= eyes_apart(face)
        left, right = np.zeros((3, 3)), np.zeros((68, 3))
        for photo in photos:
            scale, rows = projection(face, photo)
            # Every photo counts alike, however large the face is on it.
            left += rows.T @ rows
            right += photo @ rows / scale
        face = np.linalg.solve(left, right.T).T
    face -= face.mean(0)
    face = (face + face[MIRROR] * [-1, 1, 1]) / 2
    return face / eyes_apart(face)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--out", required=True, metavar="FILE", help="the Rust file to write")
    args = p.parse_args()
    labels = np.load(Path(args.faces) / "train" / "labels.npz", allow_pickle=False)
    rows = (labels["source"] == "w300") & (labels["landmarks_source"] == 1)
    points = labels["landmarks"][rows].astype(float)
    points = points[(points > -32768).all((1, 2))] / 8192
    face = rigid_face(points)
    lines = [
        "//! The mean face in three dimensions, in eye distances: x to the right, y down, z away from the viewer.",
        "//!",
        f"//! Made by `python -m faceptor_models.student.mean_face` from points on {len(points):,} photos: see there how.",
        "",
        "/// The 68 points; their mean is 0.",
        "#[rustfmt::skip]",
        '#[allow(clippy::approx_constant, reason = "measured numbers, some of which are near constants of mathematics")]',
        "pub(crate) const MEAN_FACE: [[f64; 3]; 68] = [",
        *[f"    [{x:.4}, {y:.4}, {z:.4}],".replace("-0.0000,", "0.0000,") for x, y, z in face],
        "];",
        "",
    ]
    Path(args.out).write_text("\n".join(lines))
    print(f"{len(points)} photos; nose tip {-face[30, 2] + face[36:48, 2].mean():.2f} eye distances before the eyes")


if __name__ == "__main__":
    main()
