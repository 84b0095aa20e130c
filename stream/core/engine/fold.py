"""The fold: one record after the other, in the order of the log.

Within a record: configuration, rows, points, indicators, receipts, progress, then each minute that closed, in order,
those of composites after the others, then expiry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stream.core.engine import chunks
from stream.core.engine.admission import repetitions_in
from stream.core.engine.apply_config import apply_config
from stream.core.engine.apply_points import apply_points
from stream.core.engine.apply_rows import apply_rows
from stream.core.engine.backfill import book_backfill
from stream.core.engine.chunks import Checkpoint
from stream.core.engine.close import close_minutes, expire
from stream.core.engine.ledger import Ledger
from stream.core.engine.second_stage import apply_indicators, close_composites
from stream.core.engine.services import Service
from stream.core.engine.state import Incarnation, State
from stream.core.errors import IncompatibleError
from stream.core.events import DeadLetter, Output, SliEvent
from stream.core.log import LogRecord, decode_record
from stream.core.slo.spec import Bundle, Objective
from stream.core.units import MINUTE_NS

INCARNATIONS_MAX = 1024
"""Ingest processes remembered, the longest silent forgotten first. Each live one writes every second."""


class Engine:
    """The fold of one partition of the shuffle log."""

    def __init__(self, partition: int) -> None:
        self.state = State(partition)
        self.composites = State(partition, self.state)

    @classmethod
    def restore(cls, partition: int, stored: Mapping[bytes, bytes]) -> Engine:
        """Returns the engine at the last checkpoint, from the chunks that were visible; a new one where there are none.

        Raises:
            IncompatibleError: When the state is of another format, of another partition, or not whole.
        """
        engine = cls(partition)
        engine.state, engine.composites = chunks.restore(partition, stored)
        return engine

    @property
    def partition(self) -> int:
        """Number of the partition of the shuffle log."""
        return self.state.partition

    @property
    def log_offset(self) -> int:
        """Offset of the last record applied; -1 before the first."""
        return self.state.log_offset

    @property
    def now_ns(self) -> int:
        """The log's `now`."""
        return self.state.clocks.now_ns

    @property
    def frontier_ns(self) -> int | None:
        """Time up to which every source has been read; None while a source was never heard of."""
        return self.state.clocks.frontier_ns

    def laggards(self) -> list[tuple[str, int, int | None]]:
        """Returns (topic, partition, time read up to) of every source, the one that holds the frontier back first."""
        return self.state.clocks.laggards(self.state.topics)

    @property
    def bundle(self) -> Bundle | None:
        """The configuration in force."""
        return self.state.bundle

    @property
    def ledger(self) -> Ledger:
        """The accounts of this partition."""
        return self.state.ledger

    @property
    def latest(self) -> Mapping[str, SliEvent]:
        """The newest SLI event of each objective since this process has the partition, by objective digest."""
        return self.state.latest | self.composites.latest if self.composites.latest else self.state.latest

    @property
    def services(self) -> Mapping[str, Service]:
        """The services of this partition by key, with the composites that they have."""
        services = self.state.services
        both = {key: _joined(services.get(key), second) for key, second in self.composites.services.items()}
        return services | both if both else services

    def stage_of(self, objective: Objective) -> State:
        """Returns the state that an objective is in: that of what is counted, or that of composites."""
        return self.state if objective.composite is None else self.composites

    def checkpoint(self) -> Checkpoint:
        """Returns what changed since the last checkpoint and marks it as saved."""
        return chunks.checkpoint(self.state, self.composites)

    def snapshot(self) -> dict[bytes, bytes]:
        """Returns the whole state in canonical bytes; right after a checkpoint only."""
        return chunks.snapshot(self.state, self.composites)

    def apply(self, offset: int, time_ns: int, value: bytes) -> list[Output]:
        """Applies the next record of the log and returns what it puts out.

        Args:
            offset: Offset of the record; exactly one more than the last.
            time_ns: Its append time.
            value: Its bytes.

        Raises:
            IncompatibleError: When the record belongs to another generation, partition count or format.
            AssertionError: When the log breaks a promise of the ingest; the worker must stop.
        """
        state = self.state
        assert offset > state.log_offset, f"record {offset} after {state.log_offset}"
        record = decode_record(value)
        state.log_offset = offset
        state.clocks.tick(time_ns)
        acknowledged_ns = self._in_sequence(record)
        outputs: list[Output] = []
        if record.config is not None:
            outputs += apply_config(state, self.composites, record.config_version, record.config)
        self.composites.follow(state)
        self._check_pipeline(record)
        repetitions = repetitions_in(state, record)
        if record.rows is not None:
            outputs += apply_rows(state, record, record.rows, repetitions)
        if record.points is not None:
            outputs += apply_points(state, record, record.points, repetitions)
        repetitions.forget_uncounted(state)
        if record.indicators is not None:
            outputs += apply_indicators(state, self.composites, record, record.indicators)
        if record.backfill is not None:
            book_backfill(state, record.backfill)
        if record.receipts is not None:
            outputs += _apply_receipts(state, record)
        if record.progress is not None:
            _apply_losses(state, record)
        _cover(state, record)
        if record.progress is not None:
            state.clocks.progress(record, acknowledged_ns)
            state.clocks.move_frontier(state.topics)
            before = state.next_minute
            outputs += close_minutes(state)
            if state.next_minute is not None and state.next_minute != before:
                state.streams.memory.retire(state.next_minute * MINUTE_NS)
            outputs += close_composites(state, self.composites)
        outputs += expire(state)
        return outputs

    def _in_sequence(self, record: LogRecord) -> int | None:
        """Checks that no record of an incarnation is missing. Returns the time of its progress record before this one.

        Only as many incarnations are remembered as can be alive at once. One that was forgotten and still writes
        starts its count anew: what it sent before stands before it in the log.
        """
        state = self.state
        last = state.incarnations.pop(record.incarnation, None)
        if last is not None or not state.forgot_incarnations:
            expected = 0 if last is None else last.sequence + 1
            assert record.sequence == expected, (
                f"ingest {record.incarnation} sent record {record.sequence} of partition {state.partition} "
                f"where {expected} was due: a record was lost or reordered"
            )
        before_ns = last.progress_ns if last is not None else None
        # A writer with its own clock has none before it has read anything: its time is 0, and `now` may be, too.
        progress_ns = state.clocks.now_ns or None if record.progress is not None else before_ns
        state.incarnations[record.incarnation] = Incarnation(record.sequence, progress_ns)
        while len(state.incarnations) > INCARNATIONS_MAX:
            del state.incarnations[next(iter(state.incarnations))]
            state.forgot_incarnations = True
        return before_ns

    def _check_pipeline(self, record: LogRecord) -> None:
        bundle = self.state.bundle
        assert bundle is not None, "the first record of an incarnation carries the configuration"
        assert record.config_version <= self.state.config_version, "rows came before their configuration"
        if (record.generation, record.partitions) != (bundle.generation, bundle.partitions):
            raise IncompatibleError(
                f"the log holds a record of generation {record.generation!r} with {record.partitions} partitions, the "
                f"configuration says {bundle.generation!r} with {bundle.partitions}; stop the ingest processes that "
                "still run the other one"
            )


