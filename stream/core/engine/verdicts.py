"""What becomes of each row or point of a record: each is judged once, and all of them are entered in the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from stream.core.columns import Array, RejectReason, Rows
from stream.core.engine.ledger import SourceLedger
from stream.core.engine.state import State
from stream.core.events import DeadLetter, Output
from stream.core.log import SourceRange
from stream.core.points import Points

_WHY = {
    RejectReason.FUTURE: "ends more than 5 minutes after now: look at the clock of the sender",
    RejectReason.TOO_MANY_STREAMS: "more metric streams than a partition may hold: see the setting streams_max",
    RejectReason.SECOND_WRITER: "overlaps in time what the same stream said before: if several processes send it, give "
    "each its own service.instance.id",
    RejectReason.OUT_OF_RANGE: "starts after its time, counts below zero, or adds more than can be",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What rows and points have in common.

    Shapes: as the columns of these names in `Rows`; `time_ns` int64[n] is the time that an item belongs to, `count`
    int64[n] how many items it stands for, `begins` int64[messages] where the items of each message begin: those of one
    follow each other.
    """

    source: Array
    offset: Array
    service: Array
    version: Array
    time_ns: Array
    count: Array
    services: tuple[str, ...]
    versions: tuple[str, ...]
    begins: Array = field(init=False)

    def __post_init__(self) -> None:
        begins = np.ones(len(self), bool)
        begins[1:] = (self.offset[1:] != self.offset[:-1]) | (self.source[1:] != self.source[:-1])
        object.__setattr__(self, "begins", np.flatnonzero(begins))

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def of_rows(cls, rows: Rows) -> Self:
        """Returns rows as items: a row stands for `count` of them."""
        return cls(
            source=rows.source,
            offset=rows.offset,
            service=rows.service,
            version=rows.version,
            time_ns=rows.end_ns,
            count=rows.count,
            services=rows.services,
            versions=rows.versions,
        )

    @classmethod
    def of_points(cls, points: Points) -> Self:
        """Returns points as items, each of them one."""
        return cls(
            source=points.source,
            offset=points.offset,
            service=points.service,
            version=points.version,
            time_ns=points.time_ns,
            count=np.ones(len(points), np.int64),
            services=points.services,
            versions=points.versions,
        )

    def of_messages(self, messages: Array) -> Array:
        """Returns bool[n]: whether an item is of one of these messages, bool[messages]."""
        return np.repeat(messages, np.diff(self.begins, append=len(self)))


class Verdicts:
    """The items of a record that are still `open` (bool[n]), and what was refused of them."""

    def __init__(self, accounts: list[SourceLedger], items: Items) -> None:
        self.open = np.ones(len(items), bool)
        self._accounts = accounts
        self._items = items
        self._refused: dict[tuple[int, RejectReason], Array] = {}
        self._entered = 0

    def replayed(self, mask: Array) -> None:
        """Our own replay repeated them."""
        for account, items in self._close(mask):
            account.replayed += items

    def duplicate(self, mask: Array) -> None:
        """Their producer sent them twice."""
        for account, items in self._close(mask):
            account.duplicate += items

    def late(self, mask: Array) -> None:
        """Their minute has left the rings, or their stream has gone on without them."""
        for account, items in self._close(mask):
            account.late += items

    def reject(self, mask: Array, reason: RejectReason) -> None:
        """They are refused."""
        refused = np.flatnonzero(self.open & mask)
        for source in np.unique(self._items.source[refused]).tolist():
            self._refused[source, reason] = refused[self._items.source[refused] == source]
        for account, items in self._close(mask):
            account.rejected[reason.value] += items

    def count(self) -> None:
        """Whatever is still open was applied."""
        for account, items in self._close(self.open):
            account.counted += items
        assert self._entered == int(self._items.count.sum()), "a row was lost between the record and the ledger"

    def dead_letters(self, state: State, sources: tuple[SourceRange, ...]) -> list[Output]:
        """Returns one dead letter per source and reason."""
        return [
            _dead_letter(state, sources[source], self._items, index, reason)
            for (source, reason), index in sorted(self._refused.items())
        ]

    def _close(self, mask: Array) -> list[tuple[SourceLedger, int]]:
        mask = self.open & mask
        if not mask.any():
            return []
        self.open = self.open & ~mask
        sums = np.zeros(len(self._accounts), np.int64)
        begins = self._items.begins
        np.add.at(sums, self._items.source[begins], np.add.reduceat(self._items.count * mask, begins))
        self._entered += int(sums.sum())
        return [(self._accounts[i], int(sums[i])) for i in np.flatnonzero(sums)]


def _dead_letter(state: State, source: SourceRange, items: Items, index: Array, reason: RejectReason) -> DeadLetter:
    first, count = int(index[0]), int(items.count[index].sum())
    name = f"{items.services[items.service[first]]} {items.versions[items.version[first]]}".strip()
    return DeadLetter(
        context=state.context(),
        topic=source.topic,
        topic_id=source.topic_id,
        partition=source.partition,
        offset=int(items.offset[first]),
        reason=reason,
        items=count,
        digest=None,
        detail=f"{_WHY[reason]}; first of {count} up to offset {int(items.offset[index[-1]])}: {name}",
    )
