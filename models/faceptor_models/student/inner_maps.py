"""Makes inner maps of a landmark network (PFLD) a target of the encoder's stride-8 map: computed once, kept in a file. Training only.

    python -m faceptor_models.student.inner_maps ../../shared/networks/pfld.onnx --faces FACES --cache CACHE --out pfld.npz

For every crop of w300 and for its mirror image the file has the map of one tensor, each channel in its own standard deviations,
and the part of the aligned frame that the teacher saw. A training sample is turned, moved and warped: each cell of the student
takes the teacher's value at its own place, and cells outside the teacher's view do not count.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from torch import nn

from faceptor_models.common.geometry import network_grid, network_to_frame
from faceptor_models.common.labels import LANDMARK_FLIP
from faceptor_models.common.packed_crops import pack

# The last sum of PFLD's residual blocks, [128, 14, 14], and the square of the aligned frame that stands for its face box (left,
# top, side): of 0.5 to 0.75 of the side the one with the least median error of the teacher's own points on 200 training crops.
TENSOR, VIEW = "374", (0.2, 0.29, 0.6)


def seen(crop, size=112):
    """Returns the teacher's input of a crop [side, side, >= 3]: float32 [3, size, size] in 0..1."""
    side = crop.shape[0]
    left, top, width = (v * side for v in VIEW)
    scale = width / size
    matrix = np.float32([[scale, 0, left + scale / 2], [0, scale, top + scale / 2]])
    rgb = np.ascontiguousarray(crop[..., :3])
    view = cv2.warpAffine(rgb, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
    return view.transpose(2, 0, 1).astype(np.float32) / 255


def teacher(file, tensor):
    """Loads an ONNX file as a function image [n, 3, 112, 112] -> (points [n, 68, 2] in the frame, maps [n, C, h, w])."""
    model = onnx.load(file)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name, points = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run(images):
        found, maps = session.run([points, tensor], {name: images})
        return found.reshape(-1, 68, 2) * VIEW[2] + np.array(VIEW[:2]), maps

    return run


def compute(run, crops):
    """Returns (points, maps) of crops and of their mirror images: [2, n, 68, 2] and float16 [2, n, C, h, w]."""
    points, maps = [], []
    for mirrored in (False, True):
        images = [seen(crop[:, ::-1] if mirrored else crop) for crop in crops]
        parts = [run(np.stack(images[i : i + 32])) for i in range(0, len(images), 32)]
        points.append(np.concatenate([p for p, _ in parts]))
        maps.append(np.concatenate([m for _, m in parts]))
    maps = np.stack(maps)
    spread = maps.std((0, 1, 3, 4), keepdims=True) + 1e-6
    return np.stack(points), ((maps - maps.mean((0, 1, 3, 4), keepdims=True)) / spread).astype(np.float16)


class InnerMaps:
    """Reads the file's maps as targets of augmented samples."""

    def __init__(self, file):
        self.maps = np.load(file)["maps"]

    @property
    def channels(self):
        return self.maps.shape[2]

    def target(self, row, before, after, flip, cells):
        """Returns (maps [C, cells, cells] float32, seen [cells, cells] bool) of crop `row`.

        Its points [68, 2] were `before` in the photo's frame and are `after` in the network's coordinates.
        """
        after = network_to_frame(after)
        if flip:
            after = after[LANDMARK_FLIP]
        # The jitter is an affine map, and 68 points determine it.
        back = np.linalg.lstsq(np.concatenate([after, np.ones((len(after), 1))], 1), before, rcond=None)[0]
        grid = network_grid(cells).reshape(-1, 2)
        photo = np.concatenate([grid, np.ones((len(grid), 1))], 1) @ back
        if flip:
            photo[:, 0] = 1 - photo[:, 0]
        h, w = self.maps.shape[3:]
        place = ((photo - np.array(VIEW[:2])) / VIEW[2] * (w, h) - 0.5).reshape(cells, cells, 2).astype(np.float32)
        planes = np.ascontiguousarray(self.maps[int(flip), row].transpose(1, 2, 0).astype(np.float32))
        # cv2 remaps four planes at once.
        fours = (planes[..., i : i + 4] for i in range(0, planes.shape[2], 4))
        values = np.dstack([cv2.remap(four, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for four in fours])
        inside = ((place >= -0.5) & (place <= np.array([w, h]) - 0.5)).all(-1)
        return values.transpose(2, 0, 1), inside


class InnerHead(nn.Module):
    """Compares the stride-8 map, through a 1x1 convolution, with the teacher's: mean squared difference, in its variances."""

    def __init__(self, width, channels):
        super().__init__()
        self.read = nn.Conv2d(width, channels, 1)

    def forward(self, f8, maps, inside):
        """Takes `f8` [B, width, h, w], `maps` [B, channels, h, w] and `inside` [B, h, w]."""
        off = ((self.read(f8).float() - maps) ** 2).mean(1)
        return (off * inside).sum() / inside.sum().clamp(min=1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("network", help="pfld.onnx")
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--cache", required=True, help="folder of the decoded crops")
    p.add_argument("--out", required=True)
    p.add_argument("--tensor", default=TENSOR)
    args = p.parse_args()
    crops = pack(args.faces, args.cache, mapped=True)["w300"]
    points, maps = compute(teacher(args.network, args.tensor), crops)
    archive = np.load(Path(args.faces) / "train/labels.npz")
    true = archive["landmarks"][archive["source"] == "w300"].astype(float) / 8192
    eye = np.linalg.norm(true[:, 36] - true[:, 45], axis=-1)
    error = 100 * (np.linalg.norm(points[0] - true, axis=-1).mean(1) / eye)
    np.savez(args.out, maps=maps)
    told = f"{maps.shape[2]} channels of {maps.shape[3]} x {maps.shape[4]}, {len(crops)} crops and their mirror images"
    print(f"{args.out}: {told}; the teacher's points err by {error.mean():.2f} % here")


if __name__ == "__main__":
    main()