def _joined(first: Service | None, second: Service) -> Service:
    """Returns a service with the objectives of both stages."""
    if first is None:
        return second
    objectives = sorted([*first.objectives, *second.objectives], key=lambda o: o.name)
    return replace(first, objectives=objectives, states=first.states | second.states)


def _cover(state: State, record: LogRecord) -> None:
    """Everything of the record is applied: its offsets count as covered."""
    for source in record.sources:
        account = state.ledger.source(source)
        account.next_offset = max(account.next_offset, source.next_offset)


def _apply_losses(state: State, record: LogRecord) -> None:
    assert record.progress is not None
    for lost in record.progress.lost:
        source = record.sources[lost.source]
        account = state.ledger.source(source)
        first = max(lost.first_offset, account.next_offset, account.lost_until)  # what was applied before is not lost
        if lost.next_offset > first:
            account.lost_offsets += lost.next_offset - first
            account.lost_until = lost.next_offset
            if not _is_indicators(state, source.topic):  # what is lacking of these shows itself
                state.clocks.lose((source.topic, source.partition))


def _is_indicators(state: State, topic: str) -> bool:
    assert state.bundle is not None
    return any(source.topic == topic and not source.is_telemetry for source in state.bundle.sources)


def _apply_receipts(state: State, record: LogRecord) -> list[Output]:
    """Enters the receipts of offsets not yet covered, and puts out a dead letter for each refusal."""
    receipts = record.receipts
    assert receipts is not None
    outputs: list[Output] = []
    for i in range(len(receipts)):
        source = record.sources[receipts.source[i]]
        account = state.ledger.source(source)
        first, last = int(receipts.first_offset[i]), int(receipts.last_offset[i])
        assert source.first_offset <= first <= last < source.next_offset, "a receipt outside its source's range"
        if last < account.next_offset:
            continue
        items = int(receipts.items[i])
        rejected = int(receipts.rejected[i])
        if first < account.next_offset:  # a run of one-item messages, all clean or all refused, partly entered before
            items = max(0, items - (account.next_offset - first))
            rejected = min(rejected, items)
        account.received += items
        if rejected:
            reason = receipts.reasons[receipts.reason[i]]
            account.rejected[reason] += rejected
            outputs.append(
                DeadLetter(
                    context=state.context(),
                    topic=source.topic,
                    topic_id=source.topic_id,
                    partition=source.partition,
                    offset=max(first, account.next_offset),
                    reason=reason,
                    items=rejected,
                    digest=receipts.digests[i],
                    detail=receipts.details[i],
                )
            )
    return outputs
