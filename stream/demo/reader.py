"""Reads the pipeline's results as a pager would: a plain consumer of committed records, outside any group."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stream.core.cells import Column
from stream.core.engine import Engine, Ledger, balance
from stream.core.engine.chunks import MANIFEST, ledger_of
from stream.core.engine.state import SERIES
from stream.demo.view import View
from stream.kafka.clients import Consumer, ConsumerRecord, TopicPartition, assigned_reader
from stream.kafka.state_reader import read_latest
from stream.kafka.state_store import CLAIM_KEY

OUTPUTS = ("sli", "burn-rate", "budget", "certificate", "deadletter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The product's ledger of one topic, summed over its partitions and those of the log.

    Args:
        offsets: Up to where each source partition is applied in every partition of the log.
        in_flight: Messages applied in some partitions of the log and not yet in others.
    """

    received: int
    counted: int
    duplicate: int
    late: int
    rejected: dict[str, int]
    replayed: int
    offsets: dict[int, int]
    in_flight: int


def accounts_of(ledgers: Iterable[Ledger], topic: str) -> Accounts:
    """Returns what the ledgers of all partitions of the log say of a source topic."""
    own = [entry for entry in balance(ledgers) if entry.topic == topic]
    rejected: Counter[str] = Counter()
    for entry in own:
        rejected.update(entry.rejected)
    return Accounts(
        received=sum(entry.received for entry in own),
        counted=sum(entry.counted for entry in own),
        duplicate=sum(entry.duplicate for entry in own),
        late=sum(entry.late for entry in own),
        rejected=dict(sorted(rejected.items())),
        replayed=sum(entry.replayed for entry in own),
        offsets={entry.partition: entry.next_offset - entry.in_flight for entry in own},
        in_flight=sum(entry.in_flight for entry in own),
    )


class ResultReader:
    """Follows the output topics and the accounts in the checkpoints.

    Args:
        consumer: A started reader of committed records; the caller stops it.
        prefix: Of the pipeline's topics.
        partitions: Partitions of the log, its state and its outputs.
        tell: Called with every line worth telling.
    """

    def __init__(self, consumer: Consumer, prefix: str, partitions: int, tell: Callable[[str], None]) -> None:
        self.view = View()
        self.ledgers = [Ledger() for _ in range(partitions)]
        self._consumer = consumer
        self._prefix = prefix
        self._assigned = [
            TopicPartition(prefix + name, number) for name in (*OUTPUTS, "state") for number in range(partitions)
        ]
        self._tell = tell

    @classmethod
    async def started(cls, bootstrap: str, prefix: str, partitions: int, tell: Callable[[str], None]) -> ResultReader:
        """Returns a reader at the beginning of the topics."""
        reader = cls(await assigned_reader(bootstrap), prefix, partitions, tell)
        reader.consumer.assign(reader._assigned)
        await reader.consumer.seek_to_beginning(*reader._assigned)
        return reader

    @property
    def consumer(self) -> Consumer:
        """The consumer, to be stopped."""
        return self._consumer

    async def follow(self) -> None:
        """Reads for ever."""
        while True:
            await self._read()
            await asyncio.sleep(0)

    async def read_to_end(self) -> None:
        """Reads what is committed by now. Not while `follow` runs."""
        ends = await self._consumer.end_offsets(self._assigned)
        while any([await self._consumer.position(at) < ends[at] for at in self._assigned]):
            await self._read()

    async def _read(self) -> None:
        for at, records in (await self._consumer.getmany(timeout_ms=200)).items():
            name = at.topic.removeprefix(self._prefix)
            for record in records:
                self._take(name, at.partition, record)

    def _take(self, name: str, partition: int, record: ConsumerRecord) -> None:
        if record.value is None:
            return
        if name == "state":
            if record.key == MANIFEST:
                self.ledgers[partition] = ledger_of(record.value)
            return
        for line in self.view.take(name, record.value):
            self._tell(line)


async def requests_by_objective(bootstrap: str, topic: str, partitions: int) -> dict[str, tuple[int, int]]:
    """Returns (requests, bad requests) of each objective in the last checkpoint, whether their minute closed or not.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        topic: The state topic.
        partitions: Its number of partitions.
    """
    totals: dict[str, tuple[int, int]] = {}
    stored = await read_latest(bootstrap, topic, range(partitions))
    for partition, chunks in stored.items():
        chunks.pop(CLAIM_KEY, None)
        totals |= _requests(Engine.restore(partition, chunks))
    return totals


def _requests(engine: Engine) -> dict[str, tuple[int, int]]:
    if engine.bundle is None:
        return {}
    cells, names = engine.state.cells[SERIES], {o.digest: o.name for o in engine.bundle.objectives}
    hours = cells.rings[-1]
    sums = hours.sum(hours.base, hours.top)
    return {
        names[digest]: (int(sums[Column.N, row]), int(sums[Column.N_BAD, row]))
        for (_, digest, version), row in cells.index.items()
        if not version  # neither slices nor what was lost
    }
