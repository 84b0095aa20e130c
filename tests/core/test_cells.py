"""Cells: exact sums whatever the order, and nothing that may still be counted is lost."""

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.cells import (
    COLUMNS,
    SERIES_RINGS,
    Cells,
    Column,
    excess_weights,
    squared_weight,
    whole_weights,
)
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, WEIGHT_MAX, WEIGHT_ONE
from tests.core.oracles import ZERO, NaiveCells, as_arrays, nonzero

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


def summed(cells: Cells[str], end: int, length: int) -> np.ndarray:
    """Returns a window's sums over the rings as they are now, by the documented rule."""
    minutes, tens, hours = cells.rings
    if length <= 6 * HOUR_MINUTES:
        return minutes.sum(end - length, end)
    coarse = tens if length <= 3 * DAY_MINUTES else hours
    period = coarse.spec.period_minutes
    whole = end // period
    return coarse.sum((end - length) // period, whole) + minutes.sum(whole * period, end)


lengths = st.sampled_from(LENGTHS) | st.integers(1, 101 * DAY_MINUTES)


@settings(max_examples=150)
@given(st.data())
def test_windows_that_are_moved_on_are_those_summed_from_the_rings(data):
    """Whatever happens between two looks at them: late rows, new series, dropped ones, leaps, and a restart."""
    cells, naive, closed = Cells[str](SERIES_RINGS), NaiveCells(), START
    asked, hours = data.draw(st.lists(lengths, min_size=1, max_size=4)), set[int]()
    for _ in range(data.draw(st.integers(1, 12))):
        for action in data.draw(st.permutations(("add", "close", "look", "look elsewhere", "drop", "restart"))):
            if action == "add":
                late = st.integers(closed - 360, closed + 10)
                rows = data.draw(st.lists(st.tuples(st.sampled_from("abcdefghijklmno"), late, counters), max_size=5))
                add(cells, rows)
                hours |= {minute // HOUR_MINUTES for _, minute, _ in rows}
                for key, minute, values in rows:
                    naive.add(key, minute, values)
            elif action == "close":
                for _ in range(data.draw(st.integers(0, 3))):
                    closed += data.draw(st.sampled_from((0, 1, 1, 1, 9, 61, 800, 5 * DAY_MINUTES)))
                    cells.retire(closed)
            elif action == "drop" and data.draw(st.integers(0, 4)) == 0:
                gone = sorted(cells.index)[:2]
                cells.drop(gone)
                naive.cells = {of: values for of, values in naive.cells.items() if of[0] not in gone}
                naive = NaiveCells(defaultdict(lambda: ZERO, naive.cells))
            elif action == "restart" and data.draw(st.integers(0, 4)) == 0:
                cells = restarted(cells, hours, closed)
            elif action.startswith("look"):
                end = closed if action == "look" else closed + data.draw(st.integers(-360, 3))
                for length in asked:
                    sums = cells.window(end, length)
                    assert (sums == summed(cells, end, length)).all(), (end, length)
                    if length <= 90 * DAY_MINUTES:
                        for key, row in cells.index.items():
                            assert tuple(sums[:, row]) == naive.window(key, end, length), (key, end, length)


def restarted(cells: Cells[str], hours: set[int], closed: int) -> Cells[str]:
    """Returns cells put back from what a checkpoint holds of them, of everything counted in `hours`."""
    copy, keys = Cells[str](SERIES_RINGS), cells.keys()
    if cells.rings[0].floor is not None:
        copy.retire(closed)
    for span in sorted({span for hour in hours for span in cells.spans_of_hour(hour)}):
        if cells.stores(span):
            copy.write_span(span, keys, *cells.read_span(span, keys))
    copy.sum_coarse()
    return copy


def test_what_the_rings_have_forgotten_is_in_no_window_any_more():
    cells, length = Cells[str](SERIES_RINGS), 100 * DAY_MINUTES + HOUR_MINUTES
    add(cells, [("a", START, (3,) * COLUMNS)])
    for closed in range(START + length - 2, START + length + 3):
        assert (cells.window(closed, length) == summed(cells, closed, length)).all()
        cells.retire(closed)
        assert (cells.window(closed, length) == summed(cells, closed, length)).all()
    assert not cells.window(closed, length).any()


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
    cells = Cells[str](SERIES_RINGS)
    hours: set[int] = set()
    for closed, rows in steps:
        add(cells, rows)
        hours |= {minute // HOUR_MINUTES for _, minute, _ in rows}
        cells.retire(closed)
    copy = restarted(cells, hours, closed)
    for ring in range(3):
        assert nonzero(copy, ring) == nonzero(cells, ring)
    for length in (1, 60, 360, 1440, 4320, 7 * 1440):
        ours, theirs = copy.window(closed, length), cells.window(closed, length)
        for key in copy.index:
            assert ours[:, copy.index[key]].tolist() == theirs[:, cells.index[key]].tolist()


def test_a_frontier_that_stands_still_for_days_loses_nothing():
    cells = Cells[str](SERIES_RINGS)
    cells.retire(START)
    minutes = range(START - 360, START + 4 * DAY_MINUTES, 7)
    for minute in minutes:
        add(cells, [("a", minute, (1,) * COLUMNS)])
    assert {key[1] for key in nonzero(cells)} == set(minutes)
    cells.retire(START + 4 * DAY_MINUTES)
    assert min(nonzero(cells))[1] >= START + 4 * DAY_MINUTES - 13 * HOUR_MINUTES


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


@given(st.lists(counters, min_size=1, max_size=5))
def test_weights_are_got_back_from_what_they_exceed(cells):
    values = np.array(cells, np.int64).T
    assert (whole_weights(excess_weights(values)) == values).all()


def test_traffic_that_is_not_sampled_takes_no_room_for_weights():
    cells = Cells[str](SERIES_RINGS)
    add(cells, [("a", START, (5, 2, 5 * WEIGHT_ONE, 2 * WEIGHT_ONE, 5 * 256, 2 * 256, 0, 0, 0))])
    assert {column for ring in cells.rings for block in ring.blocks.values() for column in block} == {0, 1}
    add(cells, [("b", START + 60, (5, 2, 50 * WEIGHT_ONE, 20 * WEIGHT_ONE, 500 * 256, 200 * 256, 0, 0, 0))])
    assert set(cells.rings[0].blocks[START // 60]) == {0, 1}
    assert cells.window(START + 61, 120)[:, cells.index["a"]].tolist() == [
        5, 2, 5 * WEIGHT_ONE, 2 * WEIGHT_ONE, 5 * 256, 2 * 256, 0, 0, 0,
    ]  # fmt: skip


@settings(max_examples=20)
@given(histories(), st.integers(-60, 20), st.integers(0, 80))
def test_the_cells_of_one_series_are_those_that_add_up_to_its_sums(steps, start, length):
    cells = Cells[str](SERIES_RINGS)
    for closed, rows in steps:
        add(cells, rows)
        cells.retire(closed)
    for key, row in cells.index.items():
        for number, ring in enumerate(cells.rings):
            first = (closed + start) // ring.spec.period_minutes
            found = ring.row(row, first, first + length)
            assert found.sum(axis=1).tolist() == ring.sum(first, first + length)[:, row].tolist()
            counted = nonzero(cells, number)
            for at in range(length):
                assert tuple(found[:, at].tolist()) == counted.get((key, first + at), ZERO)
