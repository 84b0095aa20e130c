"""One run: set up a pipeline, feed it, deal the blows, let it come to rest, compare everything."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stream.config.bundle import make_bundle
from stream.core.columns import Kind
from stream.core.engine import Engine
from stream.core.engine.chunks import MANIFEST, ledger_of
from stream.core.slo.spec import Bundle, Objective, Settings, Source
from stream.kafka import topics
from stream.kafka.config_topic import publish_bundle
from stream.kafka.local import LocalKafka
from stream.kafka.topics import TopicSpec, pipeline_topics
from tests.chaos.fleet import STOP_S, ChaosFailed, Fleet
from tests.chaos.reader import Tail, read_all
from tests.chaos.storm import Intensity, Storm, plan
from tests.chaos.verdict import (
    Check,
    Chunks,
    Outputs,
    check_cells,
    check_fold,
    check_ledger,
    check_seen_once,
    output_partitions,
    partitions_of,
    restored_engines,
)
from tests.chaos.workload import AVAILABILITY, FLAT_PARTITIONS, LATENCY, OTLP_PARTITIONS, SLOW_NS, Feeder, Workload

PARTITIONS = 4
REST_S = 90.0
"""After the chaos everything must be applied and checkpointed within this."""

_REST_POLL_S = 0.5
_NAMES = {"ingest": 2, "state": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run.

    Args:
        seed: Fixes the load and the plan; who is hit depends on who is alive.
        rate: Items per second.
        intensity: What is done to the pipeline.
        directory: For logs.
        prefix: Of all topics.
        verbose: Print what happens while it happens.
    """

    seed: int
    rate: float
    intensity: Intensity
    directory: Path
    prefix: str
    verbose: bool = False


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run did and found."""

    seed: int
    did: str = ""
    checks: list[Check] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Every check passed, and there were some."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def summary(self) -> str:
        """The result in one line."""
        return f"seed {self.seed}: {self.did}: {'equal' if self.passed else 'NOT EQUAL'}"


async def run(kafka: LocalKafka, options: Options) -> Report:
    """Runs one seed against a broker that may be killed; no process of it is left afterwards."""
    report = Report(seed=options.seed)
    this = _Run(kafka, options, report)
    try:
        await this.go()
    except* Exception as failed:
        report.checks += [Check(name="run", passed=False, detail=reason) for reason in _reasons(failed)]
    finally:
        this.fleet.kill_all()
    left = this.fleet.left_behind()
    report.checks.append(Check(name="no worker left", passed=not left, detail=f"{left or 'none'}"))
    report.did = this.did()
    report.figures += this.figures()
    return report


class _Run:
    def __init__(self, kafka: LocalKafka, options: Options, report: Report) -> None:
        self.began_s = time.monotonic()
        self.options = options
        self.report = report
        self.kafka = kafka
        self.bootstrap = kafka.bootstrap
        self.flat_topic, self.otlp_topic = f"{options.prefix}telemetry.events", f"{options.prefix}otlp_spans"
        workload = Workload(options.seed, flat_topic=self.flat_topic, otlp_topic=self.otlp_topic)
        self.feeder = Feeder(self.bootstrap, workload, rate=options.rate)
        self.fleet = Fleet(bootstrap=self.bootstrap, prefix=options.prefix, directory=options.directory)
        self.storm = Storm(kafka=kafka, fleet=self.fleet, partitions=PARTITIONS, seed=options.seed, say=self.say)
        self.chunks, self.committed = Chunks(), Outputs(options.prefix)
        self.state = Tail(self.bootstrap, partitions_of(f"{options.prefix}state", PARTITIONS), self.chunks.take)
        self.outputs = Tail(self.bootstrap, output_partitions(options.prefix, PARTITIONS), self.committed.take)
        self.rest_s = 0.0

    def say(self, text: str) -> None:
        """Notes what happens, and when."""
        line = f"{time.monotonic() - self.began_s:6.1f} s  {text}"
        with (self.options.directory / "events.log").open("a") as log:
            log.write(line + "\n")
        if self.options.verbose:
            print(line, flush=True)

    async def go(self) -> None:
        """Runs everything; checks are added to the report as they are made."""
        bundle = await self.set_up()
        await self.feeder.open()
        digests = {f"{o.service} {o.digest}": o.name.rpartition("/")[2] for o in bundle.objectives}
        for role, n in _NAMES.items():
            for number in range(n):
                self.fleet.add(role, f"{role}{number}")
        try:
            async with _meanwhile(self.outputs.follow()):
                async with _meanwhile(self.fleet.watch()):
                    await self.fleet.ready(self.fleet.workers)
                    await self.feed_in_the_storm()
                    self.rest_s = await self.rest()
                    # One that has only just started again has no handler yet for the signal that ends it in order.
                    await self.fleet.ready([worker for worker in self.fleet.workers if worker.wanted])
                stopped = await self.stop()
                await self.outputs.catch_up()
            engines = await restored_engines(self.chunks, self.state, PARTITIONS)
            await self.compare(engines, digests)
            await self.compare_after_restart(engines, stopped, digests)
        finally:
            await self.state.close()
            await self.outputs.close()

    async def set_up(self) -> Bundle:
        """Creates the topics and publishes the configuration: every event counts for two objectives."""
        prefix = self.options.prefix
        specs = pipeline_topics(prefix, PARTITIONS, 1, "LogAppendTime")
        specs += [
            TopicSpec(name=topic, partitions=n, replication=1, ours=False)
            for topic, n in ((self.flat_topic, FLAT_PARTITIONS), (self.otlp_topic, OTLP_PARTITIONS))
        ]
        await topics.apply(self.bootstrap, specs)
        bundle = make_bundle(
            _objectives(),
            previous=None,
            pipeline=prefix.strip("."),
            generation="1",
            partitions=PARTITIONS,
            prefix=prefix,
            sources=(
                Source(topic=self.flat_topic, encoding="flat"),
                Source(topic=self.otlp_topic, encoding="otlp_proto"),
            ),
            settings=Settings(allowed_lateness_ns=10 * 1_000_000_000, publish_sketches=True),
        )
        await publish_bundle(self.bootstrap, prefix, bundle)
        return bundle

    async def feed_in_the_storm(self) -> None:
        """Returns when the storm is over and everything that was sent is acknowledged."""
        intensity = self.options.intensity
        stopping = asyncio.Event()
        feeding = asyncio.create_task(self.feeder.run(stopping))
        try:
            async with _meanwhile(_failing(feeding)):
                await self.storm.run(plan(self.options.seed, intensity), intensity.seconds)
        finally:
            stopping.set()
            await feeding
        self.say(f"fed {self.feeder.ledger.produced} items")

    async def rest(self) -> float:
        """Returns how long it took until every partition has applied, and checkpointed, all that was produced.

        Raises:
            ChaosFailed: It takes too long; says what is missing.
        """
        began_s = time.monotonic()
        while missing := await self._missing():
            if time.monotonic() - began_s > REST_S:
                states = "; ".join(f"{w.name}: {w.last_line()[:200]}" for w in self.fleet.workers if w.wanted)
                raise ChaosFailed(f"not at rest after {REST_S:g} s: {missing}. {states}")
            await asyncio.sleep(_REST_POLL_S)
        self.say(f"at rest after {time.monotonic() - began_s:.1f} s")
        return time.monotonic() - began_s

    async def _missing(self) -> str:
        await self.state.catch_up()
        for number in range(PARTITIONS):
            manifest = self.chunks.by_partition[number].get(MANIFEST)
            if manifest is None:
                return f"partition {number} has no checkpoint"
            covered = {(a.topic, a.partition): a.next_offset for a in ledger_of(manifest).sources.values()}
            for source, end in self.feeder.ledger.next_offsets.items():
                if covered.get(source, 0) < end:
                    return f"partition {number} covers {source} up to {covered.get(source, 0)} of {end}"
        return ""

    async def stop(self) -> dict[str, tuple[int, float]]:
        """Ends all workers in order."""
        stopped = await self.fleet.stop()
        self.say("stopped " + ", ".join(f"{name} exit {code} in {s:.1f} s" for name, (code, s) in stopped.items()))
        return stopped

    async def compare(self, engines: list[Engine], digests: dict[str, str]) -> None:
        """The checks on the state that the storm left."""
        prefix, ledger = self.options.prefix, self.feeder.ledger
        checks = self.report.checks
        checks.append(check_cells("cells", engines, digests, ledger))
        accounts, _ = check_ledger(engines, ledger)
        checks.append(accounts)
        everything = Outputs(prefix)
        where = output_partitions(prefix, PARTITIONS)
        await read_all(self.bootstrap, where, everything.take, isolation="read_uncommitted")
        checks.append(check_seen_once(self.committed, everything))
        checks.append(await check_fold("fold of the log", self.bootstrap, prefix, engines, self.committed))

    async def compare_after_restart(
        self, engines: list[Engine], stopped: dict[str, tuple[int, float]], digests: dict[str, str]
    ) -> None:
        """Starts everything again, ends it again, and finds the same state."""
        marks = {worker.name: worker.log_path.stat().st_size for worker in self.fleet.workers}
        exits = len(self.fleet.exits)
        self.fleet.revive()
        async with _meanwhile(self.fleet.watch()):
            await self.fleet.ready(self.fleet.workers)
            await self.rest()
        again = await self.stop()
        await self.outputs.catch_up()
        wrong = [
            f"{name} exit {code} after {took_s:.1f} s"
            for name, (code, took_s) in (*stopped.items(), *again.items())
            if code != 0 or took_s > STOP_S
        ]
        wrong += [f"{ended.name} crashed: {ended.said}" for ended in self.fleet.exits[exits:]]
        wrong += self._restored_elsewhere(engines, marks)
        after = await restored_engines(self.chunks, self.state, PARTITIONS)
        checks = [check_cells("cells", after, digests, self.feeder.ledger), check_ledger(after, self.feeder.ledger)[0]]
        checks.append(await check_fold("fold", self.bootstrap, self.options.prefix, after, self.committed))
        wrong += [str(check) for check in checks if not check.passed]
        slowest_s = max(took_s for _, took_s in (*stopped.values(), *again.values()))
        said = (
            f"{len(stopped)} workers ended twice with exit 0, the slowest in {slowest_s:.1f} s; the state is the same"
        )
        self.report.checks.append(Check(name="clean restart", passed=not wrong, detail="; ".join(wrong) or said))

    def _restored_elsewhere(self, engines: list[Engine], marks: dict[str, int]) -> list[str]:
        """The offsets of the first restores after the restart must be those of the last checkpoints."""
        text = ""
        for worker in self.fleet.workers:
            with worker.log_path.open(errors="replace") as log:
                log.seek(marks[worker.name])
                text += log.read()
        wanted = {
            engine.partition: f"restored partition {engine.partition} at log offset {engine.log_offset}:"
            for engine in engines
        }
        return [f"no worker says `{line}`" for line in wanted.values() if line not in text]

    def did(self) -> str:
        """Returns what was done to how many events."""
        storm = self.storm
        dealt = f"{storm.kills} kills, {storm.zombies} zombies, {storm.broker_kills} broker kills"
        return f"{dealt}, {storm.rebalances} rebalances, {self.feeder.ledger.produced:,} events"

    def figures(self) -> list[str]:
        """Returns what was done and what the workers did of their own accord."""
        took_s = time.monotonic() - self.began_s
        dealt = ", ".join(f"{n} {what}" for what, n in sorted(self.storm.done.items()))
        crashes = ", ".join(f"{n} {what}" for what, n in sorted(self.fleet.crashes().items())) or "none"
        reasons = sorted({f"{e.name}: {e.said}" for e in self.fleet.exits})
        lines = [f"dealt: {dealt}; at rest after {self.rest_s:.1f} s, {took_s:.0f} s in all", f"own exits: {crashes}"]
        left = [
            f"{name} exit {code} in {took:.1f} s" for name, code, took in self.storm.leaves if code or took > STOP_S
        ]
        return lines + [f"  {reason}" for reason in reasons] + [f"left badly: {entry}" for entry in left]


def _reasons(failed: BaseExceptionGroup[BaseException]) -> list[str]:
    """Returns why a run could not go on; of an error nobody expected the traceback too."""
    found = []
    for error in failed.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += _reasons(error)
        elif isinstance(error, ChaosFailed):
            found.append(str(error))
        else:
            found.append("".join(traceback.format_exception(error)))
    return found


def _objectives() -> list[Objective]:
    """Two objectives per service that select every event of every kind."""
    made = []
    for number, service in enumerate(Workload.services()):
        base = Objective(
            service=service,
            name=f"{service.replace('/', '-')}/{AVAILABILITY}",
            target=("0.99", "0.9", "0.5")[number % 3],
            window_minutes=60,
            kinds=tuple(int(kind) for kind in Kind),
        )
        slow = replace(base, name=f"{service.replace('/', '-')}/{LATENCY}", target="0.95", duration_lte_ns=SLOW_NS)
        made += [base, slow]
    return made


async def _failing(task: asyncio.Task[None]) -> None:
    """Raises what the task raises, as soon as it does."""
    await asyncio.shield(task)
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `work` during the block; its failure ends the block, the end of the block ends it."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        yield
        task.cancel()
