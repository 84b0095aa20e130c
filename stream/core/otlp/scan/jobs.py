"""What the kernels of spans and of log records work with: inputs, outputs and tables, as words at an address."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stream.core.columns import Array, Rows
from stream.core.otlp import Messages, Reading
from stream.core.otlp.scan import found
from stream.core.otlp.scan.memory import address_of, joined
from stream.core.otlp.scan.words import Tables

# Words of a job, as byte offsets: what the kernel is given, what it keeps between messages, where the columns are.
# fmt: off
(
    DATA, OFFSETS, MESSAGES, NEXT, FIRST_ROW, ROWS, ROOM, VERDICTS, STAMP, TIMED, WORDS, SERVICES, SETS,
    PAIRS, RECENT_PAIRS, LISTED, SCRATCH, GRPC_TABLE, ITEM_SLOTS, ITEM_TABLE, ITEM_PICKS, RESOURCE_SLOTS,
    RESOURCE_TABLE, RESOURCE_PICKS, MESSAGE_MAX, ITEMS_MAX, ATTRIBUTES_MAX, VALUE_MAX,
) = range(0, 8 * 28, 8)
(
    SERVICE_AT, VERSION_AT, CODE_AT, ERROR_TYPE_AT, END_NS_AT, WEIGHT_AT, FLAGS_AT, ATTRIBUTES_AT, TRACE_HI_AT,
    TRACE_LO_AT, OWN_AT,
) = range(8 * 28, 8 * 39, 8)
# fmt: on
COLUMNS = (
    *("service", "version", "code", "error_type", "end_ns", "weight", "flags", "attributes", "trace_hi", "trace_lo"),
)
"""Columns that both write; those of one signal follow, from `OWN_AT` on."""

# What becomes of a message.
READ, UNTIMED, TOO_LARGE, TOO_MANY_ITEMS, UNREADABLE = range(5)

# What a kernel returns that could not read on; and what one of its functions does, beside a refusal.
FULL_ROWS, FULL_TABLE = 1, 2
ROWS_FULL, TABLE_FULL = -9, -10
"""The message is given up and read again when there is room."""

RECENT = 64
"""How many pairs are at `RECENT_PAIRS`, a power of two. A pair is two words: its two sets, that of the resource in the
upper half, and its index in the table of pairs."""

_ROOM_LEAST, _ROOM_KEPT = 4096, 1 << 16


class Job:
    """What a kernel works with: the room for rows, the tables of what is repeated in them, and what was asked for.

    A job is used again for later calls that ask for the same: what was interned then need not be read again.

    Args:
        reading: What is asked for.
        keys: Keys of the first slots of an item.
        own: Columns that only this signal has.
        kept: Words behind their addresses that the kernel keeps for itself.
        verdict_bytes: Of what is told of a message.
    """

    def __init__(
        self, reading: Reading, *, keys: Sequence[str], own: Sequence[str], kept: int, verdict_bytes: int
    ) -> None:
        listed, limits = reading.attributes, reading.limits
        self.tables = Tables(listed)
        self._verdict_words = verdict_bytes // 8
        self._names = (*COLUMNS, *own)
        self._item, self._resource = found.Wanted(keys, listed), found.Wanted(found.RESOURCE_KEYS, listed)
        self._slots = np.zeros((self._item.slots + self._resource.slots) * found.SLOT_BYTES // 8, "int64")
        self._scratch = np.zeros(max(4, 2 * len(listed)) + 2, "int64")  # a set or a service, and room to read past it
        self._columns: dict[str, Array] = {}
        self._words = np.zeros(OWN_AT // 8 + len(own) + kept, "int64")
        self._address = address_of(self._words)
        slots = address_of(self._slots)
        self._recent_pairs = np.full((RECENT, 2), -1, "int64")
        self._set(WORDS, *self.tables.addresses, address_of(self._recent_pairs))
        self._set(LISTED, len(listed), address_of(self._scratch), found.GRPC_TABLE)
        self._set(ITEM_SLOTS, slots, self._item.table, self._item.picks)
        slots += self._item.slots * found.SLOT_BYTES
        self._set(RESOURCE_SLOTS, slots, self._resource.table, self._resource.picks)
        self._set(MESSAGE_MAX, limits.message_bytes, limits.items, limits.attributes, limits.value_bytes)
        self._make_room(_ROOM_LEAST)

    def _set(self, first: int, *values: int) -> None:
        self._words[first // 8 : first // 8 + len(values)] = values

    def _make_room(self, room: int) -> None:
        """Makes room for this many rows in all; those that are there stay."""
        rows = int(self._words[ROWS // 8])
        for name in self._names:
            column = np.empty(room, Rows.DTYPES[name])
            if rows:
                column[:rows] = self._columns[name][:rows]
            self._columns[name] = column
        self._set(SERVICE_AT, *map(address_of, self._columns.values()))
        self._set(ROOM, room)

    def read(self, messages: Messages, scan: Callable[[int], int]) -> tuple[Array, dict[str, Array]]:
        """Reads messages with a kernel; returns their verdicts and the columns of their rows.

        The next call overwrites the columns.
        """
        data, offsets = joined(messages.values)
        verdicts = np.zeros((len(messages), self._verdict_words), "int64")
        self._set(DATA, address_of(data), address_of(offsets), len(messages), 0, 0, 0)
        self._set(VERDICTS, address_of(verdicts))
        while full := scan(self._address):
            if full == FULL_ROWS:
                self._make_room(2 * int(self._words[ROOM // 8]))
            else:
                self.tables.grow()
        rows = int(self._words[ROWS // 8])
        return verdicts, {name: column[:rows] for name, column in self._columns.items()}

    def is_small(self) -> bool:
        """Returns whether it is worth keeping for the next call."""
        return int(self._words[ROOM // 8]) <= _ROOM_KEPT and self.tables.is_small()
