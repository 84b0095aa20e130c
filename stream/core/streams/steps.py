"""The rules: what each point adds, and what it leaves behind for the next one of its stream."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np

from stream.core.columns import Array
from stream.core.points import MetricType, PointFlag, Points, Temporality
from stream.core.streams.memory import DELTA_LAYOUT, NO_TIME, WINDOWS_KEPT, StreamMemory
from stream.core.streams.ragged import owners, positions
from stream.core.streams.runs import bucket_differences, runs_of

SCALE_MAX = 30
"""Scales beyond ±30 are refused; producers use -10 to 20."""

_RESERVED_BUCKETS = 160
"""Words that a chunk reserves for an exponential histogram: producers let it grow to this many buckets."""

_ODD = np.int64(0x1E3779B97F4A7C15)
"""Spreads the bits of a double; 2^64 over the golden ratio, shortened."""


class Outcome(IntEnum):
    """What becomes of a point."""

    TAKEN = 0
    DUPLICATE = 1
    LATE = 2
    """Older than what the stream remembers."""
    SECOND_WRITER = 3
    """It overlaps what another writer of the same stream has said."""
    TOO_MANY_STREAMS = 4
    OUT_OF_RANGE = 5
    """Its start lies after its time, or a count or a monotonic sum is negative or no number."""


class Effect(IntEnum):
    """What a point that was taken did to its stream."""

    NONE = 0
    """It belongs to no stream that is counted: a gauge, or a sum that may fall."""
    WHOLE = 1
    """All of its value counts: delta, a true reset, or a new stream."""
    DIFFERENCE = 2
    BASELINE = 3
    """It adds nothing: the first of its stream that was seen, or one after a reset of which nobody knows the start."""
    CLOSED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What each point adds.

    Shapes: `outcome`, `effect` int8[n]; `n` int64[n]: events (of a histogram its count, of a monotonic sum the
    difference of the floors). Of histograms: `buckets` int64, laid out as those of the points; `scale`,
    `bucket_offset` int32[n]: of these buckets, where exponential; `zero`, `negative` int64[n].
    """

    outcome: Array
    effect: Array
    n: Array
    buckets: Array
    scale: Array
    bucket_offset: Array
    zero: Array
    negative: Array


class MetricStreams:
    """The streams of a partition. Deterministic: what `apply` returns depends only on the points, in their order."""

    def __init__(self) -> None:
        self.memory = StreamMemory()

    def apply(self, points: Points, *, watched_from_ns: Array, streams_max: int) -> Steps:
        """Returns what each point adds, and remembers it.

        Args:
            points: In the order of the log.
            watched_from_ns: int64[n]: nothing that its source said since then was missed. A new stream that began
                later counts from its start.
            streams_max: New streams beyond are refused, when no closed one can be forgotten in their place.
        """
        application = _Application(self.memory, points, watched_from_ns, streams_max)
        application.run()
        return application.steps


@dataclass(slots=True)
class _Last:
    """What the memory holds of the streams of some points, one element each."""

    slots: Array
    start_ns: Array
    time_ns: Array
    layout: Array
    count: Array
    value: Array
    scale: Array
    bucket_offset: Array
    zero: Array
    negative: Array
    closed: Array


