"""When the budget of an objective will be gone, from the hours that its cells hold."""

from __future__ import annotations

import numpy as np

from stream.core.cells import COLUMNS, MINUTE_RING, Column
from stream.core.columns import Array
from stream.core.engine.spans import minutes_within
from stream.core.engine.state import SERIES, State
from stream.core.engine.windows import Reader
from stream.core.slo.sli import SQUARE_ONE
from stream.core.statistics.forecast import Forecast, History, Period, forecast
from stream.core.units import HOUR_MINUTES, WEIGHT_ONE


def forecast_of(state: State, reader: Reader) -> Forecast | None:
    """Returns the forecast at a closed minute; None before there is a whole hour, without data, and where a calendar
    period is over."""
    if reader.row is None:
        return None
    first, cells = _hours(state, reader, reader.row)
    end = first + cells.shape[1] * HOUR_MINUTES
    start, complete = reader.span()
    is_over = reader.objective.calendar is not None and complete <= reader.closing.minute + 1
    if first == end or is_over:
        return None
    total, rolls = cells[Column.WEIGHT], reader.objective.calendar is None
    history = History(
        total=total,
        bad=np.clip(cells[Column.WEIGHT_BAD], 0, total),
        covered=np.array([_is_whole(state, reader, at) for at in range(first, end, HOUR_MINUTES)], bool),
        counts_per_event=_counts_per_event(reader),
        to_date=None if rolls else _to_date(reader, start, end),
    )
    if rolls:
        period = Period(hours=-(-reader.objective.window_minutes // HOUR_MINUTES))
    else:
        length = -(-(complete - start) // HOUR_MINUTES)
        period = Period(hours=length, hours_left=min(length, max(1, round((complete - end) / HOUR_MINUTES))))
    return forecast(history, period, reader.objective.target_ratio)


def _to_date(reader: Reader, start: int, end: int) -> tuple[int, int]:
    """Returns the weight, and the bad weight, of a calendar period that began at `start` up to the minute `end`.

    Minutes of it that were not read are taken to have had the mean traffic, and nothing bad.
    """
    if end <= start:
        return 0, 0
    cell, since = reader.budget_window(), reader.counted_between(end, reader.closing.minute + 1)
    weight, weight_bad = (max(0, cell[column] - since[column]) for column in (Column.WEIGHT, Column.WEIGHT_BAD))
    observed = sum(last - first for first, last in reader.observed_stretches(start, end))
    elapsed = end - start - reader.own.excluded_minutes(start, end)
    return (weight * elapsed // observed if observed else 0), weight_bad


def _hours(state: State, reader: Reader, row: int) -> tuple[int, Array]:
    """Returns the first minute of consecutive hours, and int64[COLUMNS, hours], their sums.

    While the minute ring holds the whole history the last of them ends now; later, with the last full hour. The ring's
    floor counts, not its base, which a restart may move.
    """
    began, end = reader.own.begins_at, reader.closing.minute + 1
    assert began is not None
    minutes, _, hours = state.cells[SERIES].rings
    if end - began <= MINUTE_RING.retention_minutes:
        count = (end - began) // HOUR_MINUTES
        first = end - count * HOUR_MINUTES
        return first, minutes.row(row, first, end).reshape(COLUMNS, count, HOUR_MINUTES).sum(axis=2)
    first = max(-(-began // HOUR_MINUTES), hours.floor or 0)
    return first * HOUR_MINUTES, hours.row(row, first, max(first, end // HOUR_MINUTES))


def _is_whole(state: State, reader: Reader, first: int) -> bool:
    """Returns whether every minute of an hour was read whole, and none of them is left out of the budget."""
    last = first + HOUR_MINUTES
    excluded = any(start < last and first < end for start, end in reader.own.excluded)
    return not excluded and minutes_within(state.gaps_of(reader.own), first, last) == 0


def _counts_per_event(reader: Reader) -> float:
    """Returns what one independent event weighs: more than one where events are sampled."""
    cell = reader.budget_window()
    if reader.unit != WEIGHT_ONE or not cell[Column.WEIGHT]:
        return float(reader.unit)
    return WEIGHT_ONE * (cell[Column.WEIGHT_SQUARE] / SQUARE_ONE) / (cell[Column.WEIGHT] / WEIGHT_ONE)
