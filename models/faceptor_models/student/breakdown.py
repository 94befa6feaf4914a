"""Breaks the errors down by pose, size, age and sex, and computes confusions and the calibration of the scores.

`sections(dev, answers, ask_small)` turns the answers of the dev split (see `development.measure`) into the card's second block.
The groups come from the labels alone; a group of fewer than `FEWEST` faces is left out.
"""

import numpy as np

from faceptor_models.common.labels import ATTRIBUTES, EXPRESSIONS, MALE
from faceptor_models.common.metrics import landmark_error

FEWEST = 15
AGE_GROUPS = [(0, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 120)]
# Sideways offset of the nose tip from the middle of the eyes, in eye distances: 0 is frontal, beyond 0.35 one eye nears the
# rim.
TURNS = [(0.0, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 9.0)]
# Pixels between the eye centres; a crop's are 40/192 of its side.
EYE_DISTANCES = [8, 12, 20, 27]
BINS = 10


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *["| " + " | ".join(map(str, r)) + " |" for r in rows]])


def turn(keypoints):
    """Returns how far a face is turned, from its five keypoints [n, 5, 2]; TURNS has the groups."""
    eyes = keypoints[:, 1] - keypoints[:, 0]
    distance = np.linalg.norm(eyes, axis=-1)
    along = eyes / distance[:, None]
    nose = keypoints[:, 2] - (keypoints[:, 0] + keypoints[:, 1]) / 2
    return np.abs((nose * along).sum(-1)) / distance


def confusion(said, truth, names):
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (truth, said), 1)
    rows = [[name, *[f"{100 * c / max(1, row.sum()):.0f}" for c in row], row.sum()] for name, row in zip(names, counts)]
    return table(["labelled \\ predicted, %", *names, "n"], rows)


def reliability(confidence, right):
    """Returns (expected calibration error, [(mean confidence, share right, n)]) in BINS equal steps of confidence."""
    index = np.minimum((confidence * BINS).astype(int), BINS - 1)
    rows = [(confidence[index == b].mean(), right[index == b].mean(), int((index == b).sum())) for b in range(BINS) if (index == b).any()]
    error = sum(n * abs(c - r) for c, r, n in rows) / len(confidence)
    return error, rows


