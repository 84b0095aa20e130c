"""Metric points in the fold: counted for their objectives, entered in the ledger, exact over every crash."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.cells import Column
from stream.core.engine import Engine, balance
from stream.core.events import DeadLetter
from stream.core.points import MetricType, PointFlag, Temporality
from stream.core.rendering import render
from stream.core.streams.memory import CHUNK_STREAMS_MAX, KNOWN_NS
from stream.core.units import HOUR_NS, MINUTE_NS, SECOND_NS, WEIGHT_ONE, minute_of
from tests.core.engine.log_writer import SERVICE, T0_NS, Event, bundle, objective, run
from tests.core.engine.point_writer import METRIC, PointWriter, metric_objective, named
from tests.core.engine.test_chunks import Log, fold, save
from tests.core.oracles import engine_cells
from tests.core.streams.rules import Sample, points

BOUNDS = (0.1, 0.25, 1.0)
BEGAN = T0_NS + SECOND_NS  # after the source was first read, so that values count from here


def histogram(seconds: float, *buckets: int, stream: int = 1, start: int = BEGAN, **rest: Any) -> Sample:
    """Returns a point of a cumulative histogram in seconds, so long after T0."""
    return Sample(
        **{
            "stream": stream,
            "type": MetricType.HISTOGRAM,
            "start": start,
            "time": T0_NS + int(seconds * SECOND_NS),
            "bounds": BOUNDS,
            "buckets": buckets,
            "flags": 0,
            "service": SERVICE,
            **rest,
        }
    )


def cell(engine: Engine, name: str, minute: int = 0) -> dict[str, int]:
    """Returns the counters of an objective in a minute after T0 that are not zero."""
    [wanted] = [o for o in engine.bundle.objectives if o.name == name]  # type: ignore[union-attr]
    cells = engine.state.cells["series"]
    row = cells.index.get((wanted.service, wanted.digest, ""))
    if row is None:
        return {}
    values = cells.minute(minute_of(T0_NS) + minute)[:, row].tolist()
    return {column.name: value for column, value in zip(Column, values, strict=True) if value}


def test_a_cumulative_histogram_feeds_availability_and_latency():
    latency = metric_objective("latency", duration_lte_ns=250_000_000)
    between = metric_objective("between", duration_lte_ns=200_000_000)
    writer = PointWriter(bundle(metric_objective(), latency, between))
    writer.record(until_ns=T0_NS)
    failed = int(PointFlag.FAILED)
    writer.record([histogram(10, 5, 1, 0, 0), histogram(10, 0, 0, 0, 2, stream=2, flags=failed)])
    writer.record([histogram(70, 10, 4, 2, 1), histogram(70, 0, 0, 1, 2, stream=2, flags=failed)])
    engine, _ = run(writer.log)

    def weighted(n: int, bad: int, **rest: int) -> dict[str, int]:
        found = {"N": n, "N_BAD": bad, "WEIGHT": n * WEIGHT_ONE, "WEIGHT_BAD": bad * WEIGHT_ONE}
        return {**found, "WEIGHT_SQUARE": n << 8, "WEIGHT_SQUARE_BAD": bad << 8, **rest}

    assert cell(engine, "availability", 0) == weighted(8, 2)
    assert cell(engine, "availability", 1) == weighted(12, 1)
    assert cell(engine, "latency", 0) == weighted(8, 2)
    assert cell(engine, "latency", 1) == weighted(12, 4)
    assert cell(engine, "between", 0) == weighted(8, 3, N_UNSURE=1)
    assert cell(engine, "between", 1) == weighted(12, 7, N_UNSURE=3)
    [account] = balance([engine.ledger])
    assert (account.counted, account.is_equal) == (4, True)


def test_other_metrics_versions_and_spans_are_not_mixed_up():
    writer = PointWriter(bundle(metric_objective(), objective("spans")))
    writer.record(until_ns=T0_NS)
    writer.record(named(points([histogram(10, 5, 0, 0, 0)], writer.next_offset), "other.metric"))
    writer.record(named(points([histogram(10, 7, 0, 0, 0, stream=2)], writer.next_offset), version="v2"))
    engine, _ = run(writer.log)
    assert cell(engine, "availability")["N"] == 7
    assert cell(engine, "spans") == {}
    versions = {key[2] for key in engine.state.cells["versions"].index}
    assert versions == {"v2"}
    assert balance([engine.ledger])[0].counted == 2


def test_attributes_and_kinds_choose_points_and_what_is_good():
    texts = ('{"http.route":"/pay","tier":"gold"}', '{"http.route":"/pay"}', '{"http.route":"/"}')
    wanted = metric_objective(attributes=(("http.route", ("/pay",)),), good_attributes=(("tier", ("gold",)),))
    servers = metric_objective("servers", kinds=(2,))
    writer = PointWriter(bundle(wanted, servers))
    writer.record(until_ns=T0_NS)
    batch = named(points([histogram(10, n, 0, 0, 0, stream=n) for n in (1, 2, 4)], writer.next_offset))
    batch = replace(
        batch, attributes=np.arange(3, dtype="int32"), attribute_sets=texts, kind=np.array([2, 2, 3], "int8")
    )
    writer.record(batch)
    engine, _ = run(writer.log)
    found = cell(engine, "availability")
    assert (found["N"], found["N_BAD"]) == (3, 2)
    assert cell(engine, "servers")["N"] == 3


def test_before_anything_was_read_a_first_point_is_a_baseline():
    """The log's first records may come before the first progress: then nobody knows since when the source is read."""
    writer = PointWriter(bundle(metric_objective()))
    writer.record([histogram(10, 50, 0, 0, 0)])
    writer.record([histogram(20, 53, 0, 0, 0)], until_ns=T0_NS + 20 * SECOND_NS)
    engine, _ = run(writer.log)
    assert cell(engine, "availability")["N"] == 3