class _Application:
    """One call of `MetricStreams.apply`."""

    def __init__(self, memory: StreamMemory, points: Points, watched_from_ns: Array, streams_max: int) -> None:
        n = len(points)
        self.memory, self.points = memory, points
        self.watched_from_ns, self.streams_max = watched_from_ns, streams_max
        self.histogram = points.type >= MetricType.HISTOGRAM
        self.count = np.where(self.histogram, points.count, points.value_int)
        self.first, self.length = points.bucket_first[:-1], np.diff(points.bucket_first)
        self.layout = _layouts(points)
        self.steps = Steps(
            outcome=np.zeros(n, np.int8),
            effect=np.zeros(n, np.int8),
            n=np.zeros(n, np.int64),
            buckets=np.zeros(len(points.buckets), np.int64),
            scale=points.scale.copy(),
            bucket_offset=points.bucket_offset.copy(),
            zero=np.zeros(n, np.int64),
            negative=np.zeros(n, np.int64),
        )

    def run(self) -> None:
        """Applies all points."""
        runs = runs_of(self.points, np.flatnonzero(self._accumulating()), self.count, self.layout)
        for numbers in runs.rounds:
            first, length = runs.first[numbers], runs.length[numbers]
            while len(first):
                heads = runs.order[first]
                self._step(np.sort(heads))  # in the order of the log
                goes_on = (length > 1) & self._is_newest(heads)
                delta = self.points.temporality[heads] == Temporality.DELTA
                for chosen, rule in ((goes_on & delta, self._go_on_delta), (goes_on & ~delta, self._go_on)):
                    if chosen.any():
                        rule(runs.order, first[chosen], length[chosen])
                again = ~goes_on & (length > 1)  # the head was not taken, or came late: the next is the head
                first, length = first[again] + 1, length[again] - 1

    def _is_newest(self, index: Array) -> Array:
        """Returns bool[k]: whether a point was taken and is the newest of its stream."""
        taken = self.steps.outcome[index] == Outcome.TAKEN
        slots = self.memory.find(self.points.stream_hi[index], self.points.stream_lo[index])
        return np.asarray(taken & (slots >= 0) & (self.memory.columns["time_ns"][slots] == self.points.time_ns[index]))

    def _go_on(self, order: Array, first: Array, length: Array) -> None:
        """Applies what follows the heads of runs, which were taken: nothing but differences to the point before."""
        points, steps, columns = self.points, self.steps, self.memory.columns
        at = positions(first + 1, length - 1)
        before, after = order[at - 1], order[at]
        steps.effect[after] = Effect.DIFFERENCE
        steps.n[after] = self.count[after] - self.count[before]
        steps.zero[after] = points.zero_count[after] - points.zero_count[before]
        steps.negative[after] = points.negative_count[after] - points.negative_count[before]
        own = positions(self.first[after], self.length[after])
        steps.buckets[own] = bucket_differences(points, before, after)
        last = order[first + length - 1]
        slots = self.memory.find(points.stream_hi[last], points.stream_lo[last])
        self._remember(last, slots, columns["start_ns"][slots])

    def _accumulating(self) -> Array:
        """Returns bool[n]: whether the point is one of a counter; refuses those that cannot be."""
        points = self.points
        counter = self.histogram | ((points.type == MetricType.SUM) & ((points.flags & PointFlag.MONOTONIC) != 0))
        counter &= points.temporality != Temporality.UNSPECIFIED
        wrong = (points.start_ns > points.time_ns) | (points.start_ns < 0)
        has_value = (points.flags & PointFlag.NO_RECORDED_VALUE) == 0
        no_number = ~((points.value >= 0) & (points.value < 2.0**63)) & ~self.histogram
        below_zero = (self.count < 0) | (points.zero_count < 0) | (points.negative_count < 0)
        if len(points.buckets) and points.buckets.min() < 0:
            below_zero[owners(self.length)[points.buckets < 0]] = True
        wrong |= has_value & (no_number | below_zero | (np.abs(points.scale.astype(np.int64)) > SCALE_MAX))
        self.steps.outcome[counter & wrong] = Outcome.OUT_OF_RANGE
        return np.asarray(counter & ~wrong)

    def _step(self, index: Array) -> None:
        """Applies points of different streams."""
        slots = self._slots(index)
        index, slots = index[slots >= 0], slots[slots >= 0]
        delta = self.points.temporality[index] == Temporality.DELTA
        if delta.any():
            self._delta(index[delta], slots[delta])
        if not delta.all():
            self._cumulative(index[~delta], slots[~delta])

    def _slots(self, index: Array) -> Array:
        """Returns the slot of each point's stream; -1 where it has none and gets none."""
        memory, points = self.memory, self.points
        slots = memory.find(points.stream_hi[index], points.stream_lo[index])
        ends = (points.flags[index] & PointFlag.NO_RECORDED_VALUE) != 0
        self.steps.effect[index[(slots < 0) & ends]] = Effect.CLOSED
        unknown = np.flatnonzero((slots < 0) & ~ends)
        excess = len(memory) + len(unknown) - self.streams_max
        if excess > 0:
            memory.evict(excess)
            slots = memory.find(points.stream_hi[index], points.stream_lo[index])  # one may have been among them
            unknown = np.flatnonzero((slots < 0) & ~ends)
            room = max(0, self.streams_max - len(memory))
            unknown, refused = unknown[:room], index[unknown[room:]]
            if len(refused):
                self.steps.outcome[refused] = Outcome.TOO_MANY_STREAMS
                memory.forgotten_ns = max(memory.forgotten_ns, int(points.time_ns[refused].max()))
        if len(unknown):
            new = index[unknown]
            names = [points.services[i] for i in points.service[new].tolist()]
            slots[unknown] = memory.add(points.stream_hi[new], points.stream_lo[new], names, self._reserved(new))
        return slots

    def _reserved(self, index: Array) -> Array:
        """Returns how many words a chunk keeps for the streams of some points."""
        words = np.where(self.points.type[index] == MetricType.EXPONENTIAL_HISTOGRAM, _RESERVED_BUCKETS, 0)
        words = np.where(
            self.points.temporality[index] == Temporality.DELTA,
            2 * WINDOWS_KEPT,
            np.maximum(words, self.length[index]),
        )
        return np.asarray(words)

    def _own(self, index: Array) -> Any:
        """Returns where the buckets of some points are, as an index."""
        if len(index) == len(self.points):  # in order, as points of different streams always are
            return slice(int(self.first[0]) if len(index) else 0, int(self.points.bucket_first[-1]))
        return positions(self.first[index], self.length[index])

    def _last(self, slots: Array) -> _Last:
        columns = self.memory.columns
        names = (name for name in _Last.__slots__ if name != "slots")
        return _Last(slots, **{name: columns[name][slots] for name in names})

    # ---- delta

    def _delta(self, index: Array, slots: Array) -> None:
        points, memory = self.points, self.memory
        time_ns = points.time_ns[index]
        start_ns = np.where(points.start_ns[index] == 0, time_ns, points.start_ns[index])
        windows, floor_ns = self._windows(slots)
        starts, ends = windows[:, 0::2], windows[:, 1::2]
        seen = ((starts == start_ns[:, None]) & (ends == time_ns[:, None])).any(axis=1)
        overlaps = ((starts < time_ns[:, None]) & (start_ns[:, None] < ends)).any(axis=1)
        overlaps |= start_ns < floor_ns
        never = self.memory.columns["time_ns"][slots] == NO_TIME
        outcome = np.where(overlaps, np.int8(Outcome.SECOND_WRITER), np.int8(Outcome.TAKEN))
        outcome[time_ns <= np.where(never, self.memory.forgotten_ns, floor_ns)] = Outcome.LATE
        outcome[seen] = Outcome.DUPLICATE
        self.steps.outcome[index] = outcome
        taken = outcome == Outcome.TAKEN
        ended = (points.flags[index] & PointFlag.NO_RECORDED_VALUE) != 0
        self.steps.effect[index[taken & ended]] = Effect.CLOSED
        kept = np.flatnonzero(taken & ~ended)
        if len(kept):
            self._add_whole(index[kept])
            window = np.stack([start_ns[kept], time_ns[kept]], axis=1)
            self._remember_windows(slots[kept], windows[kept], floor_ns[kept], window)
            memory.touch(slots[kept])

    def _go_on_delta(self, order: Array, first: Array, length: Array) -> None:
        """Applies what follows the heads of runs, the newest of their streams: windows one after the other."""
        points = self.points
        self._add_whole(order[positions(first + 1, length - 1)])
        heads = order[first]
        slots = self.memory.find(points.stream_hi[heads], points.stream_lo[heads])
        windows, floor_ns = self._windows(slots)
        end = first + length
        places = end[:, None] - np.arange(WINDOWS_KEPT, 0, -1)
        index = order[np.maximum(places, first[:, None])]
        times = points.time_ns[index]
        starts = np.where(points.start_ns[index] == 0, times, points.start_ns[index])
        added = np.stack([starts, times], axis=2)
        added[places <= first[:, None]] = NO_TIME  # the head is there already
        more = length - 1 > WINDOWS_KEPT
        floor_ns[more] = points.time_ns[order[(end - WINDOWS_KEPT - 1)[more]]]
        self._remember_windows(slots, windows, floor_ns, added.reshape(len(first), -1))

    def _windows(self, slots: Array) -> tuple[Array, Array]:
        """Returns (int64[n, 2 · kept]: start and time of the windows remembered, in the order of time, empty ones
        first; int64[n]: the time up to which windows were forgotten).
        """
        memory = self.memory
        windows = np.full((len(slots), 2 * WINDOWS_KEPT), NO_TIME, np.int64)
        is_delta = memory.columns["layout"][slots] == DELTA_LAYOUT
        held = slots[is_delta]
        words, length = memory.read(held)
        row = np.flatnonzero(is_delta)[owners(length)]
        column = positions(2 * WINDOWS_KEPT - length, length)
        windows[row, column] = words
        floor_ns = np.where(is_delta, memory.columns["start_ns"][slots], memory.columns["time_ns"][slots])
        return windows, floor_ns

    def _remember_windows(self, slots: Array, windows: Array, floor_ns: Array, window: Array) -> None:
        columns = self.memory.columns
        rows = np.arange(len(slots))[:, None]
        pairs = np.concatenate([windows, window], axis=1).reshape(len(slots), -1, 2)
        pairs = pairs[rows, np.argsort(pairs[:, :, 1], axis=1, kind="stable")]
        columns["start_ns"][slots] = np.maximum(floor_ns, pairs[:, :-WINDOWS_KEPT, 1].max(axis=1))
        columns["time_ns"][slots] = pairs[:, -1, 1]
        columns["layout"][slots] = DELTA_LAYOUT
        columns["closed"][slots] = False
        kept = pairs[:, -WINDOWS_KEPT:]
        held = kept[:, :, 1] != NO_TIME
        self.memory.write(slots, kept[held].reshape(-1), 2 * held.sum(axis=1))

    def _add_whole(self, index: Array) -> None:
        steps, points = self.steps, self.points
        steps.effect[index] = Effect.WHOLE
        steps.n[index] = self.count[index]
        steps.zero[index], steps.negative[index] = points.zero_count[index], points.negative_count[index]
        own = self._own(index)
        steps.buckets[own] = points.buckets[own]

    # ---- cumulative

    def _cumulative(self, index: Array, slots: Array) -> None:
        points = self.points
        last = self._last(slots)
        start_ns, time_ns = points.start_ns[index], points.time_ns[index]
        same = start_ns == last.start_ns
        outcome = np.zeros(len(index), np.int8)
        outcome[(start_ns != 0) & (last.start_ns > start_ns)] = Outcome.SECOND_WRITER
        outcome[time_ns <= last.time_ns] = Outcome.LATE
        outcome[same & (time_ns == last.time_ns)] = Outcome.DUPLICATE
        self.steps.outcome[index] = outcome
        taken = outcome == Outcome.TAKEN
        ended = (points.flags[index] & PointFlag.NO_RECORDED_VALUE) != 0
        self._end(index[taken & ended], slots[taken & ended])
        kept = taken & ~ended
        if kept.all():
            self._advance(index, last)
        elif kept.any():
            self._advance(index[kept], self._last(slots[kept]))

    def _end(self, index: Array, slots: Array) -> None:
        if not len(index):
            return
        self.steps.effect[index] = Effect.CLOSED
        self.memory.close(slots)
        self.memory.columns["time_ns"][slots] = self.points.time_ns[index]

    def _advance(self, index: Array, last: _Last) -> None:
        """Applies points that are newer than the last of their stream, and have a value."""
        points, steps = self.points, self.steps
        start_ns, time_ns = points.start_ns[index], points.time_ns[index]
        unstated = start_ns == 0
        never = last.time_ns == NO_TIME
        continues = (start_ns == last.start_ns) | unstated | ((last.start_ns == 0) & (start_ns < last.time_ns))
        continues &= ~never
        comparable = continues & ~last.closed & (self.layout[index] == last.layout)
        fell = self._subtract(index, last, comparable)
        fell |= continues & ~last.closed & self._is_less(index, last)
        effect = np.full(len(index), Effect.BASELINE, np.int8)
        effect[comparable & ~fell] = Effect.DIFFERENCE
        effect[fell & unstated] = Effect.WHOLE
        began_ns = np.where(never, np.iinfo(np.int64).max, last.time_ns)
        watched = (start_ns >= np.maximum(self.watched_from_ns[index], self.memory.forgotten_ns + 1)) & never
        watched |= ((start_ns >= began_ns) | (start_ns >= self.watched_from_ns[index])) & ~never
        effect[~continues & ~unstated & (start_ns < time_ns) & watched] = Effect.WHOLE
        not_difference = index[effect != Effect.DIFFERENCE]
        self._add_nothing(not_difference)
        self._add_whole(index[effect == Effect.WHOLE])
        steps.effect[index] = effect
        kept_start = continues & unstated & ~fell
        self._remember(index, last.slots, np.where(kept_start, last.start_ns, start_ns))

    def _is_less(self, index: Array, last: _Last) -> Array:
        less = self.count[index] < last.count
        return np.asarray(less | (~self.histogram[index] & (self.points.value[index] < last.value)))

    def _add_nothing(self, index: Array) -> None:
        steps, points = self.steps, self.points
        steps.n[index] = steps.zero[index] = steps.negative[index] = 0
        steps.buckets[self._own(index)] = 0
        steps.scale[index], steps.bucket_offset[index] = points.scale[index], points.bucket_offset[index]

    def _subtract(self, index: Array, last: _Last, comparable: Array) -> Array:
        """Enters the differences to the last points where comparable. Returns bool[n]: whether anything fell.

        A bucket that held something and is not among the new ones has fallen, so the new ones are layout enough.
        """
        steps, points = self.steps, self.points
        fell = np.zeros(len(index), bool)
        which = np.flatnonzero(comparable)
        if not len(which):
            return fell
        at = index[which]
        steps.n[at] = self.count[at] - last.count[which]
        steps.zero[at] = points.zero_count[at] - last.zero[which]
        steps.negative[at] = points.negative_count[at] - last.negative[which]
        fell[which] = (steps.n[at] < 0) | (steps.zero[at] < 0) | (steps.negative[at] < 0)
        self._subtract_buckets(at, last, which, fell)
        falling = steps.buckets[self._own(at)] < 0
        if falling.any():
            fell[which[owners(self.length[at])[falling]]] = True
        return fell

    def _subtract_buckets(self, at: Array, last: _Last, which: Array, fell: Array) -> None:
        steps, points = self.steps, self.points
        words, length = self.memory.read(last.slots[which])
        old_scale, old_offset = last.scale[which], last.bucket_offset[which].astype(np.int64)
        scale = np.minimum(points.scale[at], old_scale)
        coarser = (scale != old_scale).any()
        aligned = (length == self.length[at]) & (old_offset == points.bucket_offset[at])
        if aligned.all() and not coarser and (scale == points.scale[at]).all():
            own = self._own(at)
            steps.buckets[own] = points.buckets[own] - words
            return
        new_offset = self._enter_buckets(at, points.scale[at] - scale, scale)
        owner = owners(length)
        old = positions(old_offset, length)
        place = (old >> (old_scale - scale).astype(np.int64)[owner]) - new_offset[owner]
        outside = (place < 0) | (place >= self.length[at][owner])
        fell[which[owner[outside & (words != 0)]]] = True
        inside = ~outside
        target = self.first[at][owner[inside]] + place[inside]
        if coarser:
            np.subtract.at(steps.buckets, target, words[inside])
        else:
            steps.buckets[target] -= words[inside]  # each bucket once

    def _enter_buckets(self, at: Array, shift: Array, scale: Array) -> Array:
        """Enters the buckets of some points, downscaled by `shift`. Returns int64[n]: the offset of the first one."""
        steps, points = self.steps, self.points
        offset = points.bucket_offset[at].astype(np.int64)
        own = self._own(at)
        if not shift.any():
            steps.buckets[own] = points.buckets[own]
            return offset
        shift = shift.astype(np.int64)
        new_offset = offset >> shift
        length = self.length[at]
        owner = owners(length)
        place = (positions(offset, length) >> shift[owner]) - new_offset[owner]
        steps.buckets[own] = 0
        np.add.at(steps.buckets, self.first[at][owner] + place, points.buckets[own])
        steps.scale[at], steps.bucket_offset[at] = scale, new_offset
        return np.asarray(new_offset)

    def _remember(self, index: Array, slots: Array, start_ns: Array) -> None:
        points, memory, columns = self.points, self.memory, self.memory.columns
        columns["start_ns"][slots], columns["time_ns"][slots] = start_ns, points.time_ns[index]
        columns["layout"][slots], columns["count"][slots] = self.layout[index], self.count[index]
        columns["value"][slots] = np.where(self.histogram[index], 0.0, points.value[index])
        columns["scale"][slots], columns["bucket_offset"][slots] = points.scale[index], points.bucket_offset[index]
        columns["zero"][slots], columns["negative"][slots] = points.zero_count[index], points.negative_count[index]
        columns["closed"][slots] = False
        length = self.length[index]
        outgrown = np.flatnonzero(length > columns["reserved"][slots])
        if len(outgrown):
            memory.place(slots[outgrown], length[outgrown])
        memory.write(slots, points.buckets[self._own(index)], length)
        memory.touch(slots)


def _layouts(points: Points) -> Array:
    """Returns int64[n]: equal where buckets can be compared."""
    bounds = np.array([_layout_of_bounds(bounds) for bounds in points.bounds_sets], np.int64)
    zero_threshold = (points.zero_threshold + 0.0).view(np.int64)  # -0.0 becomes 0.0
    layout = bounds[points.bounds] ^ ((zero_threshold * _ODD) & -16)
    return np.asarray(np.where(points.temporality == Temporality.DELTA, DELTA_LAYOUT, layout + points.type))


@lru_cache(maxsize=4096)
def _layout_of_bounds(bounds: tuple[float, ...]) -> int:
    """Returns a hash of bounds, equal in every process, with the lowest four bits 1000 for the type to be added."""
    digest = hashlib.blake2b(struct.pack(f"<{len(bounds)}d", *bounds), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) & -16 | 8
