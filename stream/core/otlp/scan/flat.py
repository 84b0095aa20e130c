"""Compiled decoder of flat events: equals `reference.flat`, which it asks about every message that it is not sure of.

Those are the refused ones, and texts with escapes, more than 255 bytes, duplicated fields, numbers of many digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
import orjson
from numba import int64

from stream.core.columns import Array, Kind, RejectReason, RowFlag, Rows, Signal, Status
from stream.core.errors import DecodeError
from stream.core.otlp import ONLY_FIELDS, Decoded, Messages, Reading, semconv
from stream.core.otlp.attributes import Value, canonical
from stream.core.otlp.reference import flat as reference
from stream.core.otlp.scan import flat_event as event
from stream.core.otlp.scan.accounts import Refused, make_receipts
from stream.core.otlp.scan.intern import FULL, interned, interned_again
from stream.core.otlp.scan.memory import (
    address_of,
    inlined,
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
from stream.core.otlp.scan.words import Tables, dictionary
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


@inlined
def _service(record: int, plan: int) -> Any:
    """Returns the index of the record's service: of its environment, namespace and name; `FULL` without room."""
    words, triple = load_word(plan + 8 * event.WORDS), stack_words(3)
    text = record + 8 * event.ENVIRONMENT
    environment = interned_again(words, plan + 8 * event.LAST_ENVIRONMENT, load_word(text), load_word(text + 8))
    text = record + 8 * event.NAMESPACE
    namespace = interned_again(words, plan + 8 * event.LAST_NAMESPACE, load_word(text), load_word(text + 8))
    text = record + 8 * event.SERVICE
    name = interned(words, load_word(text), load_word(text + 8))
    if environment < 0 or namespace < 0 or name < 0:
        return int64(FULL)
    store64(triple, environment)
    store64(triple + 8, namespace)
    store64(triple + 16, name)
    return interned(load_word(plan + 8 * event.SERVICES), triple, int64(24))


@inner
def _store_row(message: int, record: int, columns: int, plan: int) -> Any:
    """Writes the record to the columns of a message; returns 0, or `event.FULL` where a table has no room."""
    words, service = load_word(plan + 8 * event.WORDS), _service(record, plan)
    text = record + 8 * event.VERSION
    version = interned(words, load_word(text), load_word(text + 8))
    text = record + 8 * event.ERROR_TYPE
    error_size = load_word(text + 8)
    error_type = interned(words, load_word(text), error_size) if error_size else int64(0)
    if service < 0 or version < 0 or error_type < 0:
        return int64(event.FULL)
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
            if result == event.FULL:
                break
        message += 1
    return message


