"""Compiled decoder of flat events: equals `reference.flat`, which it asks about every message that it is not sure of.

Those are the refused ones, and texts with escapes, more than 255 bytes, duplicated fields, numbers of many digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
import orjson
from numba import int64

from stream.core.columns import Array, Kind, RejectReason, RowFlag, Rows, Signal, Status
from stream.core.errors import DecodeError
from stream.core.otlp import ONLY_FIELDS, Decoded, Messages, Reading, semconv
from stream.core.otlp.attributes import canonical
from stream.core.otlp.reference import flat as reference
from stream.core.otlp.scan import flat_event as event
from stream.core.otlp.scan.accounts import Refused, make_receipts
from stream.core.otlp.scan.intern import InternTable, interned
from stream.core.otlp.scan.memory import (
    address_of,
    inner,
    kernel,
    load8,
    load_word,
    stack_words,
    store8,
    store16,
    store32,
    store64,
)
from stream.core.otlp.scan.strict_json import PADDING
from stream.core.otlp.scan.wire import KeyTable
from stream.core.points import NO_POINTS
from stream.core.service_key import service_key
from stream.core.units import WEIGHT_ONE

_COLUMNS = (
    "service",
    "version",
    "error_type",
    "attributes",
    "end_ns",
    "duration_ns",
    "count",
    "trace_hi",
    "trace_lo",
    "code",
    "kind",
    "status",
    "flags",
)
"""What the kernel writes, one value a message; then, as bytes, whether it is a row, and where its `id` is."""

(
    _SERVICE,
    _VERSION,
    _ERROR_TYPE,
    _ATTRIBUTES,
    _END_NS,
    _DURATION_NS,
    _COUNT,
    _TRACE_HI,
    _TRACE_LO,
    _CODE,
    _KIND,
    _STATUS,
    _FLAGS,
    _STATE,
    _ID,
    _ID_SIZE,
) = range(len(_COLUMNS) + 3)

_TOMBSTONE, _ROW, _UNSURE = 0, 1, 2
"""What a message is."""

_FIELD_KEYS = KeyTable([field.encode() for field in event.FIELDS])

_RECORD_WORDS = event.RECORD_WORDS
_FAILED = int(RowFlag.FAILED)
_STATUS_UNSET, _STATUS_ERROR = int(Status.UNSET), int(Status.ERROR)
_FAILED_BY_CODE = np.array(
    [[semconv.failed_by_code(kind, code) for code in range(-1, semconv.HTTP_MAX + 1)] for kind in Kind]
)
"""By kind and code + 1."""


@inner
def _store_row(message: int, record: int, columns: int, plan: int) -> Any:
    """Writes the record to the columns of a message; returns 0, or `FULL` less the number of a table without room."""
    triple = stack_words(3)
    for i in range(3):
        text = record + 8 * (event.SERVICE + 2 * i)
        word = interned(load_word(plan + 8 * event.WORDS), load_word(text), load_word(text + 8))
        if word < 0:
            return int64(event.FULL - event.WORDS)
        store64(triple + 8 * i, word)
    service = interned(load_word(plan + 8 * event.SERVICES), triple, 24)
    if service < 0:
        return int64(event.FULL - event.SERVICES)
    text = record + 8 * event.VERSION
    version = interned(load_word(plan + 8 * event.VERSIONS), load_word(text), load_word(text + 8))
    if version < 0:
        return int64(event.FULL - event.VERSIONS)
    text = record + 8 * event.ERROR_TYPE
    error_size = load_word(text + 8)
    error_type = interned(load_word(plan + 8 * event.ERROR_TYPES), load_word(text), error_size)
    if error_type < 0:
        return int64(event.FULL - event.ERROR_TYPES)
    kind, status = load_word(record + 8 * event.KIND), load_word(record + 8 * event.STATUS)
    code = load_word(record + 8 * event.CODE)
    failed = status == _STATUS_ERROR
    if status == _STATUS_UNSET:
        failed = error_size != 0 or _FAILED_BY_CODE[kind, code + 1]
    store32(load_word(columns + 8 * _SERVICE) + 4 * message, service)
    store32(load_word(columns + 8 * _VERSION) + 4 * message, version)
    store32(load_word(columns + 8 * _ERROR_TYPE) + 4 * message, error_type)
    store32(load_word(columns + 8 * _ATTRIBUTES) + 4 * message, load_word(record + 8 * event.ATTRIBUTES))
    store64(load_word(columns + 8 * _END_NS) + 8 * message, load_word(record + 8 * event.TIME))
    store64(load_word(columns + 8 * _DURATION_NS) + 8 * message, load_word(record + 8 * event.DURATION))
    store64(load_word(columns + 8 * _COUNT) + 8 * message, load_word(record + 8 * event.COUNT))
    store64(load_word(columns + 8 * _TRACE_HI) + 8 * message, load_word(record + 8 * event.TRACE_HI))
    store64(load_word(columns + 8 * _TRACE_LO) + 8 * message, load_word(record + 8 * event.TRACE_LO))
    store16(load_word(columns + 8 * _CODE) + 2 * message, code)
    store8(load_word(columns + 8 * _KIND) + message, kind)
    store8(load_word(columns + 8 * _STATUS) + message, status)
    store8(load_word(columns + 8 * _FLAGS) + message, _FAILED if failed else 0)
    store64(load_word(columns + 8 * _ID) + 8 * message, load_word(record + 8 * event.ID))
    store64(load_word(columns + 8 * _ID_SIZE) + 8 * message, load_word(record + 8 * event.ID + 8))
    store8(load_word(columns + 8 * _STATE) + message, _ROW)
    return int64(0)


@kernel
def _scan(buffer: int, ends: int, message: int, messages: int, columns: int, plan: int) -> Any:
    """Reads messages from `message` on; returns the first that was not read because a table is full, else `messages`.

    Args:
        buffer: Address of the messages, one after the other, and `PADDING`.
        ends: Address of where each begins, and the last one ends.
        message: Index of the first that is to be read.
        messages: How many there are.
        columns: Address of the addresses of the columns.
        plan: What `read_event` takes.
    """
    record = stack_words(_RECORD_WORDS)
    state = load_word(columns + 8 * _STATE)
    while message < messages:
        if int64(load8(state + message)) != _TOMBSTONE:
            at, end = buffer + load_word(ends + 8 * message), buffer + load_word(ends + 8 * message + 8)
            result = event.read_event(at, end, record, plan)
            if result == 0:
                result = _store_row(message, record, columns, plan)
            if result <= event.FULL:
                store64(plan + 8 * event.FULL_TABLE, event.FULL - result)
                break
        message += 1
    return message


def decode(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of flat events; a tombstone holds no items.

    Never raises on what a producer sent: bad messages are refused in their receipts.
    """
    scan = _Scan(messages, reading)
    return replace(scan.decoded(), ids=scan.ids()) if reading.ids else scan.decoded()


