"""Cells in a checkpoint: a chunk for a span of one service, of all versions together and of each.

Layout: length of the names (u32 LE), the names of the series (JSON: store, digest, version), then the cells as an Arrow
IPC stream: which series, which period, and the columns that are not 0 everywhere, with excess weights.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from functools import cache

import numpy as np
import orjson
import pyarrow as pa

from stream.core.cells import Cells, Column, Span, excess_weights
from stream.core.columns import WORDS, Array, decode_table
from stream.core.engine.state import SERIES, VERSIONS, SeriesKey, State, StoredSpan
from stream.core.units import HOUR_MINUTES

_STORES = (SERIES, VERSIONS)
_NAMES_LENGTH = struct.Struct("<I")
_END_OF_STREAM = struct.pack("<II", 0xFFFFFFFF, 0)
_COLUMNS = [f"{column.name.lower()}{'_excess' if 'WEIGHT' in column.name else ''}" for column in Column]
_SCHEMA = pa.schema([("series", pa.int32()), ("period", pa.int64()), *((name, pa.int64()) for name in _COLUMNS)])
_SCHEMA_2 = pa.schema(
    [("series", WORDS), ("period", pa.int64()), *((column.name.lower(), pa.int64()) for column in Column)]
)

_LEFT_OUT_OF_FORMAT_2 = frozenset(column.name.lower() for column in (Column.N_UNSURE, Column.N_EXCLUDED))


def span_key(stored: StoredSpan) -> bytes:
    """Returns the key of a span's chunk."""
    return f"cells/{stored.span.ring}/{stored.span.number}/{stored.service}".encode()


def parse_span_key(key: bytes) -> StoredSpan | None:
    """Returns the span that a chunk holds; None where it holds no cells, or those of format 2."""
    if not key.startswith(b"cells/") or is_of_format_2(key):
        return None
    _, ring, number, service = key.decode().split("/", 3)
    return StoredSpan(service, Span(int(ring), int(number)))


def is_of_format_2(key: bytes) -> bool:
    """Returns whether a chunk has cells as format 2 kept them: of one store each, `cells/STORE/RING/NUMBER/SERVICE`."""
    return key.startswith((b"cells/series/", b"cells/versions/"))


def spans_of_hours(state: State, hours: set[tuple[str, int]]) -> set[StoredSpan]:
    """Returns the spans in which these hours of services are stored."""
    within = {hour: state.cells[SERIES].spans_of_hour(hour) for hour in {hour for _, hour in hours}}
    return {StoredSpan(service, span) for service, hour in hours for span in within[hour]}


def is_stored(state: State, stored: StoredSpan) -> bool:
    """Returns whether there is anything of a span to store."""
    return any(cells.stores(stored.span) for cells in state.cells.values())


def forgotten_chunks(state: State) -> dict[bytes, StoredSpan | None]:
    """Returns the chunks to delete, if anything was forgotten since the last call: spans that left their ring.

    And those of format 2 (None), which are written anew.
    """
    forgot = [cells.forgot for cells in state.cells.values()]
    if not any(forgot):
        return {}
    for cells in state.cells.values():
        cells.forgot = False
    parsed = {key: parse_span_key(key) for key in state.stored if key.startswith(b"cells/")}
    return {key: stored for key, stored in parsed.items() if stored is None or not is_stored(state, stored)}


def encode_span(state: State, stored: StoredSpan) -> bytes:
    """Returns the body of a span's chunk; nothing where no cell of it holds anything."""
    names: list[tuple[str, str, str]] = []
    series, periods, values = [], [], []
    for store in _STORES:
        cells = state.cells[store]
        keys = _keys_of(cells, stored.service)
        position, period, excess = cells.read_span(stored.span, keys)
        first = np.ones(len(position), bool)
        first[1:] = position[1:] != position[:-1]
        series.append(np.cumsum(first, dtype=np.int32) + np.int32(len(names) - 1))
        names += [(store, keys[at][1], keys[at][2]) for at in position[first].tolist()]
        periods.append(period)
        values.append(excess)
    if not names:
        return b""
    head = orjson.dumps(names)
    cells_ = _encode(np.concatenate(series), np.concatenate(periods), np.concatenate(values, axis=1))
    return _NAMES_LENGTH.pack(len(head)) + head + cells_


def _keys_of(cells: Cells[SeriesKey], service: str) -> list[SeriesKey]:
    """Returns the series of a service, in order."""
    keys = cells.keys()
    return keys[bisect_left(keys, (service, "", "")) : bisect_left(keys, (service + "\0", "", ""))]


def _encode(series: Array, period: Array, excess: Array) -> bytes:
    columns = tuple(np.flatnonzero(excess.any(axis=1)).tolist())
    schema, opening = _opening(columns)
    arrays = [pa.array(series), pa.array(period), *(pa.array(excess[column]) for column in columns)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    return b"".join((opening, batch.serialize(), _END_OF_STREAM))


@cache
def _opening(columns: tuple[int, ...]) -> tuple[pa.Schema, bytes]:
    """Returns the schema with these columns, and the message that a stream of it begins with."""
    schema = pa.schema([_SCHEMA.field(0), _SCHEMA.field(1), *(_SCHEMA.field(2 + column) for column in columns)])
    return schema, schema.serialize().to_pybytes()


def restore_span(state: State, key: bytes, body: memoryview) -> None:
    """Puts the cells of a chunk back. When all are back, `sum_coarse` of both stores completes them."""
    if is_of_format_2(key):
        _restore_format_2(state, key, body)
        return
    stored = parse_span_key(key)
    assert stored is not None
    (length,) = _NAMES_LENGTH.unpack_from(body)
    names = orjson.loads(body[_NAMES_LENGTH.size : _NAMES_LENGTH.size + length])
    batch = decode_table(body[_NAMES_LENGTH.size + length :], _SCHEMA, frozenset(_COLUMNS))
    excess = np.zeros((len(Column), len(batch)), np.int64)
    for name in batch.schema.names[2:]:
        excess[_COLUMNS.index(name)] = batch.column(name).to_numpy()
    series, period = batch.column("series").to_numpy(), batch.column("period").to_numpy()
    for store in _STORES:
        numbers = [number for number, (of, _, _) in enumerate(names) if of == store]
        if numbers:
            keys = [(stored.service, names[number][1], names[number][2]) for number in numbers]
            mine = (series >= numbers[0]) & (series <= numbers[-1])
            position = series[mine] - numbers[0]
            state.cells[store].write_span(stored.span, keys, position, period[mine], excess[:, mine])


def _restore_format_2(state: State, key: bytes, body: memoryview) -> None:
    """Puts back what format 2 wrote. The next checkpoint writes it anew."""
    _, store, ring, number, service = key.decode().split("/", 4)
    span = Span(int(ring), int(number))
    batch = decode_table(body, _SCHEMA_2, _LEFT_OUT_OF_FORMAT_2)
    series = batch.column("series")
    keys: list[SeriesKey] = []
    for name in series.dictionary.to_pylist():
        digest, _, version = name.partition("/")
        keys.append((service, digest, version))
    values = np.zeros((len(Column), len(batch)), np.int64)
    for name in batch.schema.names[2:]:
        values[Column[name.upper()]] = batch.column(name).to_numpy()
    period = batch.column("period").to_numpy()
    cells = state.cells[store]
    cells.write_span(span, keys, series.indices.to_numpy(), period, excess_weights(values))
    cells.forgot = True
    hours = np.unique(period * cells.rings[span.ring].spec.period_minutes // HOUR_MINUTES)
    state.changes.hours.update((service, hour) for hour in hours.tolist())
