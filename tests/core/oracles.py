"""Slow, exact twins of what the core computes with arrays: dictionaries, loops and fractions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from stream.core.cells import COLUMNS, Cells
from stream.core.columns import RowFlag
from stream.core.engine import Engine
from stream.core.engine.state import SERIES, VERSIONS
from stream.core.slo.spec import Objective
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, MINUTE_NS, WEIGHT_ONE
from tests.core.engine.log_writer import Event

Counters = tuple[int, ...]
ZERO: Counters = (0,) * COLUMNS


def plus(a: Counters, b: Counters) -> Counters:
    """Returns the sum, counter by counter."""
    return tuple(x + y for x, y in zip(a, b, strict=True))


@dataclass
class NaiveCells:
    """Every minute of every series in a dictionary; nothing is ever forgotten."""

    cells: dict[tuple[Any, int], Counters] = field(default_factory=lambda: defaultdict(lambda: ZERO))

    def add(self, key: Any, minute: int, values: Counters) -> None:
        """Adds to one minute."""
        self.cells[key, minute] = plus(self.cells[key, minute], values)

    def sum(self, key: Any, first: int, last: int) -> Counters:
        """Returns the sum over minutes [first, last)."""
        total = ZERO
        for (series, minute), values in self.cells.items():
            if series == key and first <= minute < last:
                total = plus(total, values)
        return total

    def window(self, key: Any, end: int, length: int) -> Counters:
        """Returns a window's sum by the documented rule: exact end; the old edge of more than 6 h at or before the
        nominal one, on 10 minutes, of more than 3 d on an hour."""
        start = end - length
        if length > 3 * DAY_MINUTES:
            start = start // 60 * 60
        elif length > 6 * HOUR_MINUTES:
            start = start // 10 * 10
        return self.sum(key, start, end)


def nonzero(cells: Cells, ring: int = 0) -> dict[tuple[Any, int], Counters]:
    """Returns every cell of a ring that is not all zero, by series and period."""
    held, length = cells.rings[ring], cells.rings[ring].spec.span_periods
    found: dict[tuple[Any, int], Counters] = {}
    for number in held.blocks:
        for period in range(max(number * length, held.base), min((number + 1) * length, held.top)):
            sums = held.sum(period, period + 1)
            counted = {key: tuple(sums[:, row].tolist()) for key, row in cells.index.items()}
            found |= {(key, period): values for key, values in counted.items() if any(values)}
    return found


def engine_cells(engine: Engine) -> dict[str, dict[tuple[Any, int], Counters]]:
    """Returns the cells of every ring of an engine."""
    return {
        f"{store}/{ring}": nonzero(engine.state.cells[store], ring)
        for store in (SERIES, VERSIONS)
        for ring in range(len(engine.state.cells[store].rings))
    }


def event_counters(event: Event, objective: Objective) -> Counters | None:
    """Returns what one event adds to an objective; None where it is not selected."""
    if event.kind not in objective.kinds:
        return None
    if objective.duration_lte_ns is None:
        bad = event.bad
    elif event.flags & RowFlag.NEGATIVE_DURATION:
        return None
    else:
        bad = event.duration_ns > objective.duration_lte_ns
    square = Fraction(event.weight, event.count) ** 2 * event.count / WEIGHT_ONE**2 * 256
    unknown = event.count if event.flags & RowFlag.SAMPLING_UNKNOWN and not objective.sampling_none else 0
    squares = int(square)
    return (
        event.count,
        event.count * bad,
        event.weight,
        event.weight * bad,
        squares,
        squares * bad,
        unknown,
        0,  # a row is good or bad, never unsure
        0,
    )


def event_cells(events: Iterable[Event], objective: Objective) -> NaiveCells:
    """Returns the minute cells of an objective over all versions, by the key (service, digest, '')."""
    naive = NaiveCells()
    for event in events:
        values = event_counters(event, objective)
        if values is not None and event.service == objective.service:
            naive.add((event.service, objective.digest, ""), event.end_ns // MINUTE_NS, values)
    return naive


def burn(pairs: Sequence[tuple[int, int]], target: str) -> Fraction | None:
    """Returns the burn rate of (n, bad) pairs, unweighted and exact; None without events."""
    n, bad = sum(p[0] for p in pairs), sum(p[1] for p in pairs)
    return Fraction(bad, n) / (1 - Fraction(target)) if n else None


def as_arrays(added: Sequence[tuple[int, int, Counters]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (series, minute, values) of (series row, minute, counters) as `Cells.add` takes them."""
    return (
        np.array([a[0] for a in added], np.int64),
        np.array([a[1] for a in added], np.int64),
        np.array([a[2] for a in added], np.int64).reshape(-1, COLUMNS).T,
    )
