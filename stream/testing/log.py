"""Kafka in memory, as far as exactly-once depends on it: partitions, idempotent producers, transactions, groups.

Nothing happens by itself. What a producer sends stays in flight until somebody calls `Network.deliver`; the markers
of a committed transaction are written by `Transactions.write_marker`; sessions and transactions time out when told to.
So a simulation decides the order of everything, and a seed replays it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stream.core.errors import StreamError

Place = tuple[str, int]
"""Topic and partition."""


class Refused(StreamError):
    """The broker refused a request for good; a process that gets this must end."""


class CommitRejected(StreamError):
    """The group has another generation by now: the next owner replays."""


class OutOfRange(StreamError):
    """The offset expired before it was read."""


class Marker(StrEnum):
    """The end of a transaction, as a record of each partition that it wrote to."""

    COMMIT = "commit"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a partition. `transaction` is 0 outside of transactions; a marker has neither key nor value."""

    offset: int
    time_ns: int
    key: bytes | None
    value: bytes | None
    transaction: int = 0
    marker: Marker | None = None


class Partition:
    """An append-only sequence of records that may lose its beginning to retention."""

    def __init__(self) -> None:
        self.first_offset = 0
        self._entries: list[Entry] = []

    @property
    def end_offset(self) -> int:
        """Offset of the next record."""
        return len(self._entries)

    def append(
        self,
        time_ns: int,
        value: bytes | None,
        *,
        key: bytes | None = None,
        transaction: int = 0,
        marker: Marker | None = None,
    ) -> int:
        """Writes a record and returns its offset."""
        offset = len(self._entries)
        self._entries.append(Entry(offset, time_ns, key, value, transaction, marker))
        return offset

    def expire(self, before_offset: int) -> None:
        """Deletes the records below an offset."""
        self.first_offset = max(self.first_offset, min(before_offset, self.end_offset))

    def read(self, offset: int, *, limit: int = 1 << 62, end: int | None = None) -> list[Entry]:
        """Returns records from `offset` on, markers left out, whatever became of their transactions.

        Raises:
            OutOfRange: The offset has expired.
        """
        if offset < self.first_offset:
            raise OutOfRange(f"offset {offset} is gone, the first is {self.first_offset}")
        stop = self.end_offset if end is None else end
        return [entry for entry in self._entries[offset : min(stop, offset + limit)] if entry.marker is None]

    def read_committed(self, end: int | None = None) -> list[Entry]:
        """Returns what a read_committed reader sees of the whole partition.

        Args:
            end: Only the records below it: the answer of a replica that stood still at that time.
        """
        prefix = self._entries[self.first_offset : self.end_offset if end is None else end]
        ended = {entry.transaction: entry.marker for entry in prefix if entry.marker is not None}
        seen: list[Entry] = []
        for entry in prefix:
            if entry.transaction and entry.transaction not in ended:
                break  # the last stable offset
            if entry.marker is None and ended.get(entry.transaction) is not Marker.ABORT:
                seen.append(entry)
        return seen

    def read_stable(self, offset: int, *, limit: int = 1 << 62) -> tuple[list[Entry], int]:
        """Returns what a read_committed consumer gets from `offset` on, and where it goes on: beyond markers, too."""
        ended = {entry.transaction: entry.marker for entry in self._entries if entry.marker is not None}
        seen: list[Entry] = []
        for entry in self._entries[offset:]:
            if (entry.transaction and entry.transaction not in ended) or len(seen) == limit:
                return seen, entry.offset
            if entry.marker is None and ended.get(entry.transaction) is not Marker.ABORT:
                seen.append(entry)
        return seen, self.end_offset


@dataclass(slots=True)
class Delivery:
    """One record on its way, as its producer sees it."""

    place: Place
    key: bytes | None
    value: bytes | None
    transaction: int = 0
    acknowledged: bool = False
    error: str | None = None

    @property
    def in_flight(self) -> bool:
        """Nobody knows yet."""
        return not self.acknowledged and self.error is None


