"""Measures which photos `faceptor enroll` accepts for one person, for `student.identity`: sets of the person's own photos, with foreign ones
among them, and of different people.

The rule is that of crates/faceptor-identity/src/consistency.rs, over embeddings. The table of impostor scores is of one half of the
people, the sets are of the other half.
"""

import numpy as np

LIKE_RATE, MAJORITY_RATE = 0.05, 1e-3  # RATE_OF_LIKE, RATE_OF_MAJORITY
LEAST_MINORITY, OVER_NEXT, ROUNDS = 3, 1.5, 8
DIVISIONS = 20
# (own photos, foreign photos, "each" of another person or all of "one", sets in all)
SETS = [
    *[(own, 0, "each", 1000) for own in (2, 3, 5, 10)],
    (4, 1, "each", 1000),
    (5, 5, "each", 400),
    (5, 5, "one", 400),
    (10, 90, "each", 60),
    (0, 2, "each", 2000),
    (0, 3, "each", 2000),
    (0, 5, "each", 1000),
    (0, 50, "each", 100),
    (0, 990, "each", 20),
]
TEMPLATES = (1, 3, 5, 10)


def likeness(similarity, group, like):
    """Returns for each photo whether the median of its similarities to the others of a group reaches the limit."""
    rows = similarity[:, group].copy()
    rows[group, np.arange(len(group))] = np.nan
    return np.nanmedian(rows, axis=1) >= like if len(group) > 1 else np.nan_to_num(rows[:, 0], nan=1.0) >= like


def links(similarity, group, link):
    """Returns for each photo of a group to how many others its similarity reaches the limit."""
    linked = similarity[np.ix_(group, group)] >= link
    return linked.sum(1) - linked.diagonal()


def group_of(similarity, among, link, like):
    """Returns the photos that are like the one with the most links, once they have settled."""
    if not len(among):
        return among
    counts, total = links(similarity, among, link), similarity[np.ix_(among, among)].sum(1)
    middle = among[np.lexsort((total, counts))[-1]]
    group = among[(similarity[middle, among] >= link) | (among == middle)]
    for _ in range(ROUNDS):
        settled = among[likeness(similarity, group, like)[among]]
        if len(group) < 2 or len(settled) < 2 or np.array_equal(settled, group):
            break
        group = settled
    return group


def accepted(similarity, score_at):
    """Returns for each photo of a set whether it is enrolled; `score_at` gives the similarity that a share of impostor pairs reaches."""
    among = np.arange(len(similarity))
    if len(among) < 2:
        return np.ones(len(among), bool)
    like, rate = score_at(LIKE_RATE), LIKE_RATE / (len(among) * (len(among) - 1) / 2)
    link = like
    core = group_of(similarity, among, link, like)
    if 2 * len(core) > len(among):
        proven = links(similarity, core, max(score_at(max(rate, MAJORITY_RATE)), like)).max() > 0
    else:
        link = max(score_at(rate), like)
        core = group_of(similarity, among, link, like)
        proven = len(core) >= LEAST_MINORITY and links(similarity, core, link).max() + 1 >= LEAST_MINORITY
    rest = np.setdiff1d(among, core)
    if not proven or len(core) < OVER_NEXT * len(group_of(similarity, rest, link, like)):
        return np.zeros(len(among), bool)
    found = likeness(similarity, core, like)
    found[core] = True
    return found


def drawn(photos, by_person, rng, own, foreign, kind):
    """Returns the photos of a set, those of its person first; None where there are too few."""

    def person_with(count, but=None):
        fit = [person for person, rows in by_person.items() if len(rows) >= count and person != but]
        return rng.choice(fit) if fit else None

    person = person_with(own) if own else None
    rows = [] if person is None else list(rng.permutation(by_person[person])[:own])
    if kind == "one":
        other = person_with(foreign, person)
        rows += [] if other is None else list(rng.permutation(by_person[other])[:foreign])
    else:
        others = [other for other in rng.permutation(list(by_person)) if other != person][:foreign]
        rows += [rng.choice(by_person[other]) for other in others]
    return rows if len(rows) == own + foreign else None


def percent(share):
    return f"{100 * share[0] / share[1]:.1f}" if share[1] else "-"


def halves(photos, rng, table_of):
    """Yields the photos of each person of one half, and `score_at` of the other half."""
    people = int(photos.person.max()) + 1
    order = np.argsort(photos.person, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(photos.person))[:-1])
    for _ in range(DIVISIONS):
        half = rng.permutation(people) < people // 2
        yield {person: rows[person] for person in np.flatnonzero(~half)}, table_of(np.flatnonzero(half[photos.person]))


def lines(photos, rng, table_of):
    """Returns the tables; `table_of` gives `score_at` of some photos."""
    refused, passed = np.zeros((len(SETS), 2)), np.zeros((len(SETS), 2))
    own_templates, foreign_templates = np.zeros((len(TEMPLATES), 2)), np.zeros((len(TEMPLATES), 2))
    for by_person, score_at in halves(photos, rng, table_of):
        for place, (own, foreign, kind, sets) in enumerate(SETS):
            for _ in range(sets // DIVISIONS):
                rows = drawn(photos, by_person, rng, own, foreign, kind)
                if rows is None:
                    continue
                found = accepted(photos.vector[rows] @ photos.vector[rows].T, score_at)
                refused[place] += (~found[:own]).sum(), own
                passed[place] += found[own:].sum(), foreign
        for place, templates in enumerate(TEMPLATES):
            for _ in range(50):
                rows = drawn(photos, by_person, rng, templates + 1, 20, "each")
                if rows is None:
                    continue
                similarity = photos.vector[rows] @ photos.vector[rows[:templates]].T
                found = np.median(similarity, axis=1) >= score_at(LIKE_RATE)
                own_templates[place] += not found[templates], 1
                foreign_templates[place] += found[templates + 1 :].sum(), 20
    words = {"each": "each of another person", "one": "all of one other person"}
    text = ["| photos of the person | foreign photos | own refused % | foreign accepted % |", "|---|---|---|---|"]
    for place, (own, foreign, kind, _) in enumerate(SETS):
        others = f"{foreign}, {words[kind]}" if foreign else "none"
        text.append(f"| {own or 'none'} | {others} | {percent(refused[place])} | {percent(passed[place])} |")
    text += ["", "| templates of an enrolled person | a further own photo refused % | foreign accepted % |", "|---|---|---|"]
    for place, templates in enumerate(TEMPLATES):
        text.append(f"| {templates} | {percent(own_templates[place])} | {percent(foreign_templates[place])} |")
    return text
