"""What to read again: which offsets of which source stand behind which log record, and from when on nothing is lost.

Pure. A log record says up to where it covers each source; what the one before did not cover is its own. Of these
stretches those are read again that were decoded under a configuration that did not know all of the objectives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream.core.columns import Array
from stream.core.engine.clocks import SourceName
from stream.core.log import LogRecord, SourceRange
from stream.core.units import MINUTE_NS
from stream.replay.backfill_count import Watch

SLAB_MESSAGES = 10_000
"""Messages that are read and decoded at a time: their rows are held together."""

SLAB_RECORDS = 1_000
SLAB_ROWS = 1 << 20

STILL_READING_NS = MINUTE_NS
"""An ingest process writes every second: one that was silent for this long has ended."""

Ranges = dict[int, tuple[int, int]]
"""Offsets [first, next) by number of the source partition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePartition:
    """A partition of a source topic as it is now.

    Args:
        topic: Its name.
        topic_id: Its id.
        partition: Its number.
        begin: First offset that is retained.
        start: First offset to read: at or behind `begin`.
        end: Where it ends.
        first_ns: Timestamp of the message at `begin`, or the next one; None where nothing is retained.
    """

    topic: str
    topic_id: str
    partition: int
    begin: int
    start: int
    end: int
    first_ns: int | None

    @property
    def id(self) -> str:
        """As in `SourceRange`."""
        return f"{self.topic_id}/{self.partition}"

    def covered(self, next_offset: int) -> SourceRange:
        """Returns what is covered of it when it has been read to an offset by nobody in particular."""
        return SourceRange(
            topic=self.topic,
            topic_id=self.topic_id,
            partition=self.partition,
            session="",
            first_offset=0,
            next_offset=next_offset,
        )


@dataclass(slots=True)
class Sightings:
    """Where in the log each source is heard of for the first time. Give it the log records until `complete`.

    Args:
        sources: The source partitions to read.
        from_beginning: The log's first record is still there.
    """

    sources: Sequence[SourcePartition]
    from_beginning: bool
    first_version: int | None = None
    first_ns: int = 0
    """Append time of the log's first record."""
    boundaries: dict[int, int] = field(default_factory=dict)
    """Of each source: what lies before this offset the log says nothing about."""
    seen_ns: dict[int, int] = field(default_factory=dict)
    """Of each source: when the log had it covered to where it begins now."""

    @property
    def complete(self) -> bool:
        """Nothing more will be learnt."""
        return len(self.seen_ns) == len(self.sources)

    def add(self, record: LogRecord, time_ns: int) -> None:
        """Takes in the next log record."""
        if self.first_version is None:
            self.first_version, self.first_ns = record.config_version, time_ns
        covered = {source.id: source for source in record.sources}
        for number, source in enumerate(self.sources):
            found = covered.get(source.id)
            if found is None:
                continue
            # A session that began before the log's first record may have read up to here before it, too.
            known_from = found.first_offset if self.from_beginning else found.next_offset
            self.boundaries.setdefault(number, known_from)
            if found.next_offset >= source.begin:
                self.seen_ns.setdefault(number, time_ns)

    def boundary(self, number: int) -> int:
        """Returns up to where a source has to be read without the log; to its end where nobody has read it."""
        source = self.sources[number]
        return max(source.start, min(self.boundaries.get(number, source.end), source.end))


@dataclass(slots=True)
class Slab:
    """Consecutive log records, and the offsets to read again for them."""

    records: list[tuple[LogRecord, int, bool]] = field(default_factory=list)
    """Each with its append time, and whether it is read again."""
    ranges: Ranges = field(default_factory=dict)
    covered: dict[int, list[int]] = field(default_factory=dict)
    messages: int = 0
    rows: int = 0

    @property
    def is_full(self) -> bool:
        """It is time to read."""
        return self.messages >= SLAB_MESSAGES or len(self.records) >= SLAB_RECORDS or self.rows >= SLAB_ROWS

    def ends(self) -> dict[int, Array]:
        """Returns how far each source is covered when each record is applied, by number of the source."""
        return {number: np.array(ends, np.int64) for number, ends in self.covered.items()}


