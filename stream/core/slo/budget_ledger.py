"""The budget ledger of one objective: what used its error budget up, entry by entry, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, Self

from stream.core.cells import Column

QUIET_MINUTES = 5
"""An incident is over when the error ratio over this many minutes is one that the budget allows."""

ENTRIES_MAX = 50
"""Entries that are remembered, newest last; all of them were published."""


class EntryKind(StrEnum):
    """What an entry tells of."""

    INCIDENT = "incident"
    """A stretch in which the budget burned faster than it may."""
    EXCLUSION = "exclusion"
    """Minutes that a budget adjustment leaves out."""
    INCLUSION = "inclusion"
    """Minutes that count again: the budget adjustment that left them out was removed."""
    DEPLOY = "deploy"
    """A version was seen for the first time."""
    BACKFILL = "backfill"
    """Input from before the objective was known that was counted later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the ledger. Minutes are half-open.

    Args:
        kind: What it tells of.
        start_minute: Its first minute.
        end_minute: The minute after its last; None while it goes on.
        n: Events, or slices, in it. Of minutes that several adjustments leave out the first one that is over has them.
        weight: Their weight, in the unit of the objective's cells.
        weight_bad: Of that, bad: what it took from the budget, or, for an exclusion, gave back.
        name: Of the adjustment or the version.
        reason: Of the adjustment.
    """

    kind: EntryKind
    start_minute: int
    end_minute: int | None = None
    n: int = 0
    weight: int = 0
    weight_bad: int = 0
    name: str = ""
    reason: str = ""

    def consumed(self, window_weight: int, coverage: Fraction, bad_ratio_max: Fraction) -> Fraction | None:
        """Returns the share of the window's whole budget that is in this entry, at mean traffic; None without data."""
        if window_weight == 0 or coverage == 0:
            return None
        return self.weight_bad / (Fraction(window_weight) / coverage * bad_ratio_max)

    def dump(self) -> dict[str, Any]:
        """Returns plain values; `load` gives back an equal one."""
        return asdict(self)

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        """Returns what `dump` wrote."""
        return cls(**{**body, "kind": EntryKind(body["kind"])})


@dataclass(slots=True)
class BudgetLedger:
    """The entries of an objective, and the incident that goes on."""

    entries: list[Entry] = field(default_factory=list)
    incident: Entry | None = None

    def add(self, entry: Entry) -> Entry:
        """Enters what is over, or has no end. Returns it."""
        self.entries = [*self.entries, entry][-ENTRIES_MAX:]
        return entry

    def close_minute(self, minute: int, cell: Sequence[int], burning: bool) -> Entry | None:
        """Takes in a closed minute. Returns the incident where it began or ended with it.

        Args:
            minute: The minute.
            cell: What counts against the budget in it.
            burning: Whether the error ratio of the last `QUIET_MINUTES` exceeds what the budget allows.
        """
        before = self.incident
        if before is None:
            if not burning or cell[Column.WEIGHT_BAD] <= 0:
                return None
            before = Entry(kind=EntryKind.INCIDENT, start_minute=minute)
        elif not burning:
            self.incident = None
            return self.add(Entry(**{**asdict(before), "end_minute": minute}))
        self.incident = Entry(
            kind=EntryKind.INCIDENT,
            start_minute=before.start_minute,
            n=before.n + cell[Column.N],
            weight=before.weight + cell[Column.WEIGHT],
            weight_bad=before.weight_bad + cell[Column.WEIGHT_BAD],
        )
        return self.incident if before.start_minute == minute else None

    def dump(self) -> dict[str, Any]:
        """Returns plain values; `load` gives back an equal one."""
        return {"entries": [e.dump() for e in self.entries], "incident": self.incident and self.incident.dump()}

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        """Returns what `dump` wrote."""
        incident = body["incident"]
        return cls([Entry.load(e) for e in body["entries"]], Entry.load(incident) if incident else None)
