"""What was lost on the way here: by the bad events of objectives that watch who delivers, of services anywhere.

They are heard of through `qma.sli`. What each said of a minute is kept as a cell of the objective that asks: a row of
its own beside its events, set to the latest revision. So it is summed, forgotten and stored as everything else, and it
does not matter how often, or in which order, an indicator is read. Nothing waits for one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream.core.cells import COLUMNS, Column
from stream.core.columns import Array
from stream.core.engine.services import Service
from stream.core.engine.state import SERIES, State
from stream.core.engine.windows import between, row_of
from stream.core.indicators import Indicators
from stream.core.service_key import partition_of
from stream.core.slo.sli import event_unit
from stream.core.slo.spec import Objective
from stream.core.units import HOUR_MINUTES, WEIGHT_ONE

TOLD_WITHIN_MINUTES = HOUR_MINUTES
"""What counted nothing for so long tells nothing any more."""

LOST_WITHIN_MINUTES = 10
"""So long after an event it is told at the latest that it was lost: an exporter tries for five minutes by default, and
what became of it is told once a minute."""

_SQUARE_BITS = 8
_HEARD, _GAP, _REVISION = Column.N_EXCLUDED, Column.N_UNSURE, Column.N_UNKNOWN
"""What these columns hold here: minutes heard of, those of them that were not read whole, and the revision."""

_WEIGHT_MAX = 1 << 46
"""Of one minute: windows of ninety days hold no more. Only what is told in a finer unit, as ratios are, exceeds it."""

Minutes = tuple[int, int]


def losses_of(name: str) -> str:
    """Returns the pseudo-version whose cells hold what an objective of this name says was lost."""
    return f"#lost/{name}"


def ask_for_losses(state: State) -> None:
    """Takes in which objectives of this partition ask for what others say was lost."""
    assert state.bundle is not None
    partitions = state.bundle.partitions
    asking = {
        name: [o for o in some if o.lost_by and partition_of(o.service, partitions) == state.partition]
        for name, some in state.bundle.asked.items()
    }
    state.losses_asked = {name: some for name, some in asking.items() if some}


def book_losses(state: State, indicators: Indicators, chosen: Array) -> None:
    """Sets what indicators of these indices say was lost, where this partition asks for it."""
    for at in chosen.tolist() if state.losses_asked else ():
        for objective in state.losses_asked.get((indicators.service[at], indicators.objective[at]), ()):
            _book(state, objective, indicators, at)


def _book(state: State, objective: Objective, indicators: Indicators, at: int) -> None:
    cells, minute = state.cells[SERIES], int(indicators.minute[at])
    floor = cells.rings[0].floor
    if floor is not None and minute < floor:
        return  # what was said of it before is no longer known by the minute, so it cannot be set
    row = cells.series((objective.service, objective.digest, losses_of(indicators.objective[at])))
    known = cells.rings[0].row(row, minute, minute + 1)[:, 0]
    if known[_HEARD] and known[_REVISION] >= indicators.revision[at]:
        return
    said = np.zeros(COLUMNS, np.int64)
    said[_HEARD], said[_GAP], said[_REVISION] = 1, indicators.gap[at], indicators.revision[at]
    for n, weight, square, value in (
        (Column.N, Column.WEIGHT, Column.WEIGHT_SQUARE, indicators.weight[at]),
        (Column.N_BAD, Column.WEIGHT_BAD, Column.WEIGHT_SQUARE_BAD, indicators.weight_bad[at]),
    ):  # whole events, whose weights and squares take no room
        said[weight] = min(value, _WEIGHT_MAX)
        said[n] = said[weight] // WEIGHT_ONE
        said[square] = said[n] << _SQUARE_BITS
    where = np.array([row], np.int64), np.array([minute], np.int64)
    cells.add(*where, (said - known)[:, np.newaxis])
    state.changes.hours.add((objective.service, minute // HOUR_MINUTES))


def lost_weight(state: State, service: Service, objective: Objective, stretches: Sequence[Minutes]) -> int:
    """Returns the weight of the events that may have been lost in stretches of minutes, at worst: of all services.

    Each that was lost weighs what those that came weigh on average.
    """
    cells, unit = state.cells[SERIES], event_unit(objective)
    rows = [row for row in _rows(state, service, objective) if row is not None]
    bad = sum(between(cells, row, *stretch)[Column.WEIGHT_BAD] for row in rows for stretch in stretches)
    own = row_of(state, service.key, objective, "")
    if own is None or bad <= 0:
        return max(0, bad)
    came = [between(cells, own, *stretch) for stretch in stretches]
    n, weight = (sum(cell[column] for cell in came) for column in (Column.N, Column.WEIGHT))
    return bad if weight <= n * unit else -(-bad * weight // (n * unit))


def not_told_of(state: State, service: Service, objective: Objective, minutes: Minutes) -> list[Minutes] | None:
    """Returns stretches of minutes of which not everybody told, or could yet have told, what was lost.

    Args:
        state: Of the partition.
        service: Of the objective.
        objective: One that asks for losses.
        minutes: The minutes [first, last) that are looked at; the first a full hour where single ones are forgotten.

    Returns:
        Within these, in no order; None where one of those that are asked told nothing of late.
    """
    first, last = minutes
    untold: list[Minutes] = []
    for row in _rows(state, service, objective):
        until = None if row is None else told_until(state, row, (max(first, last - TOLD_WITHIN_MINUTES), last))
        if row is None or until is None:
            return None
        untold += [*_holes(state, row, first, until), (until - LOST_WITHIN_MINUTES, last)]
    return [(max(start, first), min(end, last)) for start, end in untold if start < last and end > first]


def told_until(state: State, row: int, minutes: Minutes) -> int | None:
    """Returns the end of the newest of these minutes in which a series counted anything; None: in none."""
    first, last = minutes
    cell = state.cells[SERIES].rings[0].row(row, first, last)
    counted = np.flatnonzero(cell[Column.WEIGHT] | cell[Column.WEIGHT_BAD])
    return first + int(counted[-1]) + 1 if len(counted) else None


def _holes(state: State, row: int, first: int, until: int) -> list[Minutes]:
    """Returns what may have been lost in, or tell of, minutes of the stretch [first, until) that were not heard of
    whole, and the hours in which nothing was counted.

    Of what is known by the hour a minute that is lacking takes its hour with it, and the one before.
    """
    minutes, *_, hours = state.cells[SERIES].rings
    known = first if minutes.floor is None else max(first, minutes.floor)
    cell = minutes.row(row, known, until)
    holes = [
        (minute + 1 - LOST_WITHIN_MINUTES, minute + 1)
        for minute in (known + np.flatnonzero(cell[_HEARD] - cell[_GAP] != 1)).tolist()
    ]
    old = hours.row(row, first // HOUR_MINUTES, known // HOUR_MINUTES)
    lacking = first // HOUR_MINUTES + np.flatnonzero(old[_HEARD] - old[_GAP] != HOUR_MINUTES)
    holes += [((hour - 1) * HOUR_MINUTES, (hour + 1) * HOUR_MINUTES) for hour in lacking.tolist()]
    begun = -(-first // HOUR_MINUTES)
    whole = hours.row(row, begun, until // HOUR_MINUTES)
    silent = begun + np.flatnonzero((whole[Column.WEIGHT] == 0) & (whole[Column.WEIGHT_BAD] == 0))
    return holes + [(hour * HOUR_MINUTES, (hour + 1) * HOUR_MINUTES) for hour in silent.tolist()]


def _rows(state: State, service: Service, objective: Objective) -> list[int | None]:
    """Returns where in the cells it stands what each of those that are asked said; None: nothing yet."""
    return [row_of(state, service.key, objective, losses_of(name)) for name in objective.lost_by]
