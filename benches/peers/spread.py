"""Why one engine's median is above its shortest time: caches that the other engines have used, and outputs that only the comparison needs."""

from statistics import median


def describe(times, runs, labels):
    """Returns a sentence on the times of ours in microseconds, `runs` in each turn, and on those with labels instead of scores."""
    if not times or not labels or len(times) % runs:
        raise ValueError(f"{len(times)} times are no whole turns of {runs}, or there are none")
    first = times[::runs]
    later = [us for i, us in enumerate(times) if i % runs]
    ms = lambda us: f"{us / 1000:.2f} ms"  # noqa: E731
    parts = [f"the shortest of all runs takes {ms(min(times))} (`faceptor tasks` reports such a time)"]
    if later:
        parts.append(f"the first run after the other engines {ms(median(first))}, the later runs of a turn {ms(median(later))}")
    parts.append(f"with the classes of parsing instead of its scores, as `run` asks for them, the median is {ms(median(labels))}")
    return f"Ours in detail: {'; '.join(parts)}."
