"""The processes of the pipeline as generators: every `yield` is a place where one may be killed, frozen or overtaken.

They follow the rules that the real shells follow; a `Mutation` breaks one rule, so that a simulation can show that it
is needed and that its breach is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

import numpy as np

from stream.core.engine import Engine
from stream.core.events import Output
from stream.core.rendering import render
from stream.core.slo.spec import Bundle
from stream.testing.log import CommitRejected, Delivery, Entry, Group, Kafka, Place, Producer
from stream.testing.routing import Batch, Reading, ReadSession, RoutingOf

SOURCE, SHUFFLE, STATE = "events", "shuffle", "state"
SLI = "sli"
"""Where the fold puts indicators; read back as a source where there are composites."""
TOPIC_IDS = {SOURCE: "topic-1", SLI: "topic-2"}
CLAIM_KEY = b"\x00claim"

Steps = Iterator[None]


class Mutation(StrEnum):
    """A rule of the protocol that is broken on purpose."""

    COMMIT_EARLY = "commit_early"
    """Source offsets are committed before the records are acknowledged."""
    SKIP_FAILED = "skip_failed"
    """A record that was not acknowledged is passed over, reading goes on."""
    OUT_OF_ORDER = "out_of_order"
    """Cycles are sent without waiting, by a producer that does not keep their order."""
    CARRIED_BUFFER = "carried_buffer"
    """What was read before a rebalance is sent after it, under the new session."""
    MANIFEST_FIRST = "manifest_first"
    """A checkpoint is no transaction, and its manifest goes first."""
    NO_FENCING = "no_fencing"
    """Every process has a transactional id of its own."""
    STALE_END = "stale_end"
    """A restore reads up to the end offset that it was told, not up to its own claim."""


class ProcessDied(Exception):
    """The process ended itself, as the rules demand."""


class Dice:
    """Chance, drawn in blocks from one generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._block: list[float] = []

    def roll(self) -> float:
        """Returns a number in [0, 1)."""
        if not self._block:
            self._block = self._rng.random(1024).tolist()
        return self._block.pop()

    def chance(self, probability: float) -> bool:
        """Returns True with that probability."""
        return self.roll() < probability

    def below(self, count: int) -> int:
        """Returns an integer in [0, count)."""
        return int(self.roll() * count)


@dataclass(slots=True)
class World:
    """What all processes share.

    Args:
        bundles: The published configurations; the version is the index.
        stale_ratio: How often a read of the state is answered by a replica that stands behind.
        progress_ratio: How often a cycle reports the reading positions.
        fetch_ratio: How often a fetch brings what there is; otherwise nothing yet.
        checkpoint_ratio: How often a checkpoint follows records that were applied.
    """

    kafka: Kafka
    dice: Dice
    ingest_group: Group
    state_group: Group
    bundles: list[Bundle]
    source_partitions: int
    routing_of: RoutingOf
    mutation: Mutation | None = None
    stale_ratio: float = 0.4
    progress_ratio: float = 0.6
    fetch_ratio: float = 0.2
    checkpoint_ratio: float = 0.2
    processes_started: int = 0
    calm: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def calm_down(self) -> None:
        """From here on everything goes well and in large steps."""
        self.calm = True
        self.stale_ratio = 0.0
        self.progress_ratio = self.fetch_ratio = self.checkpoint_ratio = 1.0

    def limit(self, count: int) -> int:
        """Returns how many records a read may bring: up to `count`, or all."""
        return 1 << 30 if self.calm else 1 + self.dice.below(count)

    def count(self, what: str) -> None:
        """Counts one."""
        self.counts[what] = self.counts.get(what, 0) + 1


class Process(Protocol):
    """One process; it runs as long as somebody takes its steps."""

    name: str
    group: Group
    producers: list[Producer]
    delicate: bool
    """It has begun something that others could see half done: a good moment for a misfortune."""

    def run(self) -> Steps:
        """Yields after every step."""


