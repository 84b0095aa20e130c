"""A backfill of an objective on metrics: its streams go on as the fold has had them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.cli.backfill import Since
from stream.core.cells import Column
from stream.core.columns import Rows
from stream.core.engine.state import SERIES
from stream.core.engine.windows import SLICES
from stream.core.log import LogRecord
from stream.core.points import Points
from stream.core.slo.spec import (
    BudgetingMethod,
    Bundle,
    Comparison,
    Objective,
    RawRatio,
    Slices,
    SliSignal,
    Threshold,
)
from stream.core.units import MINUTE_NS, SECOND_NS, minute_of
from stream.kafka import topics
from stream.kafka.local import LocalKafka
from stream.kafka.topics import TopicSpec
from stream.replay.backfill import History, write
from stream.replay.backfill import histories as histories_of
from stream.replay.backfill_count import Redecoded, in_log_order
from stream.replay.reading import Stretch, Topics, time_ns_of
from tests.replay.history import EVENTS, OTHER, SPANS, T0_NS, Message, Pipeline, event, published
from tests.replay.history import SOURCES as SPANS_AND_EVENTS
from tests.replay.history import bundle as bundle_of
from tests.replay.history import objective as objective_of
from tests.replay.metric_history import (
    DEPTH,
    DURATION,
    HEALTH,
    JOBS,
    METRICS,
    REFUSED,
    REQUESTS,
    SOURCES,
    counter,
    traffic,
)

T0 = minute_of(T0_NS)
TIER = (("tier", ("a",)),)
TIER_A = (("tier", "a"),)


def objective(name: str, metric: str, **rest) -> Objective:
    return objective_of(name, **{"signal": SliSignal.METRICS, "metric": metric, "kinds": (), **rest})


OLD = objective("old", REQUESTS)
LATER = (
    objective("available", DURATION, attributes=TIER),
    objective("fast", DURATION, duration_lte_ns=200_000_000),
    objective("accepted", REQUESTS, bad_metric=REFUSED),
    objective("tier-a", REQUESTS, good_attributes=TIER),
    objective("jobs", JOBS, attributes=TIER),
    objective("short-queue", DEPTH, threshold=Threshold(op=Comparison.LTE, value="15")),
    objective("healthy", HEALTH, raw=RawRatio.SUCCESS),
    objective("of-another", DURATION, service=OTHER),
    objective(
        "by-slice",
        DURATION,
        duration_lte_ns=250_000_000,
        method=BudgetingMethod.TIMESLICES,
        slices=Slices(minutes=4, target="0.65"),
        window_minutes=1440,
    ),
)


def configured(*objectives: Objective, **rest) -> Bundle:
    return bundle_of(OLD, *objectives, sources=SOURCES, **rest)


def histories(pipeline: Pipeline, objectives: Sequence[Objective] = LATER, **how) -> list[History]:
    return asyncio.run(pipeline.histories(objectives=objectives, **how))


def booked(pipeline: Pipeline, found: Sequence[History]) -> None:
    pipeline.book(*(section for history in found for section in history.sections))


def cells(pipeline: Pipeline, about: Objective, version: str = "", ring: int = 0) -> dict[int, tuple[int, ...]]:
    """Returns every cell of an objective that holds anything, by period."""
    held = pipeline.engine.state.cells[SERIES]
    row, of = held.index.get((about.service, about.digest, version)), held.rings[ring]
    if row is None:
        return {}
    found = of.row(row, of.base, of.top)
    return {of.base + at: tuple(found[:, at].tolist()) for at in np.flatnonzero(found.any(axis=0)).tolist()}


def own(pipeline: Pipeline, about: Objective):
    return pipeline.engine.state.services[about.service].states[about.digest]


def read(
    messages,
    minutes: Sequence[int],
    applied_at: int,
    first: dict | None = None,
    later=LATER,
    names: Mapping[str, str] | None = None,
    ids: Mapping[str, str] | None = None,
    **limits,
) -> Pipeline:
    """Reads messages in cycles that end at some minutes; the later objectives come at one of them."""
    pipeline = Pipeline(messages, names=names or {}, ids=ids or {})
    pipeline.apply(configured(**limits))
    ingest = pipeline.ingest(first)
    for minute in minutes:
        if minute >= applied_at and len(pipeline.configurations) == 1:
            pipeline.apply(configured(*later, **limits))
        ingest.read(T0_NS + minute * MINUTE_NS + 7 * SECOND_NS)
    return pipeline


def assert_equal(late: Pipeline, always: Pipeline, found: Sequence[History], later=LATER) -> None:
    """Asserts that the cells are equal from where the history begins, minute by minute and by longer periods."""
    for about, history in zip(later, found, strict=True):
        assert history.why_not == ""
        first = history.sections[-1].first_minute
        for ring, minutes in enumerate((1, 10, 60)):
            expected, got = (
                {at: cell for at, cell in cells(of, about, ring=ring).items() if at * minutes >= first}
                for of in (always, late)
            )
            assert got == expected, about.name


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    applied_at=st.integers(30, 95),
    every=st.sampled_from((3, 5, 15)),
    limits=st.sampled_from(({}, {"duplicate_minutes": 0}, {"streams_max": 12})),
)
def test_backfilled_and_live_are_what_would_have_been_counted_minute_by_minute(seed, applied_at, every, limits):
    """Whatever comes late, twice, from the future or over two partitions, at restarts and over long silences."""
    messages, minutes = traffic(seed, 110), range(0, 111, every)
    always, late = (read(messages, minutes, at, **limits) for at in (0, applied_at))

    found = histories(late)
    booked(late, found)

    assert_equal(late, always, found)
    assert [history.between for history in found] == [0] * len(LATER)
    assert sum(history.sections[0].events.sums()[Column.N] for history in found) > 0


def since_minute(messages: dict[tuple[str, int], list[Message]], minute: float) -> dict[tuple[str, int], int]:
    """Returns the first offset of each partition from a minute on."""
    from_ns = T0_NS + int(minute * MINUTE_NS)
    return {
        place: next((at for at, (time_ns, _) in enumerate(listed) if time_ns >= from_ns), len(listed))
        for place, listed in messages.items()
    }


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1 << 32), lost=st.integers(1, 40))
def test_streams_go_on_from_what_the_log_has_covered_and_the_sources_have_lost(seed, lost):
    messages = traffic(seed, 90, orderly=True, silent_minutes=9)
    always, late = (read(messages, range(0, 91, 5), at) for at in (0, 60))

    found = histories(late, begins=since_minute(messages, lost))
    booked(late, found)

    assert_equal(late, always, found)
    assert all(history.sections[-1].first_minute >= T0 + lost for history in found)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1 << 32), log_begins=st.integers(1, 11))
def test_streams_go_on_from_what_was_read_before_a_log_that_has_lost_its_beginning(seed, log_begins):
    messages = traffic(seed, 90, orderly=True, silent_minutes=9)
    always, late = (read(messages, range(0, 91, 5), at) for at in (0, 60))

    found = histories(late, log_begins=log_begins)
    booked(late, found)

    assert_equal(late, always, found)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1 << 32), first=st.integers(5, 60))
def test_what_lies_between_the_points_before_the_log_and_those_in_it_is_told(seed, first):
    """The pipeline began at the end of its sources: its own minutes stay, and all others are exact."""
    messages = traffic(seed, 90, orderly=True, silent_minutes=9)
    always, late = (
        read(messages, range(0, 91, 5), 0),
        read(messages, [*range(first, 90, 5), 90], 0, since_minute(messages, first)),
    )

    found = histories(late)
    begins_at = {about: own(late, about).begins_at for about in LATER}
    booked(late, found)

    for about, history in zip(LATER, found, strict=True):
        expected, got = cells(always, about), cells(late, about)
        assert {at: cell for at, cell in got.items() if at < begins_at[about]} == {
            at: cell for at, cell in expected.items() if at < begins_at[about]
        }, about.name
        n, own_n = (sum(cell[Column.N] for cell in of.values()) for of in (expected, got))
        assert history.between == n - own_n


def counted(minutes: Sequence[float], *, per_minute: int = 10, began: float = -60, **rest) -> list[Message]:
    """Returns a message at each of some minutes, of a counter that began at one."""
    begun_ns = T0_NS + int(began * MINUTE_NS)
    return [
        (time_ns, counter(begun_ns, time_ns, int((minute - began) * per_minute), **rest))
        for minute in minutes
        if (time_ns := T0_NS + int(minute * MINUTE_NS))
    ]


COUNTED = objective("counted", REQUESTS)


def n_of(pipeline: Pipeline, about: Objective = COUNTED) -> dict[int, int]:
    """Returns the events of each minute after T0 that has any."""
    return {at - T0: cell[Column.N] for at, cell in cells(pipeline, about).items() if cell[Column.N]}


def test_the_step_across_the_beginning_of_the_log_counts_where_the_objective_has_not_counted_the_minute():
    """The pipeline begins at minute 10.5: its own history is of whole minutes, from 11 on."""
    early, slow = counted([m + 0.5 for m in range(20)]), counted([m + 0.2 for m in range(0, 20, 2)], id="b")
    messages = {(METRICS, 0): sorted([*early, *slow])}
    late = read(messages, range(11, 20), 0, since_minute(messages, 10.5), later=[COUNTED])
    assert n_of(late) == dict.fromkeys(range(11, 19), 10) | {14: 30, 16: 30, 18: 30}

    for since in (Since(T0 + 5, False), None):
        [history] = histories(late, [COUNTED], since=since)
        booked(late, [history])
        assert history.between == 20, "whatever an earlier backfill has booked"

    assert own(late, COUNTED).begins_at == T0 + 1
    live = dict.fromkeys(range(1, 19), 10) | dict.fromkeys((2, 4, 6, 8, 10, 14, 16, 18), 30)
    assert n_of(late) == live, "minute 12 lacks what came since minute 10.2: 20"


def test_what_fails_for_the_first_time_counts_in_full_though_the_process_began_before_what_is_retained():
    """The log has seen the process begin, so nothing of a stream that it sees for the first time was missed."""
    steady = counted(range(1, 40), began=0.5)
    errors = counted(range(20, 40), began=0.5, words=(("error.type", "timeout"),), per_minute=2)
    messages = {(METRICS, 0): [(T0_NS, b""), *sorted([*steady, *errors])]}
    always, late = (read(messages, range(0, 41), at, later=[COUNTED]) for at in (0, 30))

    [history] = histories(late, [COUNTED], begins={(METRICS, 0): 11})
    booked(late, [history])

    assert_equal(late, always, [history], [COUNTED])
    assert n_of(late)[20] == 10 + 39


def test_a_stream_that_was_silent_for_longer_than_it_is_kept_open_begins_from_a_baseline_as_it_did():
    steady = counted([m + 0.5 for m in range(95)])
    paused = counted([m + 0.6 for m in (*range(10), *range(80, 95))], id="b")
    messages = {(METRICS, 0): sorted([*steady, *paused])}
    always, late = (read(messages, range(0, 96), at, later=[COUNTED]) for at in (0, 90))

    [history] = histories(late, [COUNTED])
    booked(late, [history])

    assert_equal(late, always, [history], [COUNTED])
    assert [n_of(late)[minute] for minute in (9, 10, 80, 81)] == [20, 10, 10, 20]


def test_history_grows_backwards_in_steps_to_the_same_as_in_one():
    messages = {(METRICS, 0): counted([m / 2 for m in range(80)])}
    always, once, steps = (read(messages, range(0, 41), at, later=[COUNTED]) for at in (0, 30, 30))
    booked(once, histories(once, [COUNTED]))

    for since in (Since(T0 + 25, False), Since(T0 + 12, False), None):
        [history] = histories(steps, [COUNTED], since=since)
        assert history.sections[0].end_minute == own(steps, COUNTED).begins_at
        booked(steps, [history])

    assert n_of(steps) == n_of(once) == n_of(always)


def test_slices_of_metrics_are_judged_as_they_would_have_been():
    about = objective(
        "by-slice",
        REQUESTS,
        good_attributes=(("tier", ("a",)),),
        method=BudgetingMethod.TIMESLICES,
        slices=Slices(minutes=4, target="0.65"),
        window_minutes=1440,
    )
    steady = counted([m + 0.25 for m in range(40)], words=TIER_A)
    worse = counted([m + 0.5 for m in range(40) if m // 6 % 2], words=(("tier", "b"),), id="b")
    messages = {(METRICS, 0): sorted([*steady, *worse])}
    always, late = (read(messages, range(0, 41), at, later=[about]) for at in (0, 30))

    [history] = histories(late, [about])
    booked(late, [history])

    assert cells(late, about, SLICES) == cells(always, about, SLICES)
    assert 0 < history.sections[0].slices.sums()[Column.N_BAD] < history.sections[0].slices.sums()[Column.N]


def test_spans_reach_as_far_back_as_they_did_where_metrics_are_kept_for_less():
    spans = objective_of("spans")
    both = (*SOURCES, *SPANS_AND_EVENTS)
    counter_of = counted([m / 2 for m in range(80)])
    events = [(time_ns, event(time_ns - 1)) for time_ns, _ in counter_of]
    pipeline = Pipeline({(METRICS, 0): counter_of, (EVENTS, 0): events, (SPANS, 0): [(T0_NS, b"")]})
    pipeline.apply(bundle_of(OLD, sources=both))
    ingest = pipeline.ingest()
    for minute in range(41):
        if minute == 30:
            pipeline.apply(bundle_of(OLD, COUNTED, spans, sources=both))
        ingest.read(T0_NS + minute * MINUTE_NS)

    of_metric, of_spans = histories(pipeline, [COUNTED, spans], begins={(METRICS, 0): 30})

    assert of_metric.sections[-1].first_minute == T0 + 15
    assert of_spans.sections[-1].first_minute == T0
    assert of_metric.sections[0].end_minute == of_spans.sections[0].end_minute == T0 + 29


@pytest.mark.kafka
def test_on_a_broker_it_is_counted_written_and_booked_once(kafka: LocalKafka, topic_prefix: str):
    """The points of each stream lie in two partitions, and come in whatever order the broker sends them."""
    name, about = f"{topic_prefix}metrics", LATER[2]
    kept = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}
    specs = [
        TopicSpec(name=topic, partitions=partitions, replication=1, config=kept)
        for topic, partitions in ((name, 2), (f"{topic_prefix}shuffle", 1))
    ]
    messages, minutes = traffic(7, 60), range(0, 61, 4)
    always = read(messages, minutes, 0)

    async def counted_and_written() -> tuple[Pipeline, list[History], list[tuple[int, bytes]]]:
        await topics.apply(kafka.bootstrap, specs)
        log, sources = Topics(kafka.bootstrap, topic_prefix), Topics(kafka.bootstrap, "", foreign=True)
        async with log, sources:
            ids = {METRICS: str((await sources.describe([name]))[name].topic_id)}
            late = read(messages, minutes, 40, names={METRICS: name}, ids=ids)
            await published(kafka, late, topic_prefix)
            job = late.job([about])
            found = await histories_of(log, sources, job, late.decode)
            offset = await write(log, job, 1, found)
            assert offset is not None
            held = {log.at("shuffle", 0): Stretch(first=offset, end=offset + 1)}
            await log.seek(held)
            return late, found, [(time_ns_of(record), record.value or b"") async for record in log.records(held)]

    late, found, [record] = asyncio.run(counted_and_written())
    late.append(*record)

    assert_equal(late, always, found, [about])
    assert own(late, about).backfilled is not None
    assert found[0].sections[0].events.sums()[Column.N] > 50


def test_a_partition_that_begins_hours_after_the_others_closes_no_stream_of_theirs():
    """What is read before the log goes by the messages' own times, of whatever partition."""
    messages = {
        (METRICS, 0): counted([m + 0.5 for m in range(0, 240, 4)]),
        (METRICS, 1): counted([m + 0.7 for m in range(200, 240, 4)], id="b"),
    }
    late = read(messages, [230, 235, 240], 0, since_minute(messages, 225), later=[COUNTED])

    [history] = histories(late, [COUNTED])

    of_minute = dict(
        zip(history.sections[0].events.minute.tolist(), history.sections[0].events.values[Column.N], strict=True)
    )
    assert [of_minute.get(T0 + m, 0) for m in range(4, 200, 4)] == [40] * 49


@pytest.mark.parametrize("read_from", [[0, 0], [0, 6], [None, 0]])
def test_points_stand_as_the_log_has_them_wherever_they_were_read_again(read_from: list[int | None]):
    """Two partitions held points of one stream; what is gone from one of them stands as it was decoded then."""

    def points(*places: tuple[int, int]) -> Points:
        source, offset = np.array(places).T
        return Points.of(len(places), source=source.astype("int16"), offset=offset, services=("a",), versions=("",))

    of_log = points((1, 5), (0, 7), (1, 6))
    record = LogRecord(
        generation="", partitions=1, incarnation="", sequence=0, config_version=0, sources=(), points=of_log
    )
    again = [
        at for at in ((0, 7), (0, 8), (1, 5), (1, 6)) if (first := read_from[at[0]]) is not None and at[1] >= first
    ]

    found = in_log_order(Redecoded(rows=Rows.empty(), points=points(*again)), record, read_from).points

    refused_then = [(0, 8)] if read_from[0] is not None else []
    expected = [(1, 5), (0, 7), (1, 6), *refused_then]
    assert list(zip(found.source.tolist(), found.offset.tolist(), strict=True)) == expected
