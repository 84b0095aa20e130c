"""Runs the demo: broker, topics, configuration, workers, workload, and the comparison at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from stream.config.settings import LOCAL_BROKER, PREFIX_DEFAULT
from stream.core.errors import UnavailableError
from stream.demo import story
from stream.demo.objectives import demo_bundle, write_slo_files
from stream.demo.options import DemoOptions
from stream.demo.reader import ResultReader, accounts_of, requests_by_objective
from stream.demo.report import Result, print_report, write_json
from stream.demo.screen import Progress, Screen, screen
from stream.demo.workers import Workers
from stream.demo.workload import Message, Topics, Workload
from stream.kafka.clients import Producer, admin, ingest_producer, stop
from stream.kafka.config_topic import publish_bundle
from stream.kafka.local import LocalKafka
from stream.kafka.source_ends import source_ends
from stream.kafka.state_reader import read_ledgers
from stream.kafka.topics import TopicSpec, apply, pipeline_topics

PARTITIONS = 4
PIPELINE = "demo"
MINUTE_NS = 60_000_000_000

SETTLE_S = 120.0
"""How long everything produced may take to be accounted for after the last message: a worker killed at the end has to
be replaced first."""

_LOOK_S = 0.25
_STOP_S = 4.0
_KILLS_BETWEEN = (0.15, 0.9)


def run(options: DemoOptions) -> int:
    """Runs the demo and returns its exit code: 0 when the ledger is equal, else 1.

    Raises:
        UnavailableError: Kafka or Java cannot be had, or the workers cannot run; the message says why.
        ConfigError: Something of the setup must be fixed.
        KeyboardInterrupt: On Ctrl-C, or SIGTERM, after everything was stopped.
    """
    began_s = time.monotonic()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that it tries again is no news here
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals())
        directory = stack.enter_context(_directory(options))
        shown = screen()
        stack.callback(shown.close)
        shown.tell(_introduction(options))
        local = options.broker == LOCAL_BROKER
        if local:
            shown.tell("starting Apache Kafka (the first time its jars are fetched, about 45 MB) …")
            bootstrap = stack.enter_context(LocalKafka(directory / "kafka")).bootstrap
        else:
            bootstrap = options.broker
        prefix = PREFIX_DEFAULT if local else f"qma-demo-{uuid.uuid4().hex[:8]}."
        sources = "" if local else prefix
        topics = Topics.named(sources, PARTITIONS)
        workers = Workers(bootstrap, prefix, directory / "workers.log")
        stack.callback(workers.kill)
        demo = _Demo(options, directory, bootstrap, prefix, topics, workers, shown, began_s)
        return asyncio.run(demo.run())


def _introduction(options: DemoOptions) -> str:
    text = (
        f"demo with seed {options.seed}: {story.MINUTES} minutes of event time in {options.duration_s:g} s, "
        f"about {options.spans_expected:,.0f} spans and events, and metrics and logs beside them"
    )
    if options.spans_expected < story.STORY_SPANS_MIN:
        text += (
            f"; with fewer than {story.STORY_SPANS_MIN:,} not every certificate is earned in time, "
            "the ledger is exact all the same"
        )
    return text


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, with everything stopped; a SIGINT that is ignored (as in a background job
    of a script) does too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


@contextlib.contextmanager
def _directory(options: DemoOptions) -> Iterator[Path]:
    """Yields a directory for the run. It stays with --keep; when the run fails the workers' log stays."""
    directory = Path(tempfile.mkdtemp(prefix="qma-demo-"))
    failed = False
    try:
        yield directory
    except Exception:
        failed = True
        raise
    finally:
        if failed and (directory / "workers.log").exists():
            shutil.rmtree(directory / "kafka" / "data", ignore_errors=True)
        elif failed or not options.keep:
            shutil.rmtree(directory, ignore_errors=True)


