"""A batch on a Ray cluster: Ray Data hands the missing parts to processes, each of which writes its parts itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

from faceptor._analyzer import Analyzer
from faceptor._errors import UnsupportedError

if TYPE_CHECKING:
    from faceptor.batch import Work


class PartWorker:
    """A process of the cluster: it holds a network, and writes a part for each number that it gets."""

    def __init__(self, work: Any) -> None:
        import ray

        self._work: Work = ray.get(work)
        self._analyzer = Analyzer(**self._work.options)

    def __call__(self, numbers: dict[str, Any]) -> dict[str, Any]:
        counts: dict[str, list[int]] = {"faces": [], "errors": [], "photos": []}
        for number in numbers["part"]:
            rows = list(self._work.run([int(number)], self._analyzer, jobs=1))
            for name, column in zip(counts, zip(*rows)):
                counts[name].append(sum(column))
        return counts


def run_parts(work: Work, parts: list[int], workers: Optional[int]) -> Iterator[tuple[int, int, int]]:
    """Writes parts on the cluster, and yields the numbers of faces, errors and photos of each.

    A process that dies is started again, and its part is written again: under the same name, with the same rows.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise UnsupportedError("--ray needs Ray: pip install 'faceptor[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    if not parts:
        return
    count = workers or int(ray.cluster_resources().get("CPU", 1))
    count = max(1, min(count, len(parts)))
    items = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
    done = items.map_batches(
        PartWorker,
        batch_size=1,
        num_cpus=1,
        concurrency=count,
        fn_constructor_args=(ray.put(work),),
    )
    for row in done.iter_rows():
        yield int(row["faces"]), int(row["errors"]), int(row["photos"])
