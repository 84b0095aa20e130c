"""From interned words to the dictionaries of rows: each distinct text, service and set becomes an object once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stream.core.columns import Array
from stream.core.otlp.attributes import Value, canonical
from stream.core.otlp.scan.intern import InternTable
from stream.core.otlp.scan.memory import address_of, int64, kernel, load32, store32
from stream.core.otlp.scan.wire import BOOL, DOUBLE, NONE, STRING
from stream.core.service_key import service_key

_MOST_KEPT = 1 << 14


def dictionary(index: Array, texts_of: Callable[[list[int]], list[str]], *first: str) -> tuple[Array, tuple[str, ...]]:
    """Returns a column's indices into a dictionary of the texts that it uses, and the dictionary.

    Args:
        index: What a kernel interned, per row.
        texts_of: The texts of indices.
        first: Texts that the dictionary begins with, used or not.

    Shapes: `index` int32[n]; the indices returned are int32[n].
    """
    size = len(index)
    if not size:
        return index.copy(), first
    most = int(index.max()) + 1
    if most == 1 and not first:
        return np.zeros(size, "int32"), tuple(texts_of([0]))
    work = np.empty(2 * most + size, "int32")
    count = _numbered(address_of(index), size, most, address_of(work))
    used, dense = work[most : most + count].tolist(), work[2 * most :]
    texts = texts_of(used)
    words = tuple(dict.fromkeys((*first, *texts)))
    if words[:count] != tuple(texts):  # some are spelled alike, or others come first
        number = {word: i for i, word in enumerate(words)}
        dense = np.array([number[text] for text in texts], "int32")[dense]
    return dense, words


@kernel
def _numbered(index: int, size: int, most: int, work: int) -> Any:
    """Numbers different indices as they come; returns how many there are.

    Args:
        index: Address of indices, int32.
        size: How many.
        most: All are below it.
        work: Address of room for as many int32 twice: the second time the different indices are written there, and
            behind them the number of each.
    """
    count, used, dense = int64(0), work + 4 * most, work + 8 * most
    for i in range(most):
        store32(work + 4 * i, int64(0))
    for i in range(size):
        place = work + 4 * int64(load32(index + 4 * i))
        number = int64(load32(place))
        if number == 0:
            store32(used + 4 * count, int64(load32(index + 4 * i)))
            count += 1
            number = count
            store32(place, number)
        store32(dense + 4 * i, number - 1)
    return count


class Tables:
    """The interned texts, services and sets of allow-listed attributes of a decoder, and what they are in Python.

    The kernel gets the addresses of four tables: of the texts, with the empty one first; of the services, each the
    indices of environment, namespace and name (`found.service_of`); of the sets (`found.set_of`); of the pairs of an
    item's own set and its resource's.
    """

    def __init__(self, listed: tuple[str, ...]) -> None:
        """Makes empty tables for an allow-list."""
        self.listed = listed
        self._words, self._services, self._sets, self._pairs = self._all = tuple(InternTable() for _ in range(4))
        self._words.add(b"")
        self._texts: dict[int, str] = {}
        self._service_keys: dict[int, str] = {}
        self._attribute_sets: dict[int, str] = {}

    @property
    def addresses(self) -> tuple[int, ...]:
        """Addresses of the four tables, in their order."""
        return tuple(table.address for table in self._all)

    def grow(self) -> None:
        """Makes room for twice as much in each table."""
        for table in self._all:
            table.grow()

    def is_small(self) -> bool:
        """Returns whether the tables are worth keeping for later calls."""
        return all(len(table) <= _MOST_KEPT for table in self._all)

    def texts(self, indices: list[int]) -> list[str]:
        """Returns texts, with U+FFFD for what is no UTF-8."""
        return _looked_up(indices, self._texts, lambda index: self._words.word(index).decode("utf-8", "replace"))

    def services(self, indices: list[int]) -> list[str]:
        """Returns service keys."""
        return _looked_up(indices, self._service_keys, self._service_key)

    def attribute_sets(self, indices: list[int]) -> list[str]:
        """Returns the canonical texts of sets of attributes."""
        return _looked_up(indices, self._attribute_sets, lambda index: canonical(self.attributes_of(index)))

    def _service_key(self, index: int) -> str:
        environment, namespace, name = self.texts(list(self._services.words_of(index)))
        return service_key(environment or None, namespace or None, name or None)

    def attributes_of(self, index: int) -> Mapping[str, Value]:
        """Returns the attributes of a pair of sets: an item's own go before its resource's."""
        mine, its = map(self._sets.words_of, self._pairs.words_of(index))
        values: dict[str, Value] = {}
        for i, key in enumerate(self.listed):
            kind, value = mine[2 * i : 2 * i + 2] if mine[2 * i] != NONE else its[2 * i : 2 * i + 2]
            if kind != NONE:
                values[key] = self._value(kind, value)
        return values

    def _value(self, kind: int, value: int) -> Value:
        if kind == STRING:
            return self.texts([value])[0]
        if kind == BOOL:
            return value != 0
        if kind == DOUBLE:
            return float(np.int64(value).view("float64"))
        return value


def _looked_up(indices: list[int], held: dict[int, str], make: Callable[[int], str]) -> list[str]:
    """Returns the text of each index; those that are not held yet are made first."""
    if not held.keys() >= set(indices):
        held.update({index: make(index) for index in indices if index not in held})
    return [held[index] for index in indices]
