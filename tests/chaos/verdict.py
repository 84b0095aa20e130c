"""What is compared at the end: checkpoints, outputs and log, with the load's own ledger and with each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson

from stream.core.cells import Column
from stream.core.engine import Balance, Engine, balance
from stream.core.engine.state import SERIES, VERSIONS
from stream.core.rendering import render
from stream.kafka.clients import ConsumerRecord, TopicPartition
from stream.kafka.state_store import CLAIM_KEY
from tests.chaos.reader import Tail, read_all
from tests.chaos.workload import COUNTED, FUTURE, LATE, UNDECODABLE, Cell, FeedLedger

OUTPUTS = ("sli", "burn-rate", "budget", "certificate", "status", "deadletter")
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison and what it found."""

    name: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'}  {self.name}: {self.detail}"


@dataclass(slots=True)
class Chunks:
    """The checkpoints as a read_committed reader sees them; the manifest is that of the last one."""

    by_partition: dict[int, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, record: ConsumerRecord) -> None:
        """Takes in a record of the state topic."""
        assert record.key is not None
        chunks = self.by_partition[record.partition]
        if record.value is None:
            chunks.pop(record.key, None)
        elif record.key != CLAIM_KEY:
            chunks[record.key] = record.value

    def restored(self, partition: int) -> Engine:
        """Returns the fold as the next worker would restore it."""
        return Engine.restore(partition, self.by_partition[partition])


