"""What an evaluation costs as windows grow: sums and burn rates of many objectives, and the memory behind them."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream.core.cells import SERIES_RINGS, VERSION_RINGS, Cells, Column
from stream.core.columns import Array
from stream.core.units import DAY_MINUTES, HOUR_MINUTES
from tests.bench.turns import medians_s

LENGTHS = (5, HOUR_MINUTES, 6 * HOUR_MINUTES, 3 * DAY_MINUTES, 30 * DAY_MINUTES)
PAIRS = 10_000
SIZES = (PAIRS // 4, PAIRS // 2, PAIRS)
PLAIN = (Column.N, Column.N_BAD)
SAMPLED = (*PLAIN, Column.WEIGHT, Column.WEIGHT_BAD, Column.WEIGHT_SQUARE, Column.WEIGHT_SQUARE_BAD)

_NOW = 29_400_000 + 30  # half past a full hour
_BAD_RATIO_MAX = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """CPU seconds for the windows of all pairs and their burn rates: moved on by a minute, and summed anew."""

    moved_s: float
    summed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident bytes of so many full pairs, each a series of an objective and one of its only version."""

    pairs: int
    columns: int
    bytes: int


def measure(runs: int) -> Evaluation:
    """Measures evaluations of sampled traffic, minute after minute, after one whose results are compared."""
    cells = _filled(Cells[int](SERIES_RINGS), PAIRS, SAMPLED)
    for length in LENGTHS:
        cells.window(_NOW, length)
        if not (cells.window(_NOW + 1, length) == _summed(cells, _NOW + 1, length)).all():
            raise SystemExit(f"a window of {length} min is not the sum of its cells")
    seconds = medians_s(
        runs,
        {
            "moved": lambda run: [_rates(cells.window(_NOW + 2 + run, length)) for length in LENGTHS],
            "summed": lambda run: [_rates(_summed(cells, _NOW + 2 + run, length)) for length in LENGTHS],
        },
    )
    return Evaluation(moved_s=seconds["moved"], summed_s=seconds["summed"])


def memory(columns: Sequence[int]) -> list[Memory]:
    """Measures the memory of full rings, of growing numbers of pairs."""
    found = []
    for pairs in SIZES:
        before = _resident_bytes()
        held = [_filled(Cells[int](rings), pairs, columns) for rings in (SERIES_RINGS, VERSION_RINGS)]
        found.append(Memory(pairs=pairs, columns=len(columns), bytes=_resident_bytes() - before))
        del held
        gc.collect()
    return found


def _rates(sums: Array) -> Array:
    """Returns the burn rates of all pairs; NaN without data."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[Column.WEIGHT_BAD] / sums[Column.WEIGHT] / _BAD_RATIO_MAX)


def _summed(cells: Cells[int], end: int, length: int) -> Array:
    minutes, tens, hours = cells.rings
    if length <= 6 * HOUR_MINUTES:
        return minutes.sum(end - length, end)
    coarse = tens if length <= 3 * DAY_MINUTES else hours
    whole = end // coarse.spec.period_minutes
    older = coarse.sum((end - length) // coarse.spec.period_minutes, whole)
    return older + minutes.sum(whole * coarse.spec.period_minutes, end)


def _filled(cells: Cells[int], pairs: int, columns: Sequence[int]) -> Cells[int]:
    """Returns cells with something counted for every series in every period that is kept."""
    random = np.random.default_rng(1)
    for key in range(pairs):
        cells.series(key)
    cells.retire(_NOW)
    for ring in cells.rings:
        assert ring.floor is not None
        length, last = ring.spec.span_periods, (_NOW + HOUR_MINUTES) // ring.spec.period_minutes
        ring.include(ring.floor, last)
        for number in range(ring.floor // length, last // length + 1):
            for column in columns:
                ring.counters(number, column, pairs)[:] = random.integers(1, 1000, (length, 1))
    cells.sum_coarse()
    return cells


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024
