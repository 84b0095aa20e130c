"""What the inputs of composites said of each minute that may still change: of each the latest revision.

It does not matter in which order, or how often, an indicator is read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from stream.core.slo.spec import Input, Objective
from stream.core.units import HOUR_MINUTES

HEARD_MINUTES = 7 * HOUR_MINUTES
"""Late rows correct an indicator for six hours; the rest is for its way here. Calendar periods settle after eight."""

_BEFORE = "before"


class Said(NamedTuple):
    """What an indicator said of one minute. Weights are in 2^-16."""

    revision: int
    events: int
    weight: int
    weight_bad: int
    gap: bool


@dataclass(frozen=True, slots=True)
class Before:
    """What is known of the minutes that were forgotten.

    Args:
        seen_minute: The newest of them with events; None where there is none.
        whole_from: Every one of them from here on was reported, and read whole.
    """

    seen_minute: int | None
    whole_from: int


class Heard:
    """What was heard of the inputs that are asked for."""

    def __init__(self) -> None:
        self.asking: dict[Input, list[Objective]] = {}
        """The composites that each input is asked for by."""
        self.changed: set[str] = set()
        """Chunks that are not as they were at the last checkpoint."""
        self._minutes: dict[int, dict[Input, Said]] = {}
        self._marks: dict[Input, tuple[list[int], list[int]]] = {}
        """Of each input the minutes that had events, and those that were read whole, in order."""
        self._before: dict[Input, Before] = {}
        self.floor: int | None = None
        """Minutes before it were forgotten; None before any minute closed."""

    def ask(self, composites: Iterable[Objective]) -> None:
        """Takes in which inputs are asked for, by which composites, and forgets all others. A composite is none."""
        listed = list(composites)
        own = {(o.service, o.name) for o in listed}
        self.asking = {}
        for objective in listed:
            assert objective.composite is not None
            for name in objective.composite.inputs:
                if name not in own:
                    self.asking.setdefault(name, []).append(objective)
        for minute in list(self._minutes):
            said = self._minutes[minute]
            kept = {name: one for name, one in said.items() if name in self.asking}
            if len(kept) < len(said):
                self._keep(minute, kept)
        self._marks = {name: marks for name, marks in self._marks.items() if name in self.asking}
        if self._before.keys() - self.asking.keys():
            self._before = {name: before for name, before in self._before.items() if name in self.asking}
            self.changed.add(_BEFORE)

    def take(self, name: Input, minute: int, said: Said) -> bool:
        """Takes in what an input that is asked for said of a minute. Returns whether it is new."""
        known = self.of(name, minute)
        if known is not None and known.revision >= said.revision:
            return False
        self._put(name, minute, said)
        self.changed.add(str(minute))
        return True

    def _put(self, name: Input, minute: int, said: Said) -> None:
        of_minute = self._minutes.setdefault(minute, {})
        marks = self._marks.setdefault(name, ([], []))
        for marked, was, is_now in zip(marks, _marks_of(of_minute.get(name)), _marks_of(said), strict=True):
            if was and not is_now:
                marked.remove(minute)
            elif is_now and not was:
                insort(marked, minute)
        of_minute[name] = said

    def of(self, name: Input, minute: int) -> Said | None:
        """Returns what an input said of a minute; None where nothing was heard."""
        return self._minutes.get(minute, {}).get(name)

    def is_complete(self, minute: int) -> bool:
        """Returns whether every input that is asked for has said something of a minute."""
        return len(self._minutes.get(minute, ())) == len(self.asking)

    def is_seen(self, name: Input, minute: int, within_minutes: int) -> bool | None:
        """Returns whether an input had events in the time that ends with a minute; None where that cannot be said.

        It had none only where every minute of the time was reported, and read whole.
        """
        first = minute + 1 - within_minutes
        held = first if self.floor is None else max(first, self.floor)
        seen, whole_minutes = self._marks.get(name, ([], []))
        if _count(seen, held, minute):
            return True
        whole = _count(whole_minutes, held, minute) == minute + 1 - held
        if first < held:
            before = self._before.get(name, Before(None, held))
            if before.seen_minute is not None and before.seen_minute >= first:
                return True
            whole &= before.whole_from <= first
        return False if whole else None

    def seen_after(self, name: Input, minute: int) -> int | None:
        """Returns the first minute after one in which an input had events; None where none is known."""
        seen, _ = self._marks.get(name, ([], []))
        at = bisect_right(seen, minute)
        return seen[at] if at < len(seen) else None

    def forget_before(self, minute: int) -> None:
        """Forgets the minutes before one; of these only what inventories need is kept."""
        first = min(self._minutes, default=minute) if self.floor is None else self.floor
        if first < minute:
            gone = sorted(at for at in self._minutes if at < minute)
            self._before = {name: self._before_of(name, first, gone, minute) for name in self.asking}
            self.changed |= {_BEFORE} if self.asking else set()
            for at in gone:
                self._keep(at, {})
            for marks in self._marks.values():
                for marked in marks:
                    del marked[: bisect_left(marked, minute)]
        self.floor = minute if self.floor is None else max(self.floor, minute)

    def _before_of(self, name: Input, first: int, gone: Sequence[int], minute: int) -> Before:
        """Returns what is known of an input when of the minutes [first, minute) those in `gone` held anything."""
        known = self._before.get(name, Before(None, first))
        seen_minute, whole_from, due = known.seen_minute, known.whole_from, first
        for at in gone:
            said = self._minutes[at].get(name)
            if said is not None and said.events:
                seen_minute = at
            if said is None or said.gap:
                whole_from = at + 1
            elif at > due:
                whole_from = at
            due = at + 1
        return Before(seen_minute, whole_from if due == minute else minute)

    def _keep(self, minute: int, said: dict[Input, Said]) -> None:
        if minute in self._minutes:
            self.changed.add(str(minute))
        if said:
            self._minutes[minute] = said
        else:
            self._minutes.pop(minute, None)

    def names(self) -> list[str]:
        """Returns the names of the chunks that hold anything, in order."""
        return [str(minute) for minute in sorted(self._minutes)] + ([_BEFORE] if self._before else [])

    def dump(self, name: str) -> bytes:
        """Returns the body of a chunk."""
        if name == _BEFORE:
            return orjson.dumps([[*key, b.seen_minute, b.whole_from] for key, b in sorted(self._before.items())])
        return orjson.dumps([[*key, *said] for key, said in sorted(self._minutes[int(name)].items())])

    def load(self, name: str, body: bytes) -> None:
        """Takes back a chunk."""
        entries = orjson.loads(body)
        if name == _BEFORE:
            self._before = {(s, o): Before(*rest) for s, o, *rest in entries}
        else:
            for s, o, *rest in entries:
                self._put((s, o), int(name), Said(*rest))


def _marks_of(said: Said | None) -> tuple[bool, bool]:
    """Returns whether a minute had events, and whether it was read whole."""
    return (False, False) if said is None else (said.events > 0, not said.gap)


def _count(minutes: list[int], first: int, last: int) -> int:
    """Returns how many of the minutes lie in [first, last]."""
    return bisect_right(minutes, last) - bisect_left(minutes, first)
