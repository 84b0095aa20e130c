"""What an objective would have counted of input that was read before it was known: a section of a log record.

An objective counts only rows decoded under a configuration that knows it. What older ones were decoded from may still
stand in the source topics: `qma backfill` counts it again and writes the sums to the log. The fold books them into the
cells that windows and budgets are summed from. What was decided about these minutes, and the tests of certificates,
which consume each minute once, have gone by them and stay as they are.

Layout of the section: length of the head (u32 LE), the head (JSON), then the cells as an Arrow IPC stream: events or
slices, which minute, and the columns that are not 0 everywhere.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa

from stream.core.cells import COLUMNS, Column
from stream.core.columns import Array, decode_table, encode_table
from stream.core.engine.services import ObjectiveState
from stream.core.engine.state import SERIES, State
from stream.core.engine.windows import SLICES
from stream.core.errors import DecodeError
from stream.core.slo.budget_ledger import Entry, EntryKind
from stream.core.slo.spec import Objective
from stream.core.units import HOUR_MINUTES

SECTION_MINUTES_MAX = 34 * 24 * HOUR_MINUTES
"""A section of more minutes, each with a slice, could exceed the largest record; a longer history is several, the
newest first."""

_HEAD_LENGTH = struct.Struct("<I")
_NAMES = [column.name.lower() for column in Column]
_SCHEMA = pa.schema([("slices", pa.bool_()), ("minute", pa.int64()), *((name, pa.int64()) for name in _NAMES)])


@dataclass(frozen=True, slots=True, kw_only=True)
class CellColumns:
    """Cells of one series. Shapes: `minute` int64[n], each once; `values` int64[COLUMNS, n]."""

    minute: Array
    values: Array

    def between(self, first: int, last: int) -> CellColumns:
        """Returns the cells of the minutes [first, last)."""
        chosen = (self.minute >= first) & (self.minute < last)
        return CellColumns(minute=self.minute[chosen], values=self.values[:, chosen])

    def sums(self) -> list[int]:
        """Returns the sum of all cells, as exact integers."""
        total: list[int] = self.values.sum(axis=1).tolist()
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """A stretch of an objective's history that it has not counted itself.

    Args:
        service: Its service key.
        digest: The objective's.
        first_minute: The minutes [first_minute, end_minute) were read whole, but for the gaps that the state knows.
        end_minute: Where the history that the objective has begins: otherwise this is not booked.
        events: What it has not counted of these minutes; what it has counted of them itself is not in here.
        slices: The slices that ended before those that it has judged itself; empty where its budget has none.
    """

    service: str
    digest: str
    first_minute: int
    end_minute: int
    events: CellColumns
    slices: CellColumns


NO_CELLS = CellColumns(minute=np.empty(0, np.int64), values=np.empty((COLUMNS, 0), np.int64))


def encode_backfill(backfill: Backfill) -> bytes:
    """Returns the bytes of the section."""
    head = orjson.dumps({name: getattr(backfill, name) for name in ("service", "digest", "first_minute", "end_minute")})
    events, slices = backfill.events, backfill.slices
    values = np.concatenate([events.values, slices.values], axis=1)
    is_slice = np.repeat([False, True], [len(events.minute), len(slices.minute)])
    columns = {_NAMES[at]: pa.array(values[at]) for at in np.flatnonzero(values.any(axis=1)).tolist()}
    minute = pa.array(np.concatenate([events.minute, slices.minute]))
    cells = encode_table({"slices": pa.array(is_slice), "minute": minute} | columns)
    return _HEAD_LENGTH.pack(len(head)) + head + cells


def decode_backfill(data: bytes) -> Backfill:
    """Returns the section in `data`.

    Raises:
        DecodeError: When it is none.
    """
    try:
        (length,) = _HEAD_LENGTH.unpack_from(data)
        head = orjson.loads(data[_HEAD_LENGTH.size : _HEAD_LENGTH.size + length])
    except (struct.error, orjson.JSONDecodeError) as error:
        raise DecodeError("corrupt_record", f"the backfill section has no head: {error}") from error
    batch = decode_table(data[_HEAD_LENGTH.size + length :], _SCHEMA, frozenset(_NAMES))
    values = np.zeros((COLUMNS, len(batch)), np.int64)
    for name in batch.schema.names[2:]:
        values[_NAMES.index(name)] = batch.column(name).to_numpy()
    minute, is_slice = batch.column("minute").to_numpy(), batch.column("slices").to_numpy(zero_copy_only=False)
    events, slices = (CellColumns(minute=minute[of], values=values[:, of]) for of in (~is_slice, is_slice))
    try:
        return Backfill(**head, events=events, slices=slices)
    except TypeError as error:
        raise DecodeError("corrupt_record", f"the head of the backfill section is another one: {error}") from error


def book_backfill(state: State, section: bytes) -> None:
    """Lengthens an objective's history backwards, once.

    What does not end exactly where the history begins is not booked, and counted as ignored: one that was booked
    before, one of an objective that is gone, one that was made before a last older row moved the beginning.
    """
    backfill = decode_backfill(section)
    found = _objective_of(state, backfill)
    if found is None:
        state.ignored_backfills += 1
        return
    objective, own = found
    for version, cells in (("", backfill.events), (SLICES, backfill.slices)):
        if len(cells.minute):
            row = state.cells[SERIES].series((backfill.service, backfill.digest, version))
            state.cells[SERIES].add(np.full(len(cells.minute), row, np.int64), cells.minute, cells.values)
            for hour in np.unique(cells.minute // HOUR_MINUTES).tolist():
                state.changes.hours.add((backfill.service, hour))
    counting = backfill.events if objective.slices is None else backfill.slices
    _settle(own, counting)
    assert own.start_minute is not None
    own.backfilled = backfill.first_minute, own.start_minute
    own.unentered.append(_entry(backfill, counting))
    state.changes.heads.add(backfill.service)


def _objective_of(state: State, backfill: Backfill) -> tuple[Objective, ObjectiveState] | None:
    """Returns the objective that a section is about; None where it may not be booked."""
    service = state.services.get(backfill.service)
    objective = next((o for o in service.objectives if o.digest == backfill.digest), None) if service else None
    if service is None or objective is None or state.next_minute is None:
        return None
    own = service.states[objective.digest]
    first, end = backfill.first_minute, backfill.end_minute
    slices_end = -(-end // objective.slice_minutes) * objective.slice_minutes
    is_within = all(
        ((cells.minute >= first) & (cells.minute < until)).all()
        for cells, until in ((backfill.events, end), (backfill.slices, slices_end))
    )
    is_next = own.begins_at == end and not own.is_broken and end <= slices_end <= state.next_minute
    return (objective, own) if is_next and first < end and is_within else None


def _settle(own: ObjectiveState, counting: CellColumns) -> None:
    """Adds what lies in the settled part of the calendar period; what is older belongs to periods that are over."""
    if own.settled_period is not None and own.settled_until is not None:
        added = counting.between(own.settled_period, own.settled_until).sums()
        own.settled = [a + b for a, b in zip(own.settled, added, strict=True)]


def _entry(backfill: Backfill, counting: CellColumns) -> Entry:
    total = counting.sums()
    return Entry(
        kind=EntryKind.BACKFILL,
        start_minute=backfill.first_minute,
        end_minute=backfill.end_minute,
        n=total[Column.N],
        weight=total[Column.WEIGHT],
        weight_bad=total[Column.WEIGHT_BAD],
    )