class _Demo:
    """One run. State: what was acknowledged of each source partition, and how far the workload is."""

    def __init__(
        self,
        options: DemoOptions,
        directory: Path,
        bootstrap: str,
        prefix: str,
        topics: Topics,
        workers: Workers,
        shown: Screen,
        began_s: float,
    ) -> None:
        self._options = options
        self._directory = directory
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._topics = topics
        self._workers = workers
        self._screen = shown
        self._began_s = began_s
        self._base_ns = _base_ns(options.duration_s)
        self._workload = Workload(
            seed=options.seed,
            base_ns=self._base_ns,
            duration_s=options.duration_s,
            rate=options.rate,
            topics=topics,
        )
        self._acknowledged: dict[tuple[str, int], int] = {}
        self._topics_created: list[str] = []
        self._tick = 0
        self._phase = "starting"

    async def run(self) -> int:
        """Runs to the end and returns the exit code."""
        await self._set_up()
        producer = await ingest_producer(self._bootstrap)
        reader = await ResultReader.started(self._bootstrap, self._prefix, PARTITIONS, self._screen.tell)
        try:
            await self._send(producer, self._workload.tick(0))
            self._screen.tell(f"starting workers: ingest and state processes; they log to {self._workers.log}")
            self._workers.start()
            await self._workers.ready()
            self._screen.tell("workers are ready; the story begins")
            await _first_of(self._story(producer), reader.follow(), self._watch(reader))
            await reader.read_to_end()
            return await self._finish(reader)
        finally:
            await self._workers.stop(_STOP_S)
            await stop(producer, wait_s=1.0)
            await stop(reader.consumer, wait_s=1.0)
            await self._tidy_up()

    async def _set_up(self) -> None:
        """Creates the topics and publishes the configuration."""
        specs = pipeline_topics(self._prefix, PARTITIONS, 1, "CreateTime")
        clock = {"message.timestamp.type": "CreateTime"}
        specs += [
            TopicSpec(name=name, partitions=PARTITIONS, replication=1, config=clock, ours=False)
            for name in self._topics.names
        ]
        created = await apply(self._bootstrap, specs)
        self._topics_created = [change.topic for change in created]
        files = write_slo_files(self._directory / "slo")
        bundle = demo_bundle(
            files,
            self._topics,
            prefix=self._prefix,
            pipeline=PIPELINE,
            generation=uuid.uuid4().hex[:8],
            speed=self._options.speed,
        )
        await publish_bundle(self._bootstrap, self._prefix, bundle)
        self._screen.tell(
            f"Kafka at {self._bootstrap}: {len(created)} topics created, {len(bundle.objectives)} objectives applied "
            f"from {self._directory / 'slo'}"
        )

    async def _tidy_up(self) -> None:
        """Removes our topics from a broker that is not our own."""
        if self._options.keep or self._options.broker == LOCAL_BROKER:
            return
        client = await admin(self._bootstrap)
        try:
            await client.delete_topics(self._topics_created)
        finally:
            await stop(client, wait_s=1.0)

    async def _story(self, producer: Producer) -> None:
        """Produces the workload at its pace, kills workers, then waits until everything is accounted for."""
        self._phase = "producing"
        random = np.random.default_rng([self._options.seed, 1])
        kills = _kill_ticks(random, self._options.kill_workers)
        began_s, tick_s = time.monotonic(), self._options.duration_s / story.TICKS
        for tick in range(1, story.TICKS):
            await asyncio.sleep(max(0.0, began_s + tick * tick_s - time.monotonic()))
            await self._send(producer, self._workload.tick(tick))
            self._tick = tick
            while kills and kills[0] <= tick and (killed := self._workers.kill_one(random)) is not None:
                kills.pop(0)
                self._screen.tell(killed)
        if kills:
            self._screen.tell(f"{len(kills)} kills left out: no worker was running when they were due")
        self._phase = "accounting"
        await self._settled()

    async def _send(self, producer: Producer, messages: list[Message]) -> None:
        """Sends messages and returns when all are acknowledged."""
        sent = [await producer.send(m.topic, m.value, partition=m.partition, timestamp_ms=m.time_ms) for m in messages]
        for acknowledged in await asyncio.gather(*sent):
            at = (acknowledged.topic, acknowledged.partition)
            self._acknowledged[at] = max(self._acknowledged.get(at, 0), acknowledged.offset + 1)

    async def _settled(self) -> None:
        """Returns when the checkpoints cover every acknowledged message, or when the time for it is over."""
        deadline_s = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline_s:
            ledgers = await read_ledgers(self._bootstrap, f"{self._prefix}state", PARTITIONS)
            applied = {
                (topic, partition): offset
                for topic in self._topics.names
                for partition, offset in accounts_of(ledgers, topic).offsets.items()
            }
            if applied == self._acknowledged:
                await self._read_back(deadline_s)
                return
            await asyncio.sleep(1.0)
        self._screen.tell(f"not everything was accounted for within {SETTLE_S:.0f} s after the last message")

    async def _read_back(self, deadline_s: float) -> None:
        """Returns when what is published by now was read back for the composite, or when the time for it is over."""
        topic = f"{self._prefix}sli"
        ends = {end.partition: end.next_offset for end in await source_ends(self._bootstrap, [topic])}
        while time.monotonic() < deadline_s:
            ledgers = await read_ledgers(self._bootstrap, f"{self._prefix}state", PARTITIONS)
            applied = accounts_of(ledgers, topic).offsets
            if all(applied.get(partition, 0) >= offset for partition, offset in ends.items()):
                return
            await asyncio.sleep(1.0)

    async def _watch(self, reader: ResultReader) -> None:
        """Shows the progress and looks after the workers, for ever."""
        while True:
            for line in self._workers.look():
                self._screen.tell(line)
            self._screen.show(reader.view, self._progress(reader))
            await asyncio.sleep(_LOOK_S)

    def _progress(self, reader: ResultReader) -> Progress:
        accounts = [accounts_of(reader.ledgers, topic) for topic in self._topics.names]
        event_time = datetime.fromtimestamp(self._workload.tick_end_ns(self._tick) / 1e9, UTC)
        return Progress(
            phase=self._phase,
            done_ratio=(self._tick + 1) / story.TICKS,
            event_time=f"{event_time:%H:%M}",
            produced=self._workload.tally.produced,
            counted=sum(a.counted for a in accounts),
            duplicate=sum(a.duplicate for a in accounts),
            late=sum(a.late for a in accounts),
            rejected=sum(sum(a.rejected.values()) for a in accounts),
            replayed=sum(a.replayed for a in accounts),
            kills=self._workers.kills,
            restarts=self._workers.restarts,
        )

    async def _finish(self, reader: ResultReader) -> int:
        """Compares, reports, and with --keep waits. Returns the exit code."""
        state = f"{self._prefix}state"
        ledgers = await read_ledgers(self._bootstrap, state, PARTITIONS)
        result = Result(
            seed=self._options.seed,
            tally=self._workload.tally,
            accounts={topic: accounts_of(ledgers, topic) for topic in self._workload.tally.topics},
            indicators=accounts_of(ledgers, f"{self._prefix}sli"),
            requests=await requests_by_objective(self._bootstrap, state, PARTITIONS),
            view=reader.view,
            kills=self._workers.kills,
            restarts=self._workers.restarts,
            elapsed_s=time.monotonic() - self._began_s,
        )
        self._screen.show(reader.view, self._progress(reader))
        self._screen.close()
        print_report(Console(highlight=False), result)
        if self._options.json_path is not None:
            write_json(self._options.json_path, result)
        print(self._where_next(), flush=True)
        code = 0 if result.is_equal else 1
        if self._options.keep:
            await self._wait_for_ctrl_c()
        return code

    def _where_next(self) -> str:
        if not self._options.keep:
            return "\nmake demo ARGS='--keep' leaves it running: /metrics, the topics and the commands to look at them."
        where = f"--broker {self._bootstrap}"
        if self._prefix != PREFIX_DEFAULT:
            where += f" --prefix {self._prefix}"
        metrics = "".join(f"\n  {name:9} {url}" for name, url in self._workers.urls.items())
        return (
            f"\nStill running, until Ctrl-C. Metrics:{metrics}\n"
            f"Kafka {self._bootstrap}, objectives {self._directory / 'slo'}, log {self._workers.log}\n"
            "Where to look next (in .venv/bin):\n"
            f"  qma ledger {where}\n"
            f"  qma tail certificate --from-beginning {where}\n"
            f"  qma tail burn-rate --from-beginning {where}\n"
            f"  qma tail sli {where}"
        )

    async def _wait_for_ctrl_c(self) -> None:
        try:
            while True:
                self._workers.look()
                await asyncio.sleep(1.0)
        except asyncio.CancelledError:
            print(f"\nStopping. Data, objectives and logs stay in {self._directory}", flush=True)


def _base_ns(duration_s: float) -> int:
    """Returns the event time of the first tick: the last one is then due about when the workload ends."""
    ends_ns = time.time_ns() + round(duration_s * 1e9)
    return ends_ns // MINUTE_NS * MINUTE_NS - story.MINUTES * MINUTE_NS


def _kill_ticks(random: np.random.Generator, kills: int) -> list[int]:
    """Returns the ticks at which to kill: one in each of as many equal stretches of the middle of the run."""
    first, last = (share * story.TICKS for share in _KILLS_BETWEEN)
    stretch = (last - first) / max(kills, 1)
    return [int(first + stretch * (number + random.random())) for number in range(kills)]


async def _first_of(main: Coroutine[Any, Any, None], *others: Coroutine[Any, Any, None]) -> None:
    """Returns when the first ends; an error of any of them ends all."""
    tasks = [asyncio.ensure_future(work) for work in (main, *others)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if tasks[0] not in done:
            raise UnavailableError("the demo stopped watching its own pipeline")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
