"""From interned words to the dictionaries of rows: each distinct text, service and set becomes an object once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stream.core.columns import Array
from stream.core.otlp.attributes import Value, canonical
from stream.core.otlp.scan.intern import InternTable
from stream.core.otlp.scan.memory import address_of, int64, kernel, load32, store32
from stream.core.otlp.scan.wire import BOOL, DOUBLE, NONE, STRING
from stream.core.service_key import service_key

_MOST_KEPT = 1 << 14


def dictionary(index: Array, text_of: Callable[[int], str], *first: str) -> tuple[Array, tuple[str, ...]]:
    """Returns a column's indices into a dictionary of the texts that it uses, and the dictionary.

    Args:
        index: What a kernel interned, per row.
        text_of: The text of an index.
        first: Texts that the dictionary begins with, used or not.

    Shapes: `index` int32[n]; the indices returned are int32[n].
    """
    size = len(index)
    if not size:
        return index.copy(), first
    most = int(index.max()) + 1
    work = np.empty(2 * most + size, "int32")
    count = _numbered(address_of(index), size, most, address_of(work))
    used, dense = work[most : most + count].tolist(), work[2 * most :]
    union = {text: i for i, text in enumerate(first)}
    lookup = [union.setdefault(text_of(i), len(union)) for i in used]
    if lookup != list(range(count)):  # some are spelled alike, or others come first
        dense = np.array(lookup, "int32")[dense]
    return dense, tuple(union)


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

    def text(self, index: int) -> str:
        """Returns a text, with U+FFFD for what is no UTF-8."""
        text = self._texts.get(index)
        if text is None:
            text = self._texts[index] = self._words.word(index).decode("utf-8", "replace")
        return text

    def service(self, index: int) -> str:
        """Returns a service key."""
        key = self._service_keys.get(index)
        if key is None:
            environment, namespace, name = map(self.text, self._services.words_of(index))
            key = self._service_keys[index] = service_key(environment or None, namespace or None, name or None)
        return key

    def attribute_set(self, index: int) -> str:
        """Returns the canonical text of a pair of sets: an item's own attributes go before its resource's."""
        text = self._attribute_sets.get(index)
        if text is None:
            text = self._attribute_sets[index] = canonical(self._values(*self._pairs.words_of(index)))
        return text

    def _values(self, own: int, around: int) -> dict[str, Value]:
        mine, its = self._sets.words_of(own), self._sets.words_of(around)
        values: dict[str, Value] = {}
        for i, key in enumerate(self.listed):
            kind, value = mine[2 * i : 2 * i + 2] if mine[2 * i] != NONE else its[2 * i : 2 * i + 2]
            if kind != NONE:
                values[key] = self._value(kind, value)
        return values

    def _value(self, kind: int, value: int) -> Value:
        if kind == STRING:
            return self.text(value)
        if kind == BOOL:
            return value != 0
        if kind == DOUBLE:
            return float(np.int64(value).view("float64"))
        return value
