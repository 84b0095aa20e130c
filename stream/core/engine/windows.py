"""What an objective reads when a minute closes: the sums of its windows, less what was excluded, and their coverage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from stream.core.cells import Cells, Column, Ring
from stream.core.columns import Array
from stream.core.engine.services import Service, whole_slices
from stream.core.engine.spans import minutes_within, stretches_without
from stream.core.engine.state import SERIES, VERSIONS, SeriesKey, State
from stream.core.slo.budget_ledger import QUIET_MINUTES
from stream.core.slo.burn_rate import window_lengths
from stream.core.slo.calendar import Calendar, Period
from stream.core.slo.cohort_gap import CohortGap, cohort_gap
from stream.core.slo.sli import budget_unit, event_unit
from stream.core.slo.spec import Objective
from stream.core.units import DAY_MINUTES, HOUR_MINUTES

SETTLED_AFTER_MINUTES = 8 * HOUR_MINUTES
"""Later than this after it closed, no row is counted for a minute: calendar periods take it in for good."""

SLICES = "#slices"
"""The pseudo-version whose cells hold an objective's judged slices."""

_NOTHING = [0] * len(Column)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """One closed minute, and the sums of the windows that end with it (by length, for all series).

    `gap`: the minute was not read whole.
    """

    minute: int
    catching_up: bool
    gap: bool
    windows: dict[int, Array]
    _weights: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)

    def cell(self, length_minutes: int, row: int | None) -> list[int]:
        """Returns the summed cell of a series as exact integers; zeros for a series never counted."""
        if row is None:
            return list(_NOTHING)
        cell: list[int] = self.windows[length_minutes][:, row].tolist()
        return cell

    def weights(self, length_minutes: int) -> tuple[list[int], list[int]]:
        """Returns the weights, and those that are bad, of all series: integers of Python, so products are exact."""
        found = self._weights.get(length_minutes)
        if found is None:
            window = self.windows[length_minutes]
            found = window[Column.WEIGHT].tolist(), window[Column.WEIGHT_BAD].tolist()
            self._weights[length_minutes] = found
        return found


def close_windows(state: State, minute: int, catching_up: bool, objectives: Iterable[Objective]) -> Closing:
    """Returns the windows that end with a minute, of every length that the objectives look at."""
    lengths = {1, QUIET_MINUTES}
    for objective in objectives:
        lengths.add(objective.window_minutes if objective.calendar is None else SETTLED_AFTER_MINUTES)
        lengths.update(window_lengths(objective.window_minutes, objective.alerting.rules))
    return _closing(state, SERIES, minute, catching_up, lengths)


def close_versions(state: State, minute: int, catching_up: bool, objectives: Iterable[Objective]) -> Closing:
    """Returns the minute, and the slices that end with it, of every version by itself."""
    lengths = {o.slices.minutes for o in objectives if o.slices is not None}
    return _closing(state, VERSIONS, minute, catching_up, {1, *lengths})


def _closing(state: State, store: str, minute: int, catching_up: bool, lengths: set[int]) -> Closing:
    return Closing(
        minute=minute,
        catching_up=catching_up,
        gap=state.clocks.gap_minutes(minute, minute + 1) > 0,
        windows={length: state.cells[store].window(minute + 1, length) for length in sorted(lengths)},
    )


