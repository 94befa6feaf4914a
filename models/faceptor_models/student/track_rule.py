"""The rule by which `run --gallery` names a track, over embeddings that were taken once: for many galleries and thresholds.

It follows `src/recognition/track_names.rs`, whose constants it repeats, but for the hold on a name that is there already.
"""

from dataclasses import dataclass

import numpy as np

from .identity import MARGIN, rounded, threshold

# ENOUGH, MOST, UNLIKE, UNLIKE_FRAMES, LARGE_EYES_PX, SHARP, HALF_TURN of track_names.rs.
ENOUGH, MOST, UNLIKE, UNLIKE_FRAMES = 4.0, 40.0, 0.22, 3
LARGE_EYES_PX, SHARP, HALF_TURN = 40.0, 0.8, 0.25


@dataclass
class Film:
    """What a track's frames say about a person, from the first frame with enough evidence on."""

    person: str
    frame: np.ndarray  # number of each frame
    vector: np.ndarray  # direction of the evidence there, rounded to 8 bits


def weight(quality):
    """Returns what a frame counts."""
    if not quality["trusted"]:
        return 0.0
    size = min(quality["eyes_px"] / LARGE_EYES_PX, 1)
    sharp = 1.0 if quality["sharpness"] is None else min(max(quality["sharpness"] / SHARP, 0), 1)
    return size * sharp / (1 + (quality["turn"] / HALF_TURN) ** 2)


def evidence(person, lines):
    """Follows the first face of a film's frames; returns None if there is never enough evidence."""
    track, total, gathered, unlike, frames, sums = None, None, 0.0, 0, [], []
    for number, line in enumerate(lines):
        face = line["faces"][0] if line["faces"] else {}
        if "recognition" not in face or "recognition" in face.get("stale_frames", {}):
            continue
        if face["id"] != track:
            track, total, gathered, unlike = face["id"], np.zeros(len(face["recognition"]["embedding"])), 0.0, 0
        embedding = np.array(face["recognition"]["embedding"])
        embedding, counts = embedding / np.linalg.norm(embedding), weight(face["quality"])
        if gathered > 0:
            is_like = total @ embedding / np.linalg.norm(total) >= UNLIKE
            unlike = 0 if is_like else unlike + (counts > 0)
            if not is_like and counts > 0 and unlike < UNLIKE_FRAMES:
                continue
            if not is_like and counts > 0:
                total, gathered, unlike = np.zeros_like(total), 0.0, 0
        if counts <= 0:
            continue
        keep = (MOST - counts) / gathered if gathered + counts > MOST else 1.0
        total, gathered = total * keep + embedding * counts, gathered * keep + counts
        if gathered >= ENOUGH:
            frames.append(number)
            sums.append(total)
    return Film(person, np.array(frames), rounded(np.array(sums))) if frames else None


def names(film, templates, owner, people, limit):
    """Returns for each frame the number of the person that it names, or -1."""
    similarity = film.vector @ templates.T
    scores = np.stack([similarity[:, owner == person].max(1) for person in range(people)], 1)
    second, first = np.sort(scores, axis=1)[:, -2:].T
    return np.where((first >= limit) & (first - second >= MARGIN), scores.argmax(1), -1)


def simulate(films, photos, table, rng, galleries, people, each, fpir):
    """Draws galleries of some people with `each` photos (a dict of name to embeddings), and lets every film of the others ask them.

    Returns (share of films of strangers that get a name in any frame, share that has one in the first frame with enough evidence,
    each film's own share over the galleries).
    """
    able = sorted(name for name, vectors in photos.items() if len(vectors) >= each)
    ever, first = [[] for _ in films], [[] for _ in films]
    for _ in range(galleries):
        chosen = [able[index] for index in rng.permutation(len(able))[:people]]
        templates = np.concatenate([photos[name][rng.permutation(len(photos[name]))[:each]] for name in chosen])
        owner, limit = np.repeat(np.arange(people), each), threshold(table, fpir, people * each)
        for place, film in enumerate(films):
            if film.person not in chosen:
                named = names(film, templates, owner, people, limit) >= 0
                ever[place].append(named.any())
                first[place].append(named[0])
    shares = [np.array([np.mean(film) for film in kind if film]) for kind in (ever, first)]
    return shares[0].mean(), shares[1].mean(), shares[0]