class _Dictionary:
    """Distinct texts of a column by index."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def index(self, text: str) -> int:
        return self._index.setdefault(text, len(self._index))

    def of(self, column: Array, text_of: Callable[[int], str]) -> Array:
        """Returns the indices of texts, given those that a kernel interned."""
        if not len(column):
            return column
        used = np.bincount(column).nonzero()[0]
        lookup = np.zeros(used[-1] + 1, "int32")
        lookup[used] = [self.index(text_of(i)) for i in used.tolist()]
        return lookup[column]

    def texts(self) -> tuple[str, ...]:
        return tuple(self._index)


class _Scan:
    """The columns of some messages: first those that the kernel read, then also the others."""

    def __init__(self, messages: Messages, reading: Reading) -> None:
        self._messages, self._reading = messages, reading
        size = len(messages)
        self._data, self._ends, self._state = _joined(messages.values)
        self._columns = {name: np.zeros(size, Rows.DTYPES[name]) for name in _COLUMNS}
        self._id, self._id_size = np.zeros((2, size), "int64")
        self._texts, self._services, self._sets = InternTable(), InternTable(), InternTable()
        self._run()
        self._dictionaries = {name: _Dictionary() for name in ("service", "version", "error_type", "attributes")}
        self._resolve()
        self._ids: dict[int, bytes] = {}
        self._refused: list[Refused] = []
        for index in np.flatnonzero(self._state == _UNSURE).tolist():
            self._ask_reference(index)

    def _run(self) -> None:
        """Runs the kernel over all messages; where a table is full it grows and the kernel goes on."""
        attribute_keys = _attribute_keys(self._reading.attributes)
        limits = self._reading.limits
        plan = np.zeros(event.PLAN_WORDS, "int64")
        # All others are one: a word has one index, whatever it is used for.
        tables = {event.SERVICES: self._services, event.SETS: self._sets}
        for number in range(event.TABLES):
            plan[number] = tables.setdefault(number, self._texts).address
        plan[event.FIELD_KEYS] = _FIELD_KEYS.address
        plan[event.ATTRIBUTE_KEYS] = attribute_keys.address
        plan[event.MESSAGE_BYTES] = min(reference.MESSAGE_BYTES_MAX, limits.message_bytes)
        plan[event.ATTRIBUTES_LIMIT], plan[event.VALUE_BYTES] = limits.attributes, limits.value_bytes
        arrays = [*self._columns.values(), self._state, self._id, self._id_size]
        columns = np.array([array.ctypes.data for array in arrays], "int64")
        data, ends, size = address_of(self._data), self._ends.ctypes.data, len(self._messages)
        message = _scan(data, ends, 0, size, columns.ctypes.data, plan.ctypes.data)
        while message < size:
            tables[int(plan[event.FULL_TABLE])].grow()
            message = _scan(data, ends, message, size, columns.ctypes.data, plan.ctypes.data)
        self._id -= data

    def _resolve(self) -> None:
        """Replaces the indices that the kernel interned by those of dictionaries, in the messages that it read."""
        words = self._texts.words()
        triples = self._services.tuples(3).tolist()

        def text(index: int) -> str:
            return words[index].decode()

        def service(index: int) -> str:
            name, environment, namespace = triples[index]
            return _key(text(name), text(namespace), text(environment))

        is_row = self._state == _ROW
        texts_of = {"service": service, "version": text, "error_type": text, "attributes": self._set_of(words)}
        for name, text_of in texts_of.items():
            column = self._columns[name]
            column[is_row] = self._dictionaries[name].of(column[is_row], text_of)

    def _set_of(self, words: Sequence[bytes]) -> Callable[[int], str]:
        """Returns a function that gives the canonical text of a chain's index + 1."""
        chains = self._sets.tuples(2).tolist()
        names = _attribute_names(self._reading.attributes)

        def text(link: int) -> str:
            sent: dict[str, Any] = {}
            while link > 0:
                link, value = chains[link - 1]
                # From the last to the first: of a duplicated key the last counts.
                sent.setdefault(names[value & _KEY_MASK], orjson.loads(words[value >> event.KEY_BITS]))
            return canonical(reference.wanted(sent, self._reading)) if sent else ""

        return text

    def _ask_reference(self, index: int) -> None:
        """Reads one message with the reference decoder: it becomes a row or is refused."""
        value = self._messages.values[index]
        assert value is not None
        try:
            read = reference.read(value, self._reading)
        except DecodeError as error:
            self._refused.append(
                Refused(message=index, reason=RejectReason(error.reason), items=1, detail=error.detail)
            )
            return
        failed = semconv.failed(kind=read.kind, status=read.status, error_type=read.error_type, code=read.code)
        high, low = reference.trace_words(read.trace_id)
        dictionaries = self._dictionaries
        row = {
            "service": dictionaries["service"].index(_key(read.service, read.namespace, read.environment)),
            "version": dictionaries["version"].index(read.version),
            "error_type": dictionaries["error_type"].index(read.error_type),
            "attributes": dictionaries["attributes"].index(canonical(read.attributes)),
            "end_ns": read.end_ns,
            "duration_ns": read.duration_ns,
            "count": read.events,
            "trace_hi": high,
            "trace_lo": low,
            "code": read.code,
            "kind": read.kind,
            "status": read.status,
            "flags": _FAILED if failed else 0,
        }
        for name, column in self._columns.items():
            column[index] = row[name]
        self._state[index] = _ROW
        if read.id:
            self._ids[index] = read.id.encode()

    def decoded(self) -> Decoded:
        """Returns the rows and receipts."""
        messages, is_row = self._messages, self._state == _ROW
        items = np.where(is_row, self._columns["count"], self._state != _TOMBSTONE).astype("int64", copy=False)
        columns = {**self._columns, "source": messages.source, "offset": messages.offset}
        if not is_row.all():
            columns = {name: column[is_row] for name, column in columns.items()}
        size = len(columns["count"])
        words = {Rows.DICTIONARIES[name]: texts.texts() for name, texts in self._dictionaries.items()}
        rows = Rows.of(
            size,
            **columns,
            **words,
            weight=columns["count"] * WEIGHT_ONE,
            signal=np.full(size, Signal.EVENT, "int8"),
        )
        receipts = make_receipts(messages, items, self._refused)
        accepted = int(receipts.items.sum()) - int(receipts.rejected.sum())
        assert accepted == int(rows.count.sum()), "every item received is in a row or rejected in a receipt"
        return Decoded(rows=rows, points=NO_POINTS, receipts=receipts)

    def ids(self) -> list[bytes | None]:
        """Returns the id of each message."""
        data, begins = self._data, self._id
        ends = begins + self._id_size
        ids = [data[begin:end] or None for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        for index, id_ in self._ids.items():
            ids[index] = id_
        return ids


_KEY_MASK = (1 << event.KEY_BITS) - 1


def _key(name: str, namespace: str, environment: str) -> str:
    return service_key(environment or None, namespace or None, name)


def _attribute_names(attributes: tuple[str, ...]) -> list[str]:
    """Returns the keys under which the wanted attributes may have been sent."""
    older = (semconv.OLD_NAMES[key] for key in attributes if key in semconv.OLD_NAMES)
    return list(dict.fromkeys([*attributes, *older]))


@lru_cache(maxsize=16)
def _attribute_keys(attributes: tuple[str, ...]) -> KeyTable:
    names = _attribute_names(attributes)
    assert len(names) <= _KEY_MASK, "the index of a key has 16 bits"
    return KeyTable([name.encode() for name in names])


def _joined(values: Sequence[bytes | None]) -> tuple[bytes, Array, Array]:
    """Returns the messages one after the other and `PADDING`, where each begins, and what each is to the kernel."""
    size = len(values)
    state = np.full(size, _UNSURE, "uint8")
    whole = cast(Sequence[bytes], values)
    try:
        data = b"".join([*whole, bytes(PADDING)])
    except TypeError:
        state[[value is None for value in values]] = _TOMBSTONE
        whole = [value or b"" for value in values]
        data = b"".join([*whole, bytes(PADDING)])
    ends = np.zeros(size + 1, "int64")
    np.cumsum(np.fromiter(map(len, whole), "int64", size), out=ends[1:])
    return data, ends, state
