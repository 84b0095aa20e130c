"""A seeded simulation of the whole pipeline in one process: the real core, a Kafka in memory, and chance.

Between any two steps a process may be killed, frozen, woken or thrown out of its group; records land late, fail or
are lost with their producer; the clock jumps. At the end everything is stopped, one clean ingest and one clean state
process run until nothing is left to do, and the invariants are checked.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import orjson

from stream.core.slo.composite import Call, Component, Composite
from stream.core.slo.spec import Bundle, Encoding, Objective, Settings, SliSignal, Source, SourceSignal
from stream.core.units import HOUR_NS, MINUTE_NS, SECOND_NS
from stream.testing.invariants import Evidence, Expected, violations
from stream.testing.log import Group, Kafka, Place, Refused
from stream.testing.processes import (
    SHUFFLE,
    SLI,
    SOURCE,
    Dice,
    IngestProcess,
    Mutation,
    Process,
    ProcessDied,
    StateProcess,
    Steps,
    World,
)
from stream.testing.routing import FlatRouting, RoutingOf

SERVICES = ("a", "c")
"""Their keys belong to different partitions of the log."""
START_NS = 490_000 * HOUR_NS + 17 * MINUTE_NS
QUIET_TICKS_MAX = 20_000
ROUNDS_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The size of a simulation and how unkind it is.

    Args:
        events: Messages produced to the source topic.
        ticks: Steps taken before everything is stopped.
        kill_ratio: Chance per tick that a process is killed; the others likewise.
        session_ratio: The group notices that a killed or frozen process is silent.
        delicate_factor: How much likelier a misfortune is for a process that is in the middle of something.
        evict_ratio: A process is thrown out of its group while it runs.
        fail_ratio: A record in flight is not acknowledged in time.
        jump_ratio: The clock jumps, forward by up to `jump_ns` or back by up to a minute.
        tick_ns: How far the clock goes in a tick, on average.
        stale_ratio: How often a read of the state is answered by a replica that stands behind.
        late_ns: How old an event is when it is produced, at most.
        composites: There is a composite, and the indicators that are put out are read back for it.
    """

    events: int = 30
    ticks: int = 230
    ingest_processes: int = 2
    state_processes: int = 2
    source_partitions: int = 3
    partitions: int = 2
    kill_ratio: float = 0.003
    freeze_ratio: float = 0.005
    wake_ratio: float = 0.008
    evict_ratio: float = 0.001
    session_ratio: float = 0.05
    delicate_factor: float = 8.0
    fail_ratio: float = 0.02
    expire_ratio: float = 0.002
    jump_ratio: float = 0.002
    jump_ns: int = 10 * MINUTE_NS
    tick_ns: int = 2 * SECOND_NS
    stale_ratio: float = 0.4
    late_ns: int = 30 * SECOND_NS
    composites: bool = False

    @property
    def sources(self) -> list[Place]:
        """Every partition that is read."""
        own = [(SLI, at) for at in range(self.partitions)] if self.composites else []
        return [(SOURCE, at) for at in range(self.source_partitions)] + own


WITH_COMPOSITES = Scenario(composites=True, events=60, tick_ns=5 * SECOND_NS, late_ns=5 * MINUTE_NS)
"""Many minutes close, and most of them are corrected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one seed.

    Args:
        failures: Broken invariants in plain words; empty when all hold.
        digest: SHA-256 of the final state and of all committed outputs.
        counts: Kills, freezes, rebalances and more.
    """

    seed: int
    failures: tuple[str, ...]
    digest: str
    counts: dict[str, int]


@dataclass(slots=True)
class _Running:
    """A process and its next step."""

    process: Process
    steps: Steps
    make: Callable[[str], Process]
    frozen: bool = False


