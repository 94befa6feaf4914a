"""Defines preprocessing groups: how each system's tasks see a face, as in the manifest's `[[group]]`."""

from dataclasses import dataclass

from faceptor_models.common.errors import Refused

from . import official

# Eyes, nose, mouth corners, left to right in the image, pixels of the 112 px ArcFace crop.
ARCFACE_112 = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
# LaPa's alignment targets, in 256ths of the half side.
LAPA_TARGETS = [(196, 226), (316, 226), (256, 286), (220, 360.4), (292, 360.4)]
LAPA_SIZE = 512
GREY_MEAN_STD = (127.5, 127.5)


@dataclass
class Group:
    """Describes one input tensor `[1, channels, size, size]` and how the picture becomes it; `tasks` read it."""

    name: str
    size: int
    mean: tuple
    std: tuple
    tasks: list
    colour: str = "rgb"
    # Places of the five keypoints in units of the side, for a similarity transform; or None for an upright box.
    template: list | None = None
    # Part of the side that the longer side of the face's box fills.
    box_scale: float = 1.0
    warp: str = "none"
    warp_tanh: float = 0.8
    border: str = "black"
    # TCDCN: coordinates as x, y in turn instead of all x before all y.
    interleaved: bool = False

    @property
    def channels(self):
        return 1 if self.colour == "grey" else 3

    def row(self):
        """Returns the manifest's [[group]]."""
        row = {
            "name": self.name, "tensor": f"image_{self.name}", "size": self.size, "colour": self.colour,
            "mean": [round(float(v), 6) for v in self.mean], "std": [round(float(v), 6) for v in self.std],
        }  # fmt: skip
        if self.template is None:
            frame = {"align": "box", "box_scale": self.box_scale}
        else:
            frame = {"align": "keypoints", "template": [[round(float(v), 6) for v in p] for p in self.template]}
        frame |= {"warp": self.warp, "border": self.border}
        if self.warp == "tanh":
            frame["warp_tanh"] = self.warp_tanh
        return row | {"frame": frame}


def arcface():
    return [((x + 0.5) / 112, (y + 0.5) / 112) for x, y in ARCFACE_112]


def celeba_hq():
    """Applies CelebA-HQ's own rule for its crop to the five points of the ArcFace template.

    The half side is the larger of 2 eye distances and 1.8 eye-to-mouth distances; the centre lies 0.1 eye-to-mouth distances
    below the middle of the eyes.
    """
    points = arcface()
    eyes, mouth = [[(a[i] + b[i]) / 2 for i in (0, 1)] for a, b in (points[0:2], points[3:5])]
    distance = abs(points[1][0] - points[0][0])
    drop = mouth[1] - eyes[1]
    half = max(2 * distance, 1.8 * drop)
    centre = (eyes[0], eyes[1] + 0.1 * drop)
    return [tuple((p[i] - centre[i]) / (2 * half) + 0.5 for i in (0, 1)) for p in points]


def lapa():
    """Returns the pixels of the official alignment at 512, in units of the side with pixel centres at (i + 0.5) / size."""
    return [tuple((v / 256 * (LAPA_SIZE - 1) / 2 + 0.5) / LAPA_SIZE for v in p) for p in LAPA_TARGETS]


def scaled(statistics):
    """Converts statistics of pixels in 0..1 to statistics of pixels in 0..255."""
    return tuple(255 * v for v in statistics)


def faceptor_groups(model, like, chosen):
    """Returns one group for all tasks at 112, and one for each way to cut the large input."""
    size = model.config.encoder.resolution
    large = {"size": size, "mean": scaled(official.CLIP_MEAN), "std": scaled(official.CLIP_STD)}
    made = {
        "face112": Group("face112", official.SMALL, (127.5,) * 3, (127.5,) * 3, [], template=arcface(), border="replicate"),
        "celebam": Group("celebam", tasks=[], template=celeba_hq(), **large),
        "lapa": Group("lapa", tasks=[], template=lapa(), warp="tanh", **large),
        "box80": Group("box80", tasks=[], box_scale=0.8, **large),
        "box100": Group("box100", tasks=[], box_scale=1.0, **large),
    }
    for task in chosen:
        official_name = like.get(task, task)
        kind = official.type_of(task)
        if kind not in official.DENSE:
            name = "face112"
        elif kind == "parsing":
            name = "lapa" if official_name == "parsing_lapa" else "celebam"
        else:
            name = "box100" if official_name == "align_aflw" else "box80"
        made[name].tasks.append(task)
    return [g for g in made.values() if g.tasks]


def mcf_groups(model):
    c = model.config.encoder
    return [Group("face", c.size, scaled(official.IMAGENET_MEAN), scaled(official.IMAGENET_STD), [], template=arcface(), border="replicate")]


def tcdcn_groups(model, chosen, interleaved):
    mean, std = GREY_MEAN_STD
    return [Group("grey", model.config.size, (mean,), (std,), list(chosen), colour="grey", border="replicate", interleaved=interleaved)]


def dmlcsr_groups(model, task, size):
    """Returns the data sets' own views: CelebAMask-HQ's crop for 19 classes, a loose box for others."""
    statistics = {"mean": scaled(official.IMAGENET_MEAN), "std": scaled(official.IMAGENET_STD), "colour": "bgr"}
    if model.config.classes == len(official.CELEBAMASK_OWN):
        return [Group("bgr", size, tasks=[task], template=celeba_hq(), **statistics)]
    return [Group("bgr", size, tasks=[task], box_scale=0.6, **statistics)]


def choose(known, wanted):
    """Returns the tasks to export, in the file's order."""
    if wanted is None:
        return list(known)
    unknown = [t for t in wanted if t not in known]
    if unknown:
        raise Refused(f"unknown task {', '.join(unknown)}: this file has {', '.join(known) or 'none'}")
    return [t for t in known if t in wanted]