def decode(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of flat events; a tombstone holds no items.

    Never raises on what a producer sent: bad messages are refused in their receipts.
    """
    idle = _idle(reading)
    try:
        job = idle.pop()  # one step: another thread gets another one
    except IndexError:
        job = _Job(reading)
    scan = _Scan(messages, job)
    decoded = replace(scan.decoded(), ids=scan.ids()) if reading.ids else scan.decoded()
    if job.tables.is_small():
        idle.append(job)
    return decoded


@lru_cache(maxsize=16)
def _idle(reading: Reading) -> list[_Job]:
    """Returns the jobs for this reading that nobody uses."""
    return []


class _Tables(Tables):
    """Interned texts, services, and chains of attributes as they were sent."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading.attributes)
        self._reading, self.names = reading, _attribute_names(reading.attributes)

    def attributes_of(self, index: int) -> Mapping[str, Value]:
        """Returns the wanted attributes of a chain, given its index + 1."""
        sent: dict[str, Any] = {}
        while index > 0:
            index, value = self._sets.words_of(index - 1)
            # From the last to the first: of a duplicated key the last counts.
            sent.setdefault(self.names[value & _KEY_MASK], orjson.loads(self._words.word(value >> event.KEY_BITS)))
        return reference.wanted(sent, self._reading)


class _Job:
    """What the kernel works with: it is used again for later calls that ask for the same."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.tables = reading, _Tables(reading)
        self._attribute_keys = KeyTable([name.encode() for name in self.tables.names])
        limits = reading.limits
        self.plan = np.zeros(event.PLAN_WORDS, "int64")
        self.plan[: event.GUESSES] = (
            *self.tables.addresses[: event.SETS + 1],
            _FIELD_KEYS.address,
            self._attribute_keys.address,
            min(reference.MESSAGE_BYTES_MAX, limits.message_bytes),
            limits.attributes,
            limits.value_bytes,
            *(0, 0),
        )


class _Scan:
    """The columns of some messages: first those that the kernel read, then also the others."""

    def __init__(self, messages: Messages, job: _Job) -> None:
        self._messages, self._reading = messages, job.reading
        size = len(messages)
        self._data, self._ends, self._state = _joined(messages.values)
        self._columns = {name: np.zeros(size, Rows.DTYPES[name]) for name in _COLUMNS}
        self._id, self._id_size = np.zeros((2, size), "int64")
        self._run(job)
        self._words: dict[str, dict[str, int]] = {}
        self._resolve(job.tables)
        self._ids: dict[int, bytes] = {}
        self._refused: list[Refused] = []
        for index in np.flatnonzero(self._state == _UNSURE).tolist():
            self._ask_reference(index)

    def _run(self, job: _Job) -> None:
        """Runs the kernel over all messages; where a table is full they grow and the kernel goes on."""
        arrays = [*self._columns.values(), self._state, self._id, self._id_size]
        columns = np.array([array.ctypes.data for array in arrays], "int64")
        data, ends, size = address_of(self._data), self._ends.ctypes.data, len(self._messages)
        plan, message = job.plan.ctypes.data, 0
        while (message := _scan(data, ends, message, size, columns.ctypes.data, plan)) < size:
            job.tables.grow()
        self._id -= data

    def _resolve(self, tables: _Tables) -> None:
        """Replaces the indices that the kernel interned by those of dictionaries, in the messages that it read."""
        is_row = self._state == _ROW
        rows = slice(None) if is_row.all() else is_row
        texts_of = {
            "service": tables.services,
            "version": tables.texts,
            "error_type": tables.texts,
            "attributes": tables.attribute_sets,
        }
        for name, of in texts_of.items():
            column = self._columns[name]
            column[rows], words = dictionary(column[rows], of)
            self._words[name] = {word: index for index, word in enumerate(words)}

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
        row = {
            "service": self._word(
                "service", service_key(read.environment or None, read.namespace or None, read.service)
            ),
            "version": self._word("version", read.version),
            "error_type": self._word("error_type", read.error_type),
            "attributes": self._word("attributes", canonical(read.attributes)),
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

    def _word(self, column: str, word: str) -> int:
        words = self._words[column]
        return words.setdefault(word, len(words))

    def decoded(self) -> Decoded:
        """Returns the rows and receipts."""
        messages, is_row = self._messages, self._state == _ROW
        items = np.where(is_row, self._columns["count"], self._state != _TOMBSTONE).astype("int64", copy=False)
        columns = {**self._columns, "source": messages.source, "offset": messages.offset}
        if not is_row.all():
            columns = {name: column[is_row] for name, column in columns.items()}
        size = len(columns["count"])
        words = {Rows.DICTIONARIES[name]: tuple(words) for name, words in self._words.items()}
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
        if not self._ids and not self._id_size.any():
            return [None] * len(self._messages)
        data, begins = self._data, self._id
        ends = begins + self._id_size
        ids = [data[begin:end] or None for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        for index, id_ in self._ids.items():
            ids[index] = id_
        return ids


_KEY_MASK = (1 << event.KEY_BITS) - 1


def _attribute_names(attributes: tuple[str, ...]) -> list[str]:
    """Returns the keys under which the wanted attributes may have been sent."""
    older = (semconv.OLD_NAMES[key] for key in attributes if key in semconv.OLD_NAMES)
    names = list(dict.fromkeys([*attributes, *older]))
    assert len(names) <= _KEY_MASK, "the index of a key has 16 bits"
    return names


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
