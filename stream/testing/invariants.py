"""What must hold when a simulated pipeline has come to rest."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from math import ceil

import orjson

from stream.core.cells import Column
from stream.core.engine import Engine
from stream.core.engine.ledger import balance
from stream.core.engine.losses import losses_of
from stream.core.engine.state import SERIES
from stream.core.rendering import render
from stream.core.slo.sli import SLICE_ONE
from stream.core.slo.spec import Objective
from stream.core.units import SECOND_NS
from stream.testing.log import Kafka, Partition, Place
from stream.testing.processes import CLAIM_KEY, SHUFFLE, SOURCE, STATE, latest

Cell = tuple[str, int, bool]
"""Service key, minute, bad."""


@dataclass(slots=True)
class Expected:
    """The generator's own account of what it produced."""

    cells: Counter[Cell]
    rejected: int = 0
    clock_went_back_ns: int = 0

    @property
    def received(self) -> int:
        """Items produced."""
        return sum(self.cells.values()) + self.rejected


@dataclass(slots=True)
class Evidence:
    """Everything that a pipeline at rest has left behind, read as its users would."""

    kafka: Kafka
    partitions: int
    expected: Expected
    restored: list[Engine] = field(default_factory=list)
    snapshots: list[dict[bytes, bytes]] = field(default_factory=list)
    refolded: list[Engine] = field(default_factory=list)
    refolded_outputs: dict[Place, list[bytes]] = field(default_factory=dict)
    frontier_errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        times = _times_by_source(self.kafka)
        for number in range(self.partitions):
            chunks = latest(self.kafka.partition((STATE, number)).read_committed())
            chunks.pop(CLAIM_KEY, None)
            self.restored.append(Engine.restore(number, chunks))
            self.snapshots.append(self.restored[-1].snapshot())
            self.refolded.append(self._refold(number, self.kafka.partition((SHUFFLE, number)), times))

    def _refold(self, number: int, log: Partition, times: dict[int, list[int]]) -> Engine:
        """Returns a new engine that folded the whole log; its outputs are kept, its frontier is watched."""
        engine = Engine(number)
        for entry in log.read(0):
            assert entry.value is not None
            frontier_ns = engine.frontier_ns
            covered = {name: account.next_offset for name, account in engine.ledger.sources.items()}
            for output in engine.apply(entry.offset, entry.time_ns, entry.value):
                rendered = render(output)
                if rendered.value:
                    self.refolded_outputs.setdefault((rendered.topic, number), []).append(rendered.value)
            if frontier_ns is not None:
                self._check_frontier(engine, frontier_ns, covered, times)
        engine.checkpoint()
        return engine

    def _check_frontier(
        self, engine: Engine, frontier_ns: int, covered: dict[str, int], times: dict[int, list[int]]
    ) -> None:
        """What a record is the first to cover is not older than the frontier that stood before it."""
        for name, account in engine.ledger.sources.items():
            first = covered.get(name, 0)
            if account.next_offset <= first or account.topic != SOURCE:
                continue
            behind_ns = frontier_ns - times[account.partition][first] - self.expected.clock_went_back_ns
            if behind_ns > 0:
                self.frontier_errors.append(
                    f"partition {engine.partition}, record {engine.log_offset}: message {first} of source "
                    f"{account.partition} was not read, the frontier stood {behind_ns / SECOND_NS:.0f} s after it"
                )

    def outputs(self) -> dict[Place, list[bytes]]:
        """Returns what a read_committed reader sees of every output partition."""
        topics = sorted(place for place in self.kafka.partitions if place[0] not in (SOURCE, SHUFFLE, STATE))
        seen = {
            place: [entry.value for entry in self.kafka.partition(place).read_committed() if entry.value is not None]
            for place in topics
        }
        return {place: values for place, values in seen.items() if values}

    def digest(self) -> str:
        """Returns the SHA-256 of the final state and of all committed outputs."""
        sha = hashlib.sha256()
        for snapshot in self.snapshots:
            for key, value in sorted(snapshot.items()):
                sha.update(key + b"\0" + value)
        for place, values in sorted(self.outputs().items()):
            sha.update(repr(place).encode() + b"\0".join(values))
        return sha.hexdigest()


