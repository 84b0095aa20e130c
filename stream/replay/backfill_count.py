"""Counts again what older configurations were decoded from, for objectives that came later. Pure.

The same log, with other rows and points: what was read before an objective was known is decoded anew, under the
configuration that knows it, and stands in the log records that covered it then. So the fold's own code judges it as it
did then (late, of the future, sent twice) by the clocks of then, and counts it. It runs twice: `whole` counts
everything, `live` what the fold has counted. What is missing is the difference.

What a metric's point adds depends on the point before it in its stream. The log holds the points of every metric,
whether somebody asked for it or not, so the streams are those of the fold in both; in `whole` they go on from what was
read before the log. What lies between the last point before the log and the first one in it the fold has not counted:
where that falls into a minute that it did count whole, it is in neither (`Recount.between`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from stream.core.cells import COLUMNS, Column
from stream.core.columns import Array, Rows
from stream.core.engine.admission import repetitions_in
from stream.core.engine.apply_points import apply_points
from stream.core.engine.apply_rows import apply_rows
from stream.core.engine.backfill import NO_CELLS, CellColumns
from stream.core.engine.clocks import Clocks, SourceName
from stream.core.engine.close import first_to_close
from stream.core.engine.services import ObjectiveState, Service
from stream.core.engine.state import SERIES, State
from stream.core.engine.windows import plausible, row_of
from stream.core.fingerprints import NO_FINGERPRINTS, Fingerprints, concat_fingerprints
from stream.core.log import LogRecord, SourceRange
from stream.core.otlp import Decoded
from stream.core.points import NO_POINTS, Points, concat_points
from stream.core.service_key import partition_of
from stream.core.slo.slices import judge_slice
from stream.core.slo.spec import Bundle, Objective, SliSignal, decode_bundle
from stream.core.units import MINUTE_NS

BEFORE_THE_LOG = -1
"""The configuration version of what was read before the log's first record, or never."""

_NEVER_OPEN = 1 << 40
"""A minute in the far future: before it everything is closed, so neither sketches nor exemplars are kept."""

_OFFSET_BITS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An objective whose history shall be longer.

    Args:
        objective: The objective.
        since: Rows decoded under an older configuration have not counted for it.
        begins_at: The first minute of the history that it has.
        counted_from: The first minute that it has counted whole itself; what lies between is of earlier backfills.
    """

    objective: Objective
    since: int
    begins_at: int
    counted_from: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Redecoded:
    """What the messages that one log record covered are decoded to now: `source` is an index into its sources."""

    rows: Rows
    points: Points = NO_POINTS
    fingerprints: Fingerprints = NO_FINGERPRINTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Since when nothing that the sources said is unknown: a metric stream that began later counts from its start.

    Args:
        began_ns: Of each source that is read before the log, the time of its first message.
        known_from_ns: By topic; where it is not there, everything is known that was ever read.
    """

    began_ns: Mapping[SourceName, int] = field(default_factory=dict)
    known_from_ns: Mapping[str, int] = field(default_factory=dict)

    def bound(self, began_ns: Mapping[SourceName, int]) -> dict[SourceName, int]:
        """Returns since when each source was read, or is known."""
        return {source: max(time_ns, self.known_from_ns.get(source[0], 0)) for source, time_ns in began_ns.items()}


EVERYTHING = Watch()


