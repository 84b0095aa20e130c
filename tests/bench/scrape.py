"""What a scrape of many objectives costs: ours, and the same families by a plain prometheus-client collector."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from stream.core.cells import Column
from stream.core.engine import Engine
from stream.core.events import SliEvent
from stream.core.service_key import partition_of
from stream.core.slo.burn_rate import burn_rate, window_lengths
from stream.core.slo.sli import budget, sli
from stream.core.slo.spec import Bundle, Objective, Settings, Source
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from stream.metrics.collectors import StateCollector
from stream.metrics.exposition import exposition
from stream.worker.status import StateStatus
from tests.bench.sections import Asked
from tests.bench.tables import Line, print_table
from tests.bench.turns import medians_s
from tests.core.engine.log_writer import LogWriter
from tests.metrics.plain import PlainCollector

OBJECTIVES = 10_000
PARTITIONS = 32
_PEER = "prometheus-client"
_SCRAPE_S = 0.3
"""Budget of a scrape of so many objectives."""

_MINUTE = 29_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """CPU seconds of a scrape, and what it carries.

    Args:
        first_s: The first one after an evaluation, uncompressed.
        first_gzip_s: What compressing adds to it, outside the event loop.
        again_s: A further one before the next evaluation, uncompressed.
        again_gzip_s: And compressed.
        plain_s: By a plain collector of prometheus-client, uncompressed.
        series: Samples.
        body: Bytes.
        gzipped: Bytes, compressed.
    """

    first_s: float
    first_gzip_s: float
    again_s: float
    again_gzip_s: float
    plain_s: float
    series: int
    body: int
    gzipped: int


def scrape(asked: Asked) -> None:
    """Measures scrapes with our series only, and with Sloth's beside them."""
    for sloth in (False, True):
        found = measure(OBJECTIVES, asked.runs, asked.seed, sloth=sloth)
        figures = {
            "the first after an evaluation": found.first_s,
            "its compression, beside the loop": found.first_gzip_s,
            "any other": found.again_s,
            "any other, compressed": found.again_gzip_s,
        }
        lines = [
            Line(
                name=name,
                measured=taken_s,
                target=_SCRAPE_S,
                ratio=taken_s / found.plain_s,
                against="prometheus-client",
            )
            for name, taken_s in figures.items()
        ]
        lines.append(Line(name=f"{_PEER}, every one", measured=found.plain_s))
        series = f"{found.series:,} series{', of Sloth, too' if sloth else ''}"
        size = f"{found.body / 1e6:.1f} MB, compressed {found.gzipped / 1e6:.1f} MB"
        title = f"scrape of {OBJECTIVES:,} objectives in {PARTITIONS} partitions, {series}, {size}"
        print_table(f"{title}, median of {asked.runs}", "CPU s", lines, most=True)


def measure(objectives: int, runs: int, seed: int, *, sloth: bool) -> Scrape:
    """Measures turn by turn; each turn of ours begins with an evaluation."""
    worker = status(objectives, seed)
    ours = _registry(StateCollector(worker, sloth=sloth))
    plain = _registry(PlainCollector(worker.engines.values(), sloth=sloth))
    taken = medians_s(
        runs,
        {
            "first": lambda _: exposition(_evaluated(ours, worker), "").plain(),
            "first_gzip": lambda _: exposition(ours, "").gzipped(),
            "again": lambda _: exposition(ours, "").plain(),
            "again_gzip": lambda _: exposition(ours, "").gzipped(),
            "plain": lambda _: generate_latest(plain),
        },
    )
    body = exposition(ours, "").plain()
    return Scrape(
        first_s=taken["first"],
        first_gzip_s=taken["first_gzip"],
        again_s=taken["again"],
        again_gzip_s=taken["again_gzip"],
        plain_s=taken["plain"],
        series=sum(not line.startswith(b"#") for line in body.splitlines()),
        body=len(body),
        gzipped=len(exposition(ours, "").gzipped()),
    )


def _registry(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _evaluated(registry: CollectorRegistry, worker: StateStatus) -> CollectorRegistry:
    """Returns the registry after another minute closed, as far as a scrape can tell: closing is not measured here."""
    for engine in worker.engines.values():
        assert engine.state.next_minute is not None
        engine.state.next_minute += 1
    return registry


def status(objectives: int, seed: int) -> StateStatus:
    """Returns a worker that owns every partition of a pipeline with so many objectives, two a service."""
    bundle = Bundle(
        pipeline="bench",
        generation="1",
        partitions=PARTITIONS,
        sources=(Source(topic="events", encoding="flat"),),
        objectives=tuple(_objective(number) for number in range(objectives)),
        settings=Settings(),
    )
    record = LogWriter(bundle).record()
    rng = np.random.default_rng(seed)
    made = StateStatus(rebalancing=False, assigned=True, owned=frozenset(range(PARTITIONS)))
    for partition in range(PARTITIONS):
        engine = made.engines[partition] = Engine(partition)
        engine.apply(0, _MINUTE * MINUTE_NS, record)
        engine.state.next_minute = _MINUTE
    for objective in bundle.objectives:
        engine = made.engines[partition_of(objective.service, PARTITIONS)]
        engine.state.latest[objective.digest] = _event(engine, objective, rng)
    return made


def _objective(number: int) -> Objective:
    return Objective(
        service=f"production/shop/service-{number // 2:05}",
        name=("availability", "latency-p99")[number % 2],
        target=("0.99", "0.999", "0.9995")[number % 3],
        window_minutes=43_200,
    )


def _event(engine: Engine, objective: Objective, rng: np.random.Generator) -> SliEvent:
    bad_ratio_max = objective.bad_ratio_max
    window = _cell(rng, 1_000_000_000)
    rates = [(minutes, burn_rate(_cell(rng, minutes * 20_000), bad_ratio_max)) for minutes in window_lengths(43_200)]
    return SliEvent(
        context=engine.state.context(),
        objective=objective,
        minute=_MINUTE,
        revision=0,
        start_minute=_MINUTE + 1 - objective.window_minutes,
        end_minute=_MINUTE + 1,
        minute_sli=sli(_cell(rng, 20_000)),
        window_sli=sli(window),
        coverage=1.0,
        budget=budget(window, bad_ratio_max, Fraction(1)),
        burn_rates=tuple((minutes, None if rate is None else float(rate)) for minutes, rate in rates),
        quantiles=None,
        catching_up=False,
        gap=False,
    )


def _cell(rng: np.random.Generator, n: int) -> list[int]:
    cell = [0] * len(Column)
    bad = int(rng.binomial(n, 0.0005))
    cell[Column.N], cell[Column.N_BAD] = n, bad
    cell[Column.WEIGHT], cell[Column.WEIGHT_BAD] = n * WEIGHT_ONE, bad * WEIGHT_ONE
    cell[Column.WEIGHT_SQUARE] = n << 8
    return cell
