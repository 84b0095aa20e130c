"""Minutes of composites: made of what their components said, set anew where one says something else.

A minute of a composite is one event that is a ratio itself, and so is the part of each component in it: its share of
the weight of all that had events. The sums depend only on the latest revision of each, not on when it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, lcm

import numpy as np

from stream.core.cells import COLUMNS, Column
from stream.core.columns import Array
from stream.core.engine.heard import Heard
from stream.core.engine.services import Service
from stream.core.engine.spans import merged, minutes_within, without
from stream.core.engine.state import SERIES, VERSIONS, State
from stream.core.engine.windows import Reader, all_between, window_start
from stream.core.events import CallCount, ComponentShare
from stream.core.slo.composite import Call, Component, Composite, Missing
from stream.core.slo.shared_cause import Cause, Edge, shared_causes
from stream.core.slo.sli import SLICE_ONE
from stream.core.slo.spec import Objective
from stream.core.units import HOUR_MINUTES, WEIGHT_ONE

CALLS_WITHIN_MINUTES = HOUR_MINUTES
"""Indicators of a composite tell the calls of so long."""

_SQUARE_BITS = 8

Cell = list[int]

_NOTHING: Cell = [0] * COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What is known of a minute of a composite.

    Args:
        whole: Its cell; None: no component had events.
        parts: The cells of components, and of calls, by name; what is not here has nothing.
        gap: Some component was not heard of, or its minute was not read whole.
    """

    whole: Cell | None
    parts: Mapping[str, Cell]
    gap: bool


def begin_histories(state: State, minute: int) -> None:
    """Begins the histories of composites that wait for it with a minute of which every component has told something.

    A component that is applied together with its composite has its own history begin some minutes later.
    """
    if state.heard is None:
        return
    for service in state.services.values():
        for objective in service.objectives:
            own = service.states[objective.digest]
            if own.start_minute is not None and own.start_minute > minute:
                assert objective.composite is not None
                components = objective.composite.components
                if all(state.heard.of((c.service, c.objective), minute) is not None for c in components):
                    own.start_minute = minute


def book_composites(state: State, minute: int) -> None:
    """Books a minute that closes for every composite whose history has begun. The first stage has none."""
    if state.heard is None:
        return
    for _, service in sorted(state.services.items()):
        for objective in service.objectives:
            start_minute = service.states[objective.digest].start_minute
            if start_minute is not None and start_minute <= minute:
                book(state, service, objective, [minute])


def book(state: State, service: Service, objective: Objective, minutes: Iterable[int]) -> list[int]:
    """Sets minutes of a composite to what is known of them. Returns those of which something else was known before.

    The gap of a minute is gone when all is known; but a slice that was not judged for it stays so.
    """
    assert state.heard is not None
    assert objective.composite is not None
    own = service.states[objective.digest]
    changed: list[int] = []
    for minute in minutes:
        made = make(objective.composite, state.heard, minute)
        differs = _set(state, service, objective, minute, made)
        was_gap = minutes_within(own.gaps, minute, minute + 1) > 0
        if made.gap and not was_gap:
            own.gaps, differs = merged([*own.gaps, (minute, minute + 1)]), True
        elif was_gap and not made.gap and objective.slices is None:
            own.gaps, differs = without(own.gaps, minute), True
        if differs:
            changed.append(minute)
    return changed


