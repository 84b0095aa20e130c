"""The second stage of the fold: composites, from indicators that first stages have published.

Its minutes close after those of the first stage, as soon as all inputs of all composites here have told of them; some
time later (a minute by default) without what is lacking, which then counts when it comes. That time must pass by both
clocks: a frontier that leaps outruns what first stages have yet to publish.
"""

from __future__ import annotations

import numpy as np

from stream.core.columns import Array, RejectReason
from stream.core.engine.admission import FUTURE_AFTER_NS
from stream.core.engine.close import begin, close_until
from stream.core.engine.composites import book
from stream.core.engine.heard import HEARD_MINUTES, Said
from stream.core.engine.losses import book_losses
from stream.core.engine.state import State
from stream.core.engine.verdicts import Items, Verdicts
from stream.core.events import DeadLetter, Output
from stream.core.indicators import Indicators
from stream.core.log import LogRecord
from stream.core.slo.spec import Objective
from stream.core.units import MINUTE_NS, minute_of


def apply_indicators(first: State, second: State, record: LogRecord, indicators: Indicators) -> list[Output]:
    """Takes in the indicators that are new, neither late nor from the future, and asked for here.

    Every copy of a message is judged alike, and the one that counts is entered in the ledger, asked for or not.

    Args:
        first: The first stage, which keeps the ledger; some of its objectives ask for what was lost.
        second: The second stage.
        record: Where they are from.
        indicators: In any order, and any number of times.
    """
    verdicts = _judge(first, second, record, indicators)
    touched: dict[str, tuple[Objective, set[int]]] = {}
    for at in np.flatnonzero(verdicts.open).tolist():
        for objective, minutes in _take(second, indicators, at):
            touched.setdefault(objective.digest, (objective, set()))[1].update(minutes)
    for digest in sorted(touched):
        _correct(second, *touched[digest])
    book_losses(first, indicators, np.flatnonzero(verdicts.open))
    verdicts.count()
    letters = verdicts.dead_letters(first, record.sources)
    return [letter for letter in letters if not isinstance(letter, DeadLetter) or letter.items]


def _judge(first: State, second: State, record: LogRecord, indicators: Indicators) -> Verdicts:
    sources = [first.ledger.source(source) for source in record.sources]
    names, service = np.unique(np.array(indicators.service, object), return_inverse=True)
    items = Items(
        source=indicators.source,
        offset=indicators.offset,
        service=service,
        version=np.zeros(len(indicators), np.int64),
        time_ns=(indicators.minute + 1) * MINUTE_NS - 1,
        count=indicators.counts.astype(np.int64),
        services=tuple(names.tolist()),
        versions=("",),
    )
    verdicts = Verdicts(sources, items)
    next_offsets = np.array([source.next_offset for source in sources], np.int64)
    verdicts.replayed(indicators.offset < next_offsets[indicators.source])
    verdicts.reject(items.time_ns > second.clocks.now_ns + FUTURE_AFTER_NS, RejectReason.FUTURE)
    verdicts.late(_is_late(second, indicators))
    return verdicts


def _is_late(second: State, indicators: Indicators) -> Array:
    """Returns bool[n]: whether a minute may no longer change."""
    assert second.heard is not None
    floor = second.heard.floor
    before = minute_of(second.clocks.now_ns) - HEARD_MINUTES if floor is None else floor
    return np.asarray(indicators.minute < before)


def _take(second: State, indicators: Indicators, at: int) -> list[tuple[Objective, range]]:
    """Hears one indicator. Returns the composites that may have changed by it, and in which minutes."""
    heard = second.heard
    assert heard is not None
    name, minute = (indicators.service[at], indicators.objective[at]), int(indicators.minute[at])
    asking = heard.asking.get(name)
    if asking is None:
        return []
    said = Said(
        revision=int(indicators.revision[at]),
        events=int(indicators.events[at]),
        weight=int(indicators.weight[at]),
        weight_bad=int(indicators.weight_bad[at]),
        gap=bool(indicators.gap[at]),
    )
    before = heard.of(name, minute)
    if not heard.take(name, minute, said) or second.next_minute is None:
        return []
    same = before is not None and (before.events > 0, before.gap) == (said.events > 0, said.gap)
    seen_again = heard.seen_after(name, minute)
    end = second.next_minute
    changed: list[tuple[Objective, range]] = []
    for objective in asking:
        assert objective.composite is not None
        within = objective.composite.seen_minutes
        if within is None:
            changed.append((objective, range(minute, min(minute + 1, end))))
        elif not same:  # once it is seen again it no longer matters whether it was
            until = minute + within if seen_again is None else min(minute + within, seen_again)
            changed.append((objective, range(minute, min(until, end))))
    return changed


def _correct(second: State, objective: Objective, minutes: set[int]) -> None:
    """Books closed minutes anew, and takes note of those to be corrected."""
    service = second.services[objective.service]
    own = service.states[objective.digest]
    start = own.start_minute
    if start is not None and minutes:
        own.revised.update(book(second, service, objective, sorted(m for m in minutes if start <= m)))
        second.changes.heads.add(service.key)


def close_composites(first: State, second: State) -> list[Output]:
    """Closes the minutes of composites that can be closed, after the first stage has closed its own."""
    assert second.heard is not None
    if first.next_minute is None or first.clocks.frontier_ns is None:
        return []
    outputs: list[Output] = []
    if not second.services:  # so that one that comes begins where the first stage is
        second.next_minute, second.retired_minute = first.next_minute, first.retired_minute
        second.retire_cells()
    else:
        if second.next_minute is None:
            begin(second)
        if not second.closed_at or second.closed_at[-1][0] < first.next_minute:
            second.closed_at.append((first.next_minute, first.clocks.now_ns))
        outputs += close_until(second, _closable_until(first, second))
    assert second.next_minute is not None
    second.closed_at = [closed for closed in second.closed_at if closed[0] > second.next_minute]
    second.heard.forget_before(second.next_minute - HEARD_MINUTES)
    return outputs


def _closable_until(first: State, second: State) -> int:
    assert second.heard is not None
    assert first.clocks.frontier_ns is not None
    assert first.next_minute is not None
    assert second.next_minute is not None
    waited = [minute for minute, now_ns in second.closed_at if now_ns + second.wait_ns <= first.clocks.now_ns]
    overdue = min((first.clocks.frontier_ns - second.lateness_ns) // MINUTE_NS, max(waited, default=0))
    until = max(second.next_minute, overdue)
    while until < first.next_minute and second.heard.is_complete(until):
        until += 1
    return min(until, first.next_minute)
