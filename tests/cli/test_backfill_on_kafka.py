"""`qma backfill` behind a worker: an objective on a metric comes late, and has the history of before."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import pytest

from stream.core.units import MINUTE_NS
from stream.kafka import clients
from tests.cli.conftest import Qma, free_ports
from tests.cli.test_pipeline import worker
from tests.replay.metric_history import REQUESTS, counter

pytestmark = pytest.mark.kafka

MINUTES, MORE = 20, 5


def slo(name: str, good: str) -> str:
    """Returns an objective on a metric of checkout."""
    selected = f"{{type: qma, spec: {{environment: prod, namespace: shop, signal: metrics, metric: {REQUESTS}"
    ratio = f"{{good: {{metricSource: {selected}, good: {good}}}}}}}, total: {{metricSource: {selected}}}}}}}}}"
    return f"""---
apiVersion: openslo/v1
kind: SLO
metadata: {{name: {name}}}
spec:
  service: checkout
  indicator: {{spec: {{ratioMetric: {ratio}}}}}
  timeWindow: [{{duration: 30d, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{target: 0.9}}]
"""


async def produce(qma: Qma, base_ns: int, minutes: range) -> None:
    """Sends the counters of two tiers in each minute, 9 and 1 more than before, to both partitions in turn."""
    producer = await clients.ingest_producer(qma.broker)
    try:
        for minute in minutes:
            at_ns = base_ns + minute * MINUTE_NS + MINUTE_NS // 2
            for tier, more in (("a", 9), ("b", 1)):
                body = counter(base_ns - MINUTE_NS, at_ns, more * minute, words=(("tier", tier),))
                await producer.send(qma.source, body, partition=minute % 2, timestamp_ms=at_ns // 1_000_000)
        for partition in range(4):  # so that no partition holds the clock back
            await producer.send(qma.source, b"", partition=partition, timestamp_ms=at_ns // 1_000_000)
        await producer.flush()
    finally:
        await clients.stop(producer)


def test_an_objective_on_a_metric_that_comes_late_has_the_history_of_before(qma: Qma, tmp_path: Path):
    source = ("--source", qma.source)
    assert qma("topics", "apply", "--partitions", "4", "--clock", "source", *source)[0] == 0
    files = tmp_path / "shop.yaml"
    files.write_text(slo("answered", "status_ok"))
    assert qma("apply", str(files), "--source", f"{qma.source}=metrics:otlp_proto")[0] == 0

    base_ns, log = (time.time_ns() // MINUTE_NS - 90) * MINUTE_NS, tmp_path / "worker.log"
    with worker(qma, free_ports(), log):
        asyncio.run(produce(qma, base_ns, range(MINUTES)))
        code, counted, _ = qma("ledger", "--wait", "60")
        assert code == 0, counted + log.read_text()
        files.write_text(slo("answered", "status_ok") + slo("of-tier-a", "{attributes: {tier: [a]}}"))
        assert qma("apply", str(files))[0] == 0
        # Its own history begins with what is read from now on, whenever that is.
        for first in range(MINUTES, 80, MORE):
            asyncio.run(produce(qma, base_ns, range(first, first + MORE)))
            assert qma("ledger", "--wait", "60")[0] == 0
            found = qma("backfill", "--objective", "of-tier-a", "--json")
            if found[0] != 1:
                break
        assert found[0] == 0, f"{found}{log.read_text()}"
        again, out, _ = qma("backfill", "--objective", "of-tier-a")

    told = orjson.loads(found[1])
    assert told["stage"] == "booked"
    assert (told["n"] % 10, told["n_bad"], told["uncounted_between"]) == (0, told["n"] // 10, 0)
    assert told["n"] >= 10 * (MINUTES - 2), "all but the first minute, whose point is a baseline"
    assert (again, "nothing is retained" in out or "already reaches back" in out) == (1, True), out
