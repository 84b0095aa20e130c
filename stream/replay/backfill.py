"""Reads source topics again for objectives that came later, and writes what they have not counted to the log.

The log says which offsets, and by which clocks they were judged; their messages are decoded anew and counted again;
what comes of it goes to the log, and so to the fold.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream.core.cells import HOUR_RING
from stream.core.columns import Array, Rows, concat_rows
from stream.core.engine.admission import FUTURE_AFTER_NS
from stream.core.engine.backfill import SECTION_MINUTES_MAX, Backfill, encode_backfill
from stream.core.errors import UnavailableError
from stream.core.fingerprints import concat_fingerprints
from stream.core.log import LogRecord, decode_record, encode_record
from stream.core.otlp import Decoded, Messages
from stream.core.points import Points, concat_points
from stream.core.slo.spec import CARRIERS, Bundle, SliSignal, SourceSignal
from stream.core.units import MINUTE_NS, minute_of
from stream.kafka.batches import refused
from stream.kafka.clients import ConsumerRecord, KafkaError, TopicPartition, ingest_producer, stop
from stream.kafka.read_to_end import STALLED_S
from stream.replay.backfill_count import Recount, Redecoded, Wanted, for_partition, in_log_order, split
from stream.replay.backfill_plan import (
    SLAB_MESSAGES,
    LogWalk,
    Ranges,
    Sightings,
    Slab,
    SourcePartition,
    minutes_of,
    watch_of,
    whole_from_ns,
)
from stream.replay.reading import Stretch, Topics, time_ns_of

_PIECE_MESSAGES = 4_096
_PIECE_BYTES = 2 << 20

Decode = Callable[[str, Messages], Decoded]
"""Decodes messages of a topic, under the configuration in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to count again in one partition of the log.

    Args:
        partition: Of the log.
        bundle: The configuration in force.
        wanted: The objectives, of services of this partition.
        earliest: For each of them, the first minute that is wanted.
        gaps: Minutes [start, end) that were not read whole.
    """

    partition: int
    bundle: Bundle
    wanted: tuple[Wanted, ...]
    earliest: tuple[int, ...]
    gaps: tuple[tuple[int, int], ...] = ()

    @property
    def version(self) -> int:
        """From this version of the configuration on, all of the objectives are known."""
        return max(wanted.since for wanted in self.wanted)

    @property
    def with_points(self) -> bool:
        """Whether some objective counts metric points."""
        return any(wanted.objective.signal is SliSignal.METRICS for wanted in self.wanted)

    def topics(self, *of: Wanted) -> list[str]:
        """Returns the source topics that carry what some of the objectives count, or all of them."""
        signals = {wanted.objective.signal for wanted in of or self.wanted}
        return self.carrying(*(carrier for signal in signals for carrier in CARRIERS[signal]))

    def carrying(self, *carriers: SourceSignal) -> list[str]:
        """Returns the source topics that carry one of these signals."""
        return sorted(source.topic for source in self.bundle.sources if source.signal in carriers)


@dataclass(slots=True)
class History:
    """What an objective has not counted of the past.

    Args:
        wanted: The objective.
        sections: What is to be written to the log, the newest first; nothing where there is nothing to do.
        why_not: Why there is nothing to do; '' where there is.
        messages: Messages that were read for the objectives of this partition.
        between: Events of its own minutes that lie between points before the log and points in it: they count nowhere.
        now_ns: The log's `now`.
    """

    wanted: Wanted
    sections: list[Backfill] = field(default_factory=list)
    why_not: str = ""
    messages: int = 0
    between: int = 0
    now_ns: int = 0


class _Sources:
    """The source partitions of a job, and how to read stretches of them."""

    def __init__(self, topics: Topics, job: Job, decode: Decode) -> None:
        self.partitions: list[SourcePartition] = []
        self.messages = 0
        # A sender's clock may be ahead: its messages are older than what they tell of, and so is the first of two.
        before_ns = FUTURE_AFTER_NS + job.bundle.settings.duplicate_minutes * MINUTE_NS
        self.since_ns = min(job.earliest) * MINUTE_NS - before_ns
        self._topics = topics
        self._job = job
        self._decode = decode

    async def look(self) -> None:
        """Finds out what is retained."""
        names = self._job.topics()
        infos = await self._topics.describe(names)
        places = [TopicPartition(name, number) for name in sorted(infos) for number in range(infos[name].partitions)]
        held = await self._topics.stretches(places)
        since = await self._topics.stretches_since(places, self.since_ns)
        # What a metric's point adds depends on all points before it.
        accumulating = self._job.carrying(SourceSignal.METRICS)
        since |= {at: held[at] for at in places if at.topic in accumulating}
        for at in places:
            source = SourcePartition(
                topic=at.topic,
                topic_id=str(infos[at.topic].topic_id),
                partition=at.partition,
                begin=held[at].first,
                start=since[at].first,
                end=held[at].end,
                first_ns=await self._first_ns(at, held[at]),
            )
            self.partitions.append(source)

    @property
    def oldest_ns(self) -> int:
        """No message that is read is older."""
        firsts = (s.first_ns for s in self.partitions if s.start == s.begin and s.first_ns is not None)
        return min([self.since_ns, *firsts])

    async def _first_ns(self, at: TopicPartition, held: Stretch) -> int | None:
        if held.first == held.end:
            return None
        stretches = {at: held}
        await self._topics.seek(stretches)
        async for record in self._topics.records(stretches):
            return time_ns_of(record)
        return None

    async def offsets_at(self, time_ns: int) -> dict[int, int]:
        """Returns the first offset of each source from a time on."""
        places = {TopicPartition(s.topic, s.partition): number for number, s in enumerate(self.partitions)}
        found = await self._topics.stretches_since(list(places), time_ns)
        return {number: found[at].first for at, number in places.items()}

    async def read(self, ranges: Ranges) -> tuple[Redecoded, dict[int, tuple[Array, Array]]]:
        """Returns what these offsets are decoded to, and offsets and timestamps of the messages, by source."""
        stretches, numbers = dict[TopicPartition, Stretch](), dict[TopicPartition, int]()
        for number, (first, end) in ranges.items():
            source = self.partitions[number]
            at = TopicPartition(source.topic, source.partition)
            first, end = max(first, source.start), min(end, source.end)
            if first < end:
                stretches[at], numbers[at] = Stretch(first=first, end=end), number
        parts: list[Redecoded] = []
        held: dict[int, list[tuple[int, int]]] = {}
        piece: list[tuple[int, ConsumerRecord]] = []
        size = 0
        if stretches:
            await self._topics.seek(stretches)
            async for record in self._topics.records(stretches):
                if refused(record) is not None:
                    continue
                number = numbers[TopicPartition(record.topic, record.partition)]
                held.setdefault(number, []).append((record.offset, max(0, time_ns_of(record))))
                piece.append((number, record))
                size += len(record.value or b"")
                if len(piece) >= _PIECE_MESSAGES or size >= _PIECE_BYTES:
                    parts.append(self._decoded(piece))
                    piece, size = [], 0
        parts.append(self._decoded(piece))
        self.messages += sum(map(len, held.values()))
        told = {number: np.array(of, np.int64).T for number, of in held.items()}
        return _joined(parts), {number: (of[0], of[1]) for number, of in told.items()}

    def _decoded(self, piece: Sequence[tuple[int, ConsumerRecord]]) -> Redecoded:
        parts = []
        for topic in sorted({record.topic for _, record in piece}):
            own = [(number, record) for number, record in piece if record.topic == topic]
            messages = Messages(
                source=np.array([number for number, _ in own], "int16"),
                offset=np.array([record.offset for _, record in own], "int64"),
                values=[record.value for _, record in own],
            )
            parts.append(for_partition(self._decode(topic, messages), self._job.bundle, self._job.partition))
        return _joined(parts)


def _joined(parts: Sequence[Redecoded]) -> Redecoded:
    filled = [part.rows for part in parts if len(part.rows)]
    return Redecoded(
        rows=concat_rows(filled) if filled else Rows.empty(),
        points=concat_points([part.points for part in parts]),
        fingerprints=concat_fingerprints([part.fingerprints for part in parts]),
    )


async def histories(log: Topics, sources: Topics, job: Job, decode: Decode) -> list[History]:
    """Returns what the objectives of a job have not counted.

    Args:
        log: The pipeline's topics, connected.
        sources: The source topics, connected.
        job: What to count.
        decode: Decodes the messages of a topic.

    Raises:
        UnavailableError: The brokers stopped answering, or an ingest process does not know the objectives yet.
    """
    reading = _Sources(sources, job, decode)
    await reading.look()
    at = log.at("shuffle", job.partition)
    held = await log.stretches([at])
    sightings = await _sightings(log, held, reading.partitions)
    watch = watch_of(reading.partitions, sightings)
    recount = Recount(job.bundle, job.partition, job.wanted, watch=watch, from_beginning=sightings.from_beginning)
    await _before_the_log(reading, sightings, recount)
    walk = LogWalk(reading.partitions, sightings, version=job.version, with_points=job.with_points)
    await log.seek(held)
    async for record in log.records(held):
        slab = walk.add(decode_record(record.value or b""), time_ns_of(record))
        if slab is not None:
            await _take(slab, walk, reading, recount)
    await _take(walk.rest(), walk, reading, recount)
    _check_readers(walk, recount, job)
    found = []
    for wanted, earliest in zip(job.wanted, job.earliest, strict=True):
        history = History(wanted=wanted, messages=reading.messages, now_ns=recount.now_ns)
        others = {source.topic for source in job.bundle.sources} - set(job.topics(wanted))
        whole_ns = whole_from_ns(reading.partitions, sightings, walk.gone_until_ns, others)
        first = max(earliest, 0 if whole_ns is None else -(-whole_ns // MINUTE_NS))
        history.why_not = (
            _out_of_reach(at, held[at], sightings, wanted)
            or _nothing_retained(job, wanted, first, whole_ns)
            or _unread(reading.partitions, sightings, others)
        )
        if not history.why_not:
            history.sections, history.between = _sections(job, wanted, recount, first), recount.between(wanted)
        found.append(history)
    return found


async def _sightings(
    log: Topics, held: Mapping[TopicPartition, Stretch], sources: Sequence[SourcePartition]
) -> Sightings:
    from_beginning = all(stretch.first == 0 for stretch in held.values())
    sightings = Sightings(sources, from_beginning)
    await log.seek(held)
    async for record in log.records(held):
        sightings.add(decode_record(record.value or b""), time_ns_of(record))
        if sightings.complete:
            break
    return sightings


def _out_of_reach(at: TopicPartition, held: Stretch, sightings: Sightings, wanted: Wanted) -> str:
    """What was counted can be told from what was not only by the log records that covered it."""
    version = sightings.first_version
    if version is None or held.first == 0 or version < wanted.since:
        return ""
    return (
        f"{at.topic}/{at.partition} begins at offset {held.first:,}, under version {version} of the configuration: it "
        f"no longer reaches back to version {wanted.since}, with which the objective came, so what was counted since "
        "cannot be told from what was not. Backfill within the time that the log is kept"
    )


def _nothing_retained(job: Job, wanted: Wanted, first: int, whole_ns: int | None) -> str:
    if whole_ns is not None and first < wanted.begins_at:
        return ""
    return f"nothing is retained of {', '.join(job.topics(wanted)) or 'its sources'} from before its history begins"


def _unread(sources: Sequence[SourcePartition], sightings: Sightings, others: Collection[str]) -> str:
    """What nobody has read yet may be read from its beginning, and would count twice."""
    unread = [
        f"{source.topic}/{source.partition}"
        for number, source in enumerate(sources)
        if number not in sightings.boundaries and source.topic not in others
    ]
    if not unread:
        return ""
    return (
        f"nobody has read {', '.join(unread)} yet: what it holds may still be counted live. Let `qma worker` run for a "
        "minute, then try again"
    )


def _check_readers(walk: LogWalk, recount: Recount, job: Job) -> None:
    behind = walk.still_reading(recount.now_ns)
    if behind:
        raise UnavailableError(
            f"ingest {', '.join(behind)} still reads under a configuration before version {job.version}, or did within "
            "the last minute: what it reads is not counted. Try again in a minute"
        )


async def _before_the_log(reading: _Sources, sightings: Sightings, recount: Recount) -> None:
    """Counts what lies before the log's first record, in the order of the messages' own timestamps."""
    bounds = {n: (source.start, sightings.boundary(n)) for n, source in enumerate(reading.partitions)}
    first, newest = minute_of(reading.oldest_ns), dict[int, int]()
    for ranges in await _slabs(reading, bounds, first, minute_of(reading.since_ns) + HOUR_RING.retention_minutes):
        read, held = await reading.read(ranges)
        starts = {number: start for number, (start, _) in ranges.items()}
        _count_by_minute(reading.partitions, read, held, starts, newest, recount)


async def _slabs(reading: _Sources, ranges: Ranges, first: int, end: int) -> list[Ranges]:
    """Returns stretches of the sources in the order of their timestamps, from minute `first` to `end`.

    Each is of at most `SLAB_MESSAGES`, or of one minute.
    """
    messages = sum(behind - start for start, behind in ranges.values())
    if messages <= SLAB_MESSAGES or end - first <= 1:
        return [ranges] if messages else []
    middle = (first + end) // 2
    found = await reading.offsets_at(middle * MINUTE_NS)
    edges = {n: max(start, min(behind, found[n])) for n, (start, behind) in ranges.items()}
    before = {n: (start, edges[n]) for n, (start, _) in ranges.items()}
    after = {n: (edges[n], behind) for n, (_, behind) in ranges.items()}
    return [*await _slabs(reading, before, first, middle), *await _slabs(reading, after, middle, end)]


def _count_by_minute(
    sources: Sequence[SourcePartition],
    read: Redecoded,
    held: Mapping[int, tuple[Array, Array]],
    starts: Mapping[int, int],
    newest: dict[int, int],
    recount: Recount,
) -> None:
    minutes = minutes_of({number: times for number, (_, times) in held.items()}, newest)
    listed = np.unique(np.concatenate(list(minutes.values()))).tolist() if minutes else []
    read = replace(read, points=_by_time(read.points, held))
    ends = {number: np.full(len(listed), starts[number], np.int64) for number in range(len(sources))}
    for number, of in minutes.items():
        last = np.searchsorted(of, listed, side="right")
        ends[number] = np.concatenate([[starts[number]], held[number][0] + 1])[last]
    tables = [{number: number for number in range(len(sources))}] * len(listed)
    for at, (minute, part) in enumerate(zip(listed, split(read, ends, tables), strict=True)):
        covered = [source.covered(int(ends[number][at])) for number, source in enumerate(sources)]
        recount.before_log(minute, covered, part)


def _by_time(points: Points, held: Mapping[int, tuple[Array, Array]]) -> Points:
    """Returns points in the order of their messages' timestamps: those of one stream may come from several sources."""
    times = np.zeros(len(points), np.int64)
    for number, (offsets, times_ns) in held.items():
        mine = points.source == number
        times[mine] = times_ns[np.searchsorted(offsets, points.offset[mine])]
    return points.take(np.lexsort((points.offset, points.source, times)))