def _times_by_source(kafka: Kafka) -> dict[int, list[int]]:
    """Returns the running maximum of the timestamps of each source partition, by offset."""
    return {
        number: list(accumulate((entry.time_ns for entry in partition.read(0)), max))
        for (topic, number), partition in kafka.partitions.items()
        if topic == SOURCE
    }


def violations(evidence: Evidence) -> tuple[str, ...]:
    """Returns every broken invariant in plain words."""
    return (
        *_wrong_cells(evidence),
        *_wrong_ledger(evidence),
        *_wrong_composites(evidence),
        *_wrong_losses(evidence),
        *_repeated_outputs(evidence),
        *_other_outputs(evidence),
        *_other_state(evidence),
        *evidence.frontier_errors,
    )


def _wrong_cells(evidence: Evidence) -> list[str]:
    """Every produced event is counted once, under its service, minute and verdict."""
    counted: Counter[Cell] = Counter()
    minutes = {minute for _, minute, _ in evidence.expected.cells}
    for engine in evidence.restored:
        cells = engine.state.cells[SERIES]
        events = [(service, row) for (service, _, version), row in cells.index.items() if not version]
        for service, row in events:  # not what was lost
            ring = cells.rings[0]
            for minute in range(ring.base, ring.top):
                values = cells.minute(minute)[:, row]
                n, bad = int(values[Column.N]), int(values[Column.N_BAD])
                if n:
                    minutes.add(minute)
                    counted[(service, minute, True)] += bad
                    counted[(service, minute, False)] += n - bad
    wrong = {cell for cell in {*counted, *evidence.expected.cells} if counted[cell] != evidence.expected.cells[cell]}
    return [
        f"{service}, minute {minute}, {'bad' if bad else 'good'}: counted {counted[(service, minute, bad)]}, "
        f"produced {evidence.expected.cells[(service, minute, bad)]}"
        for service, minute, bad in sorted(wrong)
    ]


def _wrong_ledger(evidence: Evidence) -> list[str]:
    """received = counted + duplicate + late + rejected, nothing in flight, and received is what was produced."""
    accounts = balance(engine.ledger for engine in evidence.restored)
    wrong = [f"the ledger is not balanced: {account}" for account in accounts if not account.is_equal]
    wrong += [f"{account.in_flight} offsets are in flight: {account}" for account in accounts if account.in_flight]
    produced = [account for account in accounts if account.topic == SOURCE]
    received = sum(account.received for account in produced)
    rejected = sum(sum(account.rejected.values()) for account in produced)
    late = sum(account.late for account in produced)
    expected = (evidence.expected.received, evidence.expected.rejected, 0)
    if (received, rejected, late) != expected:
        wrong.append(f"received, rejected, late are {received, rejected, late}, produced were {expected}")
    return wrong


def _wrong_composites(evidence: Evidence) -> list[str]:
    """Each closed minute of a composite is what the minutes of its components make it, as they are in the end.

    But for those of which a component has not published its last: it does so when its next minute closes.
    """
    inputs = _component_minutes(evidence)
    wrong = []
    for engine in evidence.restored:
        stage = engine.composites
        for service in stage.services.values():
            for objective in service.objectives:
                start = service.states[objective.digest].start_minute
                if start is None or stage.next_minute is None:
                    continue
                row = stage.cells[SERIES].index.get((service.key, objective.digest, ""))
                for minute in range(start, stage.next_minute):
                    expected = _composed(objective, inputs, minute)
                    held = [0] * len(Column) if row is None else stage.cells[SERIES].minute(minute)[:, row].tolist()
                    found = held[Column.WEIGHT], held[Column.WEIGHT_BAD]
                    if expected is not None and expected != found:
                        wrong.append(f"{objective.name}, minute {minute}: {found}, its components make {expected}")
    return wrong