def temperature(probabilities, truth):
    """Finds the T whose softmax(log p / T) has the lowest negative log likelihood, by golden-section search over log T."""
    logits = np.log(np.maximum(probabilities, 1e-9))

    def loss(log_t):
        z = logits / np.exp(log_t)
        z = z - z.max(1, keepdims=True)
        return -(z[np.arange(len(z)), truth] - np.log(np.exp(z).sum(1))).mean()

    low, high, ratio = np.log(0.2), np.log(5.0), (np.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return float(np.exp((low + high) / 2))


def at_temperature(probabilities, t):
    z = np.maximum(probabilities, 1e-9) ** (1 / t)
    return z / z.sum(1, keepdims=True)


def groups(masks, value):
    """Returns [(name, value of the rows, n)] for every mask that holds enough rows."""
    return [(name, value(mask), int(mask.sum())) for name, mask in masks if mask.sum() >= FEWEST]


def expression_sections(dev, answers):
    labels, out = dev.labels, []
    for title, source, count in (("RAF-DB", "rafdb", 7), ("FER+", "ferplus", 8)):
        rows = dev.rows(source)
        said = np.stack([answers[i]["expression"] for i in rows])[:, :count]
        said = said / said.sum(1, keepdims=True)
        truth = labels["expression_votes"][rows].argmax(1)
        out.append(f"### Expression, {title}: confusions\n\n" + confusion(said.argmax(1), truth, EXPRESSIONS[:count]))
        # The temperature is fitted on one half and measured on the other half.
        half = np.arange(len(rows)) % 2 == 0
        fitted = temperature(said[half], truth[half])
        lines = []
        for name, p in (("as shipped", said[~half]), (f"at temperature {fitted:.2f}", at_temperature(said[~half], fitted))):
            error, bins = reliability(p.max(1), p.argmax(1) == truth[~half])
            lines.append([name, f"{100 * error:.1f}", *[f"{100 * c:.0f}: {100 * r:.0f} ({n})" for c, r, n in bins]])
        width = max(len(line) for line in lines)
        lines = [line + [""] * (width - len(line)) for line in lines]
        out.append(
            f"### Expression, {title}: reliability of the highest score (second half of the rows; temperature from the first)\n\n"
            + table(["scores", "calibration error %", *["confidence %: right % (n)"] * (width - 2)], lines)
        )
        if source == "rafdb":
            turned = turn(labels["keypoints"][rows].astype(float) / 8192)
            right = said.argmax(1) == truth
            found = groups([(f"{a} to {b}", (turned >= a) & (turned < b)) for a, b in TURNS], lambda m, right=right: f"{100 * right[m].mean():.1f}")
            out.append("### Expression, RAF-DB by turn of the head (nose offset in eye distances)\n\n" + table(["turn", "right %", "n"], found))
    return out


def age_sections(dev, answers):
    labels, out = dev.labels, []
    rows = dev.rows("utk")
    years, true = np.array([answers[i]["age"] for i in rows]), labels["age"][rows]
    male = labels["male"][rows]
    masks = [(f"{a}-{b}", (true >= a) & (true <= b)) for a, b in AGE_GROUPS] + [("women", male == 0), ("men", male == 1)]
    found = [(n, *v, c) for n, v, c in groups(masks, lambda m: (f"{np.abs(years - true)[m].mean():.2f}", f"{(years - true)[m].mean():+.2f}"))]
    out.append("### Age, UTK by age and sex (years)\n\n" + table(["group", "mean absolute error", "mean error", "n"], found))
    rows = dev.rows("fairface")
    years = np.array([answers[i]["age"] for i in rows])
    low, high, male = labels["age_low"][rows], labels["age_high"][rows], labels["male"][rows]
    right = (years >= low) & (years < high + 1)
    masks = [(f"{a:.0f}-{b:.0f}", (low == a) & (high == b)) for a, b in sorted(set(zip(low, high)))] + [("women", male == 0), ("men", male == 1)]
    found = groups(masks, lambda m, right=right: f"{100 * right[m].mean():.1f}")
    out.append("### Age, FairFace by range and sex (the labels do not contain FairFace's groups)\n\n" + table(["group", "in range %", "n"], found))
    return out


def attribute_sections(dev, answers):
    rows = dev.rows("celeba")
    scores, truth = np.stack([answers[i]["attributes"] for i in rows]), dev.labels["attributes"][rows]
    known = truth != 0
    right = (scores > 0.5) == (truth > 0)
    lines = []
    for k, name in enumerate(ATTRIBUTES):
        use = known[:, k]
        yes = truth[use, k] > 0
        hit = right[use, k]
        recall = f"{100 * hit[yes].mean():.0f}" if yes.any() else "-"
        lines.append([name, f"{100 * hit.mean():.1f}", f"{100 * max(yes.mean(), 1 - yes.mean()):.1f}", recall, int(yes.sum())])
    out = ["### Attributes, CelebA\n\n" + table(["attribute", "right %", "majority baseline %", "recall %", "positives"], lines)]
    sex = truth[:, MALE]
    rest = np.arange(len(ATTRIBUTES)) != MALE
    found = groups([("women", sex < 0), ("men", sex > 0)], lambda m: f"{100 * right[m][:, rest][known[m][:, rest]].mean():.2f}")
    out.append("### Attributes, CelebA by sex (without that attribute)\n\n" + table(["group", "right %", "n"], found))
    confidence = np.where(scores > 0.5, scores, 1 - scores)
    error, bins = reliability(confidence[known], right[known])
    out.append(
        f"### Attributes: reliability of the scores (calibration error {100 * error:.1f} %)\n\n"
        + table(["mean score of the predicted side %", "right %", "n"], [(f"{100 * c:.0f}", f"{100 * r:.0f}", n) for c, r, n in bins])
    )
    return out


def landmark_sections(dev, answers):
    labels = dev.labels
    rows = np.array([i for i in dev.rows("w300") if labels["landmarks_source"][i] == 1])
    error = 100 * landmark_error(np.stack([answers[i]["landmarks"] for i in rows]), labels["landmarks"][rows].astype(float) / 8192)
    turned = turn(labels["keypoints"][rows].astype(float) / 8192)
    masks = [("all", np.ones(len(rows), bool))] + [(f"turn {a} to {b}", (turned >= a) & (turned < b)) for a, b in TURNS]
    value = lambda m: (f"{error[m].mean():.2f}", f"{np.median(error[m]):.2f}", f"{np.quantile(error[m], 0.95):.2f}")  # noqa: E731
    found = [(n, *v, c) for n, v, c in groups(masks, value)]
    return ["### Landmarks, w300 NME by turn of the head (nose offset in eye distances)\n\n" + table(["faces", "mean", "median", "95 %", "n"], found)]


def size_section(dev, answer_shrunk):
    """Measures the errors on crops shrunk to smaller eye distances; `answer_shrunk(rows, side)` maps rows to answers."""
    labels, lines = dev.labels, []
    w300 = [i for i in dev.rows("w300") if labels["landmarks_source"][i] == 1]
    rafdb, utk = dev.rows("rafdb")[::4], dev.rows("utk")[::2]
    for eyes in EYE_DISTANCES:
        found = answer_shrunk([*w300, *rafdb, *utk], round(eyes * 192 / 40))
        nme = 100 * landmark_error(np.stack([found[i]["landmarks"] for i in w300]), labels["landmarks"][w300].astype(float) / 8192).mean()
        said = np.stack([found[i]["expression"] for i in rafdb])[:, :7].argmax(1)
        right = 100 * (said == labels["expression_votes"][rafdb].argmax(1)).mean()
        years = np.abs(np.array([found[i]["age"] for i in utk]) - labels["age"][utk]).mean()
        lines.append([eyes, f"{nme:.2f}", f"{right:.1f}", f"{years:.2f}"])
    head = ["pixels between the eyes", "landmarks NME %", f"expression RAF-DB % ({len(rafdb)})", f"age UTK years ({len(utk)})"]
    return "### By face size (dev crops shrunk)\n\n" + table(head, lines)


def sections(dev, answers, answer_shrunk=None):
    """Writes the card's block of Markdown."""
    out = landmark_sections(dev, answers) + expression_sections(dev, answers) + age_sections(dev, answers) + attribute_sections(dev, answers)
    if answer_shrunk:
        out.insert(1, size_section(dev, answer_shrunk))
    return "\n\n".join(out)