async def _take(slab: Slab, walk: LogWalk, reading: _Sources, recount: Recount) -> None:
    if not slab.records:
        return
    read, _ = await reading.read(slab.ranges)
    tables = [walk.table(record) for record, _, _ in slab.records]
    parts = split(read, slab.ends(), tables)
    for (record, time_ns, read_again), part in zip(slab.records, parts, strict=True):
        ordered = in_log_order(part, record, walk.read_from(record)) if read_again else None
        recount.log_record(record, time_ns, ordered)


def _sections(job: Job, wanted: Wanted, recount: Recount, first: int) -> list[Backfill]:
    """Returns the history from a minute on, the newest section first: each ends where the one before begins.

    A slice is in the section that it begins in.
    """
    events, slices = recount.missing(wanted, first), recount.slices(wanted, first, job.gaps)
    end, length = wanted.begins_at, wanted.objective.slice_minutes
    sections = []
    while first < end:
        begin = max(first, end - SECTION_MINUTES_MAX)
        section = Backfill(
            service=wanted.objective.service,
            digest=wanted.objective.digest,
            first_minute=begin,
            end_minute=end,
            events=events.between(begin, end),
            slices=slices.between(-(-begin // length) * length, -(-end // length) * length),
        )
        sections.append(section)
        end = begin
    return sections


async def write(log: Topics, job: Job, version: int, found: Collection[History]) -> int | None:
    """Writes the sections to the log. Returns the offset of the last; None where there is nothing to write.

    They may be written twice: what does not end where a history begins is not booked.

    Args:
        log: The pipeline's topics.
        job: What was counted.
        version: Of the configuration in force.
        found: What came of it.

    Raises:
        UnavailableError: The log did not take one.
    """
    sections = [(section, history.now_ns) for history in found for section in history.sections]
    if not sections:
        return None
    topic, incarnation, offset = f"{log.prefix}shuffle", f"backfill-{uuid.uuid4().hex}", -1
    producer = await ingest_producer(log.bootstrap)
    try:
        async with asyncio.timeout(STALLED_S):
            for sequence, (section, now_ns) in enumerate(sections):
                record = LogRecord(
                    generation=job.bundle.generation,
                    partitions=job.bundle.partitions,
                    incarnation=incarnation,
                    sequence=sequence,
                    config_version=version,
                    sources=(),
                    backfill=encode_backfill(section),
                )
                # Where the broker sets the time it ignores this; elsewhere the clock must not move.
                timestamp_ms = now_ns // 1_000_000
                sent = await producer.send(
                    topic, encode_record(record), partition=job.partition, timestamp_ms=timestamp_ms
                )
                offset = (await sent).offset
    except (KafkaError, TimeoutError) as error:
        raise UnavailableError(
            f"{topic} did not take a section ({error!r}); run the command again: what was taken counts once"
        ) from error
    finally:
        await stop(producer)
    return offset
