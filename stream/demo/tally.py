"""What the generator knows it produced. It shares no code with the product: what both say must be equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MINUTE_NS = 60_000_000_000


@dataclass(slots=True)
class TopicTally:
    """The items of one topic and what must become of them. An undecodable message is one item."""

    messages: int = 0
    produced: int = 0
    counted: int = 0
    duplicate: int = 0
    late: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Tally:
    """Items by topic, counted items by service, requests (all, bad) by objective and minute."""

    topics: dict[str, TopicTally] = field(default_factory=dict)
    services: Counter[str] = field(default_factory=Counter)
    minutes: dict[tuple[str, int], list[int]] = field(default_factory=dict)

    def topic(self, topic: str) -> TopicTally:
        """Returns the tally of a topic, opened if it is new."""
        return self.topics.setdefault(topic, TopicTally())

    def message(
        self,
        topic: str,
        *,
        counted: int = 0,
        duplicate: int = 0,
        late: int = 0,
        rejected: Mapping[str, int] | None = None,
    ) -> None:
        """Enters one message and what must become of each of its items."""
        tally = self.topic(topic)
        tally.messages += 1
        tally.counted += counted
        tally.duplicate += duplicate
        tally.late += late
        tally.rejected.update(rejected or {})
        tally.produced += counted + duplicate + late + sum((rejected or {}).values())

    def requests(self, objective: str, end_ns: Sequence[int], bad: Sequence[bool]) -> None:
        """Enters the requests that an objective selects, by the minute in which each ended, or was exported."""
        for minute, n in Counter(at // MINUTE_NS for at in end_ns).items():
            self.minutes.setdefault((objective, minute), [0, 0])[0] += n
        for minute, n in Counter(at // MINUTE_NS for at, is_bad in zip(end_ns, bad, strict=True) if is_bad).items():
            self.minutes[objective, minute][1] += n

    @property
    def produced(self) -> int:
        """Items of all topics."""
        return sum(topic.produced for topic in self.topics.values())

    @property
    def objectives(self) -> dict[str, tuple[int, int]]:
        """Requests and bad requests by objective."""
        totals: dict[str, tuple[int, int]] = {}
        for (objective, _), (n, bad) in sorted(self.minutes.items()):
            before = totals.get(objective, (0, 0))
            totals[objective] = (before[0] + n, before[1] + bad)
        return totals
