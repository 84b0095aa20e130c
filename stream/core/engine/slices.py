"""Slices are booked when their last minute closes, and never change after that."""

from __future__ import annotations

import numpy as np

from stream.core.cells import COLUMNS
from stream.core.engine.services import Service
from stream.core.engine.spans import minutes_within
from stream.core.engine.state import SERIES, State
from stream.core.engine.windows import SLICES, plausible, row_of
from stream.core.slo.slices import judge_slice
from stream.core.slo.spec import Objective
from stream.core.units import HOUR_MINUTES


def book_slices(state: State, minute: int) -> None:
    """Judges every slice that ends with a closed minute and adds it to its objective's slices, at that minute.

    A slice that began before the objective's history, or of which some minute was not read whole, is no slice.
    """
    rows: list[int] = []
    judged: list[list[int]] = []
    for key in sorted(state.services):
        service = state.services[key]
        for objective in service.objectives:
            cell = _slice_cell(state, service, objective, minute)
            if cell is not None:
                rows.append(state.cells[SERIES].series((key, objective.digest, SLICES)))
                judged.append(cell)
                state.changes.hours.add((key, minute // HOUR_MINUTES))
    if rows:
        values = np.array(judged, np.int64).T
        state.cells[SERIES].add(np.array(rows, np.int64), np.full(len(rows), minute, np.int64), values)


def _slice_cell(state: State, service: Service, objective: Objective, minute: int) -> list[int] | None:
    slices, end = objective.slices, minute + 1
    if slices is None or end % slices.minutes:
        return None
    own, first = service.states[objective.digest], end - slices.minutes
    if own.start_minute is None or first < own.start_minute or minutes_within(state.gaps_of(own), first, end):
        return None
    row = row_of(state, service.key, objective, "")
    events = [0] * COLUMNS if row is None else state.cells[SERIES].window(end, slices.minutes)[:, row].tolist()
    return judge_slice(plausible(objective, events), slices)
