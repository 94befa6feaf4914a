"""Adds a margin between the people of the training crops to the distilled embedding (CosFace, as in Faceptor). Training only."""

import torch
from torch import nn
from torch.nn import functional as F

SCALE, MARGIN = 32.0, 0.35


class Identities(nn.Module):
    """Computes CosFace over the people of some crops.

    Their vectors begin with the means of the teacher's embeddings: most people have one or two crops, too few to learn a vector
    from random weights.
    """

    def __init__(self, identity, embedding):
        """Takes `identity` [n], numbers of people with -1 for unknown, and the teacher's `embedding` [n, 128] of unit length."""
        super().__init__()
        known = torch.as_tensor(identity) >= 0
        people, place = torch.as_tensor(identity)[known].unique(return_inverse=True)
        sums = torch.zeros(len(people), embedding.shape[1]).index_add(0, place, torch.as_tensor(embedding)[known].float())
        self.vectors = nn.Parameter(F.normalize(sums, dim=-1))
        self.register_buffer("people", people)

    def forward(self, embedding, identity):
        """Returns the mean loss of the rows of `embedding` [B, 128] whose person is known; 0 when there is none."""
        place = torch.searchsorted(self.people, identity).clamp(max=len(self.people) - 1)
        rows = torch.nonzero(self.people[place] == identity)[:, 0]
        if not len(rows):
            return embedding.sum() * 0.0
        cosine = F.normalize(embedding[rows].float(), dim=-1) @ F.normalize(self.vectors, dim=-1).T
        target = place[rows]
        return F.cross_entropy(SCALE * (cosine - MARGIN * F.one_hot(target, len(self.people))), target)
