"""Prometheus' own checks of what we show, and of the rules that the tests run on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from stream.ingest.shuffle import IngestStats
from stream.metrics.collectors import IngestCollector, StateCollector
from stream.metrics.exposition import exposition
from tests.core.engine.log_writer import run
from tests.core.engine.scenarios import rich_log
from tests.integration.prometheus.programs import program
from tests.integration.prometheus.sloth_rules import rule_group, rules_file
from tests.metrics.shown import status


def lint(*, sloth: bool) -> list[str]:
    """Returns what promtool has to say of everything that our processes show; fails where it cannot be parsed."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    registry.register(StateCollector(status(run(rich_log()[:91])[0]), sloth=sloth))
    registry.register(IngestCollector(IngestStats(committed_at_s=1.0, lag={"a/b/0": 1}, compiled={"x": True})))
    text = exposition(registry, "").plain()
    done = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=60)
    said = (done.stderr + done.stdout).decode().splitlines()
    assert done.returncode == (3 if said else 0), said
    return said


def test_promtool_finds_nothing_wrong():
    assert lint(sloth=False) == []


def test_of_sloths_series_promtool_minds_the_colons_only():
    said = lint(sloth=True)

    assert said
    assert {line.split(" ", 1)[1] for line in said} == {"metric names should not contain ':'"}
    assert all(line.startswith("slo:") for line in said)


def test_promtool_accepts_the_rules(tmp_path: Path):
    rules = tmp_path / "rules.yml"
    rules.write_text(rules_file(rule_group("prod/shop/checkout", "availability", 0.001)))

    done = subprocess.run([program("promtool"), "check", "rules", rules], capture_output=True, timeout=60)

    assert done.returncode == 0, done.stderr.decode()
