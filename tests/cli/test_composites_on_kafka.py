"""A composite on a real broker: spans of two services in, its indicator out, and every item accounted for."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

import pytest

from stream.core.slo.spec import Source
from stream.core.units import MINUTE_NS
from stream.kafka import clients
from stream.kafka.config_topic import read_bundle
from tests.cli.conftest import Qma, free_ports
from tests.cli.test_pipeline import worker

pytestmark = pytest.mark.kafka

MINUTES = 8
SELECTED = "metricSource: {type: qma, spec: {environment: production"
COUNTED = f"ratioMetric: {{good: {{{SELECTED}, good: status_ok}}}}}}, total: {{{SELECTED}}}}}}}}}"
WINDOW = "timeWindow: [{duration: 30d, isRolling: true}]"
SLOS = "".join(
    f"""---
apiVersion: openslo/v1
kind: SLO
metadata: {{name: {name}}}
spec:
  service: {name}
  indicator: {{spec: {{{COUNTED}}}}}
  {WINDOW}
  budgetingMethod: Occurrences
  objectives: [{{target: 0.99}}]
"""
    for name in ("checkout", "search")
)
COMPOSITE = f"""---
apiVersion: qma/v1
kind: Composite
metadata: {{name: shop}}
spec:
  service: shop
  environment: production
  components: [{{slo: checkout, weight: 3}}, {{slo: search}}]
  target: 0.9
  {WINDOW}
"""


async def produce(qma: Qma, base_ns: int) -> None:
    """Sends four requests to checkout, one of which fails, and two to search, in each minute, at their own time."""
    producer = await clients.ingest_producer(qma.broker)
    try:
        for minute in range(MINUTES):
            at_ns = base_ns + minute * MINUTE_NS + 1_000_000
            results = [("checkout", "error"), *[("checkout", "ok")] * 3, *[("search", "ok")] * 2]
            for number, (service, status) in enumerate(results):
                event = {"environment": "production", "service": service, "time": at_ns + number, "status": status}
                body = json.dumps(event).encode()
                sent = await producer.send(qma.source, body, partition=number % 4, timestamp_ms=at_ns // 1_000_000)
                await sent
    finally:
        await clients.stop(producer)


def indicators(qma: Qma, objective: str) -> list[dict[str, object]]:
    """Returns what is published of an objective, as composites hear of it."""
    code, out, _ = qma("decode", "--topic", f"{qma.prefix}sli", "--signal", "indicators")
    assert code == 0
    return [line for line in map(json.loads, out.splitlines()) if line["objective"] == objective]


def test_spans_of_two_services_become_the_indicator_of_their_composite(qma: Qma, tmp_path: Path):
    source = ("--source", qma.source)
    assert qma("topics", "apply", "--partitions", "4", "--clock", "source", *source)[0] == 0
    files = tmp_path / "shop.yaml"
    files.write_text(SLOS + COMPOSITE)
    code, _, err = qma("apply", str(files), "--source", f"{qma.prefix}sli=indicators:sli")
    assert (code, f"the indicators in {qma.prefix}sli are read by themselves" in err) == (78, True)
    assert qma("apply", str(files), "--source", f"{qma.source}=flat")[0] == 0

    base_ns = (time.time_ns() // MINUTE_NS - 30) * MINUTE_NS
    log = tmp_path / "worker.log"
    with worker(qma, free_ports(), log) as supervisor:
        asyncio.run(produce(qma, base_ns))
        deadline_s = time.monotonic() + 40
        while not (found := indicators(qma, "shop")):
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.3)
        code, counted, _ = qma("ledger", "--wait", "40")
        assert code == 0, counted + log.read_text()
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(15) == 0

    assert {one["service"] for one in found} == {"production/-/shop"}
    latest = {one["minute"]: one for one in indicators(qma, "shop")}
    # one of four requests to checkout failed, none of search: (3 × 3/4 + 1) ÷ 4
    shares = {float(one["weight_bad"]) / float(one["weight"]) for one in latest.values() if one["weight"]}  # type: ignore[arg-type]
    assert shares == {1 - 3.25 / 4}
    ours = [line.split() for line in counted.splitlines() if line.startswith(f"{qma.prefix}sli/")]
    assert sum(int(line[1]) for line in ours) == sum(int(line[2]) for line in ours) > 0

    assert qma("apply", str(files), "--dry-run")[0] == 0
    files.write_text(SLOS)
    assert qma("apply", str(files))[0] == 0
    newest = asyncio.run(read_bundle(qma.broker, qma.prefix))
    assert newest is not None
    assert newest[1].sources == (Source(topic=qma.source, encoding="flat"),)
