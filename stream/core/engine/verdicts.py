"""What becomes of each row of a record; each is judged once, and all of them are entered in the ledger."""

from __future__ import annotations

import numpy as np

from stream.core.columns import Array, RejectReason, Rows
from stream.core.engine.ledger import SourceLedger
from stream.core.engine.state import State
from stream.core.events import DeadLetter, Output
from stream.core.log import SourceRange

_WHY = {
    RejectReason.FUTURE: "ends more than 5 minutes after now: look at the clock of the sender",
    RejectReason.TOO_MANY_SERVICES: "more services than a partition may hold",
    RejectReason.TOO_MANY_VERSIONS: "more versions than a service may have",
}


class Verdicts:
    """The rows of a record that are still `open` (bool[n]), and what was refused of them."""

    def __init__(self, accounts: list[SourceLedger], rows: Rows) -> None:
        self.open = np.ones(len(rows), bool)
        self._accounts = accounts
        self._rows = rows
        self._refused: dict[tuple[int, RejectReason], Array] = {}
        self._entered = 0

    def replayed(self, mask: Array) -> None:
        """Our own replay repeated them."""
        for account, items in self._close(mask):
            account.replayed += items

    def late(self, mask: Array) -> None:
        """Their minute has left the rings."""
        for account, items in self._close(mask):
            account.late += items

    def reject(self, mask: Array, reason: RejectReason) -> None:
        """They are refused."""
        refused = np.flatnonzero(self.open & mask)
        for source in np.unique(self._rows.source[refused]).tolist():
            self._refused[source, reason] = refused[self._rows.source[refused] == source]
        for account, items in self._close(mask):
            account.rejected[reason.value] += items

    def count(self) -> None:
        """Whatever is still open was applied."""
        for account, items in self._close(self.open):
            account.counted += items
        assert self._entered == int(self._rows.count.sum()), "a row was lost between the record and the ledger"

    def dead_letters(self, state: State, sources: tuple[SourceRange, ...]) -> list[Output]:
        """Returns one dead letter per source and reason."""
        return [
            _dead_letter(state, sources[source], self._rows, index, reason)
            for (source, reason), index in sorted(self._refused.items())
        ]

    def _close(self, mask: Array) -> list[tuple[SourceLedger, int]]:
        closed = np.flatnonzero(self.open & mask)
        self.open = self.open & ~mask
        sums = np.zeros(len(self._accounts), np.int64)
        np.add.at(sums, self._rows.source[closed], self._rows.count[closed])
        self._entered += int(sums.sum())
        return [(self._accounts[i], int(sums[i])) for i in np.flatnonzero(sums)]


def _dead_letter(state: State, source: SourceRange, rows: Rows, index: Array, reason: RejectReason) -> DeadLetter:
    first, items = int(index[0]), int(rows.count[index].sum())
    name = f"{rows.services[rows.service[first]]} {rows.versions[rows.version[first]]}".strip()
    return DeadLetter(
        context=state.context(),
        topic=source.topic,
        topic_id=source.topic_id,
        partition=source.partition,
        offset=int(rows.offset[first]),
        reason=reason,
        items=items,
        digest=None,
        detail=f"{_WHY[reason]}; first of {items} up to offset {int(rows.offset[index[-1]])}: {name}",
    )
