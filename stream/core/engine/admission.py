"""What rows and metric points have in common: they are judged, admitted within the caps, and counted by objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stream.core.columns import Array, RejectReason
from stream.core.engine.additions import Additions
from stream.core.engine.services import Service
from stream.core.engine.state import State
from stream.core.engine.tally import Predicate, Tally
from stream.core.engine.verdicts import Items, Verdicts
from stream.core.log import LogRecord, SourceRange
from stream.core.slo.spec import Objective, Settings, SliSignal
from stream.core.units import DAY_NS, HOUR_NS, MINUTE_NS

LATE_AFTER_NS = 6 * HOUR_NS
"""What ends before frontier − 6 h is late: no longer counted."""

FUTURE_AFTER_NS = 5 * MINUTE_NS
"""What ends after now + 5 min is rejected."""

UNKNOWN_FRONTIER_SPAN_NS = 8 * DAY_NS
"""Before the frontier is known, what is this much older than `now` is late: it bounds the minute ring."""


_OFFSET_BITS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What is to be counted and the pairs (service, version) that it belongs to.

    Shapes: `index` int64[n]: positions among the items of the record; `pair` int64[n], an index into `pairs`; `minute`
    int64[n].
    """

    index: Array
    pair: Array
    minute: Array
    pairs: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.index)

    def take(self, chosen: Array) -> Admitted:
        """Returns the ones at `chosen`."""
        return Admitted(index=self.index[chosen], pair=self.pair[chosen], minute=self.minute[chosen], pairs=self.pairs)


