"""Spans per CPU-second from a source topic on a real broker to counted state. Ours: both processes, all their CPU
time. The peers: one process each, on the same broker, the same bytes, results compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from aiokafka import AIOKafkaProducer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.core.engine import Engine, balance
from stream.kafka.config_topic import publish_bundle
from stream.kafka.local import LocalKafka
from stream.kafka.state_reader import read_latest, read_ledgers
from stream.kafka.state_store import CLAIM_KEY
from stream.kafka.topics import TopicSpec, apply, pipeline_topics
from tests.bench.counting import Counting, Counts, counts_of
from tests.bench.workload import bundle, distinct, messages

PARTITIONS = 4
SOURCE_PARTITIONS = 4
SOURCE = "otlp_spans"
WARM = 64
"""Messages before the clock starts: every series is known by then, every connection open."""

_IN_FLIGHT = 64
_READY_S = 120.0
_COMPILED_S = 300.0
_DONE_S = 600.0
_STOP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEnd:
    """One run: spans counted, CPU seconds of each process for them, and the state worker's memory.

    Args:
        spans: Of ours.
        ingest_cpu_s: CPU seconds of the ingest.
        state_cpu_s: CPU seconds of the state worker.
        state_rss_mb: Its resident memory at the end.
        others: Spans a CPU-second of each peer.
    """

    spans: int
    ingest_cpu_s: float
    state_cpu_s: float
    state_rss_mb: float
    others: dict[str, float]

    @property
    def spans_per_cpu_s(self) -> float:
        """Both halves included."""
        return self.spans / (self.ingest_cpu_s + self.state_cpu_s)


def measure(seed: int, counts: tuple[int, int], logs: Path, peers: Sequence[str]) -> EndToEnd:
    """Measures ours and the named peers, one after the other on one broker.

    Args:
        seed: Of the messages.
        counts: Messages of ours and of each peer, beside those that warm up; the latter are the first of the former.
        logs: Directory for what the processes say.
        peers: Names of `peer_process.PEERS`.
    """
    made = messages(64, seed=seed, end_ns=time.time_ns())
    values = [distinct(made, number) for number in range(WARM + max(counts))]
    with LocalKafka() as kafka:
        ours = _ours(kafka.bootstrap, values[: WARM + counts[0]], logs)
        few = values[: WARM + counts[1]]
        expected = _expected(few)
        others = {}
        for name in peers:
            rate, found = _peer(name, kafka.bootstrap, few, logs)
            found.demand_equal(expected, name)
            others[name] = rate
    return EndToEnd(**ours, others=others)


def _expected(values: Sequence[bytes]) -> Counts:
    counting = Counting(digests=False)
    for value in values:
        counting.take(value)
    return counting.counts()


def _ours(bootstrap: str, values: Sequence[bytes], logs: Path) -> dict[str, Any]:
    """Runs both roles, lets them warm up, writes the messages, and waits until every span is counted."""
    asyncio.run(_prepare(bootstrap))
    addresses = {role: _free_address() for role in ("state", "ingest")}
    with contextlib.ExitStack() as running:
        processes = {
            role: running.enter_context(_running(_worker(role, bootstrap, address), logs / f"{role}.log"))
            for role, address in addresses.items()
        }
        asyncio.run(_counted(bootstrap, 0, _READY_S))
        _await_compiled(addresses["ingest"])
        asyncio.run(_produce(bootstrap, SOURCE, values[:WARM]))
        warmed = asyncio.run(_counted(bootstrap, WARM, _DONE_S))
        before = {role: _cpu_s(process) for role, process in processes.items()}
        asyncio.run(_produce(bootstrap, SOURCE, values[WARM:]))
        spans = asyncio.run(_counted(bootstrap, len(values), _DONE_S))
        after = {role: _cpu_s(process) for role, process in processes.items()}
        state_rss_mb = psutil.Process(processes["state"].pid).memory_info().rss / 1e6
    _stored(bootstrap).demand_equal(_expected(values), "ours")
    return {
        "spans": spans - warmed,
        "ingest_cpu_s": after["ingest"] - before["ingest"],
        "state_cpu_s": after["state"] - before["state"],
        "state_rss_mb": state_rss_mb,
    }


def _stored(bootstrap: str) -> Counts:
    """Returns what the last checkpoints hold."""
    latest = asyncio.run(read_latest(bootstrap, "qma.state", range(PARTITIONS)))
    engines = []
    for partition, stored in latest.items():
        stored.pop(CLAIM_KEY, None)
        engines.append(Engine.restore(partition, stored))
    return Counts(cells={key: cell for engine in engines for key, cell in counts_of(engine).items()})


def _peer(name: str, bootstrap: str, values: Sequence[bytes], logs: Path) -> tuple[float, Counts]:
    """Returns a peer's spans a CPU-second and what it counted."""
    topic, rest = f"{SOURCE}_{name}", values[WARM:]
    asyncio.run(apply(bootstrap, [spec for spec in _topics(topic) if spec.name == topic]))
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        given = {"broker": bootstrap, "topic": topic, "directory": made, "warm": WARM, "count": len(rest)}
        options = [part for option, value in given.items() for part in (f"--{option}", str(value))]
        command = [sys.executable, "-m", "tests.bench.peer_process", name, *options]
        asyncio.run(_produce(bootstrap, topic, values[:WARM]))
        with _running(command, logs / f"{name}.log") as process:
            _await_file(directory / "ready", process, _READY_S)
            before_s = _cpu_s(process)
            asyncio.run(_produce(bootstrap, topic, rest))
            _await_file(directory / "counts.json", process, _DONE_S)
            cpu_s = _cpu_s(process) - before_s
        found = Counts.load(json.loads((directory / "counts.json").read_bytes()))
    return sum(map(_spans_in, rest)) / cpu_s, found