class Reader:
    """Reads the windows of one objective at one closed minute."""

    def __init__(self, state: State, service: Service, objective: Objective, closing: Closing) -> None:
        self._state = state
        self.service = service
        self.objective = objective
        self.own = service.states[objective.digest]
        self.closing = closing
        self.events_row = row_of(state, service.key, objective, "")
        self.row = self.events_row if objective.slices is None else row_of(state, service.key, objective, SLICES)
        self.unit = budget_unit(objective)
        self._allowed = float(objective.bad_ratio_max)
        self.missing: int | None = None
        """Weight of the events of its window that never came, once `expectations` has found it."""

    @property
    def event_unit(self) -> int:
        """The weight of one event."""
        return event_unit(self.objective)

    @property
    def window_minutes(self) -> int:
        """Length of the objective's own window; of a calendar period, the minutes that really pass in it."""
        start, complete = self.span()
        return complete - start

    @property
    def renewed_in_minutes(self) -> int | None:
        """In how many minutes the calendar period ends; None where the window rolls, and outside of periods."""
        period = self.period()
        return None if period is None else period.end_minute - self.closing.minute - 1

    @property
    def gap(self) -> bool:
        """Whether the minute was not read whole."""
        return self.gap_minutes(1) > 0

    def gap_minutes(self, length_minutes: int) -> int:
        """Returns how many minutes of the history within the window of this length were not read whole."""
        first, last = self.own.covered_minutes(self.closing.minute + 1, length_minutes)
        return minutes_within(self._state.gaps_of(self.own), first, last)

    def minute(self) -> list[int]:
        """Returns the events of the minute."""
        return plausible(self.objective, self.closing.cell(1, self.events_row))

    @property
    def bad_counted(self) -> float | None:
        """The bad events of the minute by a counter of their own, where these are more than all; otherwise None."""
        cell = self.closing.cell(1, self.events_row)
        by_counter = self.objective.bad_metric is not None
        more = by_counter and cell[Column.WEIGHT_BAD] > cell[Column.WEIGHT]
        return cell[Column.WEIGHT_BAD] / self.event_unit if more else None

    def window(self, length_minutes: int) -> list[int]:
        """Returns what counts against the budget in the window that ends with the minute."""
        return self._window(length_minutes, self.row)

    def _window(self, length_minutes: int, row: int | None) -> list[int]:
        end = self.closing.minute + 1
        cell = self.closing.cell(length_minutes, row)
        return self._counted(cell, row, window_start(end, length_minutes), end)

    def burn_rate(self, length_minutes: int) -> float | None:
        """Returns the burn rate of the window that ends with the minute, for readers; None without data."""
        cell = self.window(length_minutes)
        if cell[Column.WEIGHT] == 0:
            return None
        return cell[Column.WEIGHT_BAD] / cell[Column.WEIGHT] / self._allowed

    def cohort_gap(self, length_minutes: int) -> CohortGap | None:
        """Returns how much worse the events of a cohort's window are than everyone's; None without data, and where it
        is no cohort. None, too, where the two have not counted the same minutes: one was edited or backfilled alone."""
        every = next((o for o in self.service.objectives if o.name == self.objective.cohort_of), None)
        if every is None:
            return None
        of_all, end = Reader(self._state, self.service, every, self.closing), self.closing.minute + 1
        first = end - self.compared_minutes(length_minutes)
        if self.observed_stretches(first, end) != of_all.observed_stretches(first, end):
            return None
        own, whole = (one._events(first, length_minutes) for one in (self, of_all))
        return cohort_gap(own, whole, self.event_unit)

    def compared_minutes(self, length_minutes: int) -> int:
        """Returns how many minutes of a window a cohort is compared with everyone over: one that was found and is
        younger, over those since it began. Everyone's minutes before it would make it look better or worse."""
        if not self.objective.is_found or self.own.begins_at is None:
            return length_minutes
        return min(length_minutes, self.closing.minute + 1 - self.own.begins_at)

    def _events(self, first: int, length_minutes: int) -> list[int]:
        """Returns the events from minute `first` on, which is the first of a window of this length or a later one."""
        end = self.closing.minute + 1
        if first == end - length_minutes or self.events_row is None:
            return self._window(length_minutes, self.events_row)
        cell = between(self._state.cells[SERIES], self.events_row, first, end)
        return self._counted(cell, self.events_row, first, end)

    def budget_window(self) -> list[int]:
        """Returns what counts against the budget in the objective's own window, so far."""
        if self.objective.calendar is None:
            return self.window(self.objective.window_minutes)
        period, end = self.period(), self.closing.minute + 1
        if period is None:
            return list(_NOTHING)
        return self._counted(self._to_date(period), self.row, period.start_minute, end)

    def _to_date(self, period: Period) -> list[int]:
        if self.row is None:
            return list(_NOTHING)
        own, end = self.own, self.closing.minute + 1
        if own.settled_period != period.start_minute or own.settled_until is None:
            return between(self._state.cells[SERIES], self.row, period.start_minute, end)
        if own.settled_until == window_start(end, SETTLED_AFTER_MINUTES):
            recent = self.closing.cell(SETTLED_AFTER_MINUTES, self.row)
        else:  # a correction of an earlier minute
            recent = between(self._state.cells[SERIES], self.row, own.settled_until, end)
        return [a + b for a, b in zip(own.settled, recent, strict=True)]

    def period(self) -> Period | None:
        """Returns the calendar period of the minute; None where the window rolls, and beyond the calendar's end."""
        calendar = calendar_of(self._state, self.objective)
        return None if calendar is None else calendar.period_at(self.closing.minute)

    def span(self) -> tuple[int, int]:
        """Returns the first minute of the objective's window, and the minute at which the window is complete."""
        period, end = self.period(), self.closing.minute + 1
        if period is not None:
            return period.start_minute, period.end_minute
        if self.objective.calendar is not None:
            return end, end + 1
        return end - self.objective.window_minutes, end

    def coverage(self) -> Fraction:
        """Returns the share of the objective's window that lies in closed minutes without a gap.

        Minutes that budget adjustments leave out are no part of the window; one without any other is not covered.
        """
        start, complete = self.span()
        return self._share_observed(start, complete)

    def coverage_of(self, length_minutes: int) -> Fraction:
        """Returns the same of the window of this length that ends with the minute."""
        end = self.closing.minute + 1
        return self._share_observed(end - length_minutes, end)

    def is_covered(self, length_minutes: int) -> bool:
        """Returns whether the window of this length has minutes that count, and all of them were read whole."""
        end = self.closing.minute + 1
        counting = length_minutes - self.own.excluded_minutes(end - length_minutes, end)
        return 0 < counting == self.observed(length_minutes)

    def observed(self, length_minutes: int) -> int:
        """Returns how many minutes of the window of this length that ends with the minute count and were read whole."""
        return self._observed(self.closing.minute + 1 - length_minutes)

    def _share_observed(self, start_minute: int, complete_minute: int) -> Fraction:
        counting = complete_minute - start_minute - self.own.excluded_minutes(start_minute, complete_minute)
        return Fraction(self._observed(start_minute), counting) if counting else Fraction(0)

    def _observed(self, start_minute: int) -> int:
        end = self.closing.minute + 1
        return sum(last - first for first, last in self.observed_stretches(start_minute, end))

    def observed_stretches(self, first: int, last: int) -> list[tuple[int, int]]:
        """Returns the stretches of the minutes [first, last) that count and were read whole."""
        first, last = self.own.covered_minutes(last, last - first)
        return stretches_without(first, last, [*self.own.excluded, *self._state.gaps_of(self.own)])

    def left_out(self, start: int, end: int) -> tuple[int, int]:
        """Returns the minutes [first, last) that an adjustment of the minutes [start, end) leaves out: whole slices."""
        return whole_slices(start, end, self.objective.slice_minutes)

    def between(self, first: int, last: int) -> list[int]:
        """Returns what was counted in the minutes [first, last), left out or not."""
        if self.row is None:
            return list(_NOTHING)
        return plausible(self.objective, between(self._state.cells[SERIES], self.row, first, last))

    def counted_between(self, first: int, last: int) -> list[int]:
        """Returns what counts against the budget in the minutes [first, last)."""
        return self._counted(self.between(first, last), self.row, first, last)

    def _counted(self, cell: list[int], row: int | None, first: int, last: int) -> list[int]:
        """Returns a cell less what budget adjustments exclude of the minutes [first, last) of its series."""
        if row is not None:
            for start, end in self.own.excluded:
                low, high = max(start, first), min(end, last)
                if low < high:
                    excluded = between(self._state.cells[SERIES], row, low, high)
                    cell = [a - b for a, b in zip(cell, excluded, strict=True)]
        return plausible(self.objective, cell)