@dataclass(slots=True)
class _Simulation:
    scenario: Scenario
    world: World
    expected: Expected
    running: list[_Running] = field(default_factory=list)
    stopped: list[Callable[[str], Process]] = field(default_factory=list)
    silent: list[Process] = field(default_factory=list)
    produced: int = 0

    def start(self, make: Callable[[str], Process]) -> Process:
        self.world.processes_started += 1
        process = make(f"process-{self.world.processes_started}")
        self.running.append(_Running(process, process.run(), make))
        return process

    def tick(self) -> None:
        """One thing happens: the clock, an event, the network, a misfortune or a step of a process."""
        world, dice = self.world, self.world.dice
        world.kafka.now_ns += int(dice.roll() * 2 * self.scenario.tick_ns)
        if self.produced < self.scenario.events and dice.chance(1.3 * self.scenario.events / self.scenario.ticks):
            self.produce()
        self.misfortune()
        while dice.chance(0.65):
            self.deliver(self.scenario.fail_ratio)
        awake = [running for running in self.running if not running.frozen]
        if awake:
            self.step(awake[dice.below(len(awake))])

    def step(self, running: _Running) -> None:
        try:
            next(running.steps)
        except (ProcessDied, Refused):
            self.world.count("deaths")
            self.end(running)

    def end(self, running: _Running) -> None:
        """The process is gone; what it sent is still in flight, its group hears of it later."""
        self.running.remove(running)
        self.stopped.append(running.make)
        for producer in running.process.producers:
            producer.alive = False
        self.silent.append(running.process)

    def evict(self, process: Process) -> None:
        if process.group.remove(process.name):
            self.world.count("rebalances")

    def deliver(self, fail_ratio: float) -> None:
        """The network moves: one record lands, or does not; one marker of an ended transaction is written."""
        dice, kafka = self.world.dice, self.world.kafka
        kafka.transactions.write_marker(dice.below(16))
        if not kafka.network.queues:
            return
        choice = dice.below(kafka.network.queues)
        if dice.chance(fail_ratio if kafka.network.producer_is_alive(choice) else 0.7):
            kafka.network.lose(choice)
            self.world.count("lost")
        else:
            kafka.network.deliver(choice, position=dice.below(8))

    def misfortune(self) -> None:
        """Kills, freezes, wakes, evicts, restarts; lets transactions time out and the clock jump."""
        s, dice, world = self.scenario, self.world.dice, self.world
        victim = self.running[dice.below(len(self.running))] if self.running else None
        factor = s.delicate_factor if victim is not None and victim.process.delicate else 1.0
        if victim is not None and dice.chance(factor * s.kill_ratio):
            world.count("kills")
            self.end(victim)
        elif victim is not None and not victim.frozen and dice.chance(factor * s.freeze_ratio):
            world.count("freezes")
            victim.frozen = True
            if dice.chance(0.8):
                self.silent.append(victim.process)
        elif victim is not None and dice.chance(s.evict_ratio):
            self.evict(victim.process)
        for running in self.running:
            if running.frozen and dice.chance(s.wake_ratio):
                running.frozen = False
        if self.silent and dice.chance(s.session_ratio):
            self.evict(self.silent.pop(0))
        if self.stopped and dice.chance(0.05):
            self.start(self.stopped.pop(dice.below(len(self.stopped))))
        if dice.chance(s.expire_ratio):
            world.kafka.transactions.time_out()
        if dice.chance(s.jump_ratio):
            self.jump()
        if len(world.bundles) < 2 and dice.chance(2 / s.ticks):
            world.bundles.append(replace(world.bundles[0], settings=Settings(publish_sketches=True)))

    def jump(self) -> None:
        """The broker's clock is set forward or back."""
        dice = self.world.dice
        if dice.chance(0.7):
            self.world.kafka.now_ns += int(dice.roll() * self.scenario.jump_ns)
        else:
            back_ns = int(dice.roll() * MINUTE_NS)
            self.world.kafka.now_ns -= back_ns
            self.expected.clock_went_back_ns += back_ns
        self.world.count("jumps")

    def produce(self) -> None:
        """One message: an event, several equal ones, something unreadable, or a tombstone."""
        dice, kafka = self.world.dice, self.world.kafka
        self.produced += 1
        place = (SOURCE, dice.below(self.scenario.source_partitions))
        kind = dice.roll()
        if kind < 0.25:
            value: bytes | None = b"no json"
            self.expected.rejected += 1
        elif kind < 0.28:
            value = None
        else:
            service, bad = SERVICES[dice.below(len(SERVICES))], dice.chance(0.3)
            count = 1 + dice.below(3) if dice.chance(0.2) else 1
            end_ns = kafka.now_ns - int(dice.roll() * self.scenario.late_ns)
            self.expected.cells[(f"prod/shop/{service}", end_ns // MINUTE_NS, bad)] += count
            value = orjson.dumps(
                {
                    "environment": "prod",
                    "namespace": "shop",
                    "service": service,
                    "version": f"v{1 + dice.below(2)}",
                    "time": end_ns,
                    "duration_ms": 5,
                    "status": "error" if bad else "ok",
                    "count": count,
                }
            )
        kafka.partition(place).append(kafka.now_ns, value)

    def stop(self, *, zombies: bool = False) -> None:
        """Ends everything: what is in flight lands or does not, groups and transactions time out.

        Args:
            zombies: All but the frozen processes.
        """
        for running in [running for running in self.running if not (zombies and running.frozen)]:
            self.end(running)
        self.settle()
        for group in (self.world.ingest_group, self.world.state_group):
            group.clear()

    def settle(self) -> None:
        """Nothing is in flight any more, open transactions have timed out."""
        while self.world.kafka.network.queues:
            self.deliver(0.0)
        self.world.kafka.transactions.time_out()
        while self.world.kafka.transactions.write_marker(0):
            pass

    def finish(self) -> None:
        """Comes to rest; then what was frozen wakes, has its say, and all of it comes to rest again."""
        self.stop(zombies=True)
        self.rest("first")
        if self.running:
            for running in self.running:
                running.frozen = False
            for _ in range(40 * len(self.running)):
                self.deliver(0.0)
                if self.running:
                    self.step(self.running[self.world.dice.below(len(self.running))])
            self.stop()
            self.rest("second")

    def rest(self, name: str) -> None:
        """Clean processes read and fold until nothing is left to do; what they put out may be read back."""
        self.world.calm_down()
        for number in range(ROUNDS_MAX):
            ends = self._ends()
            self.read_and_fold(f"{name}-{number}", ends)
            if self._ends() == ends:
                return
        raise AssertionError("what is read back puts out ever more")

    def _ends(self) -> dict[Place, int]:
        return {place: self.world.kafka.partition(place).end_offset for place in self.scenario.sources}

    def read_and_fold(self, name: str, ends: dict[Place, int]) -> None:
        """A clean ingest reads the sources up to their ends, and a clean state process folds the log."""
        kafka = self.world.kafka
        ingest = IngestProcess(self.world, f"{name}-ingest")
        self.until(ingest, lambda: ingest.reported == ends == self.world.ingest_group.committed)
        state = StateProcess(self.world, f"{name}-state")
        log_ends = {at: kafka.partition((SHUFFLE, at)).end_offset - 1 for at in range(self.scenario.partitions)}
        self.until(state, lambda: {at: held.saved_offset for at, held in state.held.items()} == log_ends)
        for process in (ingest, state):
            self.evict(process)
        self.settle()

    def until(self, process: Process, quiet: Callable[[], bool]) -> None:
        steps = process.run()
        for _ in range(QUIET_TICKS_MAX):
            if quiet():
                return
            next(steps)
            for _ in range(1 + self.world.kafka.network.queues):
                self.deliver(0.0)
        raise AssertionError(f"{process.name} does not come to rest")


def bundle(scenario: Scenario) -> Bundle:
    """Returns the first configuration of a simulation."""
    objectives = tuple(
        Objective(service=f"prod/shop/{name}", name="availability", target="0.9", window_minutes=43_200, since=0)
        for name in SERVICES
    )
    if scenario.composites:  # the first also asks what the last lost
        objectives = (replace(objectives[0], lost_by=(objectives[-1].name,)), *objectives[1:])
    whole = (_composite(),) if scenario.composites else ()
    own = Source(topic=SLI, encoding=Encoding.SLI, signal=SourceSignal.INDICATORS)
    return Bundle(
        pipeline="simulated",
        generation="1",
        partitions=scenario.partitions,
        sources=(Source(topic=SOURCE, encoding="flat"), *((own,) if whole else ())),
        objectives=(*objectives, *whole),
    )


def _composite() -> Objective:
    """Returns an objective over the others, of which the first calls the second."""
    first, second = (Component(service=f"prod/shop/{name}", objective="availability") for name in SERVICES)
    call = Call(caller=first.service, callee=second.service, objective=first.objective)
    return Objective(
        service="prod/shop/journey",
        name="journey",
        target="0.9",
        window_minutes=43_200,
        kinds=(),
        since=0,
        signal=SliSignal.INDICATORS,
        certified=False,
        composite=Composite(components=(first, replace(second, weight="2")), calls=(call,)),
    )


def simulate(
    seed: int,
    *,
    scenario: Scenario | None = None,
    mutation: Mutation | None = None,
    routing_of: RoutingOf = FlatRouting,
) -> Outcome:
    """Runs one seed and returns what became of it; the same arguments give the same outcome.

    Args:
        seed: Fixes everything.
        scenario: Sizes and chances.
        mutation: The rule that is broken.
        routing_of: Makes the routing of an ingest incarnation.
    """
    scenario = scenario or Scenario()
    kafka = Kafka(START_NS)
    world = World(
        kafka=kafka,
        dice=Dice(np.random.default_rng(seed)),
        ingest_group=Group(scenario.sources),
        state_group=Group((SHUFFLE, at) for at in range(scenario.partitions)),
        bundles=[bundle(scenario)],
        source_partitions=scenario.source_partitions,
        routing_of=routing_of,
        mutation=mutation,
        stale_ratio=scenario.stale_ratio,
    )
    simulation = _Simulation(scenario, world, Expected(cells=Counter()))
    try:
        for _ in range(scenario.ingest_processes):
            simulation.start(lambda name: IngestProcess(world, name))
        for _ in range(scenario.state_processes):
            simulation.start(lambda name: StateProcess(world, name))
        for _ in range(scenario.ticks):
            simulation.tick()
        while simulation.produced < scenario.events:
            simulation.produce()
        simulation.finish()
    except Exception as error:
        return Outcome(seed=seed, failures=(_described(error),), digest="", counts=world.counts)
    evidence = Evidence(kafka, scenario.partitions, simulation.expected)
    failures = violations(evidence)
    world.counts["log_records"] = sum(kafka.partition((SHUFFLE, at)).end_offset for at in range(scenario.partitions))
    return Outcome(seed=seed, failures=failures, digest=evidence.digest(), counts=world.counts)


def _described(error: Exception) -> str:
    """Returns an exception with the place that raised it: an assertion of the core is a failed seed too."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno}: {error}"