@dataclass(slots=True)
class Outputs:
    """Output events as a reader saw them, by topic and partition, in order: (id, bytes)."""

    prefix: str
    seen: dict[tuple[str, int], list[tuple[str, bytes]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, record: ConsumerRecord) -> None:
        """Takes in a record of an output topic."""
        assert record.value is not None
        identity = orjson.loads(record.value)["id"]
        self.seen[record.topic.removeprefix(self.prefix), record.partition].append((identity, record.value))

    def __len__(self) -> int:
        return sum(map(len, self.seen.values()))

    def repeated(self) -> list[str]:
        """Returns the ids that were seen more than once."""
        counts = Counter((topic, identity) for (topic, _), events in self.seen.items() for identity, _ in events)
        return [f"{topic} {identity} {n} times" for (topic, identity), n in counts.items() if n > 1]

    def conflicting(self) -> list[str]:
        """Returns the ids that were seen with different bytes."""
        values: dict[tuple[str, str], set[bytes]] = defaultdict(set)
        for (topic, _), events in self.seen.items():
            for identity, value in events:
                values[topic, identity].add(value)
        return [f"{topic} {identity}" for (topic, identity), found in values.items() if len(found) > 1]


def output_partitions(prefix: str, partitions: int) -> list[TopicPartition]:
    """Returns all partitions of all output topics."""
    return [TopicPartition(f"{prefix}{topic}", number) for topic in OUTPUTS for number in range(partitions)]


def partitions_of(topic: str, partitions: int) -> list[TopicPartition]:
    """Returns all partitions of a topic."""
    return [TopicPartition(topic, number) for number in range(partitions)]


# 1. cells


def cells_of(engines: Iterable[Engine], digests: Mapping[str, str], ring: int) -> Counter[Cell]:
    """Returns the counters of one ring of all versions, under the ledger's keys; `minute` is the ring's period.

    Args:
        engines: One per partition.
        digests: Name of the objective by service key and digest, joined by a blank.
        ring: 0 for minutes, 1 for ten minutes, 2 for hours.
    """
    found: Counter[Cell] = Counter()
    for engine in engines:
        for (service, digest, version), values in _periods(engine, VERSIONS, ring):
            objective = digests[f"{service} {digest}"]
            for period, n, bad in values:
                found[objective, service, version, period, True] += bad
                found[objective, service, version, period, False] += n - bad
    return +found


def _periods(
    engine: Engine, store: str, ring: int
) -> Iterable[tuple[tuple[str, str, str], list[tuple[int, int, int]]]]:
    cells = engine.state.cells[store]
    held = cells.rings[ring]
    for key, row in sorted(cells.index.items()):
        counters = held.row(row, held.base, held.top)
        n, bad = counters[Column.N], counters[Column.N_BAD]
        yield key, [(held.base + int(i), int(n[i]), int(bad[i])) for i in np.flatnonzero(n | bad)]


def expected_cells(ledger: FeedLedger, period_minutes: int) -> Counter[Cell]:
    """Returns the ledger's cells by period."""
    found: Counter[Cell] = Counter()
    for (objective, service, version, minute, bad), n in ledger.cells.items():
        found[objective, service, version, minute // period_minutes, bad] += n
    return found


def check_cells(name: str, engines: Sequence[Engine], digests: Mapping[str, str], ledger: FeedLedger) -> Check:
    """Compares every cell of every ring with the ledger; series over all versions are the sums of the versions."""
    wrong: list[str] = []
    cells = 0
    for ring, held in enumerate(engines[0].state.cells[VERSIONS].rings):
        found = cells_of(engines, digests, ring)
        expected = expected_cells(ledger, held.spec.period_minutes)
        cells += len(expected)
        wrong += [
            f"{held.spec.name} {key}: {found[key]} in state, {expected[key]} sent"
            for key in sorted(found.keys() | expected.keys())
            if found[key] != expected[key]
        ]
        wrong += _sums_differ(engines, ring)
    return _check(name, wrong, f"{cells} cells in 3 rings, {sum(ledger.cells.values()) // 2} events")


def _sums_differ(engines: Sequence[Engine], ring: int) -> list[str]:
    wrong = []
    for engine in engines:
        rest: Counter[tuple[str, str, int, str]] = Counter()
        for store, sign in ((VERSIONS, 1), (SERIES, -1)):
            for (service, digest, _), values in _periods(engine, store, ring):
                for period, n, bad in values:
                    rest[service, digest, period, "n"] += sign * n
                    rest[service, digest, period, "bad"] += sign * bad
        wrong += [f"ring {ring} {key}: versions do not sum up to the whole" for key, n in rest.items() if n]
    return wrong


# 2. ledger


def check_ledger(engines: Sequence[Engine], ledger: FeedLedger) -> tuple[Check, int]:
    """Compares the accounts with what was produced. Returns also how many items were replayed."""
    balances = balance(engine.ledger for engine in engines)
    wrong = [f"{len(ledger.unclear)} sends without a clear answer: {ledger.unclear[0]}"] if ledger.unclear else []
    for topic in sorted({topic for topic, _ in ledger.items}):
        wrong += _account_differs(topic, [b for b in balances if b.topic == topic], ledger)
    covered = {(b.topic, b.partition): b.next_offset for b in balances}
    wrong += [
        f"{source} covered up to {covered.get(source)} of {end}"
        for source, end in ledger.next_offsets.items()
        if covered.get(source) != end
    ]
    replayed = sum(b.replayed for b in balances)
    counted, received = sum(b.counted for b in balances), sum(b.received for b in balances)
    duplicate = sum(b.duplicate for b in balances)
    left = f"late {sum(b.late for b in balances)}, rejected {sum(sum(b.rejected.values()) for b in balances)}"
    said = f"produced {ledger.produced} = received {received} = counted {counted} + duplicate {duplicate} + {left}"
    return _check("ledger", wrong, f"{said}; replayed {replayed}"), replayed


def _account_differs(topic: str, balances: Sequence[Balance], ledger: FeedLedger) -> list[str]:
    rejected: Counter[str] = Counter()
    for entry in balances:
        rejected.update(entry.rejected)
    found = {
        "received": sum(b.received for b in balances),
        "counted": sum(b.counted for b in balances),
        "duplicate": sum(b.duplicate for b in balances),
        "late": sum(b.late for b in balances),
        "rejected(future)": rejected.pop("future", 0),
        "rejected(else)": sum(rejected.values()),
        "in flight": sum(b.in_flight for b in balances),
        "lost": sum(b.lost_offsets for b in balances),
        "unequal": sum(not b.is_equal for b in balances),
    }
    sent = {fate: ledger.items[topic, fate] for fate in (COUNTED, LATE, FUTURE, UNDECODABLE)}
    wanted = {
        "received": sum(sent.values()),
        "counted": sent[COUNTED],
        "late": sent[LATE],
        "rejected(future)": sent[FUTURE],
        "rejected(else)": sent[UNDECODABLE],
    }
    return [f"{topic}: {what} {n}, not {wanted.get(what, 0)}" for what, n in found.items() if n != wanted.get(what, 0)]


# 3. and 4. outputs, and the fold of the whole log


@dataclass(slots=True)
class Log:
    """The shuffle log of one partition after the other."""

    records: dict[int, list[ConsumerRecord]] = field(default_factory=lambda: defaultdict(list))

    def take(self, record: ConsumerRecord) -> None:
        """Takes in a record of the log."""
        self.records[record.partition].append(record)

    def folded(self, partition: int, last_offset: int, outputs: Outputs) -> Engine:
        """Returns the fold of the log up to an offset; what it puts out is added to `outputs`."""
        engine = Engine(partition)
        for record in self.records[partition]:
            if record.offset > last_offset:
                break
            assert record.value is not None
            for output in engine.apply(record.offset, record.timestamp * 1_000_000, record.value):
                rendered = render(output)
                assert rendered.value, "no objective is withdrawn"
                outputs.seen[rendered.topic, partition].append((rendered.id, rendered.value))
        engine.checkpoint()  # a snapshot is that of a saved state
        return engine


def check_seen_once(committed: Outputs, everything: Outputs) -> Check:
    """A read_committed reader saw each id once; whoever reads everything sees one content per id."""
    wrong = [f"repeated: {entry}" for entry in committed.repeated()]
    wrong += [f"different bytes: {entry}" for entry in everything.conflicting()]
    aborted = len(everything) - len(committed)
    topics = Counter(dict.fromkeys(OUTPUTS, 0))
    for (topic, _), events in committed.seen.items():
        topics[topic] += len(events)
    wrong += [f"not one {topic}" for topic in ("sli", "deadletter") if not topics[topic]]
    said = ", ".join(f"{n} {topic}" for topic, n in topics.items())
    return _check("outputs once", wrong, f"{said}; {aborted} of aborted transactions")


async def check_fold(name: str, bootstrap: str, prefix: str, restored: Sequence[Engine], committed: Outputs) -> Check:
    """The fold of the whole log is the restored state, and its outputs are the committed ones, in order."""
    log, expected = Log(), Outputs(prefix)
    partitions = partitions_of(f"{prefix}shuffle", len(restored))
    await read_all(bootstrap, partitions, log.take, isolation="read_uncommitted")
    wrong = []
    for engine in restored:
        folded = log.folded(engine.partition, engine.log_offset, expected)
        if folded.log_offset != engine.log_offset:
            wrong.append(f"partition {engine.partition}: the log ends before {engine.log_offset}")
        ours, theirs = folded.snapshot(), engine.snapshot()
        differ = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if differ:
            wrong.append(f"partition {engine.partition}: {len(differ)} chunks differ, {differ[:_SHOWN]}")
    for place in sorted(expected.seen.keys() | committed.seen.keys()):
        ours_seen, theirs_seen = expected.seen.get(place, []), committed.seen.get(place, [])
        if ours_seen != theirs_seen:
            missing = len({i for i, _ in ours_seen} - {i for i, _ in theirs_seen})
            extra = len({i for i, _ in theirs_seen} - {i for i, _ in ours_seen})
            wrong.append(f"{place}: {len(ours_seen)} due, {len(theirs_seen)} seen, {missing} missing, {extra} extra")
    records = sum(map(len, log.records.values()))
    return _check(name, wrong, f"{records} log records folded again, {len(expected)} outputs")


def _check(name: str, wrong: Sequence[str], said: str) -> Check:
    if not wrong:
        return Check(name=name, passed=True, detail=said)
    more = f" … and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Check(name=name, passed=False, detail="; ".join(wrong[:_SHOWN]) + more)


async def restored_engines(chunks: Chunks, tail: Tail, partitions: int) -> list[Engine]:
    """Returns the fold of every partition as the next worker would restore it now."""
    await tail.catch_up()
    return [chunks.restored(number) for number in range(partitions)]
