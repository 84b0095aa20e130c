"""A real Prometheus scrapes a worker that holds real folds, and evaluates alert rules of Sloth's shape on them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from stream.core.engine import Engine
from stream.core.service_key import partition_of
from stream.metrics.collectors import StateCollector
from stream.metrics.server import Probe, serve
from stream.worker.status import StateStatus
from tests.core.engine.log_writer import LogWriter, bundle, minute_by_minute, objective, run, steady
from tests.integration.prometheus.programs import program
from tests.integration.prometheus.sloth_rules import rule_group, rules_file
from tests.metrics.shown import status

HEALTHY, BURNING = "prod/shop/checkout", "prod/shop/basket"
HEALTHY_PARTITION, BURNING_PARTITION = 0, 1
TARGET, BUDGET = "0.99", 0.01
DEADLINE_S = 60


def worker() -> StateStatus:
    """Returns a worker with two partitions after 70 minutes: one service is well, of the other a fifth fails."""
    folds = []
    for partition, (service, bad_every) in enumerate(((HEALTHY, 0), (BURNING, 5))):
        assert partition_of(service, 2) == partition
        writer = LogWriter(replace(bundle(objective("availability", TARGET, service=service)), partitions=2))
        batches = [[replace(e, service=service) for e in batch] for batch in steady(70, 20, bad_every=bad_every)]
        minute_by_minute(writer, batches)
        folds.append(run(writer.log, Engine(partition))[0])
    return status(*folds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A running server and its HTTP API."""

    client: aiohttp.ClientSession
    process: subprocess.Popen[bytes]
    log: Path

    async def get(self, path: str, **parameters: str) -> Any:
        """Returns `data` of an answer."""
        async with self.client.get(f"/api/v1/{path}", params=parameters) as answer:
            body = await answer.json()
        assert body["status"] == "success", body
        return body["data"]

    async def query(self, expression: str) -> dict[str, float]:
        """Returns the values of an instant query, by sloth_service."""
        result = (await self.get("query", query=expression))["result"]
        return {found["metric"].get("sloth_service", ""): float(found["value"][1]) for found in result}

    async def names(self, service: str) -> set[str]:
        """Returns the names of the series that a service has now, but for those that the rules make."""
        found = await self.get("query", query=f'{{sloth_service="{service}"}} or {{service="{service}"}}')
        names = {series["metric"]["__name__"] for series in found["result"]}
        return {name for name in names if not name.startswith("ALERTS")}

    async def alerts(self) -> set[tuple[str, str]]:
        """Returns service and severity of the alerts that fire."""
        alerts = (await self.get("alerts"))["alerts"]
        return {(a["labels"]["sloth_service"], a["labels"]["sloth_severity"]) for a in alerts if a["state"] == "firing"}

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Waits until a condition holds."""
        try:
            await asyncio.wait_for(self._poll(condition), DEADLINE_S)
        except TimeoutError:
            targets = await self.get("targets")
            raise AssertionError(f"{what}: not within {DEADLINE_S} s; {targets}\n{self.log.read_text()}") from None

    async def _poll(self, condition: Callable[[], Awaitable[bool]]) -> None:
        while not await condition():
            assert self.process.poll() is None, self.log.read_text()
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def running(target: str, directory: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """Runs a Prometheus that scrapes one target every second. Yields its address, its process and its log."""
    rules = directory / "rules.yml"
    rules.write_text(rules_file(*(rule_group(service, "availability", BUDGET) for service in (HEALTHY, BURNING))))
    # The alerts of a partition that moves to another worker stay the same alerts: Sloth's series have no `instance`.
    without_instance = {
        "source_labels": ["__name__"],
        "regex": "slo:.+|sloth_slo_info",
        "target_label": "instance",
        "replacement": "",
    }
    job = {
        "job_name": "qma",
        "static_configs": [{"targets": [target]}],
        "metric_relabel_configs": [without_instance],
    }
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = directory / "prometheus.yml"
    config.write_text(json.dumps({"global": every, "rule_files": [str(rules)], "scrape_configs": [job]}))
    address, log = f"127.0.0.1:{free_port()}", directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"),
                *(f"--web.listen-address={address}", "--log.level=warn"),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield address, process, log
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.asynccontextmanager
async def scraping(view: StateStatus, directory: Path) -> AsyncIterator[Prometheus]:
    """Serves a worker's metrics to a Prometheus that has scraped them and evaluated its rules."""
    registry = CollectorRegistry()
    registry.register(StateCollector(view, sloth=True))
    listen = f"127.0.0.1:{free_port()}"
    server = asyncio.ensure_future(serve(listen, registry, Probe(health=lambda: None, readiness=lambda: None)))
    try:
        with running(listen, directory) as (address, process, log):
            async with aiohttp.ClientSession(f"http://{address}") as client:
                prometheus = Prometheus(client=client, process=process, log=log)

                async def scraped() -> bool:
                    assert not server.done()
                    with contextlib.suppress(aiohttp.ClientError):
                        return set(await prometheus.query("slo:objective:ratio")) == {HEALTHY, BURNING}
                    return False

                await prometheus.until(scraped, "the first scrape")
                yield prometheus
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


