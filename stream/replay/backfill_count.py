"""Counts again what older configurations were decoded from, for objectives that came later. Pure.

The same log, with other rows: what was read before an objective was known is decoded anew, under the configuration
that knows it, and stands in the log records that covered it then. So the fold's own code judges it as it did then
(late, of the future, sent twice) by the clocks of then, and counts it. Each objective is there twice: `whole` counts
everything, `live` what the fold has counted of it. What is missing is the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from stream.core.cells import COLUMNS
from stream.core.columns import Array, Rows
from stream.core.engine.admission import repetitions_in
from stream.core.engine.apply_rows import apply_rows
from stream.core.engine.backfill import NO_CELLS, CellColumns
from stream.core.engine.clocks import Clocks
from stream.core.engine.services import ObjectiveState, Service
from stream.core.engine.state import SERIES, State
from stream.core.engine.windows import plausible, row_of
from stream.core.fingerprints import NO_FINGERPRINTS, Fingerprints
from stream.core.log import LogRecord, SourceRange
from stream.core.otlp import Decoded
from stream.core.service_key import partition_of
from stream.core.slo.slices import judge_slice
from stream.core.slo.spec import Bundle, Objective, decode_bundle
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
    """

    objective: Objective
    since: int
    begins_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Redecoded:
    """What the messages that one log record covered are decoded to now: `source` is an index into its sources."""

    rows: Rows
    fingerprints: Fingerprints = NO_FINGERPRINTS


class Recount:
    """Counts for the objectives of one partition of the log. Give it what was read before the log, then the log.

    Args:
        bundle: The configuration in force.
        partition: Of the log.
        wanted: Objectives of services of this partition, on spans, events or logs.
    """

    def __init__(self, bundle: Bundle, partition: int, wanted: Sequence[Wanted]) -> None:
        self._state = State(partition)
        self._state.bundle = bundle
        self._state.next_minute = _NEVER_OPEN
        self._in_log = False
        self._seen_version = BEFORE_THE_LOG
        self._progress_ns: dict[str, int] = {}
        self._versions = {version for one in wanted for version in one.objective.versions}
        for one in wanted:
            self._count_for(one.objective, BEFORE_THE_LOG)
            self._count_for(_live(one.objective), one.since)

    def _count_for(self, objective: Objective, since: int) -> None:
        service = self._state.services.setdefault(objective.service, Service(objective.service))
        service.objectives.append(objective)
        service.states[objective.digest] = ObjectiveState(since=since)

    @property
    def now_ns(self) -> int:
        """The log's `now`, so far."""
        return self._state.clocks.now_ns

    def before_log(self, minute: int, sources: Sequence[SourceRange], read: Redecoded) -> None:
        """Takes in messages with timestamps of one minute that no log record tells of: their time stands in for it."""
        self._state.clocks.now_ns = (minute + 1) * MINUTE_NS
        self._state.clocks.frontier_ns = minute * MINUTE_NS
        record = LogRecord(
            generation="",
            partitions=0,
            incarnation="",
            sequence=0,
            config_version=BEFORE_THE_LOG,
            sources=tuple(sources),
        )
        self._count(record, read)

    def log_record(self, record: LogRecord, time_ns: int, read: Redecoded | None) -> None:
        """Takes in the next log record, with what its messages are decoded to now; None: with its own rows."""
        if not self._in_log:
            self._in_log, self._state.clocks = True, Clocks()
        clocks = self._state.clocks
        clocks.tick(time_ns)
        if record.config is not None and record.config_version > self._seen_version:
            # Whoever judged then went by the settings and the sources of then.
            self._seen_version = record.config_version
            self._state.bundle = decode_bundle(record.config)
        if read is None:
            read = Redecoded(rows=record.rows or Rows.empty(), fingerprints=record.fingerprints or NO_FINGERPRINTS)
        self._count(record, read)
        if record.progress is not None:
            clocks.progress(record, self._progress_ns.get(record.incarnation))
            clocks.move_frontier(self._state.topics)
            self._progress_ns[record.incarnation] = clocks.now_ns

    def _count(self, record: LogRecord, read: Redecoded) -> None:
        # Versions that nobody asks for are one: here none is idle, so that it could make room for another.
        versions = tuple(version if version in self._versions else "" for version in read.rows.versions)
        rows = replace(read.rows, versions=versions)
        state, record = self._state, replace(record, rows=rows, fingerprints=read.fingerprints, points=None)
        repetitions = repetitions_in(state, record)
        if len(rows):
            apply_rows(state, record, rows, repetitions)
        repetitions.forget_uncounted(state)
        for source in record.sources:
            account = state.ledger.source(source)
            account.next_offset = max(account.next_offset, source.next_offset)

    def missing(self, wanted: Wanted, first: int) -> CellColumns:
        """Returns what the objective has not counted of the minutes from `first` to where its history begins."""
        return _cells(
            first, self._of(wanted.objective, first, wanted) - self._of(_live(wanted.objective), first, wanted)
        )

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
        events = self._of(objective, first, replace(wanted, begins_at=end))
        cells = np.zeros((COLUMNS, max(0, end - first)), np.int64)
        for at in range(0, cells.shape[1], length):
            start = first + at
            summed = plausible(objective, events[:, at : at + length].sum(axis=1).tolist())
            whole = not any(begin < start + length and start < stop for begin, stop in gaps)
            judged = judge_slice(summed, slices) if whole else None
            if judged is not None:
                cells[:, at + length - 1] = judged
        return _cells(first, cells)

    def _of(self, objective: Objective, first: int, wanted: Wanted) -> Array:
        """Returns int64[COLUMNS, minutes]: what was counted from minute `first` to where the history begins."""
        row = row_of(self._state, objective.service, objective, "")
        count = max(0, wanted.begins_at - first)
        if row is None:
            return np.zeros((COLUMNS, count), np.int64)
        return self._state.cells[SERIES].rings[0].row(row, first, first + count)


def _live(objective: Objective) -> Objective:
    """Returns the objective under another name, so that it counts by itself."""
    return replace(objective, name=f"{objective.name} live")


def _cells(first: int, values: Array) -> CellColumns:
    at = np.flatnonzero(values.any(axis=0))
    return CellColumns(minute=first + at, values=values[:, at])


def for_partition(decoded: Decoded, bundle: Bundle, partition: int) -> Redecoded:
    """Returns the rows of services of one partition of the log, and the fingerprints of their messages."""
    rows, prints = decoded.rows, decoded.fingerprints
    is_here = np.array([partition_of(key, bundle.partitions) == partition for key in rows.services], bool)
    rows = rows.take(is_here[rows.service]) if len(rows) else rows
    return Redecoded(rows=rows, fingerprints=prints.take(np.isin(_messages_of(prints), _messages_of(rows))))


def split(read: Redecoded, ends: Mapping[int, Array], tables: Sequence[Mapping[int, int]]) -> list[Redecoded]:
    """Returns what belongs to each of several records.

    Args:
        read: Its sources are numbers of source partitions.
        ends: By number of the source partition, how far it is covered when each record is applied: int64[records].
        tables: Of each record, the index among its sources of each source partition.
    """
    rows = _by_record(read.rows, ends, tables)
    prints = _by_record(read.fingerprints, ends, tables)
    return [Redecoded(rows=r, fingerprints=f) for r, f in zip(rows, prints, strict=True)]


Part = TypeVar("Part", Rows, Fingerprints)


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


def _messages_of(part: Rows | Fingerprints) -> Array:
    return (part.source.astype(np.int64) << _OFFSET_BITS) | part.offset
