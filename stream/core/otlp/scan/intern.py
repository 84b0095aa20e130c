"""Distinct byte strings and their indices: what is repeated in every item becomes a Python object once.

A kernel calls `interned` with the address of a string and stores the index; Python reads the distinct strings of a
table afterwards. A set of values is interned likewise, as the bytes of its words. A table grows between calls of a
kernel: `interned` returns `FULL`, the kernel gives up the message, `InternTable.grow` makes room, and the kernel
starts again at that message. What it interned already stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.core.columns import Array
from stream.core.otlp.scan.memory import (
    PADDING,
    address_of,
    copy,
    equal,
    folded_product,
    inlined,
    inner,
    int64,
    kernel,
    load8,
    load64,
    load_short,
    load_word,
    store8,
    store64,
    uint64,
)
from stream.core.otlp.scan.text import is_utf8

FULL = -1

_SLOTS, _MASK, _ARENA, _ARENA_SIZE, _ENDS, _MOST, _COUNT, _USED, _INVALID, _SEED = (8 * i for i in range(10))
"""Byte offsets in a table's header: address and mask of the slots (hash, index + 1), address and size of the arena that
holds the strings one after the other, address of their ends, how many fit, how many there are, bytes used of the arena,
address of a byte per string that is 1 where it is no UTF-8, secret."""

_SECRET = hash(b"stream.core.otlp.scan.intern") | 1
"""Differs between processes: nobody can send strings that all hash alike. Indices do not depend on it."""

_MULTIPLIER = 0x9E3779B97F4A7C15


@inlined
def _hash(p: int, size: int, seed: Any) -> Any:
    state, done = seed ^ uint64(size), int64(0)
    while size - done > 16:
        state = folded_product(load64(p + done) ^ seed, load64(p + done + 8) ^ state)
        done += 16
    if size >= 8:
        # The last sixteen bytes, or of fewer the first and the last eight: some are hashed twice, none by a branch.
        first, second = load64(p + max(size - 16, 0)), load64(p + size - 8)
    else:
        first, second = load_short(p, size), uint64(0)
    state = folded_product(first ^ seed, second ^ state)
    return folded_product(state ^ uint64(_MULTIPLIER), seed)


@inner
def _inserted(table: int, slot: int, hashed: Any, p: int, size: int) -> Any:
    index, used = load_word(table + _COUNT), load_word(table + _USED)
    if index == load_word(table + _MOST) or used + size + PADDING > load_word(table + _ARENA_SIZE):
        return int64(FULL)
    copy(load_word(table + _ARENA) + used, p, size)
    store64(load_word(table + _ENDS) + 8 * index, used + size)
    store8(load_word(table + _INVALID) + index, int64(not is_utf8(p, size)))
    store64(slot, int64(hashed))
    store64(slot + 8, index + 1)
    store64(table + _COUNT, index + 1)
    store64(table + _USED, used + size)
    return index


@inner
def interned(table: int, p: int, size: int) -> Any:
    """Returns the index of a byte string, or `FULL`; reads up to seven bytes past its end.

    Args:
        table: `InternTable.address`.
        p: Where the string begins.
        size: Its length.
    """
    hashed = _hash(p, size, load64(table + _SEED))
    slots, mask, ends = load_word(table + _SLOTS), load64(table + _MASK), load_word(table + _ENDS)
    i = hashed & mask
    while True:
        slot = slots + int64(i) * 16
        index = load_word(slot + 8) - 1
        if index < 0:
            return _inserted(table, slot, hashed, p, size)
        if load64(slot) == hashed:
            begin = load_word(ends + 8 * index - 8) if index > 0 else int64(0)
            if load_word(ends + 8 * index) - begin == size and equal(load_word(table + _ARENA) + begin, p, size):
                return index
        i = (i + uint64(1)) & mask


@inlined
def interned_again(table: int, last: int, p: int, size: int) -> Any:
    """As `interned`, of a table with the empty string first, for a string that is mostly the same as the last time.

    Args:
        table: `InternTable.address`.
        last: Address of the index of the last time, 0 at first.
        p: Where the string begins.
        size: Its length.
    """
    index, ends = load_word(last) if size else int64(0), load_word(table + _ENDS)
    begin, behind = load_word(ends + 8 * max(index - 1, 0)), load_word(ends + 8 * index)
    if behind - begin == size and equal(load_word(table + _ARENA) + begin, p, size):
        return index
    index = interned(table, p, size)
    if index >= 0:
        store64(last, index)
    return index


@inlined
def is_invalid(table: int, index: int) -> Any:
    """Returns 1 where the string of this index is no UTF-8, else 0."""
    return int64(load8(load_word(table + _INVALID) + index))


@kernel
def _interned(table: int, p: int, size: int) -> Any:
    return interned(table, p, size)


@kernel
def _rehash(old: int, old_slots: int, new: int, mask: int) -> None:
    for j in range(old_slots):
        hashed, index = load64(old + 16 * j), load_word(old + 16 * j + 8)
        if index != 0:
            i = hashed & uint64(mask)
            while load_word(new + int64(i) * 16 + 8) != 0:
                i = (i + uint64(1)) & uint64(mask)
            store64(new + int64(i) * 16, int64(hashed))
            store64(new + int64(i) * 16 + 8, index)


class InternTable:
    """Distinct byte strings in order of first appearance. Lives for one call of a decoder."""

    def __init__(self, most: int = 1024, arena: int = 1 << 16) -> None:
        """Makes an empty table.

        Args:
            most: How many strings fit before it has to grow; a power of two.
            arena: How many bytes of them.
        """
        assert most & (most - 1) == 0
        self._most = most
        self._slots = np.zeros((2 * most, 2), "int64")
        self._arena = np.empty(arena + PADDING, "uint8")
        self._ends = np.empty(most, "int64")
        self._invalid = np.empty(most, "uint8")
        self._header = np.zeros(10, "int64")
        self._header[_SEED // 8] = _SECRET
        self._point()
        self.address: int = self._header.ctypes.data

    def _point(self) -> None:
        self._header[: _COUNT // 8] = (
            self._slots.ctypes.data,
            len(self._slots) - 1,
            self._arena.ctypes.data,
            len(self._arena),
            self._ends.ctypes.data,
            self._most,
        )
        self._header[_INVALID // 8] = self._invalid.ctypes.data

    def __len__(self) -> int:
        return int(self._header[_COUNT // 8])

    def grow(self) -> None:
        """Makes room for twice as many strings and bytes."""
        slots = np.zeros((2 * len(self._slots), 2), "int64")
        _rehash(self._slots.ctypes.data, len(self._slots), slots.ctypes.data, len(slots) - 1)
        self._slots = slots
        self._most *= 2
        self._arena, self._ends, self._invalid = (
            np.concatenate([array, np.empty_like(array)]) for array in (self._arena, self._ends, self._invalid)
        )
        self._point()

    def add(self, word: bytes) -> int:
        """Interns a string from Python; returns its index."""
        padded = word + bytes(PADDING)
        while (index := int(_interned(self.address, address_of(padded), len(word)))) == FULL:
            self.grow()
        return index

    def word(self, index: int) -> bytes:
        """Returns one string."""
        begin = int(self._ends[index - 1]) if index else 0
        return self._arena[begin : int(self._ends[index])].tobytes()

    def words_of(self, index: int) -> list[int]:
        """Returns one set of words that was interned as its bytes."""
        words: list[int] = np.frombuffer(self.word(index), "int64").tolist()
        return words

    def words(self) -> list[bytes]:
        """Returns the strings by index."""
        ends = self._ends[: len(self)].tolist()
        data = self._arena[: int(self._header[_USED // 8])].tobytes()
        return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]

    def texts(self) -> list[str]:
        """Returns the strings by index as text, with U+FFFD for what is no UTF-8."""
        return [word.decode("utf-8", "replace") for word in self.words()]

    def tuples(self, width: int) -> Array:
        """Returns what was interned as sets of words.

        Args:
            width: How many words each has.

        Shapes: int64[n, width].
        """
        return self._arena[: len(self) * width * 8].view("int64").reshape(-1, width)
