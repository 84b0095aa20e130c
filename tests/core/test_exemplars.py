"""Thinning: the ingest blanks the trace ids that can be no exemplar, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.core.columns import RowFlag, Rows, encode_rows
from stream.core.exemplars import thinned
from stream.core.units import MINUTE_NS
from tests.strategies import row_batches

Trace = tuple[int, int]
NAMES = ("service", "version", "signal", "kind", "name", "severity", "attributes")


def traces(rows: Rows) -> list[Trace]:
    return list(zip(rows.trace_hi.tolist(), rows.trace_lo.tolist(), strict=True))


def kept(rows: Rows) -> set[int]:
    """Returns the rows that keep their trace id, one at a time: the longest and the newest of each group."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, trace in enumerate(traces(rows)):
        if trace != (0, 0):
            flags = int(rows.flags[i]) & (RowFlag.FAILED | RowFlag.NEGATIVE_DURATION)
            key = (*(int(getattr(rows, name)[i]) for name in NAMES), flags, int(rows.end_ns[i]) // MINUTE_NS)
            groups.setdefault(key, []).append(i)

    def longest(i: int) -> tuple[int, ...]:
        return int(rows.duration_ns[i]), int(rows.end_ns[i]), *traces(rows)[i]

    def newest(i: int) -> tuple[int, ...]:
        return int(rows.end_ns[i]), int(rows.duration_ns[i]), *traces(rows)[i]

    orders: tuple[Callable[[int], tuple[int, ...]], ...] = (longest, newest)
    return {max(group, key=order) for group in groups.values() for order in orders}


@st.composite
def similar_rows(draw: st.DrawFn) -> Rows:
    """Rows of few different values, so that groups have several rows and ties."""
    n = draw(st.integers(0, 30))

    def column(name: str, values: list[int]) -> np.ndarray:
        return np.array(draw(st.lists(st.sampled_from(values), min_size=n, max_size=n)), Rows.DTYPES[name])

    return Rows.of(
        n,
        service=column("service", [0, 1]),
        version=column("version", [0, 9]),
        severity=column("severity", [0, 17]),
        attributes=column("attributes", [0, 1_000_000]),
        flags=column("flags", [0, 1, 2, 8]),
        end_ns=column("end_ns", [0, 1, MINUTE_NS, MINUTE_NS + 1, (1 << 63) - 1]),
        duration_ns=column("duration_ns", [0, 1, 2]),
        trace_hi=column("trace_hi", [0, 5, -5]),
        trace_lo=column("trace_lo", [0, 1]),
    )


@given(similar_rows() | row_batches())
def test_the_longest_and_the_newest_of_a_group_keep_their_trace_ids(rows: Rows) -> None:
    wanted = kept(rows)

    found = traces(thinned(rows))

    assert found == [trace if i in wanted else (0, 0) for i, trace in enumerate(traces(rows))]


@given(row_batches())
def test_nothing_but_trace_ids_changes(rows: Rows) -> None:
    found = thinned(rows)

    assert encode_rows(replace(found, trace_hi=rows.trace_hi, trace_lo=rows.trace_lo)) == encode_rows(rows)


def test_a_large_batch_keeps_two_trace_ids_a_group() -> None:
    n = 5000
    rows = Rows.of(
        n,
        service=(np.arange(n) % 7).astype("int32"),
        end_ns=np.arange(n),
        duration_ns=n - np.arange(n),
        trace_lo=np.arange(1, n + 1),
        services=tuple("abcdefg"),
    )

    assert np.flatnonzero(thinned(rows).trace_lo).tolist() == [*range(7), *range(n - 7, n)]