class Producer:
    """A producer of one process. Idempotent: per partition records land in the order of sending, each once.

    Args:
        kafka: Where to.
        transactional_id: Fences the earlier producers of that id and aborts what they left open.
        in_order: False: as without idempotence, records of one partition may overtake each other.
    """

    def __init__(self, kafka: Kafka, *, transactional_id: str | None = None, in_order: bool = True) -> None:
        self.in_order = in_order
        self.alive = True
        self.number = kafka.next_producer()
        self._kafka = kafka
        self._id = transactional_id
        self._epoch = kafka.transactions.init(transactional_id) if transactional_id is not None else 0
        self._transaction = 0

    def begin(self) -> None:
        """Opens a transaction.

        Raises:
            Refused: Fenced.
        """
        assert self._id is not None
        self._transaction = self._kafka.transactions.begin(self._id, self._epoch)

    def send(self, place: Place, value: bytes | None, key: bytes | None = None) -> Delivery:
        """Puts a record on its way."""
        delivery = Delivery(place, key, value, self._transaction)
        self._kafka.network.take(self, delivery)
        return delivery

    def commit(self) -> None:
        """Commits the transaction; its markers are written later.

        Raises:
            Refused: Fenced, or timed out.
        """
        assert self._id is not None
        self._kafka.transactions.commit(self._id, self._epoch, self._transaction)
        self._transaction = 0


