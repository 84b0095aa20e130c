"""A backfill adds what an objective would have counted had it been there before, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from stream.cli.backfill import Since
from stream.core.cells import Column
from stream.core.engine.backfill import NO_CELLS, Backfill, CellColumns
from stream.core.engine.state import SERIES
from stream.core.engine.windows import SLICES
from stream.core.errors import UnavailableError
from stream.core.events import BudgetEvent, CertificateEvent, Context, SliEvent
from stream.core.log import decode_record
from stream.core.otlp import Decoded, Messages
from stream.core.rendering import render
from stream.core.slo.calendar import Calendar
from stream.core.slo.spec import BudgetingMethod, Objective, Slices
from stream.core.units import HOUR_NS, MINUTE_NS, SECOND_NS, minute_of
from stream.kafka import topics
from stream.kafka.local import LocalKafka
from stream.kafka.topics import TopicSpec
from stream.replay.backfill import History, write
from stream.replay.backfill import histories as histories_of
from stream.replay.backfill_plan import LogWalk, Sightings
from stream.replay.reading import Stretch, Topics, time_ns_of
from tests.replay.history import (
    EVENTS,
    OTHER,
    PLACES,
    SPANS,
    T0_NS,
    Pipeline,
    bundle,
    event,
    objective,
    published,
    traffic,
)

T0 = minute_of(T0_NS)
PERIOD = Calendar(name="a day and a half", boundaries=(T0 - 600, T0 + 60, T0 + 2220))
BEFORE = objective("old")
LATER = (
    objective("tier-a", attributes=(("tier", ("a",)),)),
    objective("slow", duration_lte_ns=1_000, window_minutes=240),
    objective("by-calendar", window_minutes=2160, calendar=PERIOD.name),
    objective("of-another", service=OTHER),
)
APPLIED_AT, READ_UNTIL = 480, 540


def cycles(first: int, last: int) -> list[int]:
    """Returns the minutes at which is read: often around the one at which the objectives are applied."""
    often = range(APPLIED_AT - 10, APPLIED_AT + 10)
    return [minute for minute in range(first, last) if minute % 20 == 0 or minute in often]


def configured(*objectives: Objective):
    return bundle(BEFORE, *objectives, calendars=(PERIOD,))


@dataclass(frozen=True)
class Twins:
    """Pipelines that read the same: one has the later objectives from the start, the other from a minute on."""

    always: Pipeline
    late: Pipeline
    offsets: dict[tuple[str, int], int]

    def copies(self) -> tuple[Pipeline, Pipeline]:
        return self.always.copy(), self.late.copy()

    def read_on(self, *pipelines: Pipeline) -> None:
        """Reads the rest of the messages."""
        for pipeline in pipelines:
            ingest = pipeline.ingest(self.offsets)
            for minute in range(READ_UNTIL, READ_UNTIL + 15, 5):
                ingest.read(T0_NS + minute * MINUTE_NS)


@cache
def twins() -> Twins:
    messages = traffic(0, READ_UNTIL + 15)
    always, late = Pipeline(messages), Pipeline(messages)
    always.apply(configured(*LATER))
    late.apply(configured())
    ingests = [always.ingest(), late.ingest()]
    for minute in cycles(10, READ_UNTIL):
        if minute == APPLIED_AT:
            always.apply(configured(*LATER))
            late.apply(configured(*LATER))
        for ingest in ingests:
            ingest.read(T0_NS + minute * MINUTE_NS + 7 * SECOND_NS)
    return Twins(always, late, ingests[0].offsets)


def histories(pipeline: Pipeline, objectives: Sequence[Objective] = LATER, **how) -> list[History]:
    return asyncio.run(pipeline.histories(objectives=objectives, **how))


def booked(pipeline: Pipeline, found: Sequence[History]) -> None:
    pipeline.book(*(section for history in found for section in history.sections))


def minute_cells(pipeline: Pipeline, about: Objective, version: str = "", ring: int = 0) -> dict[int, tuple[int, ...]]:
    """Returns every cell of an objective that holds anything, by period."""
    cells = pipeline.engine.state.cells[SERIES]
    row, held = cells.index.get((about.service, about.digest, version)), cells.rings[ring]
    if row is None:
        return {}
    found = held.row(row, held.base, held.top)
    return {held.base + at: tuple(found[:, at].tolist()) for at in np.flatnonzero(found.any(axis=0)).tolist()}


def own(pipeline: Pipeline, about: Objective):
    return pipeline.engine.state.services[about.service].states[about.digest]


def test_backfilled_and_live_are_what_would_have_been_counted_minute_by_minute():
    always, late = twins().copies()

    found = histories(late)
    booked(late, found)

    assert [history.why_not for history in found] == [""] * len(LATER)
    for about, history in zip(LATER, found, strict=True):
        first, live = history.sections[-1].first_minute, history.sections[0].end_minute
        for ring, minutes in enumerate((1, 10, 60)):
            expected = {
                at: cell for at, cell in minute_cells(always, about, ring=ring).items() if at * minutes >= first
            }
            got = {at: cell for at, cell in minute_cells(late, about, ring=ring).items() if at * minutes >= first}
            assert got == expected
        assert any(minute < live for minute in minute_cells(twins().late, about)), "no late rows over the boundary"
        assert history.sections[0].events.sums()[Column.N_BAD] > 10
    weighted = found[0].sections[0].events.sums()
    assert weighted[Column.WEIGHT] > weighted[Column.N] << 16


def test_windows_coverage_and_budgets_go_on_as_if_the_objectives_had_always_been_there():
    always, late = twins().copies()
    booked(late, histories(late))
    reached = {about.name: own(late, about).begins_at for about in LATER}
    assert reached == {about.name: own(always, about).start_minute for about in LATER}

    twins().read_on(always, late)

    context = context_of(always)

    def published(pipeline: Pipeline) -> list[SliEvent]:
        events = [o for o in pipeline.outputs if isinstance(o, SliEvent) and o.minute >= T0 + READ_UNTIL]
        return [replace(e, context=context, backfilled_minutes=0) for e in events]

    assert len(published(late)) > 30
    expected = [e for e in published(always) if e.objective in LATER]
    assert [e for e in published(late) if e.objective in LATER] == expected
    newest = [o for o in late.outputs if isinstance(o, SliEvent) and o.objective == LATER[0]][-1]
    assert newest.backfilled_minutes == own(late, LATER[0]).start_minute - reached["tier-a"]


def context_of(pipeline: Pipeline) -> Context:
    """Returns a place in the log, for comparing what does not depend on it."""
    return next(o.context for o in pipeline.outputs if isinstance(o, SliEvent))


def test_alerts_certificates_and_what_was_published_do_not_see_it():
    _, plain = twins().copies()
    _, late = twins().copies()
    before = len(late.outputs)
    booked(late, histories(late))
    assert len(late.outputs) == before

    twins().read_on(plain, late)

    context = context_of(plain)

    def tests(pipeline: Pipeline) -> list[CertificateEvent]:
        return [replace(o, context=context) for o in pipeline.outputs if isinstance(o, CertificateEvent)]

    assert tests(late) == tests(plain)
    for about in LATER:
        assert own(late, about).start_minute == own(plain, about).start_minute
    revisions = [o for o in late.outputs[before:] if isinstance(o, SliEvent) and o.revision]
    assert revisions
    assert all(o.minute >= own(late, o.objective).start_minute for o in revisions)


def test_the_ledger_has_an_entry_of_it_and_the_window_says_how_much_of_it_is_backfilled():
    _, late = twins().copies()
    [history] = histories(late, [LATER[0]])
    booked(late, [history])

    twins().read_on(late)

    entries = [(o, o.entry) for o in late.outputs if isinstance(o, BudgetEvent) and o.entry is not None]
    [(told, entry)] = [(o, entry) for o, entry in entries if entry.kind == "backfill"]
    [section] = history.sections
    total = section.events.sums()
    assert (told.objective, entry.start_minute, entry.end_minute) == (
        LATER[0],
        section.first_minute,
        section.end_minute,
    )
    assert (entry.n, entry.weight_bad) == (total[Column.N], total[Column.WEIGHT_BAD])
    assert told.entry_consumed is not None
    assert told.entry_consumed > 0
    assert entry in own(late, LATER[0]).ledger.entries
    assert b'"kind":"backfill"' in render(told).value


def test_a_second_run_a_section_twice_and_two_runs_at_once_change_nothing():
    _, late = twins().copies()
    _, other = twins().copies()
    first, second = histories(late, [LATER[0]]), histories(late, [LATER[0]])
    booked(late, first)
    cells = minute_cells(late, LATER[0])

    late.book(*second[0].sections)
    late.book(*first[0].sections)

    assert minute_cells(late, LATER[0]) == cells
    assert late.engine.state.ignored_backfills == 2
    assert len(own(late, LATER[0]).unentered) == 1
    booked(other, first)
    other.engine.state.ignored_backfills = 2
    assert own(late, LATER[0]) == own(other, LATER[0])


def test_history_grows_backwards_in_steps_to_the_same_as_in_one():
    _, steps = twins().copies()
    _, once = twins().copies()
    booked(once, histories(once, [LATER[0]]))

    for since in (Since(90, True), Since(T0 + 300, False), None):
        [history] = histories(steps, [LATER[0]], since=since)
        assert history.sections[0].end_minute == own(steps, LATER[0]).begins_at
        booked(steps, [history])

    assert minute_cells(steps, LATER[0]) == minute_cells(once, LATER[0])
    assert own(steps, LATER[0]).backfilled == own(once, LATER[0]).backfilled
    assert [entry.start_minute for entry in own(steps, LATER[0]).unentered][-1] == own(once, LATER[0]).begins_at


def test_a_step_knows_what_was_sent_before_it_begins():
    """An event that its sender's clock dates later, and one whose id was sent before."""
    pipeline = quiet()
    sent = [(20.5, event(T0_NS + 20 * MINUTE_NS, id="a")), (20.6, event(T0_NS + 23 * MINUTE_NS))]
    sent += [(22.1, event(T0_NS + 22 * MINUTE_NS, id="a"))]
    more = [(T0_NS + int(minutes * MINUTE_NS), value) for minutes, value in sent]
    pipeline.messages = {**pipeline.messages, (EVENTS, 0): sorted([*pipeline.messages[EVENTS, 0], *more])}
    build(pipeline, LATER[1])

    [whole], [step] = (histories(pipeline, [LATER[1]], since=since) for since in (None, Since(T0 + 21, False)))

    expected = whole.sections[0].events.between(T0 + 21, T0 + 60)
    assert step.sections[0].events.minute.tolist() == expected.minute.tolist()
    assert step.sections[0].events.values.tolist() == expected.values.tolist()


