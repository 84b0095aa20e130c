"""What stands behind one published event: where it is, what else was said of the same, and what the log says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from stream.core.cells import Column
from stream.core.engine import Engine
from stream.core.engine.windows import Reader, close_windows, window_start
from stream.core.log import LogRecord, decode_record
from stream.core.rendering import Rendered
from stream.core.slo.burn_rate import window_lengths
from stream.core.slo.cohorts import found_cohort
from stream.core.slo.spec import Bundle, Objective, decode_bundle
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from stream.kafka.clients import ConsumerRecord, TopicPartition
from stream.replay.comparison import FieldDifference, field_differences
from stream.replay.reading import OUTPUTS, Stretch, Topics, time_ns_of
from stream.replay.recount import READ_FROM_BEFORE_NS, MinuteCount, MinuteRecount
from stream.replay.replaying import NotFoldable, fold_record

RECORDS_LOOKED_AT = 500
"""Log records up to an event's that are asked what they cover: each process covers all its sources once a second."""

_IDS = ("id", "alert", "certificate")
"""Where an event's data names something that several events are about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An event as it is on an output topic."""

    topic: str
    partition: int
    offset: int
    time_ns: int
    value: bytes
    event: Mapping[str, Any]

    @property
    def data(self) -> Mapping[str, Any]:
        """What the event says."""
        data: Mapping[str, Any] = self.event["data"]
        return data

    @property
    def log(self) -> tuple[int, int]:
        """Partition and offset of the log record at which it was decided."""
        return self.data["log"]["partition"], self.data["log"]["offset"]


async def find(topics: Topics, wanted: str, since_ns: int | None) -> list[Published]:
    """Returns the events with an id, or about what has that id, in the order in which they were decided.

    Args:
        topics: The pipeline's, connected.
        wanted: The id of an event, or of a window, an alert or a certificate.
        since_ns: Only events that were published since; None: all that are kept.

    Raises:
        UnavailableError: The brokers stopped answering.
    """
    partitions = await topics.partitions(*OUTPUTS)
    places = [topics.at(name, number) for name in OUTPUTS for number in range(partitions)]
    stretches = await topics.stretches_since(places, since_ns)
    about = wanted.partition(".")[0]  # revisions of a window have its id in front
    needle, found = about.encode(), list[Published]()
    await topics.seek(stretches)
    async for record in topics.records(stretches):
        if record.value is not None and needle in record.value:
            event = _published(topics, record)
            if event is not None and _is_about(event, wanted, about):
                found.append(event)
    return sorted(found, key=lambda event: (event.log[1], event.topic, event.offset))


def _published(topics: Topics, record: ConsumerRecord) -> Published | None:
    assert record.value is not None
    try:
        event = orjson.loads(record.value)
        event["data"]["log"]["offset"]
    except (ValueError, TypeError, KeyError):
        return None
    return Published(
        topic=record.topic.removeprefix(topics.prefix),
        partition=record.partition,
        offset=record.offset,
        time_ns=time_ns_of(record),
        value=record.value,
        event=event,
    )


def _is_about(event: Published, wanted: str, about: str) -> bool:
    return event.event["id"] == wanted or any(event.data.get(name) == about for name in _IDS)


async def indicator_beside(topics: Topics, event: Published) -> Published | None:
    """Returns the indicator of the same objective that was decided for the same minute at the same log record."""
    at = topics.at("sli", event.partition)
    stretches = await topics.stretches_since([at], event.time_ns - MINUTE_NS)
    await topics.seek(stretches)
    needle = str(event.data["objective_digest"]).encode()
    async for record in topics.records(stretches):
        if record.value is not None and needle in record.value:
            other = _published(topics, record)
            if other is not None and (other.log, other.event["time"]) == (event.log, event.event["time"]):
                return other
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """An objective as it was configured.

    Args:
        objective: The objective.
        version: Version of the configuration that it was found in.
        bundle: That configuration.
    """

    objective: Objective
    version: int
    bundle: Bundle

    @property
    def since(self) -> int:
        """Rows decoded under an older configuration do not count."""
        return self.objective.since if self.objective.since is not None else self.version


async def definition_of(topics: Topics, about: Mapping[str, Any], config_version: int) -> Definition | None:
    """Returns the objective that an event is about, as it was under a configuration, or the nearest one that is kept.

    Its alerting is no part of the digest, so another configuration's may differ in that.
    """
    at = topics.at("config", 0)
    stretches = await topics.stretches([at])
    await topics.seek(stretches)
    found: Definition | None = None
    async for record in topics.records(stretches):
        bundle = decode_bundle(record.value) if record.value is not None else None
        objective = _objective_of(bundle, about)
        if bundle is not None and objective is not None and (found is None or record.offset <= config_version):
            found = Definition(objective=objective, version=record.offset, bundle=bundle)
    return found