class IngestProcess:
    """Fetch, route, send, wait for every acknowledgement, commit; in order."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.group = world.ingest_group
        self.delicate = False
        self.reported: dict[Place, int] = {}
        self._world = world
        self._routing = world.routing_of(name)
        self._producer = Producer(world.kafka, in_order=world.mutation is not Mutation.OUT_OF_ORDER)
        self.producers = [self._producer]
        self._sessions: tuple[ReadSession, ...] = ()
        self._begun = 0
        self._version = 0
        self._ends: dict[int, int] | None = None
        self._carried: list[tuple[Place, Batch]] = []
        self._outstanding: list[tuple[list[Delivery], dict[Place, int]]] = []

    def run(self) -> Steps:
        """Reads for ever: one assignment after the other."""
        while True:
            places = self.group.assignment(self.name)
            if places is None:
                self.group.join(self.name)
                yield
                continue
            generation = self.group.generation
            yield
            self._sessions = tuple(self._session(place) for place in places)
            self._ends = None
            yield
            yield from self._read(generation)

    def _session(self, place: Place) -> ReadSession:
        self._begun += 1
        at = self.group.committed.get(place, 0)
        name = f"{self.name}-{self._begun}"
        return ReadSession(
            topic=place[0], topic_id=TOPIC_IDS[place[0]], partition=place[1], id=name, first_offset=at, next_offset=at
        )

    def _owns(self, generation: int) -> bool:
        return self.group.generation == generation and self.group.assignment(self.name) is not None

    def _read(self, generation: int) -> Steps:
        """Runs cycles until the assignment changes; the rest of what was fetched is dropped then."""
        world = self._world
        while self._owns(generation):
            self._version = len(world.bundles) - 1
            cycles = self._cut(self._fetch()) if world.dice.chance(world.fetch_ratio) else []
            yield
            if not cycles and world.dice.chance(world.progress_ratio / 20):
                cycles = [()]
            for at, batches in enumerate(cycles):
                if not self._owns(generation):
                    self._carry(cycles[at:])
                    return
                yield from self._cycle(generation, batches)
                if self._ends is None and world.dice.chance(0.5):
                    self._ends = self._end_offsets()
                    yield

    def _end_offsets(self) -> dict[int, int]:
        return {at: self._world.kafka.partition(_place(s)).end_offset for at, s in enumerate(self._sessions)}

    def _fetch(self) -> tuple[Batch, ...]:
        batches = self._take_carried()
        for source, session in enumerate(self._sessions):
            partition = self._world.kafka.partition(_place(session))
            limit = self._world.limit(6)
            if session.topic == SLI:
                entries, next_offset = partition.read_stable(session.next_offset, limit=limit)
            else:
                entries = partition.read(session.next_offset, limit=limit)
                next_offset = entries[-1].offset + 1 if entries else session.next_offset
            if next_offset > session.next_offset and (self._world.calm or self._world.dice.chance(0.8)):
                batches.append(
                    Batch(
                        source=source,
                        offsets=[entry.offset for entry in entries],
                        times_ns=[entry.time_ns for entry in entries],
                        values=[entry.value for entry in entries],
                        next_offset=next_offset,
                    )
                )
        return tuple(batches)

    def _cut(self, batches: tuple[Batch, ...]) -> list[tuple[Batch, ...]]:
        """Returns the cycles that a fetch is divided into, at random message boundaries."""
        if not batches or self._world.calm or self._world.dice.chance(0.5):
            return [batches] if batches else []
        parts = [_halves(batch, self._world.dice.below(len(batch.offsets) + 1)) for batch in batches]
        halves = [tuple(half for pair in parts if (half := pair[side]).offsets) for side in (0, 1)]
        return [half for half in halves if half]

    def _cycle(self, generation: int, batches: tuple[Batch, ...]) -> Steps:
        world = self._world
        progress = not batches or world.dice.chance(world.progress_ratio)
        if not self._sessions:
            return
        routed = self._routing.route(self._reading(batches, progress))
        self.delicate = True
        yield
        deliveries = []
        for destination in sorted(routed.records):
            deliveries.append(self._producer.send((SHUFFLE, destination), routed.records[destination]))
            yield
        offsets = {_place(s): s.next_offset for s in routed.sessions}
        if world.mutation is Mutation.OUT_OF_ORDER:
            yield from self._settle_later(generation, deliveries, offsets)
        else:
            if world.mutation is Mutation.COMMIT_EARLY:
                self._commit(generation, offsets)
            yield from self._settle(deliveries)
            self._commit(generation, offsets)
        self._sessions = routed.sessions
        if progress:
            self.reported, self._ends = offsets, None
        self.delicate = False
        world.count("cycles")
        yield

    def _reading(self, batches: tuple[Batch, ...], progress: bool) -> Reading:
        reached = {at: session.next_offset for at, session in enumerate(self._sessions)}
        reached |= {batch.source: batch.next_offset for batch in batches}
        return Reading(
            sessions=self._sessions,
            batches=batches,
            config_version=self._version,
            bundle=self._world.bundles[self._version],
            progress=progress,
            at_end=frozenset(at for at, end in (self._ends or {}).items() if reached[at] >= end),
            topic_partitions={SOURCE: self._world.source_partitions},
        )

    def _settle(self, deliveries: Sequence[Delivery]) -> Steps:
        """Waits for every acknowledgement; one that does not come ends the process."""
        while any(delivery.in_flight for delivery in deliveries):
            yield
        if self._world.mutation is not Mutation.SKIP_FAILED:
            _die_of_errors(deliveries)

    def _settle_later(self, generation: int, deliveries: list[Delivery], offsets: dict[Place, int]) -> Steps:
        self._outstanding.append((deliveries, offsets))
        while len(self._outstanding) > 3:
            yield from self._settle(self._outstanding[0][0])
            self._commit(generation, self._outstanding.pop(0)[1])

    def _commit(self, generation: int, offsets: Mapping[Place, int]) -> None:
        try:
            self.group.commit(self.name, generation, offsets)
        except CommitRejected:
            self._world.count("commits_rejected")

    def _carry(self, cycles: Sequence[tuple[Batch, ...]]) -> None:
        if self._world.mutation is Mutation.CARRIED_BUFFER:
            self._carried = [(_place(self._sessions[b.source]), b) for batches in cycles for b in batches]

    def _take_carried(self) -> list[Batch]:
        carried, self._carried = self._carried, []
        source = {_place(session): at for at, session in enumerate(self._sessions)}
        return [replace(batch, source=source[place]) for place, batch in carried if place in source]


def _place(session: ReadSession) -> Place:
    return session.topic, session.partition


def _halves(batch: Batch, at: int) -> tuple[Batch, Batch]:
    middle = batch.offsets[at] if at < len(batch.offsets) else batch.next_offset
    return (
        replace(
            batch,
            offsets=batch.offsets[:at],
            times_ns=batch.times_ns[:at],
            values=batch.values[:at],
            next_offset=middle,
        ),
        replace(batch, offsets=batch.offsets[at:], times_ns=batch.times_ns[at:], values=batch.values[at:]),
    )


def _die_of_errors(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        if delivery.error is not None:
            raise ProcessDied(f"{delivery.place}: {delivery.error}")


@dataclass(slots=True)
class Held:
    """One partition that a state process has restored."""

    engine: Engine
    producer: Producer
    saved_offset: int
    outputs: list[Output] = field(default_factory=list)


class StateProcess:
    """Restore, fold, checkpoint; partition by partition."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.group = world.state_group
        self.delicate = False
        self.held: dict[int, Held] = {}
        self.producers: list[Producer] = []
        self._world = world
        self._generation = -1

    def run(self) -> Steps:
        """Folds for ever."""
        while True:
            places = self.group.assignment(self.name)
            if places is None:
                self.group.join(self.name)
            elif self.group.generation != self._generation:
                yield from self._rebalance()
            elif self.held:
                yield from self._work(self.held[sorted(self.held)[self._world.dice.below(len(self.held))]])
            yield

    def _rebalance(self) -> Steps:
        """Saves what it can, keeps what nobody else can have had, restores the rest."""
        for number in sorted(self.held):
            held = self.held[number]
            if held.engine.log_offset > held.saved_offset and self._world.dice.chance(0.5):
                yield from self._checkpoint(held)
        places = self.group.assignment(self.name)
        if places is None:
            return
        numbers = {partition for _, partition in places}
        kept = numbers if self.group.generation == self._generation + 1 else set()
        self.held = {number: held for number, held in self.held.items() if number in kept}
        self._generation = self.group.generation
        for number in sorted(numbers - self.held.keys()):
            yield from self._restore(number)

    def _restore(self, number: int) -> Steps:
        world = self._world
        fence = f"state-{number}" if world.mutation is not Mutation.NO_FENCING else f"{self.name}-{number}"
        producer = Producer(world.kafka, transactional_id=fence)
        self.producers.append(producer)
        yield
        claim = None
        if world.mutation is not Mutation.STALE_END:
            world.processes_started += 1
            claim = f"{self.name}/{world.processes_started}".encode()
            producer.begin()
            yield
            claimed = producer.send((STATE, number), claim, CLAIM_KEY)
            yield from self._settle([claimed])
            producer.commit()
            yield
        chunks = self._read_state(number)
        while claim is not None and chunks.get(CLAIM_KEY) != claim:
            yield
            chunks = self._read_state(number)
        chunks.pop(CLAIM_KEY, None)
        engine = Engine.restore(number, chunks)
        self.held[number] = Held(engine, producer, engine.log_offset)
        world.count("restores")

    def _read_state(self, number: int) -> dict[bytes, bytes]:
        partition = self._world.kafka.partition((STATE, number))
        end = partition.end_offset
        if self._world.dice.chance(self._world.stale_ratio):
            end = self._world.dice.below(end + 1)
        return latest(partition.read_committed(end))

    def _work(self, held: Held) -> Steps:
        self._fold(held)
        yield
        if held.engine.log_offset > held.saved_offset and self._world.dice.chance(self._world.checkpoint_ratio):
            yield from self._checkpoint(held)

    def _fold(self, held: Held) -> None:
        """Applies the next records, outputs wait for the checkpoint."""
        engine = held.engine
        log = self._world.kafka.partition((SHUFFLE, engine.partition))
        for entry in log.read(engine.log_offset + 1, limit=self._world.limit(4)):
            assert entry.value is not None
            held.outputs += engine.apply(entry.offset, entry.time_ns, entry.value)

    def _checkpoint(self, held: Held) -> Steps:
        """Writes chunks, outputs and manifest in one transaction; folding may go on meanwhile."""
        state, outputs, held.outputs = held.engine.checkpoint(), held.outputs, []
        number, producer = held.engine.partition, held.producer
        records: list[tuple[Place, bytes, bytes | None]] = [
            ((STATE, number), key, value) for key, value in state.chunks
        ]
        for output in outputs:
            rendered = render(output)
            records.append(((rendered.topic, number), rendered.key, rendered.value or None))
        manifest = ((STATE, number), *state.manifest)
        in_one = self._world.mutation is not Mutation.MANIFEST_FIRST
        self.delicate = True
        for _ in range(3):
            yield  # the worker does other things before the transaction begins
        if in_one:
            producer.begin()
            yield
        sent = []
        for place, key, value in [*records, manifest] if in_one else [manifest, *records]:
            sent.append(producer.send(place, value, key))
            if self._world.dice.chance(0.4):
                yield
            if self._world.dice.chance(0.05):
                self._fold(held)
        yield from self._settle(sent)
        if in_one:
            producer.commit()
        held.saved_offset = state.log_offset
        self.delicate = False
        self._world.count("checkpoints")
        yield

    def _settle(self, deliveries: Sequence[Delivery]) -> Steps:
        while any(delivery.in_flight for delivery in deliveries):
            yield
        _die_of_errors(deliveries)


def latest(entries: Sequence[Entry]) -> dict[bytes, bytes]:
    """Returns the last value of every key of a compacted topic; deleted keys are left out."""
    values: dict[bytes, bytes] = {}
    for entry in entries:
        assert entry.key is not None
        values.pop(entry.key, None)
        if entry.value is not None:
            values[entry.key] = entry.value
    return values
