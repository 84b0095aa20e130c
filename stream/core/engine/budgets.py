"""The budget of an objective at a closed minute: entries of its ledger, and where it stands and will be."""

from __future__ import annotations

from fractions import Fraction

from stream.core.cells import Column
from stream.core.engine.forecasting import forecast_of
from stream.core.engine.state import State
from stream.core.engine.windows import Reader
from stream.core.events import BudgetEvent, Output, SliEvent
from stream.core.slo.budget_ledger import QUIET_MINUTES, Entry, EntryKind
from stream.core.statistics.forecast import Forecast
from stream.core.units import HOUR_MINUTES


def advance_budget(state: State, reader: Reader, event: SliEvent) -> list[Output]:
    """Enters an incident where it began or ended and adjustments that are over, and tells each hour of the budget.

    Beside an incident and at a full hour it is told when the budget will be gone.
    """
    minute, outputs = reader.closing.minute, list[Output]()
    counted = reader.window(1)
    entered = reader.own.ledger.close_minute(minute, counted, _is_burning(reader))
    is_hour = (minute + 1) % HOUR_MINUTES == 0 and not reader.closing.catching_up
    coming = forecast_of(state, reader) if is_hour or entered is not None else None
    if entered is not None:
        outputs.append(_told(state, reader, event, entered, coming))
    outputs += [_told(state, reader, event, reader.own.ledger.add(entry)) for entry in _exclusions(reader)]
    if is_hour:
        outputs.append(_told(state, reader, event, None, coming))
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
