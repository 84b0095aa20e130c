"""The attributes that are wanted of an item or a resource: kernels that note them and judge what was found.

Each wanted key has a slot. A slot is four words: the stamp of the item that it was filled for, and the kind and the two
words of the value (`wire.any_value`). Whose stamp is another one's is empty: nothing is cleared between items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stream.core.columns import NO_CODE, Kind, RowFlag, Status
from stream.core.otlp import semconv
from stream.core.otlp.scan import wire
from stream.core.otlp.scan.intern import FULL, interned
from stream.core.otlp.scan.memory import (
    inlined,
    inner,
    int64,
    load8,
    load64,
    load_word,
    store64,
    uint64,
)
from stream.core.otlp.scan.text import is_utf8
from stream.core.otlp.scan.wire import BOOL, DOUBLE, INT, NONE, OTHER, STRING, KeyTable, lookup

SLOT_BYTES = 32

ITEM_KEYS = (*semconv.RPC_STATUS_CODES, *semconv.HTTP_STATUS_CODES, semconv.ERROR_TYPE)
"""Keys of the first slots of an item."""

RESOURCE_KEYS = (semconv.SERVICE_NAME, semconv.SERVICE_NAMESPACE, semconv.SERVICE_VERSION, *semconv.ENVIRONMENTS)
"""Keys of the first slots of a resource."""

_RPC_SLOTS, _HTTP_SLOTS = len(semconv.RPC_STATUS_CODES), len(semconv.HTTP_STATUS_CODES)
_CODE_SLOTS = _RPC_SLOTS + _HTTP_SLOTS
ERROR_TYPE_SLOT = ITEM_KEYS.index(semconv.ERROR_TYPE)
_NAME, _NAMESPACE, VERSION_SLOT, _ENVIRONMENT, _OLD_ENVIRONMENT = range(len(RESOURCE_KEYS))

_GRPC_NAMES = KeyTable([name.encode() for name in semconv.GRPC_CODES])
"""Indices are codes."""
assert list(semconv.GRPC_CODES.values()) == list(range(len(semconv.GRPC_CODES)))

_GRPC_MAX = semconv.GRPC_MAX
_HTTP_MIN, _HTTP_MAX = semconv.HTTP_MIN, semconv.HTTP_MAX
_CLIENT = int(Kind.CLIENT)
_UNSET, _ERROR = int(Status.UNSET), int(Status.ERROR)
_GRPC_SERVER_FAILURES = sum(1 << code for code in range(_GRPC_MAX + 1) if semconv.failed_by_code(Kind.SERVER, code))

INVALID = int(RowFlag.INVALID_UTF8)
TOO_LONG = 1 << 8
"""Of a text that was noted: no flag of a row."""
NOTED = 1 << 9
"""That something was: no flag of a row either."""

_EXPONENT = 0x7FF0000000000000
_EXCEPTION_TAIL = int.from_bytes(b"xception", "little")
_E, _DOT = ord("e"), ord(".")
_EXCEPTION_BYTES = len(b"exception")


class Wanted:
    """The keys that are looked for in one kind of place, and which of their slots make up the allow-listed set.

    Attributes:
        table: Address for `wire.lookup`.
        picks: Address of two slots per allow-listed key: of its name and of its older name, or -1 for none.
        listed: How many keys are allow-listed.
        slots: How many keys are wanted.
    """

    def __init__(self, fixed: Sequence[str], listed: Sequence[str]) -> None:
        """Makes the slots of `fixed`, in order, and of what the allow-list adds to them."""
        names = (name for key in listed for name in (key, semconv.OLD_NAMES.get(key, key)))
        keys = list(dict.fromkeys([*fixed, *names]))
        self._table = KeyTable([key.encode() for key in keys])
        index = {key: i for i, key in enumerate(keys)}
        picks = [(index[key], index.get(semconv.OLD_NAMES.get(key, ""), -1)) for key in listed]
        self._picks = np.array(picks, "int64").reshape(-1)
        self.table = self._table.address
        self.picks: int = self._picks.ctypes.data
        self.listed = len(listed)
        self.slots = len(keys)


GRPC_TABLE = _GRPC_NAMES.address
"""Address of the table of gRPC status names. It differs between processes: kernels take it as an argument."""


@inlined
def noted(slots: int, slot: int, stamp: int, kind: int, a: int, b: int, limit: int) -> Any:
    """Notes the value of a wanted key, unless it was seen before; returns `INVALID`, `TOO_LONG` or 0.

    Args:
        slots: Address of the slots.
        slot: Index of the key.
        stamp: Of the item.
        kind: What the value is; with `a` and `b` as `wire.any_value` returns them.
        a: Its first word.
        b: Its second word.
        limit: Bytes of the longest text that is read.
    """
    at = slots + SLOT_BYTES * slot
    if load_word(at) == stamp:
        return int64(0)
    store64(at, stamp)
    store64(at + 8, kind)
    store64(at + 16, a)
    store64(at + 24, b)
    if kind != STRING:
        return int64(0)
    return text_flags(a, b, limit)


@inlined
def text_flags(p: int, size: int, limit: int) -> Any:
    """Returns what is wrong with a text that is read: `INVALID`, `TOO_LONG` or 0."""
    if size > limit:
        return int64(TOO_LONG)
    return int64(0) if is_utf8(p, size) else int64(INVALID)


@inner
def usual_attributes(p: int, end: int, tag: int, table: int, slots: int, stamp: int, limit: int) -> Any:
    """Reads attributes, one after the other, as long as they are written as nearly every producer writes them.

    Returns:
        Where the first field begins that is no attribute or an unusual one, how many attributes there were, and what
        is wrong with texts that were noted; with `NOTED` where anything was.
    """
    count, flags = int64(0), int64(0)
    while p < end:
        after, key, key_size, kind, a, b = wire.usual_key_value(p, end, tag)
        if after < 0:
            break
        slot = lookup(table, key, key_size)
        if slot >= 0:
            flags |= noted(slots, slot, stamp, kind, a, b, limit) | NOTED
        count += 1
        p = after
    return p, count, flags


@inlined
def text_of(slots: int, slot: int, stamp: int) -> Any:
    """Returns (address, length) of a text; its length is 0 where it is absent or something else."""
    at = slots + SLOT_BYTES * slot
    if load_word(at) == stamp and load_word(at + 8) == STRING:
        return load_word(at + 16), load_word(at + 24)
    return int64(0), int64(0)


@inner
def code_of(slots: int, stamp: int, grpc_table: int) -> Any:
    """Returns the gRPC status code of an item, else its HTTP one, else `NO_CODE`; out of its range it is absent.

    Args:
        slots: Address of slots that begin with `ITEM_KEYS`.
        stamp: Of the item.
        grpc_table: `GRPC_TABLE`.
    """
    for slot in range(_CODE_SLOTS):
        at = slots + SLOT_BYTES * slot
        if load_word(at) == stamp:
            kind, a = load_word(at + 8), load_word(at + 16)
            if slot >= _RPC_SLOTS:
                if kind == INT and _HTTP_MIN <= a <= _HTTP_MAX:
                    return a
            elif kind == INT:
                if 0 <= a <= _GRPC_MAX:
                    return a
            elif kind == STRING:
                code = lookup(grpc_table, a, load_word(at + 24))
                if code >= 0:
                    return code
    return int64(NO_CODE)


@inlined
def has_failed(kind: int, status: int, has_error_type: Any, code: int) -> Any:
    """Whether an item failed, by `semconv.failed`."""
    if status != _UNSET:
        return status == _ERROR
    if has_error_type:
        return True
    if code == NO_CODE:
        return False
    if code >= _HTTP_MIN:
        return code >= 500 or (kind == _CLIENT and code >= 400)
    if kind == _CLIENT:
        return code != 0
    return (_GRPC_SERVER_FAILURES >> code) & 1 != 0


@inner
def _value_of(at: int, stamp: int, words: int, scratch: int) -> Any:
    """Writes the kind and the value of an allow-listed attribute; returns whether it is kept (1), or `FULL`."""
    if load_word(at) != stamp:
        return int64(0)
    kind, a = load_word(at + 8), load_word(at + 16)
    if kind == NONE or kind == OTHER:
        return int64(0)
    if kind == DOUBLE and uint64(a) & uint64(_EXPONENT) == uint64(_EXPONENT):
        return int64(0)  # not finite
    if kind == STRING:
        a = interned(words, a, load_word(at + 24))
        if a == FULL:
            return int64(FULL)
    store64(scratch, kind)
    store64(scratch + 8, a)
    return int64(1)


@inner
def set_of(slots: int, stamp: int, picks: int, listed: int, words: int, sets: int, scratch: int) -> Any:
    """Returns the index of the set of allow-listed attributes in one place, or `FULL`.

    A set is two words per key: kind (`NONE` where it is absent) and value, that of a text its index in `words`.

    Args:
        slots: Address of the place's slots.
        stamp: Of the place.
        picks: `Wanted.picks`.
        listed: `Wanted.listed`.
        words: Table of the texts.
        sets: Table of the sets.
        scratch: Address of room for a set, and of one word more.
    """
    for i in range(listed):
        to = scratch + 16 * i
        store64(to, int64(NONE))
        store64(to + 8, int64(0))
        kept = _value_of(slots + SLOT_BYTES * load_word(picks + 16 * i), stamp, words, to)
        old = load_word(picks + 16 * i + 8)
        if kept == 0 and old >= 0:
            kept = _value_of(slots + SLOT_BYTES * old, stamp, words, to)
        if kept == FULL:
            return int64(FULL)
    return interned(sets, scratch, 16 * listed)


@inner
def service_of(slots: int, stamp: int, words: int, services: int, scratch: int) -> Any:
    """Returns the index of a resource's service, or `FULL`: of the words of its environment, namespace and name.

    Args:
        slots: Address of slots that begin with `RESOURCE_KEYS`.
        stamp: Of the resource.
        words: Table of the texts, with the empty one first.
        services: Table of the triples.
        scratch: Address of room for four words.
    """
    environment, size = text_of(slots, _ENVIRONMENT, stamp)
    if size == 0:
        environment, size = text_of(slots, _OLD_ENVIRONMENT, stamp)
    first = interned(words, environment, size) if size else int64(0)
    p, size = text_of(slots, _NAMESPACE, stamp)
    second = interned(words, p, size) if size else int64(0)
    p, size = text_of(slots, _NAME, stamp)
    third = interned(words, p, size) if size else int64(0)
    if first == FULL or second == FULL or third == FULL:
        return int64(FULL)
    store64(scratch, first)
    store64(scratch + 8, second)
    store64(scratch + 16, third)
    return interned(services, scratch, int64(24))


assert BOOL != INT != DOUBLE, "a set tells true from 1 and 1.0 by their kinds"


@inlined
def is_exception(name: int, size: int) -> Any:
    """Whether an event of this name is an exception: `exception`, or what ends in `.exception`."""
    if size < _EXCEPTION_BYTES or load64(name + size - 8) != uint64(_EXCEPTION_TAIL):
        return False
    if load8(name + size - 9) != uint64(_E):
        return False
    return size == _EXCEPTION_BYTES or load8(name + size - 10) == uint64(_DOT)