async def rules(prometheus: Prometheus) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns every alert rule by service and severity."""
    groups = (await prometheus.get("rules"))["groups"]
    return {
        (service, rule["labels"]["sloth_severity"]): rule
        for group in groups
        for service in (HEALTHY, BURNING)
        if service in group["name"]
        for rule in group["rules"]
    }


def test_sloths_rules_page_for_a_burning_objective_and_for_no_other(tmp_path: Path):
    async def watch() -> None:
        view = worker()
        async with scraping(view, tmp_path) as prometheus:

            async def fires() -> bool:
                return await prometheus.alerts() == {(BURNING, "page"), (BURNING, "ticket")}

            await prometheus.until(fires, "both alerts of the burning objective")
            fired_at = max(a["activeAt"] for a in (await prometheus.get("alerts"))["alerts"])

            async def all_evaluated_since() -> bool:
                return all(rule["lastEvaluation"] > fired_at for rule in (await rules(prometheus)).values())

            await prometheus.until(all_evaluated_since, "an evaluation of every rule while the alert fires")
            found = await rules(prometheus)
            assert {key: (rule["state"], rule["health"]) for key, rule in found.items()} == {
                (HEALTHY, "page"): ("inactive", "ok"),
                (HEALTHY, "ticket"): ("inactive", "ok"),
                (BURNING, "page"): ("firing", "ok"),
                (BURNING, "ticket"): ("firing", "ok"),
            }
            alert = found[BURNING, "page"]["alerts"][0]
            assert alert["labels"] == {
                "alertname": "availability-burns",
                "job": "qma",
                "sloth_id": f"{BURNING}-availability",
                "sloth_service": BURNING,
                "sloth_slo": "availability",
                "sloth_severity": "page",
            }

            assert {"qma_sli_ratio", "sloth_slo_info"} <= await prometheus.names(BURNING)
            view.forget(BURNING_PARTITION)

            async def gone() -> bool:
                return not await prometheus.alerts() and not await prometheus.names(BURNING)

            await prometheus.until(gone, "the end of what a revoked partition showed")
            assert set(await prometheus.query("slo:objective:ratio")) == {HEALTHY}

    asyncio.run(watch())


def test_prometheus_reads_what_the_fold_says(tmp_path: Path):
    async def watch() -> None:
        view = worker()
        async with scraping(view, tmp_path) as prometheus:
            [target] = (await prometheus.get("targets"))["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            # Sloth's own recording rules, on our series: what they would record is what we show.
            joined = " / on (sloth_id, sloth_slo, sloth_service) group_left () slo:error_budget:ratio"
            assert _close(
                await prometheus.query("slo:sli_error:ratio_rate5m" + joined),
                await prometheus.query("slo:current_burn_rate:ratio"),
            )
            assert _close(
                await prometheus.query("slo:sli_error:ratio_rate30d" + joined),
                await prometheus.query("slo:period_burn_rate:ratio"),
            )
            assert _close(
                await prometheus.query("1 - slo:period_burn_rate:ratio"),
                await prometheus.query("slo:period_error_budget_remaining:ratio"),
            )
            for partition, service in ((HEALTHY_PARTITION, HEALTHY), (BURNING_PARTITION, BURNING)):
                [event] = view.engines[partition].latest.values()
                query = f'qma_sli_ratio{{service="{service}",window="30d"}}'
                assert await prometheus.query(query) == {"": event.window_sli.ratio}
            assert (await prometheus.query("slo:sli_error:ratio_rate1h"))[BURNING] == 0.2
            assert (await prometheus.query("slo:sli_error:ratio_rate1h"))[HEALTHY] == 0

    asyncio.run(watch())


def _close(found: dict[str, float], expected: dict[str, float]) -> bool:
    assert found.keys() == expected.keys() == {HEALTHY, BURNING}
    return all(math.isclose(found[service], expected[service], abs_tol=1e-12) for service in found)
