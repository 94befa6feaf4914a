"""Computes what the tower learns: its teacher's vector of a face, the similarities between faces, and which face it is among many."""

import torch
from torch.nn import functional as F

# naming: temperature of the softmax over the faces of the bank, as similarities.
WEIGHTS = {"cosine": 1.0, "relation": 40.0, "naming": 0.1}
TEMPERATURE = 0.1


def cosine(embedding, target):
    """Returns the mean of 1 - cosine of unit vectors."""
    return 1 - (embedding * target).sum(1).mean()


def relation(embedding, teacher):
    """Returns the mean squared difference of the similarities of all pairs of a batch, the teacher's from its full vectors."""
    pairs = ~torch.eye(len(embedding), dtype=torch.bool, device=embedding.device)
    return F.mse_loss((embedding @ embedding.T)[pairs], (teacher @ teacher.T)[pairs])


def naming(embedding, target, bank, temperature=TEMPERATURE):
    """Returns the divergence of naming each face among the batch's and a bank's, all by the teacher's vectors.

    The teacher's own similarities say how alike the faces are, so that photos of one person are no mistake for each other.
    A blurred face that is answered with the mean of all faces costs nothing in the cosine's mean, but is named wrongly here.
    """
    known = torch.cat([target, bank])
    truth = F.softmax(target @ known.T / temperature, 1)
    return F.kl_div(F.log_softmax(embedding @ known.T / temperature, 1), truth, reduction="batchmean")


def compute(output, target, teacher, bank):
    """Returns {term: loss} of embeddings of any length; the others are unit vectors."""
    embedding = F.normalize(output.float(), dim=1)
    return {
        "cosine": cosine(embedding, target),
        "relation": relation(embedding, teacher),
        "naming": naming(embedding, target, bank),
    }


def total(terms, weights):
    """Returns the weighted sum."""
    return sum(weights[name] * term for name, term in terms.items())
