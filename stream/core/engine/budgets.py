"""The budget of an objective at a closed minute: entries of its ledger, and every hour where it stands and will be."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from stream.core.cells import Column
from stream.core.engine.state import SERIES, State
from stream.core.engine.windows import Reader
from stream.core.events import BudgetEvent, Output, SliEvent
from stream.core.slo.budget_ledger import QUIET_MINUTES, Entry, EntryKind
from stream.core.slo.sli import SQUARE_ONE
from stream.core.statistics.forecast import Forecast, History, Period, forecast
from stream.core.units import HOUR_MINUTES, WEIGHT_ONE


def advance_budget(state: State, reader: Reader, event: SliEvent) -> list[Output]:
    """Enters an incident where it began or ended and adjustments that are over, and tells each hour of the budget."""
    minute, outputs = reader.closing.minute, list[Output]()
    counted = reader.window(1)
    entered = reader.own.ledger.close_minute(minute, counted, _is_burning(reader))
    if entered is not None:
        outputs.append(_told(state, reader, event, entered))
    outputs += [_told(state, reader, event, reader.own.ledger.add(entry)) for entry in _exclusions(reader)]
    if (minute + 1) % HOUR_MINUTES == 0 and not reader.closing.catching_up:
        outputs.append(_told(state, reader, event, None, _forecast(state, reader)))
    return outputs


def enter_deploys(state: State, reader: Reader, event: SliEvent, versions: list[str]) -> list[Output]:
    """Enters the versions that were seen for the first time."""
    minute = reader.closing.minute
    entries = [Entry(kind=EntryKind.DEPLOY, start_minute=minute, end_minute=minute, name=name) for name in versions]
    return [_told(state, reader, event, reader.own.ledger.add(entry)) for entry in entries]


def _exclusions(reader: Reader) -> list[Entry]:
    """Returns an entry for each budget adjustment that is over and was not yet entered, with what it gives back.

    One that was over before the objective's history began gives nothing back, and is no entry.
    """
    own, end = reader.own, reader.closing.minute + 1
    assert own.start_minute is not None
    entries: list[Entry] = []
    for adjustment in own.adjustments:
        first, last = reader.left_out(adjustment)
        identity = adjustment.name, adjustment.start_minute, adjustment.end_minute
        if last > end or last <= own.start_minute or identity in own.entered:
            continue
        own.entered.add(identity)
        cell = reader.between(first, last)
        entries.append(
            Entry(
                kind=EntryKind.EXCLUSION,
                start_minute=first,
                end_minute=last,
                n=cell[Column.N],
                weight=cell[Column.WEIGHT],
                weight_bad=cell[Column.WEIGHT_BAD],
                name=adjustment.name,
                reason=adjustment.reason,
            )
        )
    return entries


def _is_burning(reader: Reader) -> bool:
    cell = reader.window(QUIET_MINUTES)
    allowed = reader.objective.bad_ratio_max
    return cell[Column.WEIGHT_BAD] * allowed.denominator > cell[Column.WEIGHT] * allowed.numerator


def _told(
    state: State, reader: Reader, event: SliEvent, entry: Entry | None, coming: Forecast | None = None
) -> BudgetEvent:
    consumed: Fraction | None = None
    if entry is not None:
        weight = reader.budget_window()[Column.WEIGHT]
        consumed = entry.consumed(weight, reader.coverage(), reader.objective.bad_ratio_max)
    return BudgetEvent(
        context=state.context(),
        objective=reader.objective,
        minute=reader.closing.minute,
        entry=entry,
        entry_consumed=None if consumed is None else float(consumed),
        budget=event.budget,
        coverage=event.coverage,
        start_minute=event.start_minute,
        end_minute=event.end_minute,
        forecast=coming,
    )


def _forecast(state: State, reader: Reader) -> Forecast | None:
    """Returns when the budget will be gone, from every whole hour that the rings hold. Minutes since 1970 are UTC."""
    row, began, end = reader.row, reader.own.start_minute, reader.closing.minute + 1
    assert began is not None
    start, complete = reader.span()
    hours, last = state.cells[SERIES].rings[2], end // HOUR_MINUTES
    first = max(-(-began // HOUR_MINUTES), hours.floor or 0)  # not `base`, which a restart may move
    if row is None or first >= last or (reader.objective.calendar is not None and complete <= end):
        return None
    cells = hours.row(row, first, last)
    total, bad = cells[Column.WEIGHT], cells[Column.WEIGHT_BAD]
    history = History(
        total=total,
        bad=np.clip(bad, 0, total),
        covered=np.array([_is_whole(state, reader, hour) for hour in range(first, last)], bool),
        counts_per_event=_counts_per_event(reader),
    )
    if reader.objective.calendar is None:
        window = Period(hours=-(-reader.objective.window_minutes // HOUR_MINUTES))
    else:
        length = -(-(complete - start) // HOUR_MINUTES)
        window = Period(hours=length, hours_left=min(length, -(-(complete - end) // HOUR_MINUTES)))
    return forecast(history, window, reader.objective.target_ratio)


def _is_whole(state: State, reader: Reader, hour: int) -> bool:
    """Returns whether every minute of an hour was read whole, and none of them is left out of the budget."""
    first, last = hour * HOUR_MINUTES, (hour + 1) * HOUR_MINUTES
    excluded = any(start < last and first < end for start, end in reader.own.excluded)
    return not excluded and state.clocks.gap_minutes(first, last) == 0


def _counts_per_event(reader: Reader) -> float:
    """Returns what one independent event weighs: more than one where events are sampled."""
    cell = reader.budget_window()
    if reader.unit != WEIGHT_ONE or not cell[Column.WEIGHT]:
        return float(reader.unit)
    return WEIGHT_ONE * (cell[Column.WEIGHT_SQUARE] / SQUARE_ONE) / (cell[Column.WEIGHT] / WEIGHT_ONE)
