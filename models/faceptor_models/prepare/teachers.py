"""Labels every crop with networks: a recognition teacher's embedding and, where it is reliable, a landmark teacher's points."""

import numpy as np
import onnxruntime

from faceptor_models.common.geometry import ARCFACE_112

from .align import crop, to_template

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
SIDE_PX = 112
# Points further from the detector's five than this share of the outer eye corners' distance, on average, are not kept.
AGREE = 0.08


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ask(net, rgb):
    """Returns one answer [n] of a network whose only input is an image [1, 3, 112, 112]."""
    return net.run(None, {net.get_inputs()[0].name: np.ascontiguousarray(rgb.transpose(2, 0, 1)[None])})[0].reshape(-1)


class Recognition:
    """Runs a MobileFaceNet-like ONNX: ArcFace-aligned RGB of 112 px, ImageNet mean and deviation, to a vector."""

    def __init__(self, path):
        self.net = session(path)

    def embed(self, rgb, keypoints):
        """Returns the unit vector of the face, computed from the photo itself; None where the keypoints coincide."""
        matrix = to_template(keypoints, ARCFACE_112)
        if matrix is None:
            return None
        vector = ask(self.net, (crop(rgb, matrix, SIDE_PX).astype(np.float32) / 255 - MEAN) / STD)
        return vector / max(np.linalg.norm(vector), 1e-9)


class Landmarks:
    """Runs a PFLD-like ONNX: the square about the face's box at 112 px, RGB / 255, to 68 points in 0..1 of it."""

    def __init__(self, path):
        self.net = session(path)

    def points(self, rgb, found):
        """Returns [68, 2] in the photo's pixels, or None where they disagree with the detector's keypoints."""
        side = float(max(found.box[2:]))
        corner = found.box[:2] + found.box[2:] / 2 - side / 2
        scale = SIDE_PX / side
        matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
        points = ask(self.net, crop(rgb, matrix, SIDE_PX).astype(np.float32) / 255).reshape(68, 2) * side + corner
        five = np.array([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
        away = np.linalg.norm(five - found.keypoints, axis=1).mean()
        return points if away < AGREE * np.linalg.norm(points[36] - points[45]) else None