class _Counting:
    """A fold that counts, and does nothing else.

    Args:
        bundle: The configuration in force; its objectives are those that were always there.
        partition: Of the log.
        objectives: What to count, and from which configuration version on.
        watch: Since when it is known what the sources said.
    """

    def __init__(
        self, bundle: Bundle, partition: int, objectives: Sequence[tuple[Objective, int]], watch: Watch
    ) -> None:
        self.state = State(partition)
        self.state.bundle = bundle
        self.state.next_minute = _NEVER_OPEN
        self._watch = watch
        self._closed_until: int | None = None
        for objective, since in objectives:
            service = self.state.services.setdefault(objective.service, Service(objective.service))
            service.objectives.append(objective)
            service.states[objective.digest] = ObjectiveState(since=since)

    def set_clocks(self, clocks: Clocks, *, is_read_before: bool) -> None:
        """Goes by other clocks; `is_read_before`: it has taken in what was read before the log."""
        if is_read_before:
            clocks.began_ns = self._watch.bound(self._watch.began_ns)
        self.state.clocks = clocks

    def count(self, record: LogRecord) -> None:
        """Counts the rows and points of a record."""
        state = self.state
        repetitions = repetitions_in(state, record)
        if record.rows is not None and len(record.rows):
            apply_rows(state, record, record.rows, repetitions)
        if record.points is not None and len(record.points):
            apply_points(state, record, record.points, repetitions)
        repetitions.forget_uncounted(state)
        for source in record.sources:
            account = state.ledger.source(source)
            account.next_offset = max(account.next_offset, source.next_offset)

    def progress(self, record: LogRecord, acknowledged_ns: int | None) -> None:
        """Moves the clocks on, and closes the streams that are idle, as a minute does that closes."""
        clocks = self.state.clocks
        clocks.progress(record, acknowledged_ns)
        clocks.began_ns = self._watch.bound(clocks.began_ns)
        clocks.move_frontier(self.state.topics)
        if clocks.frontier_ns is not None:
            is_first = self._closed_until is None
            self.close_idle(first_to_close(clocks, self.state.topics) if is_first else 0)

    def close_idle(self, closed_until: int = 0) -> None:
        """Closes the streams that are idle where the frontier stands; the minutes before `closed_until` are closed."""
        clocks = self.state.clocks
        assert clocks.frontier_ns is not None
        until = max(closed_until, (clocks.frontier_ns - self.state.lateness_ns) // MINUTE_NS)
        if self._closed_until is None or until > self._closed_until:
            self._closed_until = until
            self.state.streams.memory.retire(until * MINUTE_NS)

    def cells(self, objective: Objective, first: int, end: int) -> Array:
        """Returns int64[COLUMNS, minutes]: what was counted of the minutes [first, end)."""
        row, count = row_of(self.state, objective.service, objective, ""), max(0, end - first)
        if row is None:
            return np.zeros((COLUMNS, count), np.int64)
        return self.state.cells[SERIES].rings[0].row(row, first, first + count)

    @property
    def counted_until(self) -> int:
        """No minute from this one on was counted."""
        return self.state.cells[SERIES].rings[0].top


class Recount:
    """Counts for the objectives of one partition of the log. Give it what was read before the log, then the log.

    Args:
        bundle: The configuration in force.
        partition: Of the log.
        wanted: Objectives of services of this partition, on spans, events, logs or metrics.
        watch: Since when it is known what the sources said.
        from_beginning: The log's first record is there: what was read before it the fold has never seen.
    """

    def __init__(
        self,
        bundle: Bundle,
        partition: int,
        wanted: Sequence[Wanted],
        *,
        watch: Watch = EVERYTHING,
        from_beginning: bool = True,
    ) -> None:
        always = [(one.objective, BEFORE_THE_LOG) for one in wanted]
        self._whole = _Counting(bundle, partition, always, watch)
        self._live = _Counting(bundle, partition, [(one.objective, one.since) for one in wanted], watch)
        self._bundle = bundle
        self._before = [self._whole] if from_beginning else [self._whole, self._live]
        self._in_log = False
        self._seen_version = BEFORE_THE_LOG
        self._duplicate_minutes: dict[int, int] = {}
        self._progress_ns: dict[str, int] = {}
        self._versions = {version for one in wanted for version in one.objective.versions}

    @property
    def now_ns(self) -> int:
        """The log's `now`, so far."""
        return self._live.state.clocks.now_ns

    def before_log(self, minute: int, sources: Sequence[SourceRange], read: Redecoded) -> None:
        """Takes in messages with timestamps of one minute that no log record tells of: their time stands in for it."""
        record = LogRecord(
            generation="",
            partitions=0,
            incarnation="",
            sequence=0,
            config_version=BEFORE_THE_LOG,
            sources=tuple(sources),
        )
        record = self._with(record, read)
        for counting in self._before:
            clocks = Clocks()
            clocks.now_ns, clocks.frontier_ns = (minute + 1) * MINUTE_NS, minute * MINUTE_NS
            counting.set_clocks(clocks, is_read_before=True)
            counting.count(record)
            counting.close_idle()

    def log_record(self, record: LogRecord, time_ns: int, read: Redecoded | None) -> None:
        """Takes in the next log record, with what its messages are decoded to now; None: with its own rows."""
        if read is None:
            read = Redecoded(
                rows=record.rows or Rows.empty(),
                points=record.points or NO_POINTS,
                fingerprints=record.fingerprints or NO_FINGERPRINTS,
            )
        configured = self._configured(record)
        minutes = self._duplicate_minutes.get(record.config_version, self._bundle.settings.duplicate_minutes)
        if not minutes:
            read = replace(read, fingerprints=NO_FINGERPRINTS)  # nobody looked for repeated messages
        record, acknowledged_ns = self._with(record, read), self._progress_ns.get(record.incarnation)
        for counting in (self._whole, self._live):
            state = counting.state
            if not self._in_log:
                counting.set_clocks(Clocks(), is_read_before=counting in self._before)
            state.clocks.tick(time_ns)
            if configured is not None:
                was_there = counting is self._whole
                state.bundle = replace(configured, objectives=self._bundle.objectives) if was_there else configured
            counting.count(record)
            if record.progress is not None:
                counting.progress(record, acknowledged_ns)
        self._in_log = True
        if record.progress is not None:
            self._progress_ns[record.incarnation] = self.now_ns

    def _configured(self, record: LogRecord) -> Bundle | None:
        """Returns a configuration that takes effect: whoever judged then went by the settings and sources of then."""
        if record.config is None or record.config_version in self._duplicate_minutes:
            return None
        bundle = decode_bundle(record.config)
        self._duplicate_minutes[record.config_version] = bundle.settings.duplicate_minutes
        if record.config_version < self._seen_version:
            return None
        self._seen_version = record.config_version
        return bundle

    def _with(self, record: LogRecord, read: Redecoded) -> LogRecord:
        """Returns a record with what its messages are decoded to now.

        Versions that nobody asks for are one: here none is idle, so that it could make room for another.
        """
        rows, points = read.rows, read.points
        rows = replace(rows, versions=self._asked_for(rows.versions))
        points = replace(points, versions=self._asked_for(points.versions))
        return replace(record, rows=rows, points=points, fingerprints=read.fingerprints)

    def _asked_for(self, versions: Sequence[str]) -> tuple[str, ...]:
        return tuple(version if version in self._versions else "" for version in versions)

    def missing(self, wanted: Wanted, first: int) -> CellColumns:
        """Returns what the objective has not counted of the minutes from `first` to where its history begins."""
        return _cells(first, self._missing(wanted, first, wanted.begins_at))

    def between(self, wanted: Wanted) -> int:
        """Returns the events of minutes of its own history that lie between points before the log and points in it."""
        if wanted.objective.signal is not SliSignal.METRICS:
            return 0
        cells = self._missing(wanted, wanted.counted_from, self._whole.counted_until)
        return int(np.maximum(cells[Column.N], 0).sum())

    def _missing(self, wanted: Wanted, first: int, end: int) -> Array:
        return self._whole.cells(wanted.objective, first, end) - self._live.cells(wanted.objective, first, end)

    def slices(self, wanted: Wanted, first: int, gaps: Sequence[tuple[int, int]]) -> CellColumns:
        """Returns the slices from minute `first` to where the objective has judged them itself.

        Args:
            wanted: The objective.
            first: A minute.
            gaps: Minutes [start, end) that were not read whole: a slice with one of them is none.
        """
        objective, slices = wanted.objective, wanted.objective.slices
        if slices is None:
            return NO_CELLS
        length = slices.minutes
        first, end = -(-first // length) * length, -(-wanted.begins_at // length) * length
        events = self._whole.cells(objective, first, end)
        cells = np.zeros((COLUMNS, max(0, end - first)), np.int64)
        for at in range(0, cells.shape[1], length):
            start = first + at
            summed = plausible(objective, events[:, at : at + length].sum(axis=1).tolist())
            whole = not any(begin < start + length and start < stop for begin, stop in gaps)
            judged = judge_slice(summed, slices) if whole else None
            if judged is not None:
                cells[:, at + length - 1] = judged
        return _cells(first, cells)


def _cells(first: int, values: Array) -> CellColumns:
    at = np.flatnonzero(values.any(axis=0))
    return CellColumns(minute=first + at, values=values[:, at])


def to_decode_under(bundle: Bundle) -> Bundle:
    """Returns the configuration in force, with fingerprints: there were times when repeated messages were looked for.

    Args:
        bundle: The configuration in force.
    """
    minutes = max(1, bundle.settings.duplicate_minutes)
    return replace(bundle, settings=replace(bundle.settings, duplicate_minutes=minutes))


def for_partition(decoded: Decoded, bundle: Bundle, partition: int) -> Redecoded:
    """Returns what is of services of one partition of the log, and the fingerprints of the messages."""

    def here(part: Rows | Points) -> Array:
        is_here = np.array([partition_of(key, bundle.partitions) == partition for key in part.services], bool)
        return is_here[part.service] if len(part) else np.zeros(0, bool)

    rows, points = decoded.rows.take(here(decoded.rows)), decoded.points.take(here(decoded.points))
    prints, messages = decoded.fingerprints, np.concatenate([_messages_of(rows), _messages_of(points)])
    return Redecoded(rows=rows, points=points, fingerprints=prints.take(np.isin(_messages_of(prints), messages)))


def split(read: Redecoded, ends: Mapping[int, Array], tables: Sequence[Mapping[int, int]]) -> list[Redecoded]:
    """Returns what belongs to each of several records.

    Args:
        read: Its sources are numbers of source partitions.
        ends: By number of the source partition, how far it is covered when each record is applied: int64[records].
        tables: Of each record, the index among its sources of each source partition.
    """
    rows, points = _by_record(read.rows, ends, tables), _by_record(read.points, ends, tables)
    prints = _by_record(read.fingerprints, ends, tables)
    return [Redecoded(rows=r, points=p, fingerprints=f) for r, p, f in zip(rows, points, prints, strict=True)]


def in_log_order(read: Redecoded, record: LogRecord, read_from: Sequence[int | None]) -> Redecoded:
    """Returns what a record's messages are decoded to now, its points as the fold took them.

    Points of one stream may come from several sources, so their order is that of the log. Those that cannot be read
    again stand as they were decoded then: the next point of their stream goes on from them.

    Args:
        read: Decoded now.
        record: With the points of then, and the fingerprints.
        read_from: Of each source of the record, the first offset that was read again; None: it is gone.
    """
    if record.points is None:
        return read
    starts = np.array([np.iinfo(np.int64).max if first is None else first for first in read_from], np.int64)
    gone = record.points.take(record.points.offset < starts[record.points.source])
    prints = record.fingerprints or NO_FINGERPRINTS
    gone_prints = prints.take(prints.offset < starts[prints.source])
    points = concat_points([gone, read.points])
    known, place = np.unique(_messages_of(record.points), return_index=True)
    at = np.searchsorted(known, _messages_of(points))
    is_known = known[np.minimum(at, len(known) - 1)] == _messages_of(points) if len(known) else at < 0
    places = np.full(len(points), len(record.points), np.int64)  # what was refused then comes last
    places[is_known] = place[at[is_known]]
    return replace(
        read,
        points=points.take(np.argsort(places, kind="stable")),
        fingerprints=concat_fingerprints([gone_prints, read.fingerprints]),
    )


Part = TypeVar("Part", Rows, Points, Fingerprints)


def _by_record(part: Part, ends: Mapping[int, Array], tables: Sequence[Mapping[int, int]]) -> list[Part]:
    record = np.full(len(part), len(tables), np.int64)
    for number, covered in ends.items():
        mine = part.source == number
        record[mine] = np.searchsorted(covered, part.offset[mine], side="right")
    order = np.argsort(record, kind="stable")
    edges = np.searchsorted(record[order], np.arange(len(tables) + 1))
    found = []
    for number, table in enumerate(tables):
        own = part.take(order[edges[number] : edges[number + 1]])
        index = np.zeros(len(ends), "int16")
        index[list(table)] = list(table.values())
        found.append(replace(own, source=index[own.source]))
    return found


def _messages_of(part: Rows | Points | Fingerprints) -> Array:
    return (part.source.astype(np.int64) << _OFFSET_BITS) | part.offset
