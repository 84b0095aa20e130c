"""Metric messages of two processes of a service, as exporters send them: to any partition, late, twice, after restarts.

The points of one stream alternate between the partitions of the topic, as they do where the producer has no key.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags, ScopeMetrics

from stream.core.slo.spec import Source, SourceSignal
from stream.core.units import MINUTE_NS, SECOND_NS
from tests.replay.history import T0_NS, Message

METRICS = "otlp_metrics"
SOURCES = (Source(topic=METRICS, encoding="otlp_proto", signal=SourceSignal.METRICS),)
DURATION, REQUESTS, REFUSED, DEPTH, HEALTH, JOBS = "request.duration", "requests", "refused", "depth", "health", "jobs"
BOUNDS = (0.1, 0.25, 1.0)
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA

Words = tuple[tuple[str, str], ...]


def attributes(words: Words) -> list[KeyValue]:
    """Returns attributes as the protocol writes them."""
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in words]


def request(instance: str, service: str = "checkout") -> tuple[ExportMetricsServiceRequest, ScopeMetrics]:
    """Returns a message of a process, and where its metrics go."""
    made = ExportMetricsServiceRequest()
    found = made.resource_metrics.add()
    names = ("service.name", service), ("service.namespace", "shop"), ("deployment.environment.name", "prod")
    found.resource.attributes.extend(attributes((*names, ("service.instance.id", instance))))
    return made, found.scope_metrics.add()


def counter(
    start_ns: int, time_ns: int, value: int, *, name: str = REQUESTS, words: Words = (), id: str = "a"
) -> bytes:
    """Returns a message with one point of a cumulative counter."""
    made, scope = request(id)
    _sum(scope, name, CUMULATIVE, [(words, value)], start_ns, time_ns)
    return made.SerializeToString(deterministic=True)


def _sum(
    scope: ScopeMetrics,
    name: str,
    temporality: AggregationTemporality.ValueType,
    values: list[tuple[Words, int]],
    start_ns: int,
    time_ns: int,
) -> None:
    data = scope.metrics.add(name=name).sum
    data.is_monotonic, data.aggregation_temporality = True, temporality
    for words, value in values:
        data.data_points.add(
            start_time_unix_nano=start_ns, time_unix_nano=time_ns, as_int=value, attributes=attributes(words)
        )


@dataclass
class Process:
    """A process that counts what it does, and exports it."""

    rng: random.Random
    instance: str
    service: str
    start_ns: int
    exported_ns: int = 0
    buckets: dict[Words, list[int]] = field(default_factory=dict)
    counted: dict[tuple[str, Words], int] = field(default_factory=dict)

    def restart(self, start_ns: int) -> None:
        """Begins anew."""
        self.start_ns, self.exported_ns = start_ns, 0
        self.buckets.clear()
        self.counted.clear()

    def export(self, time_ns: int) -> bytes:
        """Works on, and returns what it says at a time."""
        rng = self.rng
        made, scope = request(self.instance, self.service)
        for _ in range(rng.randrange(4)):
            words: Words = (("tier", rng.choice("ab")),)
            words += (("error.type", "timeout"),) if rng.random() < 0.2 else ()
            held = self.buckets.setdefault(words, [0] * (len(BOUNDS) + 1))
            held[rng.randrange(len(held))] += rng.randrange(1, 9)
        self._histogram(scope, time_ns)
        for name in (REQUESTS, REFUSED):
            for tier in "ab":
                key = name, (("tier", tier),)
                self.counted[key] = self.counted.get(key, 0) + rng.randrange(5 if name == REQUESTS else 2)
        for name, start_ns in ((REQUESTS, self.start_ns), (REFUSED, 0)):
            listed = [(words, value) for (metric, words), value in self.counted.items() if metric == name]
            _sum(scope, name, CUMULATIVE, listed, start_ns, time_ns)
        begun_ns = self.exported_ns or self.start_ns
        _sum(scope, JOBS, DELTA, [((("tier", "a"),), rng.randrange(6))], min(begun_ns, time_ns), time_ns)
        scope.metrics.add(name=DEPTH).gauge.data_points.add(time_unix_nano=time_ns, as_int=rng.randrange(20))
        scope.metrics.add(name=HEALTH).gauge.data_points.add(
            time_unix_nano=time_ns, as_double=rng.choice((0.5, 1.0, 0.99))
        )
        self.exported_ns = time_ns
        return made.SerializeToString(deterministic=True)

    def _histogram(self, scope: ScopeMetrics, time_ns: int) -> None:
        metric = scope.metrics.add(name=DURATION, unit="s")
        metric.histogram.aggregation_temporality = CUMULATIVE
        for words, held in self.buckets.items():
            ended = self.rng.random() < 0.01
            metric.histogram.data_points.add(
                start_time_unix_nano=self.start_ns,
                time_unix_nano=time_ns,
                count=0 if ended else sum(held),
                explicit_bounds=() if ended else BOUNDS,
                bucket_counts=() if ended else held,
                flags=DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK if ended else 0,
                attributes=attributes(words),
            )


def traffic(
    seed: int, minutes: int, *, orderly: bool = False, silent_minutes: int = 70
) -> dict[tuple[str, int], list[Message]]:
    """Returns messages of two partitions, in the order of their timestamps.

    Processes restart, and fall silent, also for longer than a stream is kept open. Unless they are orderly, their
    clocks are wrong, messages come late or twice, and those of one process to either partition.
    """
    rng = random.Random(seed)
    found: dict[tuple[str, int], list[Message]] = {(METRICS, number): [] for number in range(2)}
    processes = [
        Process(rng, f"{number}", service, T0_NS - rng.choice((0, 600, 90_000)) * SECOND_NS)
        for number, service in enumerate(("checkout", "checkout", "search"))
    ]
    for number in range(2):
        found[METRICS, number].append((T0_NS, processes[number].export(T0_NS)))
    silent_until = [0, 0, 0]
    sent: list[bytes] = []
    for second in range(20, minutes * 60, 20):
        time_ns = T0_NS + second * SECOND_NS
        number = rng.randrange(3)
        if time_ns < silent_until[number]:
            continue
        chance = rng.random()
        if chance < 0.03:
            processes[number].restart(time_ns - rng.randrange(40) * SECOND_NS)
        elif chance < 0.06:
            silent_until[number] = time_ns + rng.choice((5, silent_minutes)) * MINUTE_NS
        place = METRICS, number % 2 if orderly else rng.randrange(2)
        if sent and rng.random() < 0.05 and not orderly:
            found[place].append((time_ns, rng.choice(sent[-20:])))
            continue
        age_s = 0 if orderly or rng.random() < 0.7 else rng.choice((3, 90, 900, -240, -360, 6 * 3600 + 30))
        value = processes[number].export(max(T0_NS, time_ns - age_s * SECOND_NS))
        sent.append(value)
        found[place].append((time_ns, value))
    return found