def _wrong_losses(evidence: Evidence) -> list[str]:
    """Where an objective asks what another lost, it holds of each minute what that says in the end.

    But for minutes that composites have not closed: of these not all need have been heard.
    """
    said = _component_minutes(evidence)
    closed = [engine.composites.next_minute or 0 for engine in evidence.restored if engine.composites.services]
    wrong = []
    for engine in evidence.restored:
        cells = engine.state.cells[SERIES]
        for (service, name), asking in engine.state.losses_asked.items():
            minutes = [minute for *of, minute in said if of == [service, name] and minute < min(closed)]
            for objective in asking:
                row = cells.index.get((objective.service, objective.digest, losses_of(name)))
                for minute in minutes:
                    cell = [0] * len(Column) if row is None else cells.minute(minute)[:, row].tolist()
                    found, expected = (cell[Column.WEIGHT], cell[Column.WEIGHT_BAD]), said[service, name, minute]
                    if found != expected:
                        wrong.append(f"{objective.service}, minute {minute}: lost {found}, {service} says {expected}")
    return wrong


def _component_minutes(evidence: Evidence) -> dict[tuple[str, str, int], tuple[int, int]]:
    """Returns weights, all and bad, by service, objective and minute, of what was published and not corrected since."""
    found: dict[tuple[str, str, int], tuple[int, int]] = {}
    for engine in evidence.restored:
        stage = engine.state
        for service in stage.services.values():
            for objective in service.objectives:
                own = service.states[objective.digest]
                row = stage.cells[SERIES].index.get((service.key, objective.digest, ""))
                if own.start_minute is None or stage.next_minute is None or row is None:
                    continue
                for minute in range(own.start_minute, stage.next_minute):
                    cell = stage.cells[SERIES].minute(minute)[:, row].tolist()
                    if minute not in own.revised:
                        found[service.key, objective.name, minute] = cell[Column.WEIGHT], cell[Column.WEIGHT_BAD]
    return found


def _composed(
    objective: Objective, inputs: dict[tuple[str, str, int], tuple[int, int]], minute: int
) -> tuple[int, int] | None:
    """Returns the weights of a minute of a composite; None where a component has not published its last."""
    assert objective.composite is not None
    total, bad = Fraction(0), Fraction(0)
    for component in objective.composite.components:
        said = inputs.get((component.service, component.objective, minute))
        if said is None:
            return None
        if said[0]:
            total += component.weight_exact
            bad += component.weight_exact * Fraction(said[1], said[0])
    return (SLICE_ONE, ceil(bad / total * SLICE_ONE)) if total else (0, 0)


def _repeated_outputs(evidence: Evidence) -> list[str]:
    ids = Counter(orjson.loads(value)["id"] for values in evidence.outputs().values() for value in values)
    return [f"output {name} was committed {times} times" for name, times in sorted(ids.items()) if times > 1]


def _other_outputs(evidence: Evidence) -> list[str]:
    """The committed outputs are those of a fresh fold, byte for byte and in order."""
    committed, folded = evidence.outputs(), evidence.refolded_outputs
    return [
        f"{topic}-{number}: {len(committed.get((topic, number), []))} outputs were committed, a fresh fold gives "
        f"{len(folded.get((topic, number), []))}, or others"
        for topic, number in sorted({*committed, *folded})
        if committed.get((topic, number)) != folded.get((topic, number))
    ]


def _other_state(evidence: Evidence) -> list[str]:
    """The restored state is that of a fresh fold of the whole log."""
    wrong = []
    for ours, refolded in zip(evidence.snapshots, evidence.refolded, strict=True):
        fresh = refolded.snapshot()
        differing = sorted(key for key in {*ours, *fresh} if ours.get(key) != fresh.get(key))
        if differing:
            wrong.append(f"partition {refolded.partition}: restored and fresh state differ in {differing}")
    return wrong
