"""CPU time of several pieces of work in one process, turn by turn: what disturbs one turn disturbs all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

Work = Callable[[int], object]
"""Does the work of one turn, of which it is told the number."""


def medians_s(runs: int, works: Mapping[str, Work]) -> dict[str, float]:
    """Returns the median CPU seconds of each piece of work over so many turns, numbered from 0."""
    gc.collect()
    gc.freeze()  # the collector shall not look through what one side keeps while another one runs
    taken: dict[str, list[float]] = {name: [] for name in works}
    for run in range(runs):
        for name, work in works.items():
            taken[name].append(cpu_s(lambda work=work, run=run: work(run)))  # type: ignore[misc]
    gc.unfreeze()
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def cpu_s(work: Callable[[], object]) -> float:
    """Returns the CPU seconds of this process that the work took."""
    began_ns = time.process_time_ns()
    work()
    return (time.process_time_ns() - began_ns) / 1e9