class LogWalk:
    """Collects the log's records in slabs. Give it the records in order.

    Args:
        sources: The source partitions to read.
        sightings: Where the log begins to tell of them.
        version: Configurations from this one on know all of the objectives.
        with_points: Some objective counts metric points.
    """

    def __init__(
        self,
        sources: Sequence[SourcePartition],
        sightings: Sightings,
        *,
        version: int,
        with_points: bool = False,
    ) -> None:
        self._sources = sources
        self._numbers = {source.id: number for number, source in enumerate(sources)}
        self._applied = {number: sightings.boundary(number) for number in range(len(sources))}
        self._foreign: dict[str, int] = {}
        self._version = version
        self._with_points = with_points
        self._writers: dict[str, tuple[int, int]] = {}
        self._slab = Slab()
        self.gone_until_ns: dict[str, int] = {}
        """By topic, until when something was read that is not there any more: it was dropped, or created anew."""

    def add(self, record: LogRecord, time_ns: int) -> Slab | None:
        """Takes in the next log record. Returns a slab where one is full."""
        slab, read_again = self._slab, record.config_version < self._version
        if record.sources:
            self._writers[record.incarnation] = (record.config_version, time_ns)
        kept = _kept(record, read_again, with_points=self._with_points)
        slab.records.append((kept, time_ns, read_again))
        slab.rows += sum(len(part) for part in (kept.rows, kept.points) if part is not None)
        for source in record.sources:
            number = self._numbers.get(source.id)
            if number is None:
                self._note_gone(source, time_ns, read_again)
                continue
            first = self._applied[number]
            if source.next_offset > first:
                self._applied[number] = source.next_offset
                if read_again:
                    slab.ranges[number] = (slab.ranges.get(number, (first, 0))[0], source.next_offset)
                    slab.messages += source.next_offset - first
        for number, applied in self._applied.items():
            slab.covered.setdefault(number, []).append(applied)
        if slab.is_full:
            return self.rest()
        return None

    def rest(self) -> Slab:
        """Returns what was collected since the last slab."""
        slab, self._slab = self._slab, Slab()
        return slab

    def still_reading(self, now_ns: int) -> list[str]:
        """Returns the ingest processes that are alive and still decode under an older configuration."""
        return sorted(
            writer
            for writer, (version, time_ns) in self._writers.items()
            if version < self._version and time_ns >= now_ns - STILL_READING_NS
        )

    def table(self, record: LogRecord) -> dict[int, int]:
        """Returns the index among a record's sources of each source partition."""
        found = ((self._numbers.get(source.id), index) for index, source in enumerate(record.sources))
        return {number: index for number, index in found if number is not None}

    def read_from(self, record: LogRecord) -> list[int | None]:
        """Returns from where on each of a record's sources is read again; None where it is not there any more."""
        numbers = (self._numbers.get(source.id) for source in record.sources)
        return [None if number is None else self._sources[number].start for number in numbers]

    def _note_gone(self, source: SourceRange, time_ns: int, read_again: bool) -> None:
        before = self._foreign.get(source.id, source.first_offset)
        self._foreign[source.id] = max(before, source.next_offset)
        if read_again and source.next_offset > before:
            self.gone_until_ns[source.topic] = max(self.gone_until_ns.get(source.topic, 0), time_ns)


def _kept(record: LogRecord, read_again: bool, *, with_points: bool) -> LogRecord:
    """Returns a record without what nobody looks at: rows that are decoded anew are not held as they were decoded then.

    Points are: they tell in which order the streams had them. What a session stepped over before it began is read with
    what it read first.
    """
    return replace(
        record,
        sources=tuple(replace(source, first_offset=0) for source in record.sources),
        rows=None if read_again else record.rows,
        fingerprints=None if read_again and not with_points else record.fingerprints,
        points=record.points if with_points else None,
        indicators=None,
        receipts=None,
    )


def whole_from_ns(
    sources: Sequence[SourcePartition], sightings: Sightings, gone_until_ns: Mapping[str, int], others: Collection[str]
) -> int | None:
    """Returns the time from which on nothing of the sources is lost; None where nothing is retained.

    What was lost of a source is older than what is left of it, and older than the log record by which it was read. A
    source that still begins at offset 0 has lost nothing.

    Args:
        sources: The source partitions.
        sightings: Where the log begins to tell of them.
        gone_until_ns: As `LogWalk` has noted it.
        others: Topics that carry something else.
    """
    wanted = [(number, source) for number, source in enumerate(sources) if source.topic not in others]
    times = [source.first_ns for _, source in wanted if source.first_ns is not None]
    if not times:
        return None
    whole = max([min(times), *(time_ns for topic, time_ns in gone_until_ns.items() if topic not in others)])
    for number, source in wanted:
        if source.begin > 0:
            known = [time for time in (source.first_ns, sightings.seen_ns.get(number)) if time is not None]
            if not known:
                return None
            whole = max(whole, min(known))
    return whole


def watch_of(sources: Sequence[SourcePartition], sightings: Sightings) -> Watch:
    """Returns since when nothing that the sources said is unknown.

    What the log has covered from its first record on is known, whether the source still holds it or not.
    """
    began_ns, known_from_ns = dict[SourceName, int](), dict[str, int]()
    for number, source in enumerate(sources):
        first_ns = 0 if source.first_ns is None else source.first_ns
        is_read_before = source.start < sightings.boundary(number)
        if is_read_before:
            began_ns[source.topic, source.partition] = first_ns
        if source.start > 0 and (is_read_before or not sightings.from_beginning):
            unknown_until = first_ns if is_read_before else sightings.first_ns
            known_from_ns[source.topic] = max(known_from_ns.get(source.topic, 0), unknown_until)
    return Watch(began_ns=began_ns, known_from_ns=known_from_ns)


def minutes_of(times_ns: Mapping[int, Array], newest: dict[int, int]) -> dict[int, Array]:
    """Returns the minute that stands in for the log's clock at each message of each source: it never goes back.

    Args:
        times_ns: Timestamps by source, int64[n], in the order of the offsets.
        newest: The newest minute so far of each source; moved on.
    """
    found = {}
    for number, times in times_ns.items():
        minutes = np.maximum.accumulate(np.maximum(times // MINUTE_NS, newest.get(number, 0)))
        newest[number] = int(minutes[-1])
        found[number] = minutes
    return found
