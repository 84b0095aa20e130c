"""A worker that owns given folds, and what its `/metrics` shows, as Prometheus parses it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from stream.core.engine import Engine
from stream.metrics.exposition import Exposition, exposition
from stream.worker.status import StateStatus

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def status(*folds: Engine) -> StateStatus:
    """Returns a worker that owns these folds as partitions 0, 1, …"""
    made = StateStatus(rebalancing=False, assigned=True, owned=frozenset(range(len(folds))))
    for partition, engine in enumerate(folds):
        made.engines[partition] = engine
        made.checkpoint_at_s[partition] = 1.0
        made.checkpoint_duration_s[partition] = 0.25
        made.log_lag[partition] = 7
    return made


def expose(collector: Collector, accept: str = "") -> Exposition:
    """Returns what a process with this collector alone shows."""
    registry = CollectorRegistry()
    registry.register(collector)
    return exposition(registry, accept)


def scrape(collector: Collector) -> dict[str, Metric]:
    """Returns the families by name; counters are named without `_total`."""
    families = list(parse(expose(collector).plain().decode()))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


def series(family: Metric, **labels: str) -> list[Sample]:
    """Returns the samples that have these labels."""
    return [sample for sample in family.samples if labels.items() <= sample.labels.items()]


def value(family: Metric, **labels: str) -> float:
    """Returns the value of the one sample that has these labels."""
    [sample] = series(family, **labels)
    return float(sample.value)
