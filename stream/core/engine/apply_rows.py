"""Rows of a record: judged, admitted, counted in cells and sketches. A few vector passes over all of them at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.core.columns import Array, Kind, RejectReason, RowFlag, Rows
from stream.core.engine.additions import Additions
from stream.core.engine.services import Service
from stream.core.engine.state import State
from stream.core.engine.tally import Predicate, of_kinds, tally
from stream.core.engine.verdicts import Verdicts
from stream.core.events import Output
from stream.core.log import LogRecord, SourceRange
from stream.core.slo.spec import Objective, Settings
from stream.core.units import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

LATE_AFTER_NS = 6 * HOUR_NS
"""Rows that end before frontier − 6 h are late: no longer counted."""

FUTURE_AFTER_NS = 5 * MINUTE_NS
"""Rows that end after now + 5 min are rejected."""

UNKNOWN_FRONTIER_SPAN_NS = 8 * DAY_NS
"""Before the frontier is known, rows this much older than `now` are late: it bounds the minute ring."""

SKETCHED_KINDS = (Kind.SERVER, Kind.CONSUMER)


def apply_rows(state: State, record: LogRecord, rows: Rows) -> list[Output]:
    """Counts the rows that are new, neither late nor from the future, and within the caps.

    Returns a dead letter per source and reason of the rows that were refused.
    """
    assert state.bundle is not None
    accounts = [state.ledger.source(source) for source in record.sources]
    assert len({account.id for account in accounts}) == len(accounts), "a record lists a source twice"
    _check_ranges(record.sources, rows)
    verdicts = Verdicts(accounts, rows)
    verdicts.replayed(rows.offset < np.array([account.next_offset for account in accounts])[rows.source])
    verdicts.reject(rows.end_ns > state.clocks.now_ns + FUTURE_AFTER_NS, RejectReason.FUTURE)
    verdicts.late(rows.end_ns < _late_before_ns(state))
    admitted = _admit(state, rows, verdicts, state.bundle.settings)
    if len(admitted.rows):
        _count(state, record, admitted)
    verdicts.count()
    return verdicts.dead_letters(state, record.sources)


def _check_ranges(sources: tuple[SourceRange, ...], rows: Rows) -> None:
    first = np.array([source.first_offset for source in sources])[rows.source]
    last = np.array([source.next_offset for source in sources])[rows.source]
    assert ((first <= rows.offset) & (rows.offset < last)).all(), "a row outside its source's range"


def _late_before_ns(state: State) -> int:
    if state.clocks.frontier_ns is not None:
        return state.clocks.frontier_ns - LATE_AFTER_NS
    return state.clocks.now_ns - UNKNOWN_FRONTIER_SPAN_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    """Rows to count and the pairs (service, version) that they belong to.

    Shapes: `pair` int64[n], an index into `pairs`; `minute` int64[n].
    """

    rows: Rows
    pair: Array
    minute: Array
    pairs: list[tuple[str, str]]


def _admit(state: State, rows: Rows, verdicts: Verdicts, settings: Settings) -> _Admitted:
    """Takes in new services and versions up to their caps, in order of name; the rows of others are rejected."""
    index = np.flatnonzero(verdicts.open)
    versions = max(1, len(rows.versions))
    codes, pair = np.unique(rows.service[index].astype(np.int64) * versions + rows.version[index], return_inverse=True)
    pairs = [(rows.services[code // versions], rows.versions[code % versions]) for code in codes.tolist()]
    reasons: dict[RejectReason, list[int]] = {}
    for number in sorted(range(len(pairs)), key=pairs.__getitem__):
        reason = _refusal(state, *pairs[number], settings)
        if reason is not None:
            reasons.setdefault(reason, []).append(number)
    for reason, numbers in sorted(reasons.items()):
        mask = np.zeros(len(rows), bool)
        mask[index[np.isin(pair, numbers)]] = True
        verdicts.reject(mask, reason)
    kept = verdicts.open[index]
    chosen = rows.take(index[kept])
    return _Admitted(rows=chosen, pair=pair[kept], minute=chosen.end_ns // MINUTE_NS, pairs=pairs)


def _refusal(state: State, key: str, version: str, settings: Settings) -> RejectReason | None:
    """Returns why a version of a service is not taken in; None where it is, or was before."""
    service = state.services.get(key)
    if service is None:
        if len(state.services) >= settings.services_max:
            return RejectReason.TOO_MANY_SERVICES
        service = state.services[key] = Service(key)
        state.changes.heads.add(key)
    if version not in service.versions:
        if len(service.versions) >= settings.versions_max:
            return RejectReason.TOO_MANY_VERSIONS
        service.versions.add(version)
    return None


def _count(state: State, record: LogRecord, admitted: _Admitted) -> None:
    numbers = _pairs_by_service(admitted)
    newest = _newest_minutes(admitted)
    wanted: dict[Predicate, list[tuple[Service, Objective, list[int]]]] = {}
    for key, pairs in numbers.items():
        service = state.services[key]
        newest_minute = max(newest[pair] for pair in pairs)
        for objective in service.objectives:
            objective_state = service.states[objective.digest]
            if record.config_version < objective_state.since:
                # Decoded before the objective was known: its history begins after the last such minute.
                objective_state.start_minute = max(objective_state.start_minute or 0, newest_minute + 1)
            else:
                wanted.setdefault(Predicate.of(objective), []).append((service, objective, pairs))
        service.newest_minute = max(newest_minute, service.newest_minute or newest_minute)
        state.changes.heads.add(key)
    additions = Additions()
    for predicate, objectives in wanted.items():
        _tally(admitted, predicate, objectives, additions)
    additions.add_to(state)
    _note_revisions(state, numbers, additions)
    _add_sketches(state, admitted)


def _pairs_by_service(admitted: _Admitted) -> dict[str, list[int]]:
    """Returns the pairs that have rows, by service, in the order of the names."""
    numbers: dict[str, list[int]] = {}
    present = np.unique(admitted.pair).tolist()
    for number in sorted(present, key=admitted.pairs.__getitem__):
        numbers.setdefault(admitted.pairs[number][0], []).append(number)
    return numbers


def _newest_minutes(admitted: _Admitted) -> list[int]:
    newest = np.zeros(len(admitted.pairs), np.int64)
    np.maximum.at(newest, admitted.pair, admitted.minute)
    return [int(minute) for minute in newest]


def _tally(
    admitted: _Admitted,
    predicate: Predicate,
    objectives: list[tuple[Service, Objective, list[int]]],
    additions: Additions,
) -> None:
    """Counts for all objectives that share a predicate in one pass."""
    wanted = np.zeros(len(admitted.pairs), bool)
    for _, _, pairs in objectives:
        wanted[pairs] = True
    sums = tally(admitted.rows, admitted.pair, admitted.minute, wanted, predicate)
    bounds = np.searchsorted(sums.pair, np.arange(len(admitted.pairs) + 1)).tolist()
    for service, objective, pairs in objectives:
        for pair in pairs:
            first, last = bounds[pair], bounds[pair + 1]
            if first < last:
                key = (service.key, objective.digest, admitted.pairs[pair][1])
                additions.note(key, sums.minute[first:last], sums.values[:, first:last])


def _note_revisions(state: State, services: dict[str, list[int]], additions: Additions) -> None:
    """Rows of a minute that is closed correct what was published of it, once the next minute closes."""
    if state.next_minute is None:
        return
    minutes = additions.minutes_of_objectives()
    for key in services:
        for digest, objective_state in state.services[key].states.items():
            start = objective_state.start_minute
            if start is not None and digest in minutes:
                objective_state.revised.update(m for m in minutes[digest] if start <= m < state.next_minute)


def _add_sketches(state: State, admitted: _Admitted) -> None:
    """Buffers the durations of requests in minutes that are open, in the order of the log."""
    rows, minute = admitted.rows, admitted.minute
    chosen = of_kinds(rows, SKETCHED_KINDS) & ((rows.flags & RowFlag.NEGATIVE_DURATION) == 0)
    if state.next_minute is not None:
        chosen &= minute >= state.next_minute
    index = np.flatnonzero(chosen)
    if not len(index):
        return
    first = int(minute[index].min())
    span = int(minute[index].max()) - first + 1
    group = rows.service[index].astype(np.int64) * span + (minute[index] - first)
    order = np.argsort(group, kind="stable")
    codes, starts = np.unique(group[order], return_index=True)
    durations_s = rows.duration_ns[index[order]] / SECOND_NS
    for code, durations in zip(codes.tolist(), np.split(durations_s, starts[1:]), strict=True):
        service = state.services[rows.services[code // span]]
        service.sketches.add(code % span + first, durations)
        state.changes.sketches.add((service.key, code % span + first))