def _spans_in(value: bytes) -> int:
    request = ExportTraceServiceRequest.FromString(value)
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


async def _prepare(bootstrap: str) -> None:
    await apply(bootstrap, _topics(SOURCE))
    await publish_bundle(bootstrap, "qma.", bundle(PARTITIONS))


def _topics(source: str) -> list[TopicSpec]:
    return pipeline_topics("qma.", PARTITIONS, 1, "LogAppendTime", sources=(source,))


def _worker(role: str, bootstrap: str, address: str) -> list[str]:
    command = [sys.executable, "-m", "stream", "worker", "--only", role]
    return [*command, "--broker", bootstrap, "--listen", address]


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a process; it ends with the block."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _produce(bootstrap: str, topic: str, values: Sequence[bytes]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", compression_type="zstd", linger_ms=10, max_request_size=8 << 20
    )
    await producer.start()
    try:
        for first in range(0, len(values), _IN_FLIGHT):
            batch = values[first : first + _IN_FLIGHT]
            pending = [await producer.send(topic, v, partition=i % SOURCE_PARTITIONS) for i, v in enumerate(batch)]
            await asyncio.gather(*pending)
    finally:
        await producer.stop()


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
    raise SystemExit(f"not everything was counted within {wait_s:.0f} s; see the logs of the workers (--logs)")


def _await_compiled(address: str) -> None:
    """Waits until the ingest decodes by machine code."""
    deadline_s = time.monotonic() + _COMPILED_S
    while time.monotonic() < deadline_s:
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        compiled = [line for line in lines if line.startswith("qma_ingest_decoder_compiled{")]
        if compiled and all(line.endswith(" 1.0") for line in compiled):
            return
        time.sleep(0.2)
    raise SystemExit(f"the decoders were not compiled within {_COMPILED_S:.0f} s; see the log of the ingest (--logs)")


def _await_file(path: Path, process: subprocess.Popen[bytes], wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while not path.exists():
        if process.poll() is not None:
            raise SystemExit(f"a peer ended with exit code {process.returncode}; see its log (--logs)")
        if time.monotonic() > deadline_s:
            raise SystemExit(f"a peer made no file {path.name} within {wait_s:.0f} s; see its log (--logs)")
        time.sleep(0.05)


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"