def row_of(state: State, service: str, objective: Objective, version: str) -> int | None:
    """Returns where a series of an objective is in the cells; None while nothing was counted for it."""
    return state.cells[SERIES].index.get((service, objective.digest, version))


def calendar_of(state: State, objective: Objective) -> Calendar | None:
    """Returns the calendar of an objective; None where its window rolls."""
    if objective.calendar is None:
        return None
    assert state.bundle is not None
    return next(calendar for calendar in state.bundle.calendars if calendar.name == objective.calendar)


def settle(state: State, service: Service, objective: Objective, minute: int) -> None:
    """Takes the minutes that can no longer change into the objective's calendar period."""
    calendar = calendar_of(state, objective)
    own = service.states[objective.digest]
    if calendar is None or own.start_minute is None:
        return
    reader_row = row_of(state, service.key, objective, "" if objective.slices is None else SLICES)
    end = window_start(minute + 1, SETTLED_AFTER_MINUTES)
    first = own.settled_until
    if first is None:
        period = calendar.period_at(own.start_minute)
        first = own.start_minute if period is None else period.start_minute
    while first < end:
        period = calendar.period_at(first)
        if period is not None:
            last = min(end, period.end_minute)
        else:  # before the first period, or after the last
            last = min(end, calendar.boundaries[0]) if first < calendar.boundaries[0] else end
        if period is not None and own.settled_period != period.start_minute:
            own.settled_period, own.settled = period.start_minute, list(_NOTHING)
        if period is not None and reader_row is not None:
            added = between(state.cells[SERIES], reader_row, first, last)
            own.settled = [a + b for a, b in zip(own.settled, added, strict=True)]
        first = own.settled_until = last