def section_of(pipeline: Pipeline, about: Objective, **changes) -> Backfill:
    end = own(pipeline, about).begins_at
    minute = np.array([end - 5], np.int64)
    values = np.zeros((len(Column), 1), np.int64)
    values[Column.N], values[Column.WEIGHT] = 7, 7 << 16
    section = Backfill(
        service=about.service,
        digest=about.digest,
        first_minute=end - 10,
        end_minute=end,
        events=CellColumns(minute=minute, values=values),
        slices=NO_CELLS,
    )
    return replace(section, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"end_minute": T0 + 470},
        {"end_minute": T0 + 500},
        {"first_minute": T0 + 600},
        {"digest": "0" * 64},
        {"service": "prod/shop/nobody"},
        {"first_minute": T0 + APPLIED_AT - 2},  # and its cells lie before it
    ],
)
def test_what_does_not_end_where_the_history_begins_is_ignored_and_counted(changes):
    _, late = twins().copies()
    before = minute_cells(late, LATER[0])

    late.book(section_of(late, LATER[0], **changes))

    assert minute_cells(late, LATER[0]) == before
    assert late.engine.state.ignored_backfills == 1
    assert own(late, LATER[0]).backfilled is None


def test_the_fold_can_be_restored_at_every_record_around_a_backfill():
    _, late = twins().copies()
    _, restored = twins().copies()
    found = histories(late)

    for pipeline in (late, restored):
        booked(pipeline, found)
    restored = restored.copy()
    twins().read_on(late)
    ingest = restored.ingest(twins().offsets)
    for minute in range(READ_UNTIL, READ_UNTIL + 15, 5):
        ingest.read(T0_NS + minute * MINUTE_NS)
        restored.engine = restored.copy().engine

    late.engine.checkpoint()
    assert restored.engine.snapshot() == late.engine.snapshot()
    assert [render(o) for o in restored.outputs] == [render(o) for o in late.outputs]


