"""The rules of metric streams once more, point by point and bucket by bucket: what the vectorised ones must equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from stream.core.points import MetricType, PointFlag, Points, Temporality
from stream.core.streams import WINDOWS_KEPT, Effect, Outcome

START = 1_000  # the log is watched from here
SECOND = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One point as a test writes it down."""

    stream: int = 1
    start: int = START
    time: int = START + 10
    value: float = 0.0
    type: int = MetricType.SUM
    temporality: int = Temporality.CUMULATIVE
    flags: int = PointFlag.MONOTONIC
    scale: int = 0
    offset: int = 0
    zero: int = 0
    negative: int = 0
    zero_threshold: float = 0.0
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()
    unit: str = "s"
    service: str = "prod/shop/checkout"

    @property
    def count(self) -> int:
        """Events of a histogram."""
        return sum(self.buckets) + self.zero + self.negative

    @property
    def cells(self) -> Counter[int]:
        """Bucket counts by absolute index."""
        return Counter({self.offset + i: n for i, n in enumerate(self.buckets) if n})


def points(samples: Sequence[Sample], first_offset: int = 0) -> Points:
    """Returns points at consecutive offsets of one source."""
    n = len(samples)

    def column(values: Iterable[float], dtype: str) -> np.ndarray:
        return np.array(list(values), dtype)

    bounds = tuple(dict.fromkeys([(), *(s.bounds for s in samples)]))
    units = tuple(dict.fromkeys(s.unit for s in samples))
    services = tuple(dict.fromkeys(s.service for s in samples))
    histogram = [s.type >= MetricType.HISTOGRAM for s in samples]
    return Points.of(
        n,
        offset=np.arange(first_offset, first_offset + n),
        service=column((services.index(s.service) for s in samples), "int32"),
        unit=column((units.index(s.unit) for s in samples), "int32"),
        type=column((s.type for s in samples), "int8"),
        temporality=column((s.temporality for s in samples), "int8"),
        flags=column((s.flags for s in samples), "uint8"),
        start_ns=column((s.start for s in samples), "int64"),
        time_ns=column((s.time for s in samples), "int64"),
        stream_hi=column((s.stream // 3 for s in samples), "int64"),  # streams may share half a hash
        stream_lo=column((-s.stream for s in samples), "int64"),
        value=column((s.value for s in samples), "float64"),
        value_int=column((0 if h else int(s.value // 1) for s, h in zip(samples, histogram, strict=True)), "int64"),
        count=column((s.count if h else 0 for s, h in zip(samples, histogram, strict=True)), "int64"),
        scale=column((s.scale for s in samples), "int32"),
        zero_count=column((s.zero for s in samples), "int64"),
        zero_threshold=column((s.zero_threshold for s in samples), "float64"),
        negative_count=column((s.negative for s in samples), "int64"),
        bucket_offset=column((s.offset for s in samples), "int32"),
        bounds=column((bounds.index(s.bounds) for s in samples), "int32"),
        buckets=column((n for s in samples for n in s.buckets), "int64"),
        bucket_first=np.cumsum([0, *(len(s.buckets) for s in samples)]),
        services=services or ("",),
        units=units or ("",),
        bounds_sets=bounds,
    )


@dataclass(frozen=True)
class Added:
    """What a point adds: events, and of a histogram its buckets by absolute index at a scale."""

    outcome: Outcome
    effect: Effect = Effect.NONE
    n: int = 0
    zero: int = 0
    negative: int = 0
    scale: int = 0
    cells: tuple[tuple[int, int], ...] = ()


@dataclass
class _Stream:
    start: int | None = None
    time: int | None = None
    last: Sample | None = None
    windows: list[tuple[int, int]] = field(default_factory=list)
    floor: int | None = None


@dataclass
class NaiveStreams:
    """All streams, none ever forgotten."""

    streams: dict[int, _Stream] = field(default_factory=dict)

    def apply(self, sample: Sample, watched_from: int = START) -> Added:
        """Returns what one point adds."""
        counter = sample.type >= MetricType.HISTOGRAM or (
            sample.type == MetricType.SUM and bool(sample.flags & PointFlag.MONOTONIC)
        )
        if not counter or sample.temporality == Temporality.UNSPECIFIED:
            return Added(Outcome.TAKEN)
        ended = bool(sample.flags & PointFlag.NO_RECORDED_VALUE)
        if sample.start > sample.time or (not ended and sample.value < 0):
            return Added(Outcome.OUT_OF_RANGE)
        stream = self.streams.get(sample.stream)
        if stream is None:
            if ended:
                return Added(Outcome.TAKEN, Effect.CLOSED)
            stream = self.streams[sample.stream] = _Stream()
        if sample.temporality == Temporality.DELTA:
            return _delta(stream, sample, ended)
        return _cumulative(stream, sample, ended, watched_from)


def _delta(stream: _Stream, sample: Sample, ended: bool) -> Added:
    window = (sample.start or sample.time, sample.time)
    if window in stream.windows:
        return Added(Outcome.DUPLICATE)
    if stream.floor is not None and window[1] <= stream.floor:
        return Added(Outcome.LATE)
    if (stream.floor is not None and window[0] < stream.floor) or any(
        start < window[1] and window[0] < end for start, end in stream.windows
    ):
        return Added(Outcome.SECOND_WRITER)
    if ended:
        return Added(Outcome.TAKEN, Effect.CLOSED)
    stream.windows = sorted([*stream.windows, window], key=lambda w: w[1])
    if len(stream.windows) > WINDOWS_KEPT:
        stream.floor = max(stream.floor or 0, stream.windows.pop(0)[1])
    return _whole(sample)


def _whole(sample: Sample) -> Added:
    return _added(Effect.WHOLE, sample, sample.scale, _events(sample), sample.zero, sample.negative, sample.cells)


def _events(sample: Sample) -> int:
    return sample.count if sample.type >= MetricType.HISTOGRAM else int(sample.value // 1)


def _added(effect: Effect, sample: Sample, scale: int, n: int, zero: int, negative: int, cells: Counter[int]) -> Added:
    exponential = sample.type == MetricType.EXPONENTIAL_HISTOGRAM
    kept = tuple(sorted((i, count) for i, count in cells.items() if count))
    return Added(Outcome.TAKEN, effect, n, zero, negative, scale if exponential else 0, kept)


def _cumulative(stream: _Stream, sample: Sample, ended: bool, watched_from: int) -> Added:
    if stream.time is not None and stream.start is not None:
        if (sample.start, sample.time) == (stream.start, stream.time):
            return Added(Outcome.DUPLICATE)
        if sample.time <= stream.time:
            return Added(Outcome.LATE)
        if sample.start and sample.start < stream.start:
            return Added(Outcome.SECOND_WRITER)
    if ended:
        stream.time, stream.last = sample.time, None
        return Added(Outcome.TAKEN, Effect.CLOSED)
    added, start = _advance(stream, sample, watched_from)
    stream.start, stream.time, stream.last = start, sample.time, sample
    return added


def _advance(stream: _Stream, sample: Sample, watched_from: int) -> tuple[Added, int]:
    """Returns what is added, and the start of the stream from now on."""
    baseline = Added(Outcome.TAKEN, Effect.BASELINE)
    if stream.time is None or stream.start is None:  # the first point
        fresh = watched_from <= sample.start < sample.time
        return (_whole(sample) if sample.start and fresh else baseline), sample.start
    takes_up = stream.start == 0 and sample.start < stream.time  # the writer states its start from now on
    if sample.start not in (0, stream.start) and not takes_up:  # a later start
        fresh = sample.start < sample.time and sample.start >= min(stream.time, watched_from)
        return (_whole(sample) if fresh else baseline), sample.start
    start = sample.start or stream.start
    if stream.last is None:
        return baseline, start
    difference = _difference(stream.last, sample)
    if difference is not None:
        return difference, start
    fell = _fell(stream.last, sample)
    if fell and sample.start == 0:
        return _whole(sample), 0
    return baseline, start


def _comparable(before: Sample, after: Sample) -> bool:
    return (before.bounds, before.zero_threshold) == (after.bounds, after.zero_threshold)


def _difference(before: Sample, after: Sample) -> Added | None:
    if not _comparable(before, after) or _fell(before, after):
        return None
    scale = min(before.scale, after.scale)
    cells = rescaled(after, scale)
    cells.subtract(rescaled(before, scale))
    return _added(
        Effect.DIFFERENCE,
        after,
        scale,
        _events(after) - _events(before),
        after.zero - before.zero,
        after.negative - before.negative,
        cells,
    )


def _fell(before: Sample, after: Sample) -> bool:
    if _events(after) < _events(before) or (after.type == MetricType.SUM and after.value < before.value):
        return True
    if not _comparable(before, after):
        return False
    scale = min(before.scale, after.scale)
    old, new = rescaled(before, scale), rescaled(after, scale)
    return (
        after.zero < before.zero or after.negative < before.negative or any(new[i] < count for i, count in old.items())
    )


def rescaled(sample: Sample, scale: int) -> Counter[int]:
    """Returns bucket counts by absolute index at a scale that is not finer."""
    cells: Counter[int] = Counter()
    for i, count in sample.cells.items():
        cells[i // 2 ** (sample.scale - scale)] += count
    return cells
