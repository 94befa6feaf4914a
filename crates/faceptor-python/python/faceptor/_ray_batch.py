"""A batch on a Ray cluster: Ray Data hands the missing parts to processes, each of which writes its parts itself."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

from faceptor._analyzer import Analyzer
from faceptor._errors import Error, UnsupportedError

if TYPE_CHECKING:
    from faceptor.batch import Work


@functools.lru_cache(maxsize=1)
def analyzer_of(options: str) -> Analyzer:
    """Returns the network of a process of the cluster. It is made once: Ray gives the tasks of a batch to the same processes."""
    return Analyzer(**json.loads(options))


def write_parts(numbers: dict[str, Any], work: Any) -> dict[str, Any]:
    """Writes the parts of these numbers, in a process of the cluster. Returns what was counted of each."""
    import ray

    # Ray Data hands it over as a reference or, in some versions, as what it refers to.
    found: Work = ray.get(work) if isinstance(work, ray.ObjectRef) else work
    counts: dict[str, list[Any]] = {"faces": [], "errors": [], "photos": [], "failure": []}
    for number in numbers["part"]:
        rows, failure = [(0, 0, 0)], ""
        try:
            analyzer = analyzer_of(json.dumps(found.options, sort_keys=True))
            rows = list(found.run([int(number)], analyzer, jobs=1))
        except (Error, OSError) as reason:
            # Told in words: Ray would wrap it in traces of its own, and may try again.
            failure = str(reason)
        for name, column in zip(("faces", "errors", "photos"), zip(*rows)):
            counts[name].append(sum(column))
        counts["failure"].append(failure)
    return counts


def run_parts(work: Work, parts: list[int], workers: Optional[int]) -> Iterator[tuple[int, int, int]]:
    """Writes parts on the cluster, and yields the numbers of faces, errors and photos of each.

    The task of a process that dies runs again, however often that happens (the default of Ray Data), and its part is written again:
    under the same name, with the same rows.
    """
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError:
        raise UnsupportedError("--ray needs Ray: pip install 'faceptor[ray]'") from None
    if workers is not None and workers < 1:
        raise UnsupportedError(f"workers={workers}: at least 1 is needed")
    if not parts:
        return
    # Its own notes and bars; the batch reports for itself.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    count = workers or int(ray.cluster_resources().get("CPU", 1))
    count = max(1, min(count, len(parts)))
    items = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
    done = items.map_batches(
        write_parts,
        batch_size=1,
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=count),
        fn_kwargs={"work": ray.put(work)},
    )
    rows = iter(done.iter_rows())
    while True:
        try:
            row = next(rows, None)
        except ray.exceptions.RayError as reason:
            raise UnsupportedError(f"a process of the Ray cluster failed: {last_words(reason)}") from None
        if row is None:
            return
        if row["failure"]:
            raise UnsupportedError(str(row["failure"]))
        yield int(row["faces"]), int(row["errors"]), int(row["photos"])


def last_words(reason: BaseException) -> str:
    """Returns the reason below the traces of the processes through which it came."""
    while reason.__cause__ is not None:
        reason = reason.__cause__
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[-1] if lines else type(reason).__name__