# What is retained, and of what


def quiet(minutes: int = 60, bad_every: int = 5, names: Mapping[str, str] | None = None) -> Pipeline:
    """Returns a pipeline that has read nothing of four events a minute in one source, and of empty messages in two."""
    names = {EVENTS: EVENTS, SPANS: SPANS} if names is None else names
    times = [T0_NS + i * MINUTE_NS // 4 for i in range(minutes * 4)]
    events = [(time_ns, event(time_ns - 1, bad=not i % bad_every)) for i, time_ns in enumerate(times)]
    empty = [(time_ns, b"") for time_ns in times]
    return Pipeline({place: events if place[0] == EVENTS else empty for place in PLACES}, names=names)


def build(pipeline: Pipeline, *later: Objective, applied_at: int = 40, first: int = 0) -> None:
    """Reads everything, minute by minute; the objectives come at a minute, and offsets before `first` are not read."""
    pipeline.apply(bundle(BEFORE))
    ingest = pipeline.ingest(dict.fromkeys(PLACES, first))
    for minute in range(first // 4 + 1, len(pipeline.messages[PLACES[0]]) // 4 + 1):
        if minute == applied_at:
            pipeline.apply(bundle(BEFORE, *later))
        ingest.read(T0_NS + minute * MINUTE_NS)


def small(*later: Objective, bad_every: int = 5, **how: int) -> Pipeline:
    """Returns a pipeline in which everything was read, and objectives came in between."""
    pipeline = quiet(bad_every=bad_every)
    build(pipeline, *later, **how)
    return pipeline


def test_where_retention_has_taken_the_beginning_history_begins_after_it():
    pipeline = small(LATER[1])

    [history] = histories(pipeline, [LATER[1]], begins={(EVENTS, 0): 50, (SPANS, 0): 30})

    [section] = history.sections
    assert (section.first_minute, section.end_minute) == (T0 + 13, own(pipeline, LATER[1]).start_minute)
    booked(pipeline, [history])
    assert {cell[Column.N] for minute, cell in minute_cells(pipeline, LATER[1]).items() if minute < T0 + 50} == {4}
    assert min(minute_cells(pipeline, LATER[1])) == section.first_minute


def test_what_was_never_read_because_the_pipeline_began_at_the_end_counts_too():
    pipeline = small(LATER[1], first=80)

    [history] = histories(pipeline, [LATER[1]])

    assert history.sections[-1].first_minute == T0
    assert history.sections[-1].events.minute.min() == T0


def test_a_log_that_has_lost_its_beginning_is_enough_while_it_reaches_back_to_the_objective():
    pipeline = small(LATER[1])
    [whole] = histories(pipeline, [LATER[1]])

    [history] = histories(pipeline, [LATER[1]], log_begins=30)
    [beyond] = histories(pipeline, [LATER[1]], log_begins=45)

    [section], [expected] = history.sections, whole.sections
    assert section.first_minute == expected.first_minute
    assert (section.events.minute == expected.events.minute).all()
    assert (section.events.values == expected.events.values).all()
    assert not beyond.sections
    assert "no longer reaches back to version 1" in beyond.why_not


def test_a_topic_that_was_created_anew_gives_back_nothing_of_the_old_one():
    pipeline = small(LATER[1])

    [history] = histories(pipeline, [LATER[1]], ids={EVENTS: "another"})

    assert not history.sections
    assert "nothing is retained of otlp_spans, telemetry.events from before its history begins" in history.why_not


def test_nothing_is_retained_of_an_empty_topic():
    pipeline = small(LATER[1])
    gone = {place: len(pipeline.messages[place]) for place in PLACES}

    [history] = histories(pipeline, [LATER[1]], begins=gone)

    assert history.why_not.startswith("nothing is retained of otlp_spans, telemetry.events")


def test_what_nobody_has_read_yet_is_waited_for():
    """A partition was added a moment ago: whoever reads it will begin at its beginning."""
    pipeline = small(LATER[1])
    pipeline.messages = {**pipeline.messages, (EVENTS, 1): [(T0_NS, event(T0_NS))]}

    [history] = histories(pipeline, [LATER[1]])

    assert not history.sections
    assert history.why_not.startswith("nobody has read telemetry.events/1 yet: what it holds may still be counted live")


@pytest.mark.parametrize(("before", "after"), [(30, 0), (0, 30)])
def test_repeated_messages_count_as_they_did_then_wherever_they_were_looked_for(before: int, after: int):
    """The setting changes when the objective comes: what was sent twice before and after it."""
    pipelines = []
    for later in (False, True):
        pipeline = quiet(minutes=30)
        repeated = [(T0_NS + at * MINUTE_NS, event(T0_NS + 4 * MINUTE_NS, id="a")) for at in (5, 6, 21, 22)]
        events = sorted([*pipeline.messages[EVENTS, 0], *repeated])
        pipeline.messages = {**pipeline.messages, (EVENTS, 0): events}
        pipeline.apply(bundle(BEFORE, *(() if later else LATER[1:2]), duplicate_minutes=before))
        ingest = pipeline.ingest()
        for minute in range(1, 31):
            if minute == 20:
                pipeline.apply(bundle(BEFORE, LATER[1], duplicate_minutes=after))
            ingest.read(T0_NS + minute * MINUTE_NS + SECOND_NS)
        pipelines.append(pipeline)
    always, late = pipelines

    booked(late, histories(late, [LATER[1]]))

    got, expected = ({at: cell for at, cell in minute_cells(of, LATER[1]).items() if at >= T0} for of in (late, always))
    assert got == expected
    assert got[T0 + 4][Column.N] == 4 + 3


def test_an_ingest_that_does_not_know_the_objective_yet_is_waited_for():
    pipeline = small(LATER[1])
    behind = pipeline.ingest(dict.fromkeys(PLACES, 100))
    behind.read(T0_NS + HOUR_NS, version=0)

    with pytest.raises(UnavailableError, match="ingest-2 still reads under a configuration before version 1"):
        histories(pipeline, [LATER[1]])


def test_older_rows_that_come_behind_a_backfill_end_it_and_no_other_is_taken():
    pipeline = small(LATER[1])
    booked(pipeline, histories(pipeline, [LATER[1]]))
    began = own(pipeline, LATER[1]).begins_at
    more = [(T0_NS + HOUR_NS + i * SECOND_NS, event(T0_NS + HOUR_NS)) for i in range(4)]
    pipeline.messages = {**pipeline.messages, (EVENTS, 0): [*pipeline.messages[EVENTS, 0], *more]}
    behind = pipeline.ingest(dict.fromkeys(PLACES, 240))

    behind.read(T0_NS + HOUR_NS + MINUTE_NS, version=0)
    pipeline.book(section_of(pipeline, LATER[1], first_minute=began - 10))

    assert own(pipeline, LATER[1]).is_broken
    assert own(pipeline, LATER[1]).begins_at == own(pipeline, LATER[1]).start_minute == T0 + 61
    assert pipeline.engine.state.ignored_backfills == 1


def test_slices_are_judged_whole_up_to_those_that_the_objective_has_judged_itself():
    about = objective(
        "by-slice", method=BudgetingMethod.TIMESLICES, slices=Slices(minutes=4, target="0.65"), window_minutes=1440
    )
    late = small(about, bad_every=3, applied_at=42)
    always = small(about, bad_every=3, applied_at=1)

    [history] = histories(late, [about])
    booked(late, [history])

    assert own(always, about).start_minute == history.sections[0].first_minute
    assert minute_cells(late, about, SLICES) == minute_cells(always, about, SLICES)
    assert len(history.sections[0].slices.minute) == 11
    assert 0 < history.sections[0].slices.sums()[Column.N_BAD] < 11


def test_an_objective_on_one_version_has_its_history_however_many_others_there_were():
    """Only two are kept at a time, and none of them is idle for long in what is read again."""
    about = objective("of-one", versions=("v3",))
    pipelines = []
    for applied_at in (5, 330):
        pipeline = quiet(minutes=340)
        times = [T0_NS + i * MINUTE_NS // 4 for i in range(340 * 4)]
        named = [(time_ns, event(time_ns - 1, version=f"v{i // 320}")) for i, time_ns in enumerate(times)]
        pipeline.messages = {**pipeline.messages, (EVENTS, 0): named}
        pipeline.apply(bundle(BEFORE, versions_max=2))
        ingest = pipeline.ingest()
        for minute in range(5, 341, 5):
            if minute == applied_at:
                pipeline.apply(bundle(BEFORE, about, versions_max=2))
            ingest.read(T0_NS + minute * MINUTE_NS)
        pipelines.append(pipeline)
    always, late = pipelines

    booked(late, histories(late, [about]))

    assert minute_cells(late, about) == minute_cells(always, about) != {}


def test_a_slice_is_in_the_section_that_it_begins_in(monkeypatch):
    """The command ended when one section was written; the next one writes the rest."""
    about = objective(
        "by-slice", method=BudgetingMethod.TIMESLICES, slices=Slices(minutes=4, target="0.65"), window_minutes=1440
    )
    steps, always = small(about, bad_every=3, applied_at=42), small(about, bad_every=3, applied_at=1)
    monkeypatch.setattr("stream.replay.backfill.SECTION_MINUTES_MAX", 17)

    while found := [section for history in all_histories(steps, about) for section in history.sections]:
        steps.book(found[0])

    assert len(own(steps, about).unentered) == 3
    assert minute_cells(steps, about, SLICES) == minute_cells(always, about, SLICES)


def all_histories(pipeline: Pipeline, about: Objective) -> list[History]:
    """Returns what there is to count; nothing where the history reaches back to the first message."""
    return [] if own(pipeline, about).begins_at == T0 else histories(pipeline, [about])


def test_how_much_is_held_at_a_time_does_not_depend_on_how_far_back_messages_reach(monkeypatch):
    for module in ("backfill", "backfill_plan"):
        monkeypatch.setattr(f"stream.replay.{module}.SLAB_MESSAGES", 60)
    pipeline = quiet()
    old_ns = T0_NS - 300 * 24 * HOUR_NS
    pipeline.messages = {place: [(old_ns, b""), *listed] for place, listed in pipeline.messages.items()}
    build(pipeline, LATER[1], first=161, applied_at=50)
    decode, sizes = pipeline.decode, list[int]()

    def measured(topic: str, messages: Messages) -> Decoded:
        sizes.append(len(messages))
        return decode(topic, messages)

    pipeline.decode = measured  # type: ignore[method-assign]
    histories(pipeline, [LATER[1]])

    assert sum(sizes) >= 3 * 160
    assert max(sizes) <= 60 + 3 * 4, "no more than a record of the log beyond it"


def test_rows_that_wait_for_others_to_be_read_are_bounded(monkeypatch):
    monkeypatch.setattr("stream.replay.backfill_plan.SLAB_ROWS", 8)
    pipeline = small(LATER[1])
    records = [decode_record(value) for _, value in pipeline.log]
    walk = LogWalk([], Sightings([], True), version=0)

    slabs = [slab for record in records if (slab := walk.add(record, 0)) is not None]

    assert sum(len(slab.records) for slab in slabs) == len(records)
    assert {slab.rows for slab in slabs} == {8}


# On a broker


@pytest.mark.kafka
def test_on_a_broker_it_is_counted_written_and_booked_once(kafka: LocalKafka, topic_prefix: str):
    names = {EVENTS: f"{topic_prefix}events", SPANS: f"{topic_prefix}spans"}
    kept = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}
    specs = [
        TopicSpec(name=name, partitions=partitions, replication=1, config=kept)
        for name, partitions in ((names[EVENTS], 1), (names[SPANS], 2), (f"{topic_prefix}shuffle", 1))
    ]

    async def counted_and_written() -> tuple[list[History], list[tuple[int, bytes]]]:
        await topics.apply(kafka.bootstrap, specs)
        log, sources = Topics(kafka.bootstrap, topic_prefix), Topics(kafka.bootstrap, "", foreign=True)
        async with log, sources:
            described = await sources.describe(names.values())
            pipeline.ids = {name: str(described[called].topic_id) for name, called in names.items()}
            build(pipeline, LATER[1])
            await published(kafka, pipeline, topic_prefix)
            job = pipeline.job([LATER[1]])
            found = await histories_of(log, sources, job, pipeline.decode)
            offset = await write(log, job, 1, found)
            assert offset is not None
            assert await write(log, job, 1, found) == offset + 1
            held = {at: Stretch(first=offset, end=offset + 2) for at in [log.at("shuffle", 0)]}
            await log.seek(held)
            return found, [(time_ns_of(record), record.value or b"") async for record in log.records(held)]

    pipeline = quiet(names=names)
    expected = small(LATER[1])
    booked(expected, histories(expected, [LATER[1]]))

    [history], records = asyncio.run(counted_and_written())
    for time_ns, value in records:
        pipeline.append(time_ns, value)

    assert history.messages == 3 * 4 * 39, "those that were read under the configuration before, and no others"
    assert minute_cells(pipeline, LATER[1]) == minute_cells(expected, LATER[1])
    assert own(pipeline, LATER[1]).backfilled == own(expected, LATER[1]).backfilled
    assert pipeline.engine.state.ignored_backfills == 1
    assert {time_ns for time_ns, _ in records} == {pipeline.engine.now_ns}
