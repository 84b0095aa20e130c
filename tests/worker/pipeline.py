"""A pipeline on the real broker: log records written straight to the shuffle topic, state workers as processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from stream.core.columns import Kind, Receipts, Rows
from stream.core.engine import Engine
from stream.core.log import LogRecord, Progress, SourceProgress, SourceRange, encode_record
from stream.core.rendering import CONTENT_TYPE, render
from stream.core.service_key import partition_of
from stream.core.slo.spec import Bundle, Objective, Source
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from stream.kafka import clients, topics
from stream.kafka.clients import ConsumerRecord, TopicPartition
from stream.kafka.state_store import StateStore
from stream.kafka.topics import pipeline_topics
from stream.worker.options import StateOptions

P = 2
GENERATION = "1"
WAIT_S = 30.0
SERVICES = tuple(
    next(name for i in range(99) if partition_of(name := f"prod/-/checkout-{i}", P) == partition)
    for partition in range(P)
)
TOPIC, TOPIC_ID, SESSION = "otlp_spans", "id-of-otlp-spans", "s"
SCRIPT = Path(__file__).with_name("state_worker.py")


def record_id(record: ConsumerRecord) -> str:
    """Returns the id of a published event; of what was taken back, its key."""
    assert record.key is not None
    return record.key.decode() if record.value is None else str(orjson.loads(record.value)["id"])


class WorkerProcess:
    """A state worker and what it last said of itself."""

    def __init__(self, options: dict[str, Any], directory: Path) -> None:
        self.hooks = directory
        self._stdout = directory / f"stdout-{len(list(directory.iterdir()))}"
        self._stderr = self._stdout.with_suffix(".err")
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), json.dumps(options)],
                stdout=out,
                stderr=err,
                env={**os.environ, "QMA_TEST_HOOKS": str(directory), "PYTHONPATH": _python_path()},
            )

    @property
    def status(self) -> dict[str, Any]:
        """The last complete line of status."""
        lines = self._stdout.read_text().split("\n")[:-1]
        return json.loads(lines[-1]) if lines else {"ready": False, "owned": [], "applied": {}}

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def applied(self, *offsets: int) -> bool:
        """Whether this worker is ready, owns all partitions and has applied each up to its offset."""
        status = self.status
        return status["ready"] and all(status["applied"].get(str(p)) == offset for p, offset in enumerate(offsets))

    def ready_with(self, partitions: int) -> bool:
        """Whether this worker is ready and owns so many partitions."""
        return self.status["ready"] and len(self.status["owned"]) == partitions

    def checkpointed(self, *offsets: int) -> bool:
        """Whether what was applied up to these offsets has been checkpointed at least once."""
        return self.applied(*offsets) and len(self.status["checkpoint_s"]) == len(offsets)

    @property
    def frozen(self) -> bool:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def until(self, condition: Callable[[], bool], what: str) -> float:
        """Returns how long it took until `condition` held; the worker's log is shown when it does not."""
        began_s = time.monotonic()
        while not condition():
            code = self.process.poll()
            if code is not None or time.monotonic() - began_s > WAIT_S:
                raise AssertionError(f"not {what} (exit code {code}); {self.status}\n{self.stderr}")
            time.sleep(0.02)
        return time.monotonic() - began_s

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def exit_code(self, within_s: float = WAIT_S) -> int:
        return self.process.wait(within_s)