def test_a_step_of_more_events_than_can_be_is_refused_and_other_counters_are_not():
    writer = PointWriter(bundle(metric_objective()))
    writer.record(until_ns=T0_NS)
    huge = 1 << 50
    writer.record([histogram(10, huge, 0, 0, 0), histogram(11, huge, 0, 0, 0, stream=2)])
    writer.record(named(points([histogram(12, huge, 0, 0, 0, stream=3)], writer.next_offset), "bytes"))
    engine, outputs = run(writer.log)
    letters = [output for output in outputs if isinstance(output, DeadLetter)]
    assert [(letter.reason, letter.items) for letter in letters] == [("out_of_range", 2)]
    assert cell(engine, "availability") == {}
    assert balance([engine.ledger])[0].counted == 1


REFUSED: dict[str, tuple[dict[str, Any], list[Sample], dict[str, int]]] = {
    "future": ({}, [histogram(86_400, 1, 0, 0, 0)], {"future": 1}),
    "too many streams": (
        {"streams_max": 2},
        [histogram(1, 1, 0, 0, 0, stream=i) for i in range(5)],
        {"too_many_streams": 3},
    ),
    "a second writer": (
        {},
        [histogram(10, 1, 0, 0, 0, start=BEGAN + 9), histogram(11, 1, 0, 0, 0, start=BEGAN)],
        {"second_writer": 1},
    ),
    "a start after the time": ({}, [histogram(10, 1, 0, 0, 0, start=T0_NS + HOUR_NS)], {"out_of_range": 1}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_points_are_told_once_and_balance(case: str):
    limits, samples, rejected = REFUSED[case]
    writer = PointWriter(bundle(metric_objective(), **limits))
    writer.record(samples, until_ns=T0_NS + 12 * SECOND_NS)
    engine, outputs = run(writer.log)
    letters = [output for output in outputs if isinstance(output, DeadLetter)]
    assert {letter.reason: letter.items for letter in letters} == rejected
    assert len({orjson.loads(render(letter).value)["id"] for letter in letters}) == len(rejected)
    [account] = balance([engine.ledger])
    assert account.rejected == rejected
    assert account.is_equal


def test_what_our_own_replay_repeats_is_dropped():
    writer = PointWriter(bundle(metric_objective()))
    writer.record(until_ns=T0_NS)
    writer.record([histogram(10, 5, 0, 0, 0), histogram(11, 6, 0, 0, 0)])
    again = PointWriter(writer.bundle, incarnation="ingest-2", next_offset=1, first_offset=1)
    again.record([histogram(11, 6, 0, 0, 0), histogram(12, 8, 0, 0, 0)])
    engine, _ = run([*writer.log, *again.log])
    [account] = balance([engine.ledger])
    assert (account.counted, account.replayed, account.duplicate, account.is_equal) == (3, 1, 0, True)
    assert cell(engine, "availability")["N"] == 8


def test_a_point_of_a_closed_minute_corrects_it():
    writer = PointWriter(bundle(metric_objective()))
    writer.record(until_ns=T0_NS)
    writer.record([histogram(10, 5, 0, 0, 0)], until_ns=T0_NS + 5 * MINUTE_NS)
    writer.record([histogram(50, 9, 0, 0, 0)], until_ns=T0_NS + 6 * MINUTE_NS)
    engine, outputs = run(writer.log)
    revised = [output for output in outputs if getattr(output, "revision", 0)]
    assert [output.minute_sli.n for output in revised] == [9]  # type: ignore[union-attr]
    assert cell(engine, "availability")["N"] == 9


# ---- any points, any records, any crashes


@st.composite
def histories(draw: st.DrawFn, max_size: int = 40) -> list[Sample]:
    """Points of a few streams and services over some minutes, with repeats, late ones and second writers."""
    rng = random.Random(draw(st.integers(0, 1 << 32)))
    made: list[Sample] = []
    values: dict[int, list[int]] = {}
    seconds = 0.0
    for _ in range(draw(st.integers(1, max_size))):
        seconds += rng.choice((0, 1, 5, 20, 70))
        stream = rng.randrange(6)
        held = values.setdefault(stream, [0, 0, 0, 0])
        held[rng.randrange(4)] += rng.randrange(5)
        chance = rng.random()
        if made and chance < 0.1:
            made.append(rng.choice(made))
            continue
        rest: dict[str, Any] = {"stream": stream, "service": f"prod/shop/{stream % 2}"}
        if stream == 5:
            rest |= {"temporality": Temporality.DELTA}
        start = BEGAN if chance < 0.8 else rng.choice((0, BEGAN + 1, T0_NS - HOUR_NS, T0_NS + HOUR_NS))
        if chance > 0.97:
            rest |= {"flags": int(PointFlag.NO_RECORDED_VALUE), "buckets": ()}
            made.append(Sample(**_fields(histogram(seconds, start=start)) | rest))
        else:
            made.append(histogram(seconds, *held, start=start, **rest))
    return made


def _fields(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in Sample.__dataclass_fields__}


OBJECTIVES = (
    metric_objective(service="prod/shop/0"),
    metric_objective("latency", service="prod/shop/1", duration_lte_ns=200_000_000),
)


def write(samples: list[Sample], cuts: list[int], **limits: Any) -> Log:
    """Returns a log with the samples in records that end at `cuts`, with progress in each."""
    writer = PointWriter(bundle(*OBJECTIVES, **limits))
    writer.record(until_ns=T0_NS)
    edges = sorted({0, len(samples), *(cut % (len(samples) + 1) for cut in cuts)})
    for a, b in zip(edges, edges[1:], strict=False):  # noqa: RUF007
        newest = max(sample.time for sample in samples[:b])
        writer.record(samples[a:b], until_ns=newest)
    return writer.log


@settings(max_examples=25)
@given(histories(), st.lists(st.integers(0, 40), max_size=8))
def test_what_is_counted_does_not_depend_on_the_records(samples: list[Sample], cuts: list[int]):
    everything, _ = run(write(samples, list(range(40))))
    engine, _ = run(write(samples, cuts))
    assert engine_cells(engine) == engine_cells(everything)


@settings(max_examples=60)
@given(histories(), st.lists(st.integers(0, 40), max_size=8), st.integers(1, 8))
def test_every_point_is_accounted_for_after_every_record(samples: list[Sample], cuts: list[int], streams_max: int):
    engine = Engine(0)
    for offset, (time_ns, value) in enumerate(write(samples, cuts, streams_max=streams_max)):
        engine.apply(offset, time_ns, value)
        assert all(account.is_equal for account in balance([engine.ledger]))
        assert len(engine.state.streams.memory) <= streams_max
    [account] = balance([engine.ledger])
    assert account.received == len(samples)


@settings(max_examples=40)
@given(histories(), st.lists(st.integers(0, 40), max_size=8), st.data())
def test_a_crash_after_any_checkpoint_changes_no_byte(samples: list[Sample], cuts: list[int], data: st.DataObject):
    log = write(samples, cuts, streams_max=4)
    positions = st.frozensets(st.integers(0, len(log) - 1))
    whole_outputs, _, whole = fold(log)
    outputs, topic, engine = fold(log, data.draw(positions), data.draw(positions))
    assert outputs == whole_outputs
    assert engine.snapshot() == whole.snapshot()
    assert Engine.restore(0, topic).snapshot() == whole.snapshot()


def test_a_version_whose_points_were_all_refused_is_remembered_by_the_next_checkpoint():
    writer = PointWriter(bundle(metric_objective(), streams_max=1, versions_max=2))
    for stream, version in ((1, "v1"), (2, "v2"), (1, "v3")):
        writer.record(named(points([histogram(10, 1, stream=stream)], writer.next_offset), version=version))
    whole_outputs, _, whole = fold(writer.log)
    outputs, topic, engine = fold(writer.log, frozenset({0}), frozenset({1}))
    assert outputs == whole_outputs
    assert engine.snapshot() == whole.snapshot() == Engine.restore(0, topic).snapshot()


def test_streams_that_come_and_go_leave_nothing_behind_and_survive_crashes():
    """Pods come and go, and sometimes come back; idle streams are closed, and forgotten where others need the place."""
    writer = PointWriter(bundle(metric_objective(), streams_max=40))
    writer.record(until_ns=T0_NS)
    rng = random.Random(5)
    for half_hour in range(40):
        seconds = half_hour * 1800
        pods = {half_hour * 10 + i for i in range(4)} | {rng.randrange(0, half_hour * 10 + 1) for _ in range(3)}
        made = [
            histogram(seconds + 1, *range(4), stream=pod, start=T0_NS + seconds * SECOND_NS, service=f"prod/a/{pod}")
            for pod in sorted(pods)
        ]
        writer.record(made, until_ns=T0_NS + (seconds + 2) * SECOND_NS)
    everywhere = frozenset(range(len(writer.log)))
    outputs, topic, engine = fold(writer.log, everywhere, frozenset({10, 20, 33}))
    whole_outputs, _, whole = fold(writer.log)
    assert outputs == whole_outputs
    assert engine.snapshot() == whole.snapshot()
    memory = engine.state.streams.memory
    assert len(memory) == 40
    assert 7 <= memory.open_streams <= 21  # those of the last hour and of a bit more
    assert len([key for key in topic if key.startswith(b"streams/")]) == len(memory.services) == 40


def test_what_was_forgotten_is_deleted_by_the_next_checkpoint():
    writer = PointWriter(bundle(metric_objective()))
    writer.record([histogram(10, 1, 0, 0, 0)], until_ns=T0_NS)
    _, topic, engine = fold(writer.log)
    assert any(key.startswith(b"streams/") for key in topic)
    engine.state.streams.memory.retire(T0_NS + KNOWN_NS + MINUTE_NS)
    save(engine, topic)
    assert not any(key.startswith(b"streams/") for key in topic)
    assert Engine.restore(0, topic).snapshot() == engine.snapshot()


def test_chunks_of_streams_stay_well_below_a_mebibyte_whatever_grows():
    writer = PointWriter(bundle(metric_objective()))
    writer.record(until_ns=T0_NS)
    narrow, wide = (1.0,), tuple(float(i) for i in range(256))
    for seconds, bounds in ((1, narrow), (2, wide), (3, wide)):
        batch = [
            histogram(seconds, *([seconds << 40] * (len(bounds) + 1)), stream=i, bounds=bounds) for i in range(1500)
        ]
        writer.record(batch, until_ns=T0_NS + seconds * SECOND_NS)
    _, topic, engine = fold(writer.log, frozenset(range(len(writer.log))), frozenset({2}))
    sizes = [len(value) for key, value in topic.items() if key.startswith(b"streams/")]
    assert max(sizes) < 600_000
    assert len(sizes) >= 1500 // CHUNK_STREAMS_MAX
    assert engine.snapshot() == fold(writer.log)[2].snapshot()


def test_a_checkpoint_writes_only_the_chunks_whose_streams_had_points():
    writer = PointWriter(bundle(metric_objective()))
    writer.record(until_ns=T0_NS)
    services = [f"prod/shop/{i}" for i in range(5)]
    for seconds in (1, 2):
        for i, service in enumerate(services if seconds == 1 else services[:1]):
            writer.record([histogram(seconds, 1, 0, 0, 0, stream=i, service=service)])
    engine, topic = Engine(0), dict[bytes, bytes]()
    run(writer.log[:-1], engine)
    save(engine, topic)
    assert sum(key.startswith(b"streams/") for key in topic) == 5
    run(writer.log, engine)
    changed = [key for key, _ in engine.checkpoint().chunks if key.startswith(b"streams/")]
    assert [key.split(b"/", 2)[2] for key in changed] == [services[0].encode()]


def test_rows_and_points_of_one_service_count_side_by_side():
    from tests.core.engine.log_writer import LogWriter

    settings_ = bundle(metric_objective(), objective("spans"))
    rows = LogWriter(settings_)
    rows.record([Event(T0_NS + 1)], until_ns=T0_NS)
    writer = PointWriter(settings_, incarnation="ingest-2", next_offset=1, first_offset=1)
    writer.record([histogram(10, 5, 0, 0, 0)])
    engine, _ = run([*rows.log, *writer.log])
    assert (cell(engine, "spans")["N"], cell(engine, "availability")["N"]) == (1, 5)
    assert METRIC in {o.metric for o in engine.bundle.objectives}  # type: ignore[union-attr]
