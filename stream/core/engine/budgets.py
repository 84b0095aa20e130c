"""The budget of an objective at a closed minute: entries of its ledger, and where it stands and will be."""

from __future__ import annotations

from fractions import Fraction

from stream.core.cells import Column
from stream.core.engine.forecasting import forecast_of
from stream.core.engine.spans import stretches_without
from stream.core.engine.state import State
from stream.core.engine.windows import Reader
from stream.core.events import BudgetEvent, Output, SliEvent
from stream.core.slo.budget_ledger import QUIET_MINUTES, Entry, EntryKind
from stream.core.statistics.forecast import Forecast
from stream.core.units import HOUR_MINUTES


def advance_budget(state: State, reader: Reader, event: SliEvent) -> list[Output]:
    """Enters incidents that began or ended, backfills and adjustments that are over, and tells each hour of the budget.

    Beside an incident and at a full hour it is told when the budget will be gone.
    """
    minute, outputs = reader.closing.minute, list[Output]()
    counted = reader.window(1)
    entered = reader.own.ledger.close_minute(minute, counted, _is_burning(reader))
    is_hour = (minute + 1) % HOUR_MINUTES == 0 and not reader.closing.catching_up
    coming = forecast_of(state, reader) if is_hour or entered is not None else None
    if entered is not None:
        outputs.append(_told(state, reader, event, entered, coming))
    entries, reader.own.unentered = [*reader.own.unentered, *_adjustments(reader)], []
    outputs += [_told(state, reader, event, reader.own.ledger.add(entry)) for entry in entries]
    if is_hour:
        outputs.append(_told(state, reader, event, None, coming))
    return outputs


def enter_deploys(state: State, reader: Reader, event: SliEvent, versions: list[str]) -> list[Output]:
    """Enters the versions that were seen for the first time."""
    minute = reader.closing.minute
    entries = [Entry(kind=EntryKind.DEPLOY, start_minute=minute, end_minute=minute, name=name) for name in versions]
    return [_told(state, reader, event, reader.own.ledger.add(entry)) for entry in entries]


def _adjustments(reader: Reader) -> list[Entry]:
    """Returns an entry for each budget adjustment that was removed, and for each that is over and not yet entered.

    It holds what this one took or gave back: not what others leave out that were over before. One that was over before
    the objective's history began gives nothing back, and is no entry.
    """
    own, end = reader.own, reader.closing.minute + 1
    assert own.begins_at is not None
    declared = {(a.name, a.start_minute, a.end_minute): a.reason for a in own.adjustments}
    entries: list[Entry] = []
    for name, start, last in sorted(own.entered - declared.keys()):
        own.entered.remove((name, start, last))
        entries.append(_adjusted(reader, EntryKind.INCLUSION, reader.left_out(start, last), name))
    for (name, start, last), reason in declared.items():
        span = reader.left_out(start, last)
        if own.begins_at < span[1] <= end and (name, start, last) not in own.entered:
            entries.append(_adjusted(reader, EntryKind.EXCLUSION, span, name, reason))
            own.entered.add((name, start, last))
    return entries


def _adjusted(reader: Reader, kind: EntryKind, span: tuple[int, int], name: str, reason: str = "") -> Entry:
    """Returns the entry of an adjustment that leaves a span out, with what no other entered one leaves out."""
    others = [reader.left_out(start, end) for _, start, end in reader.own.entered]
    cells = [reader.between(first, last) for first, last in stretches_without(*span, others)]
    n, weight, weight_bad = (
        sum(cell[column] for cell in cells) for column in (Column.N, Column.WEIGHT, Column.WEIGHT_BAD)
    )
    return Entry(
        kind=kind,
        start_minute=span[0],
        end_minute=span[1],
        n=n,
        weight=weight,
        weight_bad=weight_bad,
        name=name,
        reason=reason,
    )


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