class Pipeline:
    """Topics under a prefix of their own, one log record after another, and the workers of a test."""

    def __init__(self, bootstrap: str, prefix: str, directory: Path) -> None:
        self.options = StateOptions(bootstrap=bootstrap, pipeline=prefix, generation=GENERATION, prefix=prefix)
        self._written = [0] * P
        self._directory = directory
        self._workers: list[WorkerProcess] = []
        asyncio.run(topics.apply(bootstrap, pipeline_topics(prefix, P, 1, "LogAppendTime")))

    def start(self, **options: Any) -> WorkerProcess:
        o = self.options
        base = {"bootstrap": o.bootstrap, "pipeline": o.pipeline, "generation": o.generation, "prefix": o.prefix}
        worker = WorkerProcess({**base, "checkpoint_interval_s": 0.5, **options}, self._directory)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()

    def append(self, records: int, *, partition: int) -> None:
        """Writes records to a partition of the log, each with rows and one refused message."""
        first = self._written[partition]
        self._written[partition] += records
        values = [record_bytes(number, partition=partition) for number in range(first, first + records)]
        asyncio.run(self._append(values, partition))

    def append_bytes(self, value: bytes, *, partition: int) -> None:
        """Writes anything to a partition of the log."""
        asyncio.run(self._append([value], partition))

    async def _append(self, values: Sequence[bytes], partition: int) -> None:
        producer = await clients.ingest_producer(self.options.bootstrap)
        try:
            for value in values:
                await (await producer.send(self.options.shuffle_topic, value, partition=partition))
        finally:
            await clients.stop(producer)

    def delete_log_before(self, offset: int, *, partition: int) -> None:
        """Removes the oldest records of a partition, as retention does."""
        asyncio.run(self._delete_log_before(offset, partition))

    async def _delete_log_before(self, offset: int, partition: int) -> None:
        from aiokafka.admin import RecordsToDelete

        client: Any = await clients.admin(self.options.bootstrap)
        try:
            at = TopicPartition(self.options.shuffle_topic, partition)
            await client.delete_records({at: RecordsToDelete(before_offset=offset)})
        finally:
            await clients.stop(client)

    def restored(self, partition: int) -> Engine:
        """Returns the fold as the next worker would restore it."""

        async def restore() -> Engine:
            store = StateStore(
                self.options.bootstrap,
                transactional_id=self.options.transactional_id(partition),
                topic=self.options.state_topic,
                partition=partition,
            )
            try:
                return Engine.restore(partition, await store.open())
            finally:
                await store.close()

        return asyncio.run(restore())

    def folded(self, partition: int) -> tuple[Engine, dict[str, list[str]]]:
        """Returns the fold of the whole log of a partition, and the ids of its outputs by topic, in order."""
        engine = Engine(partition)
        ids: dict[str, list[str]] = {}
        for record in self._read(self.options.shuffle_topic, partition):
            assert record.value is not None
            for output in engine.apply(record.offset, record.timestamp * 1_000_000, record.value):
                rendered = render(output)
                ids.setdefault(rendered.topic, []).append(rendered.id)
        engine.checkpoint()  # a snapshot is that of a saved state
        return engine, ids

    def published(self, partition: int) -> dict[str, list[str]]:
        """Returns the ids that a read_committed reader finds on a partition of the output topics, in order."""
        ids: dict[str, list[str]] = {}
        for topic in ("sli", "burn-rate", "budget", "certificate", "status", "deadletter"):
            for record in self._read(f"{self.options.prefix}{topic}", partition):
                assert dict(record.headers)["content-type"] == CONTENT_TYPE.encode()
                ids.setdefault(topic, []).append(record_id(record))
        return ids

    def _read(self, topic: str, partition: int) -> list[ConsumerRecord]:
        async def read() -> list[ConsumerRecord]:
            reader = await clients.assigned_reader(self.options.bootstrap)
            try:
                at = TopicPartition(topic, partition)
                reader.assign([at])
                await reader.seek_to_beginning(at)
                end = (await reader.end_offsets([at]))[at]
                records: list[ConsumerRecord] = []
                while await reader.position(at) < end:
                    records += (await reader.getmany(at, timeout_ms=100)).get(at, [])
                return records
            finally:
                await clients.stop(reader)

        return asyncio.run(read())


def assert_exactly_once(pipeline: Pipeline) -> None:
    """The state is the fold of the whole log, and a read_committed reader finds each of its outputs once, in order."""
    for partition in range(P):
        folded, ids = pipeline.folded(partition)
        assert pipeline.restored(partition).snapshot() == folded.snapshot()
        assert pipeline.published(partition) == ids
        assert {"sli", "deadletter"} <= ids.keys()


def record_bytes(number: int, *, partition: int = 0) -> bytes:
    """Returns the log record with this sequence: rows, a refused message, progress; the first one brings the
    configuration."""
    span = 4
    first = number * span
    now_ns = time.time_ns()
    source = SourceRange(
        topic=TOPIC, topic_id=TOPIC_ID, partition=0, session=SESSION, first_offset=0, next_offset=first + span
    )
    progress = SourceProgress(source=0, began_ns=now_ns - 10 * MINUTE_NS, until_ns=now_ns, at_end=False)
    record = LogRecord(
        generation=GENERATION,
        partitions=P,
        incarnation=f"ingest-{partition}",
        sequence=number,
        config_version=0,
        sources=(source,),
        config=_bundle() if number == 0 else None,
        rows=_rows(partition, first),
        receipts=_receipts(first),
        progress=Progress(sources=(progress,), topic_partitions={TOPIC: 1}),
    )
    return encode_record(record)


def _bundle() -> bytes:
    return Bundle(
        pipeline="test",
        generation=GENERATION,
        partitions=P,
        sources=(Source(topic=TOPIC, encoding="otlp_proto"),),
        objectives=tuple(
            Objective(service=service, name="availability", target="0.99", window_minutes=60) for service in SERVICES
        ),
    ).encode()


def _rows(partition: int, first: int) -> Rows:
    n = 3
    return Rows.of(
        n,
        offset=np.arange(first, first + n),
        kind=np.full(n, Kind.SERVER, "int8"),
        end_ns=np.full(n, time.time_ns() - 5 * MINUTE_NS),
        duration_ns=np.full(n, 1_000_000),
        count=np.ones(n, "int64"),
        weight=np.full(n, WEIGHT_ONE),
        services=(SERVICES[partition],),
        versions=("1",),
    )


def _receipts(first: int) -> Receipts:
    """Three clean messages as a run, then a refused one."""
    return Receipts(
        source=np.zeros(2, "int16"),
        first_offset=np.array([first, first + 3]),
        last_offset=np.array([first + 2, first + 3]),
        items=np.array([3, 1]),
        rejected=np.array([0, 1]),
        reason=np.array([0, 1], "int16"),
        reasons=("", "malformed"),
        digests=(None, b"\x01" * 32),
        details=(None, "not a span"),
    )


def _python_path() -> str:
    return os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