def _set(state: State, service: Service, objective: Objective, minute: int, made: Made) -> bool:
    """Adds to the cells what they lack. Returns whether they lacked anything."""
    assert objective.composite is not None
    wanted = {SERIES: {"": made.whole} if made.whole else {}, VERSIONS: made.parts}
    names = {SERIES: [""], VERSIONS: part_names(objective.composite)}
    differs = False
    for store, cells in state.cells.items():
        keys = [(service.key, objective.digest, name) for name in names[store]]
        lacking = np.array([wanted[store].get(name, _NOTHING) for name in names[store]], np.int64).T
        rows = np.array([cells.index.get(key, -1) for key in keys], np.int64)
        lacking[:, rows >= 0] -= cells.minute(minute)[:, rows[rows >= 0]]
        changed = np.flatnonzero(lacking.any(axis=0))
        if len(changed):
            at = np.array([cells.series(keys[number]) for number in changed.tolist()], np.int64)
            cells.add(at, np.full(len(at), minute, np.int64), lacking[:, changed])
            state.changes.hours.add((service.key, minute // HOUR_MINUTES))
            differs = True
    return differs


def make(composite: Composite, heard: Heard, minute: int) -> Made:
    """Returns what is known of a minute.

    Each part is exact, and rounded once, against the service. A component of which it cannot be said how good it was
    has no part: the others share its weight, and the minute is a gap.
    """
    judged = [_judge(composite, component, heard, minute) for component in composite.components]
    parts = {call_name(call): cell for call in composite.calls if (cell := _call_cell(heard, call, minute))}
    gap = any(not known for _, known in judged)
    weighed = zip(composite.components, _integer_weights(composite), judged, strict=True)
    taking_part = [(component, weight, found) for component, weight, (found, _) in weighed if found is not None]
    total = sum(weight for _, weight, _ in taking_part)
    if not total:
        return Made(whole=None, parts=parts, gap=gap)
    whole_bad = Fraction(0)
    for component, weight, (bad, of) in taking_part:
        parts[component.name] = _cell(_up(weight * SLICE_ONE, total), _up(weight * bad * SLICE_ONE, total * of))
        whole_bad += Fraction(weight * bad, of) if bad else 0
    return Made(whole=_cell(SLICE_ONE, ceil(whole_bad * SLICE_ONE / total)), parts=parts, gap=gap)


def _judge(
    composite: Composite, component: Component, heard: Heard, minute: int
) -> tuple[tuple[int, int] | None, bool]:
    """Returns how bad a component was, so much of so much, and whether all is known.

    None where it had no events, or nobody knows.
    """
    name = component.service, component.objective
    if composite.seen_minutes is not None:
        seen = heard.is_seen(name, minute, composite.seen_minutes)
        return (None, False) if seen is None else ((int(not seen), 1), True)
    said = heard.of(name, minute)
    if said is None:
        return None, False
    if said.weight > 0:
        return (min(max(said.weight_bad, 0), said.weight), said.weight), not said.gap
    if said.gap:
        return None, False
    return ((1, 1) if composite.missing is Missing.BAD else None), True


@lru_cache(maxsize=1000)
def _integer_weights(composite: Composite) -> tuple[int, ...]:
    """Returns integers that are to each other as the weights of the components."""
    weights = [component.weight_exact for component in composite.components]
    scale = lcm(*(weight.denominator for weight in weights))
    return tuple(int(weight * scale) for weight in weights)


def _up(numerator: int, denominator: int) -> int:
    """Returns the quotient, rounded up."""
    return -(-numerator // denominator)


def _cell(weight: int, weight_bad: int) -> Cell:
    cell = [0] * COLUMNS
    cell[Column.WEIGHT], cell[Column.WEIGHT_BAD] = weight, weight_bad
    cell[Column.N], cell[Column.N_BAD] = 1, int(weight_bad > 0)
    return _with_squares(cell)


def _call_cell(heard: Heard, call: Call, minute: int) -> Cell | None:
    said = heard.of((call.caller, call.objective), minute)
    if said is None or said.weight <= 0:
        return None
    cell = [0] * COLUMNS
    cell[Column.N] = said.events
    cell[Column.WEIGHT], cell[Column.WEIGHT_BAD] = said.weight, min(max(said.weight_bad, 0), said.weight)
    return _with_squares(cell)


def _with_squares(cell: Cell) -> Cell:
    """Nobody reads the squares of these; so they exceed those of events of weight 1 by nothing, and take no room."""
    cell[Column.WEIGHT_SQUARE] = cell[Column.N] << _SQUARE_BITS
    cell[Column.WEIGHT_SQUARE_BAD] = cell[Column.N_BAD] << _SQUARE_BITS
    return cell


def call_name(call: Call) -> str:
    """Returns what a call is called among the parts of a composite: no component's name begins so."""
    return f"/{call.caller}/{call.callee}/{call.objective}"


def part_names(composite: Composite) -> list[str]:
    """Returns the names of everything that has cells of its own."""
    return [*(component.name for component in composite.components), *map(call_name, composite.calls)]


def shares_of(state: State, reader: Reader, consumed_ratio: float | None) -> tuple[ComponentShare, ...]:
    """Returns what each component is to the objective's own window, of which so much of the budget is consumed."""
    composite = reader.objective.composite
    if composite is None:
        return ()
    sums = _own_window(state, reader)
    weights = [_weights(state, reader, sums, component.name) for component in composite.components]
    all_bad = sum(bad for _, bad in weights)
    return tuple(
        ComponentShare(
            component=component,
            ratio=float(Fraction(weight - bad, weight)) if weight else None,
            consumed_ratio=None if consumed_ratio is None else consumed_ratio * (bad / all_bad if all_bad else 0),
        )
        for component, (weight, bad) in zip(composite.components, weights, strict=True)
    )


def calls_of(state: State, reader: Reader) -> tuple[CallCount, ...]:
    """Returns how many calls there were of late, and how many of them failed."""
    composite = reader.objective.composite
    if composite is None or not composite.calls:
        return ()
    sums = state.cells[VERSIONS].window(reader.closing.minute + 1, CALLS_WITHIN_MINUTES)
    weights = [(call, *_weights(state, reader, sums, call_name(call))) for call in composite.calls]
    return tuple(CallCount(call=call, n=n / WEIGHT_ONE, bad=bad / WEIGHT_ONE) for call, n, bad in weights)


def causes_of(state: State, reader: Reader, long_minutes: int, short_minutes: int) -> tuple[Cause, ...]:
    """Returns which services that burn in both windows fail with another one that does, by the calls of the longer."""
    composite, end = reader.objective.composite, reader.closing.minute + 1
    if composite is None or not composite.calls:
        return ()
    allowed = reader.objective.bad_ratio_max
    long, short = (state.cells[VERSIONS].window(end, length) for length in (long_minutes, short_minutes))

    def burns(component: Component, sums: Array) -> bool:
        weight, bad = _weights(state, reader, sums, component.name)
        return bad > weight * allowed

    burning = {c.service for c in composite.components if burns(c, long) and burns(c, short)}
    weights = [(call, *_weights(state, reader, long, call_name(call))) for call in composite.calls]
    edges = [Edge(caller=c.caller, callee=c.callee, calls=n, failed_calls=bad) for c, n, bad in weights]
    return shared_causes(burning, edges, allowed)


def _own_window(state: State, reader: Reader) -> Array:
    cells, end = state.cells[VERSIONS], reader.closing.minute + 1
    if reader.objective.calendar is None:
        first = window_start(end, reader.objective.window_minutes)
        sums = cells.window(end, reader.objective.window_minutes)
    else:
        first = reader.span()[0]
        sums = all_between(cells, first, end)
    for start, stop in reader.own.excluded:
        low, high = max(start, first), min(stop, end)
        if low < high:
            sums = sums - all_between(cells, low, high)
    return sums


def _weights(state: State, reader: Reader, sums: Array, name: str) -> tuple[int, int]:
    """Returns the weight of a part, and how much of it is bad."""
    row = state.cells[VERSIONS].index.get((reader.service.key, reader.objective.digest, name))
    return (0, 0) if row is None else (int(sums[Column.WEIGHT, row]), int(sums[Column.WEIGHT_BAD, row]))
