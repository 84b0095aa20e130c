"""The workload depends on nothing but its seed, and its tally is what the product's decoders and fold arrive at."""

from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from stream.core.cells import Column
from stream.core.engine import balance
from stream.core.engine.state import SERIES
from stream.core.units import DAY_MINUTES, MINUTE_NS
from stream.demo import story
from stream.demo.workload import BROKEN, NO_LOGS, Topics, Workload
from tests.demo.folding import BASE_NS, Pipeline, bundle_in

TOPICS = Topics(partitions=4)
FEW = 15.0
TICKS_PER_CYCLE = 4


def workload(seed: int = 7, base_ns: int = BASE_NS, duration_s: float = FEW) -> Workload:
    return Workload(seed=seed, base_ns=base_ns, duration_s=duration_s, rate=1.0, topics=TOPICS)


def test_the_seed_fixes_every_byte() -> None:
    one, same, other = workload(), workload(), workload(seed=8)
    ticks = [(one.tick(tick), same.tick(tick), other.tick(tick)) for tick in range(0, 70)]
    assert all(a == b for a, b, _ in ticks)
    assert all(a != c for a, _, c in ticks)
    assert one.tally == same.tally


def test_the_time_base_changes_nothing_but_times() -> None:
    now, later = workload(), workload(base_ns=BASE_NS + 90 * MINUTE_NS)
    for tick in range(0, 70):
        ours, theirs = now.tick(tick), later.tick(tick)
        assert [(m.topic, m.partition, m.time_ms + 90 * 60_000) for m in ours] == [
            (m.topic, m.partition, m.time_ms) for m in theirs
        ]
    assert now.tally.topics == later.tally.topics
    assert list(now.tally.objectives.items()) == list(later.tally.objectives.items())


def test_every_partition_has_a_beginning_before_time_goes_on() -> None:
    messages = workload().tick(0)
    expected = {(topic, p) for topic in TOPICS.names for p in range(TOPICS.partitions)}
    assert {(m.topic, m.partition) for m in messages} == expected


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workload, Pipeline]:
    run = workload()
    pipeline = Pipeline(bundle_in(tmp_path_factory.mktemp("slo"), TOPICS, FEW), TOPICS)
    for start in range(0, story.TICKS, TICKS_PER_CYCLE):
        pipeline.take([message for tick in range(start, start + TICKS_PER_CYCLE) for message in run.tick(tick)])
    return run, pipeline


def test_tally_predicts_the_ledger_exactly(folded: tuple[Workload, Pipeline]) -> None:
    run, pipeline = folded
    balances = balance(engine.ledger for engine in pipeline.engines)
    assert set(run.tally.topics) == {b.topic for b in balances} == set(TOPICS.names)
    for topic, tally in run.tally.topics.items():
        own = [b for b in balances if b.topic == topic]
        rejected: Counter[str] = Counter()
        for b in own:
            rejected.update(b.rejected)
        assert sum(b.received for b in own) == tally.produced
        assert sum(b.counted for b in own) == tally.counted
        assert sum(b.duplicate for b in own) == tally.duplicate
        assert sum(b.late for b in own) == tally.late
        assert rejected == tally.rejected
        assert all(b.is_equal and not b.in_flight for b in own)


def test_every_kind_of_entry_occurs(folded: tuple[Workload, Pipeline]) -> None:
    tally = folded[0].tally
    topics = tally.topics.values()
    assert all(topic.late and topic.rejected["malformed"] and topic.rejected["future"] for topic in topics)
    assert {name for name, topic in tally.topics.items() if topic.duplicate} == {*TOPICS.names} - {TOPICS.events}
    assert sum(topic.counted for topic in topics) == sum(tally.services.values())


def test_tally_predicts_good_and_bad_of_every_minute(folded: tuple[Workload, Pipeline]) -> None:
    run, pipeline = folded
    counted: dict[tuple[str, int], list[int]] = {}
    names = {objective.digest: objective.name for objective in pipeline.bundle.objectives}
    for engine in pipeline.engines:
        cells = engine.state.cells[SERIES]
        for minute in range(BASE_NS // MINUTE_NS, BASE_NS // MINUTE_NS + DAY_MINUTES):
            values = cells.minute(minute)
            for (_, digest, _), row in cells.index.items():
                n, bad = int(values[Column.N, row]), int(values[Column.N_BAD, row])
                if n:
                    counted[names[digest], minute] = [n, bad]
    assert counted == run.tally.minutes


def test_every_indicator_has_its_objective(tmp_path: Path) -> None:
    objectives = {o.name: o for o in bundle_in(tmp_path, TOPICS).objectives if o.composite is None}
    told = {i.objective: (service.key, i.duration_lte_ns) for service in story.SERVICES for i in service.indicators}
    assert {name: (o.service, o.duration_lte_ns) for name, o in objectives.items()} == told


def test_a_process_that_starts_anew_counts_on_from_zero() -> None:
    run = workload()
    exports = [m for tick in range(story.TICKS) for m in run.tick(tick) if m.topic == TOPICS.metrics and m.value]
    requests = [ExportMetricsServiceRequest.FromString(m.value) for m in exports if m.value != BROKEN]
    seen: dict[str, list[tuple[int, int]]] = {}
    for resource in (resource for request in requests for resource in request.resource_metrics):
        name = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.instance.id")
        point = resource.scope_metrics[0].metrics[0].histogram.data_points[0]
        if point.count:
            seen.setdefault(name, []).append((point.start_time_unix_nano, point.count))
    assert sorted(seen) == [f"search-{number}" for number in range(story.INSTANCES)]
    for name, points in seen.items():
        starts = list(dict.fromkeys(start_ns for start_ns, _ in points))
        assert starts == sorted(starts)
        assert len(starts) == (2 if name == f"search-{story.RESTARTED}" else 1)
        for start_ns in starts:
            counts = [count for at_ns, count in points if at_ns == start_ns]
            assert counts == sorted(counts)
        if len(starts) == 2:
            assert next(count for start_ns, count in points if start_ns == starts[1]) < points[0][1]


def test_retries_repeat_messages_byte_for_byte() -> None:
    run = workload()
    ticks = [run.tick(tick) for tick in range(2 * story.RETRY_EVERY_TICKS + 2)]
    for tick in (1, story.RETRY_EVERY_TICKS + 1, 2 * story.RETRY_EVERY_TICKS + 1):
        before = {(m.topic, m.value): m for m in ticks[tick - 1] if m.value not in (b"", NO_LOGS)}
        again = [m for m in ticks[tick] if (m.topic, m.value) in before]
        assert sorted(m.topic for m in again) == sorted((TOPICS.spans, TOPICS.metrics, TOPICS.logs))
        assert all(m.time_ms > before[m.topic, m.value].time_ms for m in again)
        assert all(m.partition == before[m.topic, m.value].partition for m in again if m.topic == TOPICS.metrics)
