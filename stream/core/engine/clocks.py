"""The two clocks of a partition, both read from the log: `now` and the frontier."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stream.core.engine.spans import merged, minutes_within
from stream.core.log import LogRecord
from stream.core.units import MINUTE_NS, minute_of

SourceName = tuple[str, int]
"""Topic and partition: a source in time. (Its offsets also need the topic id; its time does not.)"""


class Clocks:
    """`now` is the running maximum of append times; the frontier is the time up to which every source has been read.

    A source that was never heard of holds the frontier back: a gap shows itself.
    """

    def __init__(self) -> None:
        self.now_ns = 0
        self.frontier_ns: int | None = None
        self.until_ns: dict[SourceName, int] = {}
        self.began_ns: dict[SourceName, int] = {}
        self.topic_partitions: dict[str, int] = {}
        self.gap_from_ns: dict[SourceName, int] = {}
        self.gaps: list[tuple[int, int]] = []

    def tick(self, time_ns: int) -> None:
        """Takes in the append time of a record."""
        self.now_ns = max(self.now_ns, time_ns)

    def lose(self, source: SourceName) -> None:
        """Marks that messages of a source expired unread: the minutes from here to where it goes on are incomplete."""
        if source in self.until_ns:
            self.gap_from_ns.setdefault(source, self.until_ns[source])

    def progress(self, record: LogRecord, acknowledged_ns: int | None) -> None:
        """Takes in a record's progress section.

        Args:
            record: A record with progress.
            acknowledged_ns: Append time of the same process's progress record before this one; None for its first. A
                source's end was asked for after that one was acknowledged, so one read to its end was read up to there.
        """
        assert record.progress is not None
        for topic, partitions in record.progress.topic_partitions.items():
            self.topic_partitions[topic] = max(self.topic_partitions.get(topic, 0), partitions)
        for entry in record.progress.sources:
            source = (record.sources[entry.source].topic, record.sources[entry.source].partition)
            if entry.until_ns is not None:
                self._advance(source, min(entry.until_ns, self.now_ns))
            if entry.began_ns is not None:
                self.began_ns.setdefault(source, entry.began_ns)
            if entry.at_end and acknowledged_ns is not None:
                self._advance(source, acknowledged_ns)

    def _advance(self, source: SourceName, until_ns: int) -> None:
        self.until_ns[source] = max(self.until_ns.get(source, until_ns), until_ns)
        gap_from_ns = self.gap_from_ns.get(source)
        if gap_from_ns is not None and self.until_ns[source] > gap_from_ns:
            del self.gap_from_ns[source]
            self.add_gap(minute_of(gap_from_ns), minute_of(self.until_ns[source]) + 1)

    def add_gap(self, first: int, last: int) -> None:
        """Marks the minutes [first, last) as not read whole."""
        self.gaps = list(merged([*self.gaps, (first, last)]))

    def forget_gaps(self, before_minute: int) -> None:
        """Forgets gaps that ended before a minute."""
        self.gaps = [(start, end) for start, end in self.gaps if end > before_minute]

    def move_frontier(self, topics: Iterable[str]) -> None:
        """Recomputes the frontier over the sources of `topics`. It never goes back."""
        times = []
        for topic in topics:
            partitions = self.topic_partitions.get(topic)
            if partitions is None:
                return
            times += [self.until_ns.get((topic, partition)) for partition in range(partitions)]
        known = [time_ns for time_ns in times if time_ns is not None]
        if len(known) < len(times) or not known:
            return
        self.frontier_ns = max(self.frontier_ns or 0, min(known))

    def laggards(self, topics: Iterable[str]) -> list[tuple[str, int, int | None]]:
        """Returns (topic, partition, time) of every source of `topics`, the one that holds the frontier back first."""
        sources = [
            (topic, partition, self.until_ns.get((topic, partition)))
            for topic in topics
            for partition in range(self.topic_partitions.get(topic, 1))
        ]
        return sorted(sources, key=lambda source: (source[2] is not None, source[2] or 0, source[:2]))

    def history_start_minute(self, topics: Iterable[str]) -> int:
        """Returns the first minute that was read whole: the sources' first messages, rounded up to a full minute."""
        assert self.frontier_ns is not None
        wanted = set(topics)
        began = [time_ns for (topic, _), time_ns in self.began_ns.items() if topic in wanted]
        return -(-max(began, default=self.frontier_ns) // MINUTE_NS)

    def gap_minutes(self, first: int, last: int) -> int:
        """Returns how many of the minutes [first, last) were not read whole."""
        return minutes_within(self.gaps, first, last)

    def dump(self) -> dict[str, Any]:
        """Returns the state as plain values; `load` gives back an equal one."""
        return {
            "now_ns": self.now_ns,
            "frontier_ns": self.frontier_ns,
            "until_ns": _pairs(self.until_ns),
            "began_ns": _pairs(self.began_ns),
            "topic_partitions": dict(sorted(self.topic_partitions.items())),
            "gap_from_ns": _pairs(self.gap_from_ns),
            "gaps": self.gaps,
        }

    @classmethod
    def load(cls, body: dict[str, Any]) -> Clocks:
        """Returns the clocks that `dump` wrote."""
        clocks = cls()
        clocks.now_ns = body["now_ns"]
        clocks.frontier_ns = body["frontier_ns"]
        clocks.until_ns = {(t, p): v for t, p, v in body["until_ns"]}
        clocks.began_ns = {(t, p): v for t, p, v in body["began_ns"]}
        clocks.topic_partitions = body["topic_partitions"]
        clocks.gap_from_ns = {(t, p): v for t, p, v in body["gap_from_ns"]}
        clocks.gaps = [(start, end) for start, end in body["gaps"]]
        return clocks


def _pairs(values: dict[SourceName, int]) -> list[tuple[str, int, int]]:
    return [(topic, partition, value) for (topic, partition), value in sorted(values.items())]
