"""Cells: exact sums whatever the order, and nothing that may still be counted is lost."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.cells import (
    COLUMNS,
    SERIES_RINGS,
    VERSION_RINGS,
    Cells,
    Column,
    Span,
    squared_weight,
)
from stream.core.units import DAY_MINUTES, WEIGHT_MAX, WEIGHT_ONE
from tests.core.oracles import NaiveCells, as_arrays, nonzero

START = 29_400_000  # a full hour
LENGTHS = (1, 5, 30, 60, 120, 359, 360, 361, 720, 1440, 1441, 4319, 4320, 4321, 7 * 1440, 30 * 1440, 90 * 1440)

counters = st.tuples(*[st.integers(0, 1 << 40)] * COLUMNS)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, list[tuple[str, int, tuple[int, ...]]]]]:
    """Steps of (minutes closed up to, rows added): rows are up to six hours late and up to ten minutes early."""
    closed, steps = START, []
    for _ in range(draw(st.integers(1, 8))):
        closed += draw(st.sampled_from((0, 1, 1, 7, 60, 400, 1000, 3 * DAY_MINUTES, 40 * DAY_MINUTES)))
        rows = st.tuples(st.sampled_from("abcdefghijk"), st.integers(closed - 360, closed + 10), counters)
        steps.append((closed, draw(st.lists(rows, max_size=6))))
    return steps


def add(cells: Cells[str], rows: list[tuple[str, int, tuple[int, ...]]]) -> None:
    if rows:
        cells.add(*as_arrays([(cells.series(key), minute, values) for key, minute, values in rows]))


@settings(max_examples=60)
@given(histories())
def test_every_window_that_ends_with_a_closed_minute_equals_the_dictionary(steps):
    cells, naive = Cells[str](SERIES_RINGS), NaiveCells()
    for closed, rows in steps:
        add(cells, rows)
        for key, minute, values in rows:
            naive.add(key, minute, values)
        cells.retire(closed)
        for length in LENGTHS:
            sums = cells.window(closed, length)
            for key, row in cells.index.items():
                assert tuple(sums[:, row]) == naive.window(key, closed, length), (key, closed, length)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(START, START + 300), counters), max_size=20), st.data())
def test_order_and_batching_do_not_change_cells(rows, data):
    together, apart = Cells[str](SERIES_RINGS), Cells[str](SERIES_RINGS)
    add(together, rows)
    shuffled = data.draw(st.permutations(rows))
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        add(apart, shuffled[:size])
        shuffled = shuffled[size:]
    for ring in range(3):
        assert nonzero(together, ring) == nonzero(apart, ring)


@settings(max_examples=40)
@given(histories())
def test_spans_read_from_one_and_written_to_another_give_the_same_cells(steps):
    cells = Cells[str](VERSION_RINGS)
    spans: set[Span] = set()
    for closed, rows in steps:
        add(cells, rows)
        if rows:
            spans |= cells.spans_of({minute for _, minute, _ in rows})
        cells.retire(closed)
    copy, keys = Cells[str](VERSION_RINGS), sorted(cells.index)
    for span in sorted(spans):
        if not cells.is_retired(span):
            copy.write_span(span, keys, *cells.read_span(span, keys))
    for ring in range(3):
        assert nonzero(copy, ring) == nonzero(cells, ring)
    copy.retire(closed)
    for length in (1, 60, 360, 1440, 4320, 7 * 1440):
        ours, theirs = copy.window(closed, length), cells.window(closed, length)
        for key in copy.index:
            assert ours[:, copy.index[key]].tolist() == theirs[:, cells.index[key]].tolist()


def test_a_frontier_that_stands_still_for_days_grows_the_ring_and_loses_nothing():
    cells = Cells[str](SERIES_RINGS)
    before = cells.rings[0].capacity
    cells.retire(START)
    minutes = range(START - 360, START + 4 * DAY_MINUTES, 7)
    for minute in minutes:
        add(cells, [("a", minute, (1,) * COLUMNS)])
    assert cells.rings[0].capacity > before
    assert {key[1] for key in nonzero(cells)} == set(minutes)


def test_a_dropped_series_leaves_nothing_to_the_one_that_takes_its_place():
    cells = Cells[str](SERIES_RINGS)
    add(cells, [("a", START, (5,) * COLUMNS), ("b", START, (7,) * COLUMNS)])
    cells.drop(["a"])
    assert "a" not in cells
    row = cells.series("c")
    assert cells.window(START + 1, 60)[:, row].tolist() == [0] * COLUMNS
    assert cells.window(START + 1, 60)[:, cells.index["b"]].tolist() == [7] * COLUMNS


def test_more_series_than_there_was_room_for_keep_their_counts():
    cells = Cells[int](SERIES_RINGS)
    for key in range(100):
        cells.add(*as_arrays([(cells.series(key), START, (key,) * COLUMNS)]))
    assert [int(cells.minute(START)[Column.N, cells.index[key]]) for key in range(100)] == list(range(100))


@given(st.integers(1, 65_536), st.integers(1, 65_536))
def test_squared_weights_of_integral_weights_are_exact(weight, count):
    weight = min(weight * count * WEIGHT_ONE, WEIGHT_MAX * count)
    each = weight // count // WEIGHT_ONE
    (square,) = squared_weight(np.array([weight]), np.array([count]))
    assert square == each * each * count * 256


@given(st.integers(WEIGHT_ONE, WEIGHT_MAX))
def test_squared_weights_lose_less_than_a_part_in_two_thousand_and_the_last_digit(weight):
    (square,) = squared_weight(np.array([weight]), np.array([1]))
    exact = weight * weight / 2**24
    assert exact * (1 - 2**-11) - 1 < square <= exact
