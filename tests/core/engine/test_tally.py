"""Rows to cells, against one row at a time: which rows an objective selects and which of these are bad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.core.cells import Column
from stream.core.columns import Kind, RowFlag, Rows, Signal
from stream.core.engine.tally import Places, Predicate, RowTally
from stream.core.otlp.attributes import canonical
from stream.core.slo.spec import Objective, SliSignal
from stream.core.units import WEIGHT_ONE

NAMES = ("", "exception", "feature_flag.evaluation")
SETS: tuple[dict[str, str | int | float | bool], ...] = (
    {},
    {"http.route": "/cart"},
    {"http.route": "/cart", "http.response.status_code": 500},
    {"http.response.status_code": "500"},
    {"http.route": "/pay", "http.response.status_code": 200.0},
)


@dataclass(frozen=True)
class Row:
    """One row, as an oracle sees it."""

    signal: Signal
    kind: int
    flags: int
    duration_ns: int
    severity: int
    name: int
    attributes: int
    pair: int
    count: int


rows_of = st.lists(
    st.builds(
        Row,
        signal=st.sampled_from((Signal.SPAN, Signal.EVENT, Signal.LOG)),
        kind=st.sampled_from(Kind),
        flags=st.sampled_from((0, int(RowFlag.FAILED), int(RowFlag.NEGATIVE_DURATION), int(RowFlag.SAMPLING_UNKNOWN))),
        duration_ns=st.integers(0, 4),
        severity=st.sampled_from((0, 9, 16, 17, 24)),
        name=st.integers(0, len(NAMES) - 1),
        attributes=st.integers(0, len(SETS) - 1),
        pair=st.integers(0, 2),
        count=st.integers(1, 3),
    ),
    max_size=30,
)
attributes = st.sampled_from(
    (
        (),
        (("http.route", ("/cart",)),),
        (("http.response.status_code", ("200", "500")),),
        (("http.route", ("/cart", "/pay")), ("http.response.status_code", ("500",))),
    )
)
kinds = st.lists(st.sampled_from(Kind), max_size=3, unique=True).map(tuple)
on_spans = st.builds(
    Objective,
    service=st.just("a/b/c"),
    name=st.just("x"),
    target=st.just("0.9"),
    window_minutes=st.just(60),
    kinds=kinds,
    attributes=attributes,
    duration_lte_ns=st.none() | st.integers(0, 4),
    sampling_none=st.booleans(),
)
on_logs = st.builds(
    Objective,
    service=st.just("a/b/c"),
    name=st.just("x"),
    target=st.just("0.9"),
    window_minutes=st.just(60),
    kinds=st.just(()),
    signal=st.just(SliSignal.LOGS),
    event=st.none() | st.sampled_from(NAMES[1:]),
    attributes=attributes,
    good_attributes=attributes,
    severity_lt=st.none(),
) | st.builds(
    Objective,
    service=st.just("a/b/c"),
    name=st.just("x"),
    target=st.just("0.9"),
    window_minutes=st.just(60),
    signal=st.just(SliSignal.LOGS),
    severity_lt=st.sampled_from((5, 17, 21)),
)


def selects(objective: Objective, row: Row) -> bool:
    if objective.signal == SliSignal.LOGS:
        fits = row.signal is Signal.LOG and objective.event in (None, NAMES[row.name])
    else:
        fits = row.signal is not Signal.LOG and row.kind in objective.kinds
        if objective.duration_lte_ns is not None:
            fits = fits and not row.flags & RowFlag.NEGATIVE_DURATION
    return fits and has(objective.attributes, row)


def is_bad(objective: Objective, row: Row) -> bool:
    if objective.duration_lte_ns is not None:
        return row.duration_ns > objective.duration_lte_ns
    if objective.severity_lt is not None:
        return row.severity >= objective.severity_lt
    if objective.good_attributes:
        return not has(objective.good_attributes, row)
    return bool(row.flags & RowFlag.FAILED)


def has(wanted: tuple[tuple[str, tuple[str, ...]], ...], row: Row) -> bool:
    found = SETS[row.attributes]
    return all(key in found and str(found[key]).removesuffix(".0") in values for key, values in wanted)


def columns(found: list[Row]) -> Rows:
    return Rows.of(
        len(found),
        signal=np.array([row.signal for row in found], "int8"),
        kind=np.array([row.kind for row in found], "int8"),
        flags=np.array([row.flags for row in found], "uint8"),
        duration_ns=np.array([row.duration_ns for row in found], "int64"),
        severity=np.array([row.severity for row in found], "int8"),
        name=np.array([row.name for row in found], "int32"),
        attributes=np.array([row.attributes for row in found], "int32"),
        count=np.array([row.count for row in found], "int64"),
        weight=np.array([row.count * WEIGHT_ONE for row in found], "int64"),
        names=NAMES,
        attribute_sets=tuple(canonical(one) for one in SETS),
    )


@given(rows_of, on_spans | on_logs)
def test_counts_are_those_of_one_row_after_the_other(found: list[Row], objective: Objective) -> None:
    wanted = np.array([True, False, True])
    pair = np.array([row.pair for row in found], "int64")
    places = Places.at(pair, np.zeros(len(found), "int64"))
    sums = RowTally(columns(found), places).of(Predicate.of(objective), wanted)

    expected: dict[int, list[int]] = {}
    for row in found:
        if wanted[row.pair] and selects(objective, row):
            cell = expected.setdefault(row.pair, [0, 0, 0, 0])
            unknown = bool(row.flags & RowFlag.SAMPLING_UNKNOWN) and not objective.sampling_none
            for column, counts in enumerate((True, is_bad(objective, row), unknown, False)):
                cell[column] += row.count * counts
    counted = sums.excess[[Column.N, Column.N_BAD, Column.N_UNKNOWN, Column.N_UNSURE]].T.tolist()
    assert dict(zip(sums.pair.tolist(), counted, strict=True)) == expected
