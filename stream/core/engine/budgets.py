"""The budget of an objective at a closed minute: entries of its ledger, and every hour where it stands and will be."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from stream.core.cells import Column
from stream.core.engine.state import SERIES, State
from stream.core.engine.windows import Reader, window_start
from stream.core.events import BudgetEvent, Output, SliEvent
from stream.core.slo.budget_ledger import QUIET_MINUTES, Entry, EntryKind
from stream.core.statistics.forecast import Forecast, History, Period, forecast
from stream.core.units import HOUR_MINUTES


def advance_budget(state: State, reader: Reader, event: SliEvent) -> list[Output]:
    """Enters an incident where it began or ended, exclusions where they began, and tells each hour of the budget."""
    minute, outputs = reader.closing.minute, list[Output]()
    counted = reader.window(1)
    entered = reader.own.ledger.close_minute(minute, counted, _is_burning(reader))
    if entered is not None:
        outputs.append(_told(state, reader, event, entered))
    if (minute + 1) % HOUR_MINUTES == 0 and not reader.closing.catching_up:
        outputs.append(_told(state, reader, event, None, _forecast(state, reader)))
    return outputs


def enter_deploys(state: State, reader: Reader, event: SliEvent, versions: list[str]) -> list[Output]:
    """Enters the versions that were seen for the first time."""
    minute = reader.closing.minute
    entries = [Entry(kind=EntryKind.DEPLOY, start_minute=minute, end_minute=minute, name=name) for name in versions]
    return [_told(state, reader, event, reader.own.ledger.add(entry)) for entry in entries]


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
    """Returns the forecast from the whole hours of the objective's window."""
    if reader.row is None:
        return None
    end = reader.closing.minute + 1
    start, complete = reader.span()
    rolls = reader.objective.calendar is None
    first, last = (window_start(end, end - start) if rolls else start) // HOUR_MINUTES, end // HOUR_MINUTES
    hours = state.cells[SERIES].rings[2]
    if min(last, hours.top) <= max(first, hours.base):
        return None
    cells = hours.row(reader.row, first, last)
    covered = np.zeros(last - first, bool)
    began = reader.own.start_minute
    assert began is not None
    covered[max(0, -(-began // HOUR_MINUTES) - first) :] = True
    window = Period(
        hours=reader.objective.window_minutes // HOUR_MINUTES if rolls else (complete - start) // HOUR_MINUTES,
        hours_left=None if rolls else (complete - end) // HOUR_MINUTES,
    )
    return forecast(
        History(total=cells[Column.WEIGHT], bad=cells[Column.WEIGHT_BAD], covered=covered),
        window,
        reader.objective.target_ratio,
    )
