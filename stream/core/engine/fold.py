"""The fold: one record after the other, in the order of the log.

Within a record: configuration, rows, receipts, progress, then each minute that closed, in order, then expiry.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stream.core.columns import Array, Kind, RejectReason, RowFlag, Rows
from stream.core.engine import chunks
from stream.core.engine.additions import Additions
from stream.core.engine.apply_config import apply_config
from stream.core.engine.chunks import Checkpoint
from stream.core.engine.close import close_minutes, expire
from stream.core.engine.ledger import Ledger, SourceLedger
from stream.core.engine.services import Service
from stream.core.engine.state import Incarnation, State
from stream.core.engine.tally import of_kinds, tally
from stream.core.errors import IncompatibleError
from stream.core.events import DeadLetter, Output, SliEvent
from stream.core.log import LogRecord, SourceRange, decode_record
from stream.core.slo.spec import Bundle, Settings
from stream.core.units import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

LATE_AFTER_NS = 6 * HOUR_NS
"""Rows that end before frontier − 6 h are late: no longer counted."""

FUTURE_AFTER_NS = 5 * MINUTE_NS
"""Rows that end after now + 5 min are rejected."""

UNKNOWN_FRONTIER_SPAN_NS = 8 * DAY_NS
"""Before the frontier is known, rows this much older than `now` are late: it bounds the minute ring."""

INCARNATIONS_MAX = 1024
"""Ingest processes remembered, the longest silent forgotten first. Each live one writes every second."""

SKETCHED_KINDS = (Kind.SERVER, Kind.CONSUMER)


class Engine:
    """The fold of one partition of the shuffle log."""

    def __init__(self, partition: int) -> None:
        self.state = State(partition)

    @classmethod
    def restore(cls, partition: int, stored: Mapping[bytes, bytes]) -> Engine:
        """Returns the engine at the last checkpoint, from the chunks that were visible; a new one where there are none.

        Raises:
            IncompatibleError: When the state is of another format, of another partition, or not whole.
        """
        engine = cls(partition)
        engine.state = chunks.restore(partition, stored)
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
        return self.state.latest

    @property
    def services(self) -> Mapping[str, Service]:
        """The services of this partition by key."""
        return self.state.services

    def checkpoint(self) -> Checkpoint:
        """Returns what changed since the last checkpoint and marks it as saved."""
        return chunks.checkpoint(self.state)

    def snapshot(self) -> dict[bytes, bytes]:
        """Returns the whole state in canonical bytes; right after a checkpoint only."""
        return chunks.snapshot(self.state)

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
            outputs += apply_config(state, record.config_version, record.config)
        self._check_pipeline(record)
        if record.rows is not None:
            outputs += _apply_rows(state, record, record.rows)
        if record.receipts is not None:
            outputs += _apply_receipts(state, record)
        if record.progress is not None:
            _apply_losses(state, record)
        _cover(state, record)
        if record.progress is not None:
            state.clocks.progress(record, acknowledged_ns)
            state.clocks.move_frontier(state.topics)
            outputs += close_minutes(state)
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
            state.clocks.lose((source.topic, source.partition))


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
        if first < account.next_offset:  # a run of clean one-item messages, partly entered before
            items -= account.next_offset - first
        account.received += items
        rejected = int(receipts.rejected[i])
        if rejected:
            reason = receipts.reasons[receipts.reason[i]]
            account.rejected[reason] += rejected
            outputs.append(
                DeadLetter(
                    context=state.context(),
                    topic=source.topic,
                    topic_id=source.topic_id,
                    partition=source.partition,
                    offset=first,
                    reason=reason,
                    items=rejected,
                    digest=receipts.digests[i],
                    detail=receipts.details[i],
                )
            )
    return outputs


def _apply_rows(state: State, record: LogRecord, rows: Rows) -> list[Output]:
    """Counts the rows that are new, neither late nor from the future, and within the caps.

    Returns a dead letter per source and reason of the rows that were refused.
    """
    bundle = state.bundle
    assert bundle is not None
    accounts = [state.ledger.source(source) for source in record.sources]
    assert len({account.id for account in accounts}) == len(accounts), "a record lists a source twice"
    _check_ranges(record.sources, rows)
    verdict = _Verdicts(accounts, rows)
    verdict.replayed(np.array([account.next_offset for account in accounts])[rows.source])
    now_ns = state.clocks.now_ns
    verdict.reject(rows.end_ns > now_ns + FUTURE_AFTER_NS, RejectReason.FUTURE)
    verdict.late(rows.end_ns < _late_before_ns(state))
    additions = Additions()
    for service, index in _by_service(rows, verdict.open):
        _apply_service(state, record, service, rows, index, verdict, bundle.settings, additions)
    additions.add_to(state)
    verdict.count()
    return [
        _dead_letter(state, record.sources[source], rows, np.sort(np.concatenate(parts)), reason)
        for (source, reason), parts in sorted(verdict.refused.items())
    ]


_WHY = {
    RejectReason.FUTURE: "ends more than 5 minutes after now: look at the clock of the sender",
    RejectReason.TOO_MANY_SERVICES: "more services than a partition may hold",
    RejectReason.TOO_MANY_VERSIONS: "more versions than a service may have",
}


def _dead_letter(state: State, source: SourceRange, rows: Rows, index: Array, reason: RejectReason) -> DeadLetter:
    """Returns the dead letter of rows of one record and source that were refused for one reason."""
    first, items = int(index[0]), int(rows.count[index].sum())
    name = f"{rows.services[rows.service[first]]} {rows.versions[rows.version[first]]}".strip()
    return DeadLetter(
        context=state.context(),
        topic=source.topic,
        topic_id=source.topic_id,
        partition=source.partition,
        offset=int(rows.offset[first]),
        reason=reason,
        items=items,
        digest=None,
        detail=f"{_WHY[reason]}; first of {items} up to offset {int(rows.offset[index[-1]])}: {name}",
    )


def _late_before_ns(state: State) -> int:
    if state.clocks.frontier_ns is not None:
        return state.clocks.frontier_ns - LATE_AFTER_NS
    return state.clocks.now_ns - UNKNOWN_FRONTIER_SPAN_NS


def _check_ranges(sources: tuple[SourceRange, ...], rows: Rows) -> None:
    first = np.array([source.first_offset for source in sources])[rows.source]
    last = np.array([source.next_offset for source in sources])[rows.source]
    assert ((first <= rows.offset) & (rows.offset < last)).all(), "a row outside its source's range"


class _Verdicts:
    """What becomes of each row; each is judged once, and all of them are entered in the ledger."""

    def __init__(self, accounts: list[SourceLedger], rows: Rows) -> None:
        self.open = np.ones(len(rows), bool)
        self._accounts = accounts
        self.refused: dict[tuple[int, RejectReason], list[Array]] = {}
        self._rows = rows
        self._entered = 0

    def replayed(self, next_offset: Array) -> None:
        for account, items in self._close(self._rows.offset < next_offset):
            account.replayed += items

    def late(self, mask: Array) -> None:
        for account, items in self._close(mask):
            account.late += items

    def reject(self, mask: Array, reason: RejectReason) -> None:
        refused = np.flatnonzero(self.open & mask)
        sources = self._rows.source[refused]
        for source in np.unique(sources):
            self.refused.setdefault((int(source), reason), []).append(refused[sources == source])
        for account, items in self._close(mask):
            account.rejected[reason.value] += items

    def reject_at(self, index: Array, reason: RejectReason) -> None:
        mask = np.zeros(len(self.open), bool)
        mask[index] = True
        self.reject(mask, reason)

    def count(self) -> None:
        """Whatever is still open was applied."""
        for account, items in self._close(self.open):
            account.counted += items
        assert self._entered == int(self._rows.count.sum()), "a row was lost between the record and the ledger"

    def _close(self, mask: Array) -> list[tuple[SourceLedger, int]]:
        closed = np.flatnonzero(self.open & mask)
        self.open = self.open & ~mask
        sums = np.zeros(len(self._accounts), np.int64)
        np.add.at(sums, self._rows.source[closed], self._rows.count[closed])
        self._entered += int(sums.sum())
        return [(self._accounts[i], int(sums[i])) for i in np.flatnonzero(sums)]


def _by_service(rows: Rows, chosen: Array) -> list[tuple[str, Array]]:
    """Returns (service key, index of its chosen rows) per service, in the order of the keys."""
    index = np.flatnonzero(chosen)
    if not len(index):
        return []
    index = index[np.argsort(rows.service[index], kind="stable")]
    codes, first = np.unique(rows.service[index], return_index=True)
    groups = zip((rows.services[code] for code in codes), np.split(index, first[1:]), strict=True)
    return sorted(groups, key=lambda group: group[0])


def _apply_service(
    state: State,
    record: LogRecord,
    key: str,
    rows: Rows,
    index: Array,
    verdict: _Verdicts,
    settings: Settings,
    additions: Additions,
) -> None:
    service = state.services.get(key)
    if service is None:
        if len(state.services) >= settings.services_max:
            verdict.reject_at(index, RejectReason.TOO_MANY_SERVICES)
            return
        service = state.services[key] = Service(key)
    refused = _admit_versions(service, rows, index, settings)
    if len(refused):
        verdict.reject_at(refused, RejectReason.TOO_MANY_VERSIONS)
        index = np.setdiff1d(index, refused)
    if not len(index):
        return
    part = rows.take(index)
    _tally_service(state, record, service, part, additions)
    _add_sketches(state, service, part)
    newest = int(part.end_ns.max()) // MINUTE_NS
    service.newest_minute = newest if service.newest_minute is None else max(newest, service.newest_minute)
    state.changes.heads.add(key)


def _admit_versions(service: Service, rows: Rows, index: Array, settings: Settings) -> Array:
    """Takes in new versions up to the cap, in order of name within a record. Returns the rows of those beyond it."""
    codes = np.unique(rows.version[index])
    beyond = []
    for name, code in sorted((rows.versions[code], code) for code in codes):
        if name in service.versions:
            continue
        if len(service.versions) >= settings.versions_max:
            beyond.append(code)
        else:
            service.versions.add(name)
    return index[np.isin(rows.version[index], beyond)] if beyond else index[:0]


def _tally_service(state: State, record: LogRecord, service: Service, rows: Rows, additions: Additions) -> None:
    for objective in service.objectives:
        objective_state = service.states[objective.digest]
        if record.config_version < objective_state.since:
            # Decoded before the objective was known: its history begins after the last such minute.
            newest = int(rows.end_ns.max()) // MINUTE_NS + 1
            objective_state.start_minute = max(objective_state.start_minute or newest, newest)
            continue
        sums = tally(rows, objective)
        if len(sums.minute):
            additions.note(service.key, objective.digest, rows.versions, sums)
            _note_revisions(state, service, objective.digest, sums.minute)


def _note_revisions(state: State, service: Service, digest: str, minutes: Array) -> None:
    """Rows of a minute that is closed correct what was published of it, once the next minute closes."""
    if state.next_minute is not None:
        published = minutes[minutes < state.next_minute]
        start = service.states[digest].start_minute
        if start is not None:
            service.states[digest].revised.update(int(m) for m in np.unique(published) if m >= start)


def _add_sketches(state: State, service: Service, rows: Rows) -> None:
    minutes = rows.end_ns // MINUTE_NS
    chosen = of_kinds(rows, SKETCHED_KINDS) & ((rows.flags & RowFlag.NEGATIVE_DURATION) == 0)
    if state.next_minute is not None:
        chosen &= minutes >= state.next_minute
    durations_s = rows.duration_ns / SECOND_NS
    for minute in np.unique(minutes[chosen]):
        service.sketches.add(int(minute), durations_s[chosen & (minutes == minute)])
        state.changes.sketches.add((service.key, int(minute)))
