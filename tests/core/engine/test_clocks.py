"""The two clocks: `now`, and the time up to which every source was read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.engine.clocks import Clocks
from stream.core.log import LogRecord, Progress, SourceProgress, SourceRange
from stream.core.units import MINUTE_NS, SECOND_NS, minute_of
from tests.core.engine.log_writer import T0_NS


def progress(
    entries: dict[tuple[str, int], int | None], partitions: dict[str, int], *, at_end: bool = False
) -> LogRecord:
    """Returns a record that says how far each (topic, partition) was read."""
    sources = tuple(
        SourceRange(topic=topic, topic_id=topic, partition=n, session="s", first_offset=0, next_offset=0)
        for topic, n in entries
    )
    reported = tuple(
        SourceProgress(source=i, began_ns=until, until_ns=until, at_end=at_end)
        for i, until in enumerate(entries.values())
    )
    return LogRecord(
        generation="1",
        partitions=1,
        incarnation="i",
        sequence=0,
        config_version=0,
        sources=sources,
        progress=Progress(sources=reported, topic_partitions=partitions),
    )


def clocks_at(now_ns: int, *records: LogRecord, topics=("a",), acknowledged_ns: int | None = None) -> Clocks:
    clocks = Clocks()
    clocks.tick(now_ns)
    for record in records:
        clocks.progress(record, acknowledged_ns)
        clocks.move_frontier(topics)
    return clocks


def test_now_never_goes_back():
    clocks = Clocks()
    for time_ns in (5, 9, 7):
        clocks.tick(time_ns)
    assert clocks.now_ns == 9


def test_the_frontier_is_that_of_the_slowest_source():
    read = progress({("a", 0): 10, ("a", 1): 7, ("b", 0): 20}, {"a": 2, "b": 1})
    assert clocks_at(100, read, topics=("a", "b")).frontier_ns == 7


@pytest.mark.parametrize(
    ("entries", "partitions"),
    [({("a", 0): 10}, {"a": 2}), ({("a", 0): 10}, {"a": 1}), ({("a", 0): 10, ("a", 1): None}, {"a": 2})],
)
def test_a_source_that_was_never_heard_of_holds_the_frontier_back(entries, partitions):
    assert clocks_at(100, progress(entries, partitions), topics=("a", "b")).frontier_ns is None


def test_a_topic_that_the_configuration_does_not_name_is_not_waited_for():
    assert clocks_at(100, progress({("a", 0): 10, ("z", 0): 1}, {"a": 1, "z": 1})).frontier_ns == 10


def test_a_time_beyond_now_counts_as_now():
    assert clocks_at(50, progress({("a", 0): 999}, {"a": 1})).frontier_ns == 50


def test_a_new_partition_holds_the_frontier_until_it_is_read_and_never_moves_it_back():
    clocks = clocks_at(100, progress({("a", 0): 50}, {"a": 1}), progress({("a", 0): 90}, {"a": 2}))
    assert clocks.frontier_ns == 50
    clocks.progress(progress({("a", 1): 10}, {"a": 2}), None)
    clocks.move_frontier(["a"])
    assert clocks.frontier_ns == 50
    clocks.progress(progress({("a", 1): 70}, {"a": 2}), None)
    clocks.move_frontier(["a"])
    assert clocks.frontier_ns == 70


def test_a_source_read_to_its_end_was_read_up_to_the_progress_acknowledged_before():
    ended = progress({("a", 0): 10}, {"a": 1}, at_end=True)
    assert clocks_at(100, ended, acknowledged_ns=60).frontier_ns == 60
    assert clocks_at(100, ended, acknowledged_ns=None).frontier_ns == 10


def test_an_empty_source_read_to_its_end_does_not_hold_the_frontier():
    empty = progress({("a", 0): None}, {"a": 1}, at_end=True)
    assert clocks_at(100, empty, acknowledged_ns=60).frontier_ns == 60


def test_an_earlier_time_of_a_source_does_not_move_it_back():
    clocks = clocks_at(100, progress({("a", 0): 50}, {"a": 1}), progress({("a", 0): 20}, {"a": 1}))
    assert clocks.frontier_ns == 50


def test_whoever_holds_the_frontier_back_is_named_first():
    clocks = clocks_at(100, progress({("a", 0): 50, ("a", 2): 20}, {"a": 3}))
    assert clocks.laggards(["a", "b"])[:3] == [("a", 1, None), ("b", 0, None), ("a", 2, 20)]


def test_history_begins_with_the_first_minute_that_every_source_was_read_whole_in():
    first, later = T0_NS + SECOND_NS, T0_NS + 5 * MINUTE_NS
    read = progress({("a", 0): first, ("a", 1): later}, {"a": 2})
    clocks = clocks_at(T0_NS + MINUTE_NS * 9, read)
    assert clocks.history_start_minute(["a"]) == minute_of(later)
    assert clocks_at(later, progress({("a", 0): first}, {"a": 1})).history_start_minute(["a"]) == minute_of(T0_NS) + 1


def test_lost_messages_leave_a_gap_from_where_reading_stopped_to_where_it_went_on():
    clocks = clocks_at(T0_NS + 60 * MINUTE_NS, progress({("a", 0): T0_NS + SECOND_NS}, {"a": 1}))
    clocks.lose(("a", 0))
    clocks.progress(progress({("a", 0): T0_NS + SECOND_NS}, {"a": 1}), None)
    assert clocks.gaps == []
    clocks.progress(progress({("a", 0): T0_NS + 4 * MINUTE_NS + 1}, {"a": 1}), None)
    start = minute_of(T0_NS)
    assert clocks.gaps == [(start, start + 5)]
    assert clocks.gap_minutes(start + 3, start + 100) == 2
    assert clocks.gap_minutes(start + 5, start + 100) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=8))
def test_gaps_are_counted_once_however_they_overlap(ranges):
    clocks = Clocks()
    for first, length in ranges:
        clocks.add_gap(first, first + length)
    covered = {minute for first, length in ranges for minute in range(first, first + length)}
    assert clocks.gap_minutes(0, 100) == len(covered)
    assert clocks.gap_minutes(10, 20) == len(covered & set(range(10, 20)))


def test_clocks_come_back():
    clocks = clocks_at(T0_NS, progress({("a", 1): 50, ("a", 0): 20}, {"a": 2}))
    clocks.lose(("a", 1))
    clocks.add_gap(1, 3)
    assert Clocks.load(clocks.dump()).dump() == clocks.dump()
