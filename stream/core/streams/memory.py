"""What is remembered of each stream, as struct-of-arrays, and where in a checkpoint it is kept.

Streams are stored in numbered chunks of one service each. A new stream goes to its service's open chunk, in the order
of arrival: the streams of one process arrive in one message, so they lie together and change together, and a
checkpoint writes what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stream.core.columns import Array
from stream.core.streams.ragged import positions
from stream.core.units import DAY_NS, HOUR_NS

IDLE_NS = HOUR_NS
"""A stream without a point for this long is closed: its buckets are forgotten, its start and its last time are not."""

KNOWN_NS = 7 * DAY_NS
"""A closed stream is forgotten altogether after this long; sooner where new streams need its place."""

WINDOWS_KEPT = 8
"""Newest windows of a delta stream that are remembered."""

CHUNK_STREAMS_MAX = 128
CHUNK_WORDS_MAX = 1 << 14
"""A chunk takes in no further stream beyond either; a word is a bucket or half a window."""

NO_TIME = -(1 << 63)

DELTA_LAYOUT = 1
"""`layout` of a delta stream, whose words are windows."""


@dataclass(slots=True)
class OpenChunk:
    """The chunk that takes in the next streams of a service."""

    number: int
    streams: int = 0
    words: int = 0


class StreamMemory:
    """The last point of each stream, found by the 128-bit hash of its identity.

    Columns have an element per slot. `hi`, `lo` int64: the hash; `start_ns`, `time_ns` int64: of the last point, of a
    delta stream the end of the newest window that was forgotten and of the newest window; `layout` int64: hash of what
    must be equal for buckets to be compared; `count` int64: of the histogram, or the floor of the sum; `value` float64:
    of the sum; `scale` int32, `bucket_offset` int32, `zero`, `negative` int64: of the exponential histogram; `closed`
    bool; `chunk` int64, -1 for a free slot; `reserved` int64: words reserved in the chunk. `words` holds buckets, or
    windows (start, time), in lists: [first, first + length), with `room` to grow.
    """

    COLUMNS: ClassVar[Mapping[str, str]] = {
        "hi": "int64",
        "lo": "int64",
        "start_ns": "int64",
        "time_ns": "int64",
        "layout": "int64",
        "count": "int64",
        "value": "float64",
        "scale": "int32",
        "bucket_offset": "int32",
        "zero": "int64",
        "negative": "int64",
        "closed": "bool",
        "reserved": "int64",
    }
    _PLACES: ClassVar[Mapping[str, str]] = {"chunk": "int64", "first": "int64", "length": "int64", "room": "int64"}

    def __init__(self) -> None:
        self.columns: dict[str, Array] = {
            name: np.zeros(64, dtype) for name, dtype in {**self.COLUMNS, **self._PLACES}.items()
        }
        self.columns["chunk"] -= 1
        self.words: Array = np.zeros(1024, np.int64)
        self.forgotten_ns = NO_TIME
        """Every stream that was forgotten or refused had its last point at or before this time."""
        self.next_chunk = 0
        self.open_chunks: dict[str, OpenChunk] = {}
        self.services: dict[int, str] = {}
        """Service of each chunk."""
        self.dirty: dict[int, str] = {}
        """Chunks that changed since they were last saved, and their services; some may be empty by now."""
        self._free: list[int] = []
        self._slots = 0
        self._words = 0
        self._index = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))  # hi, lo, slot; sorted

    def __len__(self) -> int:
        return len(self._index[0])

    @property
    def open_streams(self) -> int:
        """Streams that are not closed."""
        return len(self) - int(self.columns["closed"].sum())

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(column.nbytes for column in (*self.columns.values(), *self._index, self.words))

    def find(self, hi: Array, lo: Array) -> Array:
        """Returns the slot of each stream, -1 where it is not known."""
        index_hi, index_lo, slots = self._index
        if not len(slots):
            return np.full(len(hi), -1, np.int64)
        first, last = np.searchsorted(index_hi, hi, "left"), np.searchsorted(index_hi, hi, "right")
        while (last - first > 1).any():  # the first half is all but unique
            middle = (first + last) >> 1
            above = index_lo[np.minimum(middle, len(slots) - 1)] > lo
            wide = last - first > 1
            first, last = np.where(wide & ~above, middle, first), np.where(wide & above, middle, last)
        at = np.minimum(first, len(slots) - 1)
        found = (first < last) & (index_hi[at] == hi) & (index_lo[at] == lo)
        return np.where(found, slots[at], -1)

    def add(self, hi: Array, lo: Array, services: list[str], reserved: Array) -> Array:
        """Takes in streams that are not known, all different, in this order, and returns their slots."""
        slots = self._new_slots(len(hi))
        for name in self.COLUMNS:
            self.columns[name][slots] = 0
        self.columns["hi"][slots], self.columns["lo"][slots] = hi, lo
        self.columns["start_ns"][slots] = self.columns["time_ns"][slots] = NO_TIME
        self.columns["closed"][slots] = True
        self.columns["length"][slots] = self.columns["room"][slots] = 0
        for slot, service, words in zip(slots.tolist(), services, reserved.tolist(), strict=True):
            self._assign(slot, service, words)
        self._insert(slots)
        return slots

    def place(self, slots: Array, reserved: Array) -> None:
        """Moves streams that outgrew what their chunk reserved for them to the open chunk of their service."""
        left: list[int] = self.columns["chunk"][slots].tolist()
        for slot, number, words in zip(slots.tolist(), left, reserved.tolist(), strict=True):
            self.dirty[number] = self.services[number]
            self._assign(slot, self.services[number], words)
        self._drop_empty(set(left))  # once: it looks at every stream

    def _assign(self, slot: int, service: str, words: int) -> None:
        chunk = self.open_chunks.get(service)
        full = chunk is not None and (
            chunk.streams >= CHUNK_STREAMS_MAX or (chunk.words + words > CHUNK_WORDS_MAX and chunk.streams > 0)
        )
        if chunk is None or full:
            chunk = self.open_chunks[service] = OpenChunk(self.next_chunk)
            self.next_chunk += 1
            self.services[chunk.number] = service
        chunk.streams += 1
        chunk.words += words
        self.columns["chunk"][slot], self.columns["reserved"][slot] = chunk.number, words
        self.dirty[chunk.number] = service

    def _new_slots(self, count: int) -> Array:
        reused = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = range(self._slots, self._slots + count - len(reused))
        self._slots = fresh.stop
        capacity = len(self.columns["hi"])
        if self._slots > capacity:
            more = max(capacity, self._slots - capacity)
            for name, column in self.columns.items():
                self.columns[name] = np.concatenate([column, np.full(more, -1 if name == "chunk" else 0, column.dtype)])
        return np.array([*reused, *fresh], np.int64)

    def _insert(self, slots: Array) -> None:
        hi, lo = self.columns["hi"][slots], self.columns["lo"][slots]
        order = np.lexsort((lo, hi))
        hi, lo, slots = hi[order], lo[order], slots[order]
        at = np.searchsorted(self._index[0], hi, "left")
        if len(self._index[0]):
            near = np.minimum(at, len(self._index[0]) - 1)
            if (self._index[0][near] == hi).any():  # as good as never: two streams share the first half
                merged = [np.concatenate([old, new]) for old, new in zip(self._index, (hi, lo, slots), strict=True)]
                order = np.lexsort((merged[1], merged[0]))
                self._index = (merged[0][order], merged[1][order], merged[2][order])
                return
        old_hi, old_lo, old_slots = self._index
        self._index = (np.insert(old_hi, at, hi), np.insert(old_lo, at, lo), np.insert(old_slots, at, slots))

    def touch(self, slots: Array) -> None:
        """Marks the chunks of some streams as changed."""
        for number in np.unique(self.columns["chunk"][slots]).tolist():
            self.dirty[number] = self.services[number]

    def read(self, slots: Array) -> tuple[Array, Array]:
        """Returns (words of the streams one after the other, length of each)."""
        length = self.columns["length"][slots]
        return self.words[positions(self.columns["first"][slots], length)], length

    def write(self, slots: Array, words: Array, length: Array) -> None:
        """Replaces the words of some streams, all different."""
        columns = self.columns
        grown = np.flatnonzero(length > columns["room"][slots])
        if len(grown):
            room = -(-length[grown] // 4) * 4
            self._reserve(int(room.sum()))
            ends = self._words + np.cumsum(room)
            columns["first"][slots[grown]], columns["room"][slots[grown]] = ends - room, room
            self._words = int(ends[-1])
        columns["length"][slots] = length
        self.words[positions(columns["first"][slots], length)] = words

    def _reserve(self, more: int) -> None:
        if self._words + more <= len(self.words):
            return
        self._compact()
        if self._words + more > len(self.words) // 4 * 3:
            grown = np.zeros(max(2 * len(self.words), self._words + more), np.int64)
            grown[: self._words] = self.words[: self._words]
            self.words = grown

    def _compact(self) -> None:
        slots = self._index[2]
        columns = self.columns
        room = columns["room"][slots]
        ends = np.cumsum(room)
        kept = self.words[positions(columns["first"][slots], room)]
        self.words[: len(kept)] = kept
        columns["first"][slots] = ends - room
        self._words = len(kept)

    def close(self, slots: Array) -> None:
        """Forgets the words of some streams; what comes next is a first point, but for its start and time."""
        self.touch(slots)
        self.columns["closed"][slots] = True
        self.columns["length"][slots] = self.columns["room"][slots] = 0
        for name in ("layout", "count", "value", "scale", "bucket_offset", "zero", "negative"):
            self.columns[name][slots] = 0

    def forget(self, slots: Array) -> None:
        """Forgets some streams altogether."""
        if not len(slots):
            return
        self.touch(slots)
        numbers = set(np.unique(self.columns["chunk"][slots]).tolist())
        self.forgotten_ns = max(self.forgotten_ns, int(self.columns["time_ns"][slots].max()))
        self.columns["length"][slots] = self.columns["room"][slots] = 0
        self.columns["chunk"][slots] = -1
        self.columns["closed"][slots] = False
        gone = np.zeros(len(self.columns["hi"]), bool)
        gone[slots] = True
        kept = ~gone[self._index[2]]
        self._index = (self._index[0][kept], self._index[1][kept], self._index[2][kept])
        self._free += slots.tolist()
        self._drop_empty(numbers)

    def evict(self, count: int) -> None:
        """Forgets up to `count` closed streams, those longest without a point first."""
        closed = self._index[2][self.columns["closed"][self._index[2]]]
        order = np.argsort(self.columns["time_ns"][closed], kind="stable")  # ties: in the order of the hashes
        self.forget(closed[order[:count]])

    def retire(self, before_ns: int) -> None:
        """Closes the streams without a point since `IDLE_NS` before a time, and forgets those closed for long."""
        slots = self._index[2]
        time_ns, closed = self.columns["time_ns"][slots], self.columns["closed"][slots]
        idle = slots[~closed & (time_ns < before_ns - IDLE_NS)]
        if len(idle):
            self.close(idle)
        self.forget(slots[time_ns < before_ns - KNOWN_NS])

    def chunks(self, numbers: Iterable[int]) -> dict[int, tuple[dict[str, Array], Array, Array]]:
        """Returns (columns, words, length) of each chunk, its streams in the order of their hashes."""
        wanted = np.array(sorted(numbers), np.int64)
        slots = self._index[2]
        slots = slots[np.isin(self.columns["chunk"][slots], wanted)]
        slots = slots[np.argsort(self.columns["chunk"][slots], kind="stable")]
        bounds = np.searchsorted(self.columns["chunk"][slots], [*wanted.tolist(), 1 << 62])
        found: dict[int, tuple[dict[str, Array], Array, Array]] = {}
        for number, first, last in zip(wanted.tolist(), bounds[:-1], bounds[1:], strict=True):
            held = slots[first:last]
            words, length = self.read(held)
            found[number] = ({name: self.columns[name][held] for name in self.COLUMNS}, words, length)
        return found

    def load(self, number: int, service: str, columns: Mapping[str, Array], words: Array, length: Array) -> None:
        """Takes back a chunk."""
        slots = self._new_slots(len(length))
        for name in self.COLUMNS:
            self.columns[name][slots] = columns[name]
        self.columns["chunk"][slots] = number
        self.columns["length"][slots] = self.columns["room"][slots] = 0
        self.services[number] = service
        self._insert(slots)
        self.write(slots, words, length)

    def _drop_empty(self, numbers: set[int]) -> None:
        """Forgets the chunks of `numbers` that hold nothing more; their numbers are never given again."""
        slots = self._index[2]
        numbers -= set(np.unique(self.columns["chunk"][slots]).tolist())
        for number in numbers:
            service = self.services.pop(number)
            chunk = self.open_chunks.get(service)
            if chunk is not None and chunk.number == number:
                del self.open_chunks[service]

    def dump(self) -> dict[str, Any]:
        """Returns what is not in the chunks as plain values."""
        return {
            "forgotten_ns": self.forgotten_ns,
            "next_chunk": self.next_chunk,
            "open_chunks": [(name, c.number, c.streams, c.words) for name, c in sorted(self.open_chunks.items())],
        }

    def load_rest(self, body: Mapping[str, Any]) -> None:
        """Takes back what `dump` returned."""
        self.forgotten_ns, self.next_chunk = body["forgotten_ns"], body["next_chunk"]
        self.open_chunks = {name: OpenChunk(*place) for name, *place in body["open_chunks"]}