def repeated_messages(state: State, record: LogRecord) -> Array:
    """Returns the messages of a record that their producer has sent before, and remembers the others.

    int64[n], source index and offset in one. What our own replay repeats is left out: it is known by its offset.
    """
    prints = record.fingerprints
    assert state.bundle is not None
    minutes = state.bundle.settings.duplicate_minutes
    state.duplicates.forget_before(state.clocks.now_ns // MINUTE_NS - minutes)
    if prints is None or not minutes:
        return np.empty(0, np.int64)
    new = prints.take(prints.offset >= _next_offsets(state, record)[prints.source])
    words = new.words([source.topic for source in record.sources])
    repeated = state.duplicates.note(words, state.clocks.now_ns // MINUTE_NS)
    return np.asarray(_message_keys(new.source, new.offset)[np.array(repeated, bool)])


def _message_keys(source: Array, offset: Array) -> Array:
    return (source.astype(np.int64) << _OFFSET_BITS) | offset


def _next_offsets(state: State, record: LogRecord) -> Array:
    return np.array([state.ledger.source(source).next_offset for source in record.sources], np.int64)


def judge(state: State, record: LogRecord, items: Items, repeated: Array) -> Verdicts:
    """Returns the verdicts on a record's items so far: open are those that are new, not late and not of the future."""
    accounts = [state.ledger.source(source) for source in record.sources]
    assert len({account.id for account in accounts}) == len(accounts), "a record lists a source twice"
    _check_ranges(record.sources, items)
    verdicts = Verdicts(accounts, items)
    verdicts.replayed(items.offset < _next_offsets(state, record)[items.source])
    if len(repeated):
        verdicts.duplicate(np.isin(_message_keys(items.source, items.offset), repeated))
    verdicts.reject(items.time_ns > state.clocks.now_ns + FUTURE_AFTER_NS, RejectReason.FUTURE)
    verdicts.late(items.time_ns < _late_before_ns(state))
    return verdicts


def _check_ranges(sources: tuple[SourceRange, ...], items: Items) -> None:
    first = np.array([source.first_offset for source in sources])[items.source]
    last = np.array([source.next_offset for source in sources])[items.source]
    assert ((first <= items.offset) & (items.offset < last)).all(), "a row outside its source's range"


def _late_before_ns(state: State) -> int:
    if state.clocks.frontier_ns is not None:
        return state.clocks.frontier_ns - LATE_AFTER_NS
    return state.clocks.now_ns - UNKNOWN_FRONTIER_SPAN_NS


def admit(state: State, items: Items, verdicts: Verdicts) -> Admitted:
    """Takes in new services and versions up to their caps, in order of name; what belongs to others is rejected."""
    assert state.bundle is not None
    index = np.flatnonzero(verdicts.open)
    versions = max(1, len(items.versions))
    codes, pair = np.unique(
        items.service[index].astype(np.int64) * versions + items.version[index], return_inverse=True
    )
    pairs = [(items.services[code // versions], items.versions[code % versions]) for code in codes.tolist()]
    reasons: dict[RejectReason, list[int]] = {}
    for number in sorted(range(len(pairs)), key=pairs.__getitem__):
        reason = _refusal(state, *pairs[number], state.bundle.settings)
        if reason is not None:
            reasons.setdefault(reason, []).append(number)
    for reason, numbers in sorted(reasons.items()):
        mask = np.zeros(len(items), bool)
        mask[index[np.isin(pair, numbers)]] = True
        verdicts.reject(mask, reason)
    kept = verdicts.open[index]
    index = index[kept]
    return Admitted(index=index, pair=pair[kept], minute=items.time_ns[index] // MINUTE_NS, pairs=pairs)


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
        state.changes.heads.add(key)  # its points may all be refused by their streams, and then nothing is counted
    return None


def count(
    state: State,
    record: LogRecord,
    admitted: Admitted,
    signals: frozenset[SliSignal],
    tally: Callable[[Predicate, Array], Tally],
) -> None:
    """Adds what was admitted to the cells of the objectives that count one of `signals`.

    Args:
        state: The partition's.
        record: Where it is from; what was decoded before an objective was known does not count for it.
        admitted: At least one item.
        signals: What the items are.
        tally: Returns the sums of the items of some pairs (bool[pairs]) that a predicate selects. Called once per
            predicate, whatever the number of services.
    """
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
            elif objective.signal in signals:
                wanted.setdefault(Predicate.of(objective), []).append((service, objective, pairs))
        service.newest_minute = max(newest_minute, service.newest_minute or newest_minute)
        state.changes.heads.add(key)
    additions = Additions()
    for predicate, objectives in wanted.items():
        _note(admitted, objectives, tally(predicate, _pairs_of(admitted, objectives)), additions)
    additions.add_to(state)
    _note_revisions(state, numbers, additions)


def _pairs_by_service(admitted: Admitted) -> dict[str, list[int]]:
    """Returns the pairs that have rows, by service, in the order of the names."""
    numbers: dict[str, list[int]] = {}
    present = np.unique(admitted.pair).tolist()
    for number in sorted(present, key=admitted.pairs.__getitem__):
        numbers.setdefault(admitted.pairs[number][0], []).append(number)
    return numbers


def _newest_minutes(admitted: Admitted) -> list[int]:
    newest = np.zeros(len(admitted.pairs), np.int64)
    np.maximum.at(newest, admitted.pair, admitted.minute)
    return [int(minute) for minute in newest]


def _pairs_of(admitted: Admitted, objectives: list[tuple[Service, Objective, list[int]]]) -> Array:
    wanted = np.zeros(len(admitted.pairs), bool)
    for _, _, pairs in objectives:
        wanted[pairs] = True
    return wanted


def _note(
    admitted: Admitted,
    objectives: list[tuple[Service, Objective, list[int]]],
    sums: Tally,
    additions: Additions,
) -> None:
    """Notes the sums and the exemplars of one predicate for all objectives that share it."""
    bounds = np.searchsorted(sums.pair, np.arange(len(admitted.pairs) + 1)).tolist()
    for service, objective, pairs in objectives:
        service.states[objective.digest].exemplars.add(sums.exemplars.get(service.key, {}))
        for pair in pairs:
            first, last = bounds[pair], bounds[pair + 1]
            if first < last:
                key = (service.key, objective.digest, admitted.pairs[pair][1])
                additions.note(key, sums.minute[first:last], sums.values[:, first:last])


def _note_revisions(state: State, services: dict[str, list[int]], additions: Additions) -> None:
    """What comes to a minute that is closed corrects what was published of it, once the next minute closes."""
    if state.next_minute is None:
        return
    minutes = additions.minutes_of_objectives()
    for key in services:
        for digest, objective_state in state.services[key].states.items():
            start = objective_state.start_minute
            if start is not None and digest in minutes:
                objective_state.revised.update(m for m in minutes[digest] if start <= m < state.next_minute)