class Network:
    """What is in flight, per producer and partition."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._queues: dict[tuple[int, Place], tuple[Producer, deque[Delivery]]] = {}

    def take(self, producer: Producer, delivery: Delivery) -> None:
        """Accepts a record."""
        self._queues.setdefault((producer.number, delivery.place), (producer, deque()))[1].append(delivery)

    @property
    def queues(self) -> int:
        """How many queues hold something."""
        return len(self._queues)

    def deliver(self, choice: int, *, position: int = 0) -> None:
        """Lets the head of a queue land and acknowledges it.

        Args:
            choice: Which queue, modulo their number.
            position: Which record of it, modulo its length, where the producer does not keep the order.
        """
        key, producer, queue = self._chosen(choice)
        at = 0 if producer.in_order else position % len(queue)
        delivery = queue[at]
        del queue[at]
        delivery.error = self._kafka.land(delivery)
        delivery.acknowledged = delivery.error is None
        self._forget_empty(key)

    def lose(self, choice: int) -> None:
        """Loses the head of a queue: its producer learns that it failed, or, when that is dead, loses all of it."""
        key, producer, queue = self._chosen(choice)
        if producer.alive:
            queue.popleft().error = "not acknowledged in time"
        else:
            queue.clear()
        self._forget_empty(key)

    def producer_is_alive(self, choice: int) -> bool:
        """Returns whether somebody waits for that queue."""
        return self._chosen(choice)[1].alive

    def _chosen(self, choice: int) -> tuple[tuple[int, Place], Producer, deque[Delivery]]:
        key = list(self._queues)[choice % len(self._queues)]
        return key, *self._queues[key]

    def _forget_empty(self, key: tuple[int, Place]) -> None:
        if not self._queues[key][1]:
            del self._queues[key]


@dataclass(slots=True)
class _Transaction:
    number: int
    places: list[Place] = field(default_factory=list)
    ending: Marker | None = None


@dataclass(slots=True)
class _Owner:
    epoch: int = 0
    transaction: _Transaction | None = None


class Transactions:
    """The transaction coordinator: the newest epoch of each id may write, and only into its open transaction."""

    def __init__(self, append: Callable[[Place, int, Marker], None]) -> None:
        self._append = append
        self._owners: dict[str, _Owner] = {}
        self._open: dict[int, _Transaction] = {}
        self._started = 0

    def init(self, name: str) -> int:
        """Returns a new epoch of an id; the transaction of the epoch before is ended first."""
        owner = self._owners.setdefault(name, _Owner())
        self._end(owner, Marker.ABORT)
        owner.epoch += 1
        return owner.epoch

    def begin(self, name: str, epoch: int) -> int:
        """Returns the number of a new transaction."""
        owner = self._current(name, epoch)
        self._end(owner, Marker.ABORT)
        self._started += 1
        owner.transaction = self._open[self._started] = _Transaction(self._started)
        return self._started

    def commit(self, name: str, epoch: int, number: int) -> None:
        """Decides that a transaction is committed."""
        owner = self._current(name, epoch)
        if owner.transaction is None or owner.transaction.number != number or owner.transaction.ending is not None:
            raise Refused(f"{name}: transaction {number} is not open")
        owner.transaction.ending = Marker.COMMIT

    def refusal(self, number: int, place: Place) -> str | None:
        """Returns why a record may not join a transaction any more, or notes its partition."""
        transaction = self._open.get(number)
        if transaction is None or transaction.ending is not None:
            return f"transaction {number} is not open"
        if place not in transaction.places:
            transaction.places.append(place)
        return None

    def write_marker(self, choice: int) -> bool:
        """Writes one outstanding marker; returns whether there was one."""
        ending = [owner for owner in self._owners.values() if owner.transaction and owner.transaction.ending]
        if ending:
            self._write_one(ending[choice % len(ending)])
        return bool(ending)

    def time_out(self) -> None:
        """Ends every open transaction and fences its producer."""
        for owner in self._owners.values():
            if owner.transaction is not None and owner.transaction.ending is None:
                self._end(owner, Marker.ABORT)
                owner.epoch += 1

    def _current(self, name: str, epoch: int) -> _Owner:
        owner = self._owners[name]
        if owner.epoch != epoch:
            raise Refused(f"{name}: epoch {epoch} is fenced by {owner.epoch}")
        return owner

    def _end(self, owner: _Owner, otherwise: Marker) -> None:
        """Completes the transaction: as it was decided, or `otherwise`."""
        if owner.transaction is None:
            return
        owner.transaction.ending = owner.transaction.ending or otherwise
        while owner.transaction is not None:
            self._write_one(owner)

    def _write_one(self, owner: _Owner) -> None:
        transaction = owner.transaction
        assert transaction is not None
        assert transaction.ending is not None
        if transaction.places:
            self._append(transaction.places.pop(0), transaction.number, transaction.ending)
        if not transaction.places:
            del self._open[transaction.number]
            owner.transaction = None


class Group:
    """A consumer group: members share the partitions, generations fence commits.

    There is no barrier: a member goes on with its old assignment until it looks. Kafka is kinder than that.
    """

    def __init__(self, places: Iterable[Place]) -> None:
        self.generation = 0
        self.committed: dict[Place, int] = {}
        self._places = list(places)
        self._members: list[str] = []

    def join(self, member: str) -> None:
        """Adds a member; everything is assigned anew."""
        assert member not in self._members
        self._members.append(member)
        self.generation += 1

    def remove(self, member: str) -> bool:
        """Removes a member, where it is one; everything is assigned anew."""
        if member not in self._members:
            return False
        self._members.remove(member)
        self.generation += 1
        return True

    def clear(self) -> None:
        """Removes all members."""
        self._members.clear()
        self.generation += 1

    def assignment(self, member: str) -> tuple[Place, ...] | None:
        """Returns a member's partitions under the current generation; None: it is no member."""
        if member not in self._members:
            return None
        turn = self._members.index(member) + self.generation
        count = len(self._members)
        return tuple(place for at, place in enumerate(self._places) if at % count == turn % count)

    def commit(self, member: str, generation: int, offsets: Mapping[Place, int]) -> None:
        """Stores offsets.

        Raises:
            CommitRejected: The member is gone, or of another generation.
        """
        if member not in self._members or generation != self.generation:
            raise CommitRejected(f"{member} of generation {generation} commits, the group is at {self.generation}")
        self.committed.update(offsets)


class Kafka:
    """All partitions, everything in flight and all coordinators."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.partitions: dict[Place, Partition] = {}
        self.transactions = Transactions(self._write_marker)
        self.network = Network(self)
        self._producers = 0

    def next_producer(self) -> int:
        """Returns the id of a new producer."""
        self._producers += 1
        return self._producers

    def partition(self, place: Place) -> Partition:
        """Returns a partition; there are as many as are asked for."""
        found = self.partitions.get(place)
        if found is None:
            found = self.partitions[place] = Partition()
        return found

    def land(self, delivery: Delivery) -> str | None:
        """Appends a record under the broker's clock, or returns why not."""
        if delivery.transaction:
            refusal = self.transactions.refusal(delivery.transaction, delivery.place)
            if refusal is not None:
                return refusal
        self.partition(delivery.place).append(
            self.now_ns, delivery.value, key=delivery.key, transaction=delivery.transaction
        )
        return None

    def _write_marker(self, place: Place, transaction: int, marker: Marker) -> None:
        self.partition(place).append(self.now_ns, None, transaction=transaction, marker=marker)
