"""Spans per CPU-second from the source topic on a real broker to counted state: both processes, all their CPU time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from stream.core.engine import balance
from stream.kafka.clients import ingest_producer, stop
from stream.kafka.config_topic import publish_bundle
from stream.kafka.local import LocalKafka
from stream.kafka.state_reader import read_ledgers
from stream.kafka.topics import apply, pipeline_topics
from tests.bench.workload import bundle, messages

PARTITIONS = 4
SOURCE_PARTITIONS = 4
_READY_S = 120.0
_DONE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEnd:
    """One run: spans counted, CPU seconds of the ingest and the state worker for them, and the latter's memory."""

    spans: int
    ingest_cpu_s: float
    state_cpu_s: float
    state_rss_mb: float

    @property
    def spans_per_cpu_s(self) -> float:
        """Both halves included."""
        return self.spans / (self.ingest_cpu_s + self.state_cpu_s)


def measure(seed: int, message_count: int, logs: Path) -> EndToEnd:
    """Runs both roles, waits until they are idle, writes the messages, and waits until every span is counted."""
    with LocalKafka() as kafka:
        asyncio.run(_prepare(kafka.bootstrap))
        processes = {role: _start(role, kafka.bootstrap, logs) for role in ("state", "ingest")}
        try:
            asyncio.run(_counted(kafka.bootstrap, 0, _READY_S))
            before = {role: _cpu_s(process) for role, process in processes.items()}
            values = messages(min(message_count, 64), seed=seed, end_ns=time.time_ns())
            repeated = [values[i % len(values)] for i in range(message_count)]
            asyncio.run(_produce(kafka.bootstrap, repeated))
            spans = asyncio.run(_counted(kafka.bootstrap, message_count, _DONE_S))
            after = {role: _cpu_s(process) for role, process in processes.items()}
            state_rss_mb = psutil.Process(processes["state"].pid).memory_info().rss / 1e6
        finally:
            for process in processes.values():
                process.send_signal(signal.SIGTERM)
            for process in processes.values():
                process.wait(30)
    return EndToEnd(
        spans=spans,
        ingest_cpu_s=after["ingest"] - before["ingest"],
        state_cpu_s=after["state"] - before["state"],
        state_rss_mb=state_rss_mb,
    )


async def _prepare(bootstrap: str) -> None:
    await apply(bootstrap, pipeline_topics("qma.", PARTITIONS, 1, "LogAppendTime", sources=("otlp_spans",)))
    await publish_bundle(bootstrap, "qma.", bundle(PARTITIONS))


def _start(role: str, bootstrap: str, logs: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "stream",
        "worker",
        "--only",
        role,
        "--broker",
        bootstrap,
        "--listen",
        _free_address(),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=(logs / f"{role}.log").open("wb"), env=environment)


async def _produce(bootstrap: str, values: list[bytes]) -> None:
    producer = await ingest_producer(bootstrap)
    try:
        pending = [
            await producer.send("otlp_spans", value, partition=i % SOURCE_PARTITIONS) for i, value in enumerate(values)
        ]
        await asyncio.gather(*pending)
    finally:
        await stop(producer)


async def _counted(bootstrap: str, messages_read: int, wait_s: float) -> int:
    """Returns the spans counted once every partition covers that many source messages."""
    deadline_s = time.monotonic() + wait_s
    while time.monotonic() < deadline_s:
        accounts = balance(await read_ledgers(bootstrap, "qma.state", PARTITIONS))
        settled = len(accounts) == SOURCE_PARTITIONS and not any(account.in_flight for account in accounts)
        if settled and sum(account.next_offset for account in accounts) >= messages_read:
            assert all(account.is_equal for account in accounts), accounts
            return sum(account.counted for account in accounts)
        await asyncio.sleep(0.5)
    raise SystemExit(f"not everything was counted within {wait_s:.0f} s; see the logs of the workers")


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"
