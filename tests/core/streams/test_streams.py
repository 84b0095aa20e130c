"""Metric streams: what each point adds, by the tables of the data model and against the rules point by point."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.points import MetricType, PointFlag, Temporality
from stream.core.streams import IDLE_NS, WINDOWS_KEPT, Effect, MetricStreams, Outcome, Steps
from tests.core.streams.rules import SECOND, START, Added, NaiveStreams, Sample, points, rescaled

NO_LIMIT = 1 << 40
MONOTONIC_ENDED = PointFlag.MONOTONIC | PointFlag.NO_RECORDED_VALUE


def run(
    streams: MetricStreams, samples: list[Sample], *, watched_from: int = START, streams_max: int = NO_LIMIT
) -> list[Added]:
    """Applies samples at once and returns what each adds."""
    given_points = points(samples)
    watched = np.full(len(samples), watched_from, np.int64)
    steps = streams.apply(given_points, watched_from_ns=watched, streams_max=streams_max)
    return [added(steps, sample, given_points.bucket_first, i) for i, sample in enumerate(samples)]


def added(steps: Steps, sample: Sample, first: np.ndarray, i: int) -> Added:
    """Returns what point `i` adds, in the terms of the plain rules."""
    outcome, effect = Outcome(int(steps.outcome[i])), Effect(int(steps.effect[i]))
    buckets = steps.buckets[first[i] : first[i + 1]].tolist()
    cells = tuple((int(steps.bucket_offset[i]) + k, count) for k, count in enumerate(buckets) if count)
    adds = effect in (Effect.WHOLE, Effect.DIFFERENCE)
    exponential = adds and sample.type == MetricType.EXPONENTIAL_HISTOGRAM
    scale = int(steps.scale[i]) if exponential else 0
    return Added(outcome, effect, int(steps.n[i]), int(steps.zero[i]), int(steps.negative[i]), scale, cells)


def ns(samples: list[Sample], **settings_: Any) -> list[int]:
    """Returns how many events each sample adds."""
    return [step.n for step in run(MetricStreams(), samples, **settings_)]


def outcomes(samples: list[Sample], **settings_: Any) -> list[Outcome]:
    """Returns what becomes of each sample."""
    return [step.outcome for step in run(MetricStreams(), samples, **settings_)]


def sums(*values: tuple[int, int, float], **rest: Any) -> list[Sample]:
    """Returns points of one cumulative sum as (start, time, value)."""
    return [Sample(start=start, time=time, value=value, **rest) for start, time, value in values]


# ---- the tables

OLD = START - 500  # began before anybody watched

CUMULATIVE: dict[str, tuple[list[tuple[int, int, float]], list[int]]] = {
    "same start: the difference": ([(OLD, 1100, 10), (OLD, 1200, 13), (OLD, 1300, 13), (OLD, 1400, 20)], [0, 3, 0, 7]),
    "the first at a cold start is a baseline": ([(OLD, 1100, 1_000_000)], [0]),
    "one that began while we watched counts from its start": ([(START, 1100, 7), (START, 1200, 9)], [7, 2]),
    "a new start is a true reset: all of the value": ([(OLD, 1100, 10), (1150, 1200, 4)], [0, 4]),
    "a true reset counts even where the value rose": ([(OLD, 1100, 10), (1150, 1200, 40)], [0, 40]),
    "start = time: nobody knows the start, nothing counts": ([(OLD, 1100, 10), (1200, 1200, 4)], [0, 0]),
    "start = time is a baseline": ([(OLD, 1100, 10), (1200, 1200, 4), (1200, 1300, 9)], [0, 0, 5]),
    "no start, rising: the difference": ([(0, 1100, 10), (0, 1200, 12)], [0, 2]),
    "no start, falling: a reset": ([(0, 1100, 10), (0, 1200, 3), (0, 1300, 5)], [0, 3, 2]),
    "same start, falling: a broken promise, a baseline": ([(OLD, 1100, 10), (OLD, 1200, 3), (OLD, 1300, 5)], [0, 0, 2]),
    "out of order: the next difference holds it": ([(OLD, 1100, 10), (OLD, 1300, 20), (OLD, 1200, 14)], [0, 10, 0]),
    "a start that appears is no reset": ([(0, 1100, 10), (1050, 1200, 12)], [0, 2]),
    "a start that goes missing is no reset": ([(OLD, 1100, 10), (0, 1200, 12), (OLD, 1300, 15)], [0, 2, 3]),
    "floors of fractions telescope": ([(OLD, 1100, 0.5), (OLD, 1200, 1.4), (OLD, 1300, 2.9)], [0, 1, 1]),
}


@pytest.mark.parametrize("case", CUMULATIVE)
def test_cumulative_sums_follow_the_table(case: str):
    table, expected = CUMULATIVE[case]
    assert ns(sums(*table)) == expected


def test_what_is_not_newer_is_a_duplicate_or_late():
    table = sums((OLD, 1100, 10), (OLD, 1200, 12), (OLD, 1200, 12), (OLD, 1100, 10), (0, 1200, 12))
    assert outcomes(table)[2:] == [Outcome.DUPLICATE, Outcome.LATE, Outcome.LATE]


def test_two_writers_of_one_cumulative_stream_are_told_apart():
    """Replicas without an instance id: the one that began later counts, the other is refused; nothing counts twice."""
    table = sums((OLD, 1100, 1000), (OLD + 50, 1110, 500), (OLD, 1200, 1010), (OLD + 50, 1210, 520))
    steps = run(MetricStreams(), table)
    assert [step.outcome for step in steps] == [
        Outcome.TAKEN,
        Outcome.TAKEN,
        Outcome.SECOND_WRITER,
        Outcome.TAKEN,
    ]
    assert [step.n for step in steps] == [0, 0, 0, 20]


DELTA: dict[str, tuple[list[tuple[int, int]], list[Outcome]]] = {
    "windows in a row": ([(1000, 1100), (1100, 1200)], [Outcome.TAKEN] * 2),
    "a gap": ([(1000, 1100), (1300, 1400)], [Outcome.TAKEN] * 2),
    "a repeat": ([(1000, 1100), (1100, 1200), (1000, 1100)], [Outcome.TAKEN, Outcome.TAKEN, Outcome.DUPLICATE]),
    "out of order": ([(1200, 1300), (1000, 1100), (1100, 1200)], [Outcome.TAKEN] * 3),
    "an overlap": ([(1000, 1100), (1050, 1150)], [Outcome.TAKEN, Outcome.SECOND_WRITER]),
    "within another": ([(1000, 1100), (1020, 1030)], [Outcome.TAKEN, Outcome.SECOND_WRITER]),
    "around another": ([(1020, 1030), (1000, 1100)], [Outcome.TAKEN, Outcome.SECOND_WRITER]),
    "same time, other start": ([(1000, 1100), (1050, 1100)], [Outcome.TAKEN, Outcome.SECOND_WRITER]),
    "no starts": ([(0, 1100), (0, 1200), (0, 1100)], [Outcome.TAKEN, Outcome.TAKEN, Outcome.DUPLICATE]),
    "a start after the time": ([(1200, 1100)], [Outcome.OUT_OF_RANGE]),
}


@pytest.mark.parametrize("case", DELTA)
def test_delta_windows_follow_the_table(case: str):
    table, expected = DELTA[case]
    samples = [Sample(start=s, time=t, value=5, temporality=Temporality.DELTA) for s, t in table]
    steps = run(MetricStreams(), samples)
    assert [step.outcome for step in steps] == expected
    assert [step.n for step in steps] == [5 if outcome == Outcome.TAKEN else 0 for outcome in expected]


def test_windows_older_than_those_remembered_are_late():
    ends = range(1100, 1100 + 10 * (WINDOWS_KEPT + 2), 10)
    samples = [Sample(start=end - 10, time=end, value=1, temporality=Temporality.DELTA) for end in ends]
    streams = MetricStreams()
    run(streams, samples)
    again = [step.outcome for step in run(streams, samples)]
    assert again == [Outcome.LATE] * 2 + [Outcome.DUPLICATE] * WINDOWS_KEPT


def test_a_window_that_reaches_back_into_forgotten_ones_overlaps_them():
    ends = [1100, *range(1200, 1200 + 10 * WINDOWS_KEPT, 10)]
    samples = [Sample(start=end - 10, time=end, value=1, temporality=Temporality.DELTA) for end in ends]
    samples.append(Sample(start=1095, time=1105, value=1, temporality=Temporality.DELTA))
    assert outcomes(samples)[-1] == Outcome.SECOND_WRITER


def test_a_point_without_a_value_closes_its_stream():
    samples = sums((OLD, 1100, 10), (OLD, 1200, 12))
    samples.append(Sample(start=OLD, time=1250, flags=MONOTONIC_ENDED))
    samples += sums((OLD, 1300, 20), (OLD, 1400, 21))
    steps = run(MetricStreams(), samples)
    assert [step.effect for step in steps][2:] == [Effect.CLOSED, Effect.BASELINE, Effect.DIFFERENCE]
    assert [step.n for step in steps] == [0, 2, 0, 0, 1]


def test_gauges_and_sums_that_may_fall_belong_to_no_counter():
    samples = [
        Sample(type=MetricType.GAUGE, value=5),
        Sample(flags=0, value=-5),
        Sample(temporality=Temporality.UNSPECIFIED, value=5),
    ]
    streams = MetricStreams()
    assert run(streams, samples) == [Added(Outcome.TAKEN)] * 3
    assert len(streams.memory) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0**63, -1.0])
def test_a_monotonic_sum_that_is_no_count_is_refused(value: float):
    batch = points([Sample()])
    batch.value[:], batch.value_int[:] = value, -1 if value < 0 else 0
    steps = MetricStreams().apply(batch, watched_from_ns=np.zeros(1, np.int64), streams_max=10)
    assert steps.outcome.tolist() == [Outcome.OUT_OF_RANGE]


def explicit(time: int, *buckets: int, bounds: tuple[float, ...] = (1.0, 2.0), start: int = OLD) -> Sample:
    """Returns a point of a cumulative explicit histogram."""
    return Sample(type=MetricType.HISTOGRAM, start=start, time=time, bounds=bounds, buckets=buckets)


def exponential(time: int, scale: int, offset: int, *buckets: int, start: int = OLD, **rest: Any) -> Sample:
    """Returns a point of a cumulative exponential histogram."""
    kind = MetricType.EXPONENTIAL_HISTOGRAM
    return Sample(type=kind, start=start, time=time, scale=scale, offset=offset, buckets=buckets, **rest)


def test_histograms_are_subtracted_bucket_by_bucket():
    _, second = run(MetricStreams(), [explicit(1100, 1, 2, 3), explicit(1200, 1, 5, 4)])
    assert (second.n, second.cells) == (4, ((1, 3), (2, 1)))


def test_bounds_that_change_are_a_baseline():
    samples = [
        explicit(1100, 1, 2, 3),
        explicit(1200, 9, 9, 9, bounds=(1.0, 3.0)),
        explicit(1300, 9, 9, 10, bounds=(1.0, 3.0)),
    ]
    assert ns(samples) == [0, 0, 1]


def test_a_bucket_that_falls_is_a_broken_promise_even_where_the_count_rises():
    assert ns([explicit(1100, 5, 0, 0), explicit(1200, 4, 9, 0), explicit(1300, 4, 10, 0)]) == [0, 0, 1]


def test_an_exponential_histogram_is_downscaled_before_it_is_subtracted():
    samples = [exponential(1100, 1, -1, 1, 2, 3, 4), exponential(1200, 0, -1, 1, 6, 5)]
    _, second = run(MetricStreams(), samples)
    assert (second.scale, second.cells) == (0, ((0, 1), (1, 1)))


def test_a_zero_threshold_that_changes_is_a_baseline():
    assert ns([exponential(1100, 0, 0, 1), exponential(1200, 0, 0, 9, zero_threshold=0.5)]) == [0, 0]


# ---- against the plain rules

BOUNDS = ((1.0, 2.0), (1.0, 3.0))


@st.composite
def _samples(draw: st.DrawFn) -> list[Sample]:
    """Points of a few streams, each of one kind, mostly growing, with everything that goes wrong."""
    kinds = draw(
        st.lists(
            st.tuples(
                st.sampled_from((MetricType.SUM, MetricType.HISTOGRAM, MetricType.EXPONENTIAL_HISTOGRAM)),
                st.sampled_from((Temporality.CUMULATIVE, Temporality.CUMULATIVE, Temporality.DELTA)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    rng = random.Random(draw(st.integers(0, 1 << 32)))
    made: list[Sample] = []
    last: dict[int, Sample] = {}
    for _ in range(draw(st.integers(1, 40))):
        stream = rng.randrange(len(kinds))
        kind, temporality = kinds[stream]
        sample = _next(rng, stream, kind, temporality, last.get(stream))
        made.append(sample)
        if rng.random() < 0.9:
            last[stream] = sample
    return made


def _next(rng: random.Random, stream: int, kind: int, temporality: int, last: Sample | None) -> Sample:
    chance = rng.random()
    if last is not None and chance < 0.08:
        return last
    time = (last.time if last else START) + rng.choice((1, 5, 10, 10, 10, -5, -12, 0))
    start = last.start if last else rng.choice((0, OLD, START, START + 5))
    if temporality == Temporality.DELTA:
        start = rng.choice((0, time - 5, time - 10, last.time if last else START))
    elif chance < 0.2:
        start = rng.choice((0, OLD, START, time, time - 1, time + 1))
    flags = MONOTONIC_ENDED if chance > 0.96 else PointFlag.MONOTONIC
    base: dict[str, Any] = {"stream": stream, "start": max(start, 0), "time": time, "flags": int(flags)}
    base |= {"type": kind, "temporality": temporality}
    falls = 0.2 < chance < 0.25
    if kind == MetricType.SUM:
        before = 0.0 if last is None or falls else last.value
        return Sample(**base, value=before + rng.choice((0, 1, 2.5, 100)))
    if kind == MetricType.HISTOGRAM:
        bounds = last.bounds if last and chance > 0.1 else rng.choice(BOUNDS)
        before_buckets = [0, 0, 0] if last is None or falls else list(last.buckets)
        return Sample(**base, bounds=bounds, buckets=tuple(n + rng.randrange(3) for n in before_buckets))
    return _next_exponential(rng, base, last if not falls else None, chance)


def _next_exponential(rng: random.Random, base: dict[str, Any], last: Sample | None, chance: float) -> Sample:
    scale = last.scale if last else rng.choice((-1, 0, 2))
    if chance < 0.35:
        scale -= rng.randrange(3)
    cells: Counter[int] = rescaled(last, scale) if last else Counter()
    for _ in range(rng.randrange(4)):
        cells[rng.randrange(-6, 6)] += rng.randrange(1, 4)
    low = min(cells, default=0) - rng.randrange(2)
    buckets = tuple(cells[i] for i in range(low, max(cells, default=low - 1) + 1))
    zero, negative = (last.zero, last.negative) if last else (0, 0)
    return Sample(
        **base,
        scale=scale,
        offset=low,
        buckets=buckets,
        zero=zero + rng.randrange(2),
        negative=negative + rng.randrange(2),
    )


def pieces(samples: list[Sample], cuts: list[int]) -> list[list[Sample]]:
    """Returns the samples cut in pieces."""
    edges = sorted({0, len(samples), *(cut % (len(samples) + 1) for cut in cuts)})
    return [samples[a:b] for a, b in pairwise(edges)]


@settings(max_examples=400)
@given(_samples(), st.lists(st.integers(0, 50), max_size=5))
def test_any_points_in_any_batches_add_what_the_plain_rules_say(samples: list[Sample], cuts: list[int]):
    naive, streams = NaiveStreams(), MetricStreams()
    expected = [naive.apply(sample) for sample in samples]
    assert [step for piece in pieces(samples, cuts) for step in run(streams, piece)] == expected


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 2), st.sampled_from((10,) * 12 + (5, 25, -30, 0))), min_size=5, max_size=70),
    st.lists(st.integers(0, 70), max_size=3),
    st.booleans(),
)
def test_long_runs_of_windows_add_what_the_plain_rules_say(
    moves: list[tuple[int, int]], cuts: list[int], has_start: bool
):
    ends = Counter({1: START, 2: START})
    samples: list[Sample] = []
    for stream, move in moves:
        ends[stream] += move
        start = ends[stream] - 10 if has_start else 0
        samples.append(
            Sample(stream=stream, start=start, time=ends[stream], value=len(samples), temporality=Temporality.DELTA)
        )
    naive, streams = NaiveStreams(), MetricStreams()
    expected = [naive.apply(sample) for sample in samples]
    assert [step for piece in pieces(samples, cuts) for step in run(streams, piece)] == expected


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1 << 40)), min_size=1, max_size=30))
def test_what_a_stream_adds_is_its_last_value_less_its_first(increments: list[tuple[int, int]]):
    values: Counter[int] = Counter()
    samples = []
    for i, (stream, increment) in enumerate(increments):
        values[stream] += increment
        samples.append(Sample(stream=stream, start=OLD, time=2000 + i, value=float(values[stream])))
    total = sum(ns(samples))
    firsts = {sample.stream: sample.value for sample in reversed(samples)}
    assert total == sum(values.values()) - sum(firsts.values())


@given(
    st.lists(st.floats(1e-6, 1e6), max_size=60),
    st.lists(st.floats(1e-6, 1e6), max_size=60),
    st.integers(-2, 6),
    st.integers(-4, 6),
)
def test_downscaled_differences_equal_those_of_the_raw_values(
    old: list[float], new: list[float], scale: int, new_scale: int
):
    def at(values: list[float], scale: int) -> Counter[int]:
        return Counter(int(np.ceil(np.log2(value) * 2.0**scale)) - 1 for value in values)

    def point(time: int, values: list[float], scale: int) -> Sample:
        cells = at(values, scale)
        low = min(cells, default=0)
        return exponential(time, scale, low, *(cells[i] for i in range(low, max(cells, default=low - 1) + 1)))

    second = run(MetricStreams(), [point(1100, old, scale), point(1200, [*old, *new], new_scale)])[1]
    assert Counter(dict(second.cells)) == at(new, min(scale, new_scale))


# ---- bounds


def test_new_streams_beyond_the_cap_are_refused_until_a_closed_one_makes_room():
    streams = MetricStreams()
    first = [Sample(stream=i, start=OLD, time=1100, value=1) for i in range(3)]
    assert {step.outcome for step in run(streams, first, streams_max=3)} == {Outcome.TAKEN}
    more = [Sample(stream=7, time=1200), Sample(stream=1, start=OLD, time=1200, value=5), Sample(stream=8, time=1200)]
    steps = run(streams, more, streams_max=3)
    assert [step.outcome for step in steps] == [Outcome.TOO_MANY_STREAMS, Outcome.TAKEN, Outcome.TOO_MANY_STREAMS]
    assert steps[1].n == 4
    run(streams, [Sample(stream=2, start=OLD, time=1300, flags=MONOTONIC_ENDED)])
    assert [step.outcome for step in run(streams, [Sample(stream=8, time=1400)], streams_max=3)] == [Outcome.TAKEN]
    assert len(streams.memory) == 3


def test_a_stream_that_was_refused_for_want_of_room_counts_nothing_of_that_time_later():
    streams = MetricStreams()
    run(streams, [Sample(stream=1, start=OLD, time=1100)], streams_max=1)
    run(streams, [Sample(stream=2, start=1050, time=1200, value=100)], streams_max=1)
    steps = run(streams, sums((1050, 1300, 150), (1050, 1400, 151), stream=2), streams_max=2)
    assert [step.n for step in steps] == [0, 1]


def test_an_idle_stream_is_closed_and_its_history_is_not_counted_when_it_comes_back():
    streams, hour = MetricStreams(), 3600 * SECOND
    run(streams, [explicit(hour, 1, 2, 3)])
    streams.memory.retire(hour + IDLE_NS + 1)
    assert streams.memory.open_streams == 0
    assert len(streams.memory.read(np.arange(1))[0]) == 0
    steps = run(streams, [explicit(3 * hour, 5, 5, 5), explicit(4 * hour, 5, 5, 6)])
    assert [step.n for step in steps] == [0, 1]


def test_a_stream_that_was_forgotten_altogether_is_not_taken_for_a_new_one():
    streams, day = MetricStreams(), 24 * 3600 * SECOND
    assert [step.n for step in run(streams, sums((day, day + 10, 100)))] == [100]
    streams.memory.retire(9 * day)
    assert len(streams.memory) == 0
    assert [step.n for step in run(streams, sums((day, 9 * day, 101), (day, 9 * day + 10, 103)))] == [0, 2]
    assert [step.n for step in run(streams, sums((8 * day, 9 * day, 50), stream=2))] == [50]


def test_many_streams_come_and_go():
    """Slots and the room of buckets are reused, and nothing of one stream leaks into another."""
    streams, naive = MetricStreams(), NaiveStreams()
    rng = random.Random(3)
    for step in range(60):
        time = START + 100 * (step + 1)
        made = [
            explicit(time, *(step + 1 for _ in range(width)), bounds=tuple(float(i) for i in range(width - 1)))
            for width in (rng.randrange(1, 9) for _ in range(20))
        ]
        samples = [
            Sample(**{name: getattr(sample, name) for name in Sample.__dataclass_fields__} | {"stream": stream})
            for stream, sample in zip(rng.sample(range(200), 20), made, strict=True)
        ]
        assert run(streams, samples) == [naive.apply(sample) for sample in samples]
        if step % 7 == 0:
            gone = streams.memory.find(points(samples).stream_hi, points(samples).stream_lo)[:5]
            streams.memory.forget(gone)
            streams.memory.forgotten_ns = START - 1  # so that the plain rules, which forget nothing, agree
            for sample in samples[:5]:
                del naive.streams[sample.stream]
    assert len(streams.memory.words) < 4 * 200 * 9
