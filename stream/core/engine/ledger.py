"""The ledger: every item of every source is accounted for. received = counted + duplicate + late + rejected(reason).

`received` and what a decoder rejected come from receipts, at the source's home partition; what became of the rows is
known where they were applied. So the equation holds over all partitions that cover the same offsets of a source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from stream.core.log import SourceRange


@dataclass(slots=True)
class SourceLedger:
    """The account of one source in one partition of the log.

    Args:
        next_offset: Every row and receipt of a lower offset that is meant for this partition has been applied.
        received: Items in the receipts.
        counted: Items applied to state, selected by an objective or not.
        duplicate: Items that the producer sent twice.
        late: Items whose minute had left the rings.
        rejected: Items refused, by reason.
        replayed: Items that our own replay repeated; outside the equation.
        lost_offsets: Offsets that expired before they were read; outside the equation, their items are unknown.
        lost_until: End of the last such range.
    """

    topic: str
    topic_id: str
    partition: int
    next_offset: int = 0
    received: int = 0
    counted: int = 0
    duplicate: int = 0
    late: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    lost_offsets: int = 0
    lost_until: int = 0

    @property
    def id(self) -> str:
        """The identity of the source."""
        return f"{self.topic_id}/{self.partition}"

    def dump(self) -> dict[str, Any]:
        """Returns the account as plain values, reasons in order."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "rejected": dict(sorted(self.rejected.items()))
        }

    @classmethod
    def load(cls, body: dict[str, Any]) -> SourceLedger:
        """Returns the account that `dump` wrote."""
        return cls(**{**body, "rejected": Counter(body["rejected"])})


class Ledger:
    """The accounts of all sources in one partition of the log."""

    def __init__(self, sources: Iterable[SourceLedger] = ()) -> None:
        self.sources = {source.id: source for source in sources}

    def source(self, source: SourceRange) -> SourceLedger:
        """Returns the account of a source, opened if it is new."""
        account = self.sources.get(source.id)
        if account is None:
            account = SourceLedger(source.topic, source.topic_id, source.partition)
            self.sources[source.id] = account
        return account

    def dump(self) -> list[dict[str, Any]]:
        """Returns the accounts as plain values, in the order of their ids."""
        return [self.sources[source].dump() for source in sorted(self.sources)]

    @classmethod
    def load(cls, body: list[dict[str, Any]]) -> Ledger:
        """Returns the ledger that `dump` wrote."""
        return cls(SourceLedger.load(entry) for entry in body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The ledger of one source over all partitions.

    `in_flight` offsets are applied in some partitions and not yet in others; while there are any, nothing is compared.
    """

    topic: str
    topic_id: str
    partition: int
    next_offset: int
    in_flight: int
    received: int
    counted: int
    duplicate: int
    late: int
    rejected: dict[str, int]
    replayed: int
    lost_offsets: int

    @property
    def is_equal(self) -> bool:
        """received = counted + duplicate + late + rejected."""
        return self.received == self.counted + self.duplicate + self.late + sum(self.rejected.values())


def balance(partitions: Iterable[Ledger]) -> list[Balance]:
    """Returns one balance per source over the ledgers of every partition of the log, ordered by topic and partition.

    A partition that never heard of a source counts as covering none of it.
    """
    ledgers = list(partitions)
    ids = {source for ledger in ledgers for source in ledger.sources}
    return sorted(
        (_balance([ledger.sources.get(source) for ledger in ledgers]) for source in ids),
        key=lambda b: (b.topic, b.topic_id, b.partition),
    )


def _balance(accounts: list[SourceLedger | None]) -> Balance:
    known = [account for account in accounts if account is not None]
    offsets = [account.next_offset if account is not None else 0 for account in accounts]
    rejected: Counter[str] = Counter()
    for account in known:
        rejected.update(account.rejected)
    return Balance(
        topic=known[0].topic,
        topic_id=known[0].topic_id,
        partition=known[0].partition,
        next_offset=max(offsets),
        in_flight=max(offsets) - min(offsets),
        received=sum(account.received for account in known),
        counted=sum(account.counted for account in known),
        duplicate=sum(account.duplicate for account in known),
        late=sum(account.late for account in known),
        rejected=dict(sorted(rejected.items())),
        replayed=sum(account.replayed for account in known),
        lost_offsets=max((account.lost_offsets for account in known), default=0),
    )