def between(cells: Cells[SeriesKey], row: int, first: int, last: int) -> list[int]:
    """Returns the sums of a series over the minutes [first, last).

    Exact while the minute ring holds them; before that whole ten minutes within, and before these whole hours.
    """
    total = [0] * len(Column)
    for ring, start, end in _stretches(cells, first, last):
        total = [a + b for a, b in zip(total, ring.row(row, start, end).sum(axis=1).tolist(), strict=True)]
    return total


def all_between(cells: Cells[SeriesKey], first: int, last: int) -> Array:
    """Returns int64[COLUMNS, series]: the same of all series."""
    return sum((ring.sum(start, end) for ring, start, end in _stretches(cells, first, last)), cells.rings[0].sum(0, 0))


def _stretches(cells: Cells[SeriesKey], first: int, last: int) -> Iterator[tuple[Ring, int, int]]:
    """Yields the periods [start, end) of each ring that the minutes [first, last) are summed from."""
    last_of = last
    for ring, finer_period in zip(cells.rings, (10, HOUR_MINUTES, DAY_MINUTES), strict=True):
        period = ring.spec.period_minutes
        held = (
            _up(ring.floor * period, finer_period) if ring.floor is not None and ring is not cells.rings[-1] else first
        )
        start = max(_up(first, period), held)
        if start < last_of:
            yield ring, start // period, last_of // period
        last_of = min(last_of, start)


def window_start(end_minute: int, length_minutes: int) -> int:
    """Returns the first minute that `Cells.window` sums: at or before the nominal one, see there."""
    start = end_minute - length_minutes
    if length_minutes <= 6 * HOUR_MINUTES:
        return start
    period = 10 if length_minutes <= 3 * DAY_MINUTES else HOUR_MINUTES
    return start // period * period


def _up(minute: int, period: int) -> int:
    return -(-minute // period) * period


def plausible(objective: Objective, cell: list[int]) -> list[int]:
    """Returns a summed cell as it may be read.

    Two counters that are not read at the same instant may say more good than there were: it never counts as less
    than none bad, nor as more than all."""
    if objective.good_metric is None and objective.bad_metric is None:
        return cell
    cell = list(cell)
    for bad, every in ((Column.N_BAD, Column.N), (Column.WEIGHT_BAD, Column.WEIGHT)):
        cell[bad] = min(max(cell[bad], 0), cell[every])
    cell[Column.WEIGHT_SQUARE_BAD] = min(max(cell[Column.WEIGHT_SQUARE_BAD], 0), cell[Column.WEIGHT_SQUARE])
    return cell