def _objective_of(bundle: Bundle | None, about: Mapping[str, Any]) -> Objective | None:
    """Returns the objective that the data of an event are about; a cohort that was found is not configured itself."""
    if bundle is None:
        return None
    cohort = str(about.get("cohort", ""))
    found = (found_cohort(o, cohort[len(o.finds) + 1 :]) for o in bundle.objectives if o.finds)
    digest = about.get("objective_digest")
    return next((o for o in (*bundle.objectives, *found) if o.digest == digest), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """What of one source partition was covered when an event was decided: all before `next_offset`.

    `first_offset` is where the session began that is known to have covered it.
    """

    topic: str
    topic_id: str
    partition: int
    first_offset: int
    next_offset: int


@dataclass(slots=True)
class LogStanding:
    """Where the log stood when an event was decided.

    Args:
        records: Log records that were asked.
        sources: What they cover.
        lost: Source offsets among them that expired unread.
        why_not: Why it is not known; '' where it is.
    """

    records: int = 0
    sources: list[Covered] = field(default_factory=list)
    lost: int = 0
    why_not: str = ""


async def log_standing(topics: Topics, event: Published) -> LogStanding:
    """Returns what the log records up to an event's say of the sources."""
    partition, offset = event.log
    at = topics.at("shuffle", partition)
    held = (await topics.stretches([at]))[at]
    if not held.first <= offset < held.end:
        return LogStanding(
            why_not=f"{at.topic}/{partition} holds the offsets {held.first:,} to {held.end - 1:,}: that one has expired"
        )
    stretches = {at: Stretch(first=max(held.first, offset + 1 - RECORDS_LOOKED_AT), end=offset + 1)}
    await topics.seek(stretches)
    standing, covered = LogStanding(), dict[str, Covered]()
    async for record in topics.records(stretches):
        decoded = decode_record(record.value or b"")
        standing.records += 1
        for source in decoded.sources:
            known = covered.get(source.id)
            if known is None or source.next_offset >= known.next_offset:
                covered[source.id] = Covered(
                    topic=source.topic,
                    topic_id=source.topic_id,
                    partition=source.partition,
                    first_offset=source.first_offset,
                    next_offset=source.next_offset,
                )
        if decoded.progress is not None:
            standing.lost += sum(lost.next_offset - lost.first_offset for lost in decoded.progress.lost)
    standing.sources = sorted(covered.values(), key=lambda c: (c.topic, c.partition, c.topic_id))
    return standing


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowCell:
    """The summed cell of one window, in integers. Minutes are half-open; `unit` is the weight of one."""

    length_minutes: int
    start_minute: int
    end_minute: int
    n: int
    n_bad: int
    weight: int
    weight_bad: int
    n_unknown: int
    n_excluded: int
    unit: int


@dataclass(slots=True)
class Fold:
    """What the fold makes of the log up to an event's record.

    Args:
        records: Log records folded.
        is_there: Whether the event comes out.
        differences: The fields in which what comes out differs; empty where it is equal, byte for byte.
        cells: The windows behind it.
        definition: The objective as the fold had it.
        late: Items of all sources that were too late to count, so far.
        duplicate: Items that were sent twice.
        replayed: Items that our own replay repeated.
        why_not: Why it cannot be told; '' where it can.
    """

    records: int = 0
    is_there: bool = False
    differences: list[FieldDifference] = field(default_factory=list)
    cells: list[WindowCell] = field(default_factory=list)
    definition: Definition | None = None
    late: int = 0
    duplicate: int = 0
    replayed: int = 0
    why_not: str = ""

    @property
    def is_equal(self) -> bool:
        """The event is, byte for byte, what comes out."""
        return not self.why_not and self.is_there and not self.differences


async def fold(topics: Topics, event: Published) -> Fold:
    """Folds the log up to an event's record and compares what comes out.

    Raises:
        UnavailableError: The brokers stopped answering.
    """
    partition, offset = event.log
    at = topics.at("shuffle", partition)
    held = (await topics.stretches([at]))[at]
    if held.first > 0 or held.end <= offset:
        return Fold(why_not=_why_not_folded(at, held, offset))
    stretches = {at: Stretch(first=0, end=offset + 1)}
    await topics.seek(stretches)
    engine, records, outputs = Engine(partition), 0, list[Rendered]()
    try:
        async for record in topics.records(stretches):
            outputs = fold_record(engine, record)
            records += 1
    except NotFoldable as error:
        return Fold(why_not=str(error))
    done = folded(event, engine, outputs)
    done.records = records
    return done


def _why_not_folded(at: TopicPartition, held: Stretch, offset: int) -> str:
    if held.end <= offset:
        return f"{at.topic}/{at.partition} ends before offset {offset:,}: it was cut, or created anew"
    return (
        f"{at.topic}/{at.partition} begins at offset {held.first:,}: what came before has expired, and without it the "
        "state cannot be built again"
    )


def folded(event: Published, engine: Engine, outputs: Sequence[Rendered]) -> Fold:
    """Returns what the fold makes of an event, from the engine right after the event's log record.

    Args:
        event: The event.
        engine: The fold.
        outputs: What that log record put out.
    """
    accounts = engine.ledger.sources.values()
    done = Fold(
        late=sum(account.late for account in accounts),
        duplicate=sum(account.duplicate for account in accounts),
        replayed=sum(account.replayed for account in accounts),
    )
    for output in outputs:
        if output.topic == event.topic and output.value and output.id == event.event["id"]:
            done.is_there = True
            done.differences = field_differences(event.value, output.value)
    objective = _objective_of(engine.bundle, event.data)
    if engine.bundle is not None and objective is not None:
        known = engine.stage_of(objective).services[objective.service].states
        done.definition = Definition(objective=objective, version=engine.state.config_version, bundle=engine.bundle)
        minute = minute_of_event(event)
        if minute is not None and objective.digest in known:
            done.cells = window_cells(engine, objective, minute)
    return done


def minute_of_event(event: Published) -> int | None:
    """Returns the closed minute that an event follows from; None where it follows from none."""
    if event.topic not in ("sli", "burn-rate", "budget", "status") or "objective" not in event.data:
        return None
    return time_ns_from(event.event["time"]) // MINUTE_NS - 1


def window_cells(engine: Engine, objective: Objective, minute: int) -> list[WindowCell]:
    """Returns the cells of the minute, of each window that the alerts look at, and of the objective's own window.

    A long window begins where the ring that it is summed from has an edge, at or before its nominal start.
    """
    state = engine.stage_of(objective)
    service = state.services[objective.service]
    closing = close_windows(state, minute, False, [objective])
    reader = Reader(state, service, objective, closing)
    lengths = window_lengths(objective.window_minutes, objective.alerting.rules)
    start, complete = reader.span()
    cells = [_window_cell(1, minute, minute + 1, reader.minute(), reader.event_unit)]
    cells += [
        _window_cell(length, window_start(minute + 1, length), minute + 1, reader.window(length), reader.unit)
        for length in lengths
    ]
    if objective.calendar is None or state.next_minute == minute + 1:  # a period is summed up to the newest minute
        first = start if objective.calendar is not None else window_start(minute + 1, complete - start)
        cells.append(_window_cell(complete - start, first, minute + 1, reader.budget_window(), reader.unit))
    return cells


def _window_cell(length_minutes: int, start_minute: int, end_minute: int, cell: Sequence[int], unit: int) -> WindowCell:
    return WindowCell(
        length_minutes=length_minutes,
        start_minute=start_minute,
        end_minute=end_minute,
        n=cell[Column.N],
        n_bad=cell[Column.N_BAD],
        weight=cell[Column.WEIGHT],
        weight_bad=cell[Column.WEIGHT_BAD],
        n_unknown=cell[Column.N_UNKNOWN],
        n_excluded=cell[Column.N_EXCLUDED],
        unit=unit,
    )


@dataclass(slots=True)
class RowsRecount:
    """The minute of an indicator, counted row by row.

    Args:
        count: What the rows add up to; None where it cannot be told.
        differences: The figures in which the event differs.
        why_not: Why it cannot be told; '' where it can.
    """

    count: MinuteCount | None = None
    differences: list[FieldDifference] = field(default_factory=list)
    why_not: str = ""


async def recount_rows(topics: Topics, event: Published, definition: Definition) -> RowsRecount:
    """Counts an indicator's minute row by row from the log records up to the event's, and compares.

    Raises:
        UnavailableError: The brokers stopped answering.
    """
    partition, offset = event.log
    minute = minute_of_event(event)
    assert minute is not None, "only indicators are recounted"
    at = topics.at("shuffle", partition)
    held = (await topics.stretches([at]))[at]
    from_ns = minute * MINUTE_NS - READ_FROM_BEFORE_NS
    since = (await topics.stretches_since([at], from_ns))[at]
    if not held.first <= offset < held.end:
        return RowsRecount(why_not=f"the log no longer holds offset {offset:,}")
    if 0 < held.first >= since.first:
        return RowsRecount(why_not="some log records of this minute may have expired")
    stretches = {at: Stretch(first=since.first, end=offset + 1)}
    await topics.seek(stretches)
    recount = MinuteRecount(definition.objective, since=definition.since, bundle=definition.bundle, minute=minute)
    async for record in topics.records(stretches):
        recount.add(_decoded(record), time_ns_of(record))
    return RowsRecount(count=recount.count, differences=count_differences(event.data["minute"], recount.count))


def _decoded(record: ConsumerRecord) -> LogRecord:
    return decode_record(record.value or b"")


def count_differences(said: Mapping[str, Any], count: MinuteCount) -> list[FieldDifference]:
    """Returns the figures of an indicator's minute that are not what was counted. Without weight there are none."""
    figures = {
        "n": count.n if count.weight else 0,
        "n_unknown": count.n_unknown if count.weight else 0,
        "n_excluded": count.n_excluded,
        "total": count.weight / WEIGHT_ONE,
        "good": (count.weight - count.weight_bad) / WEIGHT_ONE,
    }
    return [
        FieldDifference(path=f"data.minute.{name}", live=said[name], folded=figure)
        for name, figure in figures.items()
        if name in said and said[name] != figure
    ]


def time_ns_from(text: str) -> int:
    """Returns the time of an RFC 3339 text in UTC, as events have them."""
    return round(datetime.fromisoformat(text).timestamp() * 1000) * 1_000_000
