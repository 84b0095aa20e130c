"""Folded events against live ones, byte for byte. Pure.

The outputs of a partition of the log lie in the same partition of the output topics, in the order of the log, and each
says at which offset of the log it was decided. So the two sides are merged offset by offset, and no more is held at a
time than what one log record put out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from stream.core.rendering import Rendered

COMPACTED = "status"
"""The topic of which only the latest events per key are kept."""

DIFFERENCES_MAX = 20
"""Differences that are kept of a topic; the others are counted."""

_ABSENT = "(absent)"


class Kind(StrEnum):
    """What is the matter with an event."""

    DIFFERS = "differs"
    """Both sides have it, with different bytes."""
    MISSING = "missing"
    """The fold puts it out; it is not on the topic, although the checkpoint that published it was committed."""
    EXTRA = "extra"
    """It is on the topic; the fold does not put it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """One field that is not the same: its path, and what each side says."""

    path: str
    live: Any
    folded: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One event that is not the same on both sides.

    Args:
        topic: Without the prefix.
        id: Of the event.
        partition: Of the log and of the topic.
        offset: Of the log record that it says it was decided at.
        kind: What is the matter.
        fields: What differs; empty where one side has nothing.
    """

    topic: str
    id: str
    partition: int
    offset: int
    kind: Kind
    fields: tuple[FieldDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class Live:
    """An event as it is on a topic: the log offset at which it was decided, its id, its bytes."""

    offset: int
    id: str
    value: bytes

    @classmethod
    def of(cls, value: bytes) -> Live | None:
        """Returns the event; None where the bytes are none of ours."""
        try:
            event = orjson.loads(value)
            return cls(int(event["data"]["log"]["offset"]), str(event["id"]), value)
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(slots=True)
class TopicResult:
    """What came of one topic.

    Args:
        equal: Events that are the same, byte for byte.
        different: Events that are not, or that one side does not have.
        compacted: Events of the compacted topic that a later one has replaced: not compared.
        expired: Events that the topic has dropped by its retention: not compared.
        unpublished: Events of log records behind the last checkpoint: not compared.
        beyond: Live events that were decided behind the end of the log that was read: not compared.
        foreign: Records that are no events of ours.
        differences: The first ones.
    """

    equal: int = 0
    different: int = 0
    compacted: int = 0
    expired: int = 0
    unpublished: int = 0
    beyond: int = 0
    foreign: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, other: TopicResult) -> None:
        """Takes in what came of another partition."""
        for name in ("equal", "different", "compacted", "expired", "unpublished", "beyond", "foreign"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.differences = [*self.differences, *other.differences][:DIFFERENCES_MAX]

    def note(self, difference: Difference) -> None:
        """Counts a difference, and keeps it if it is one of the first."""
        self.different += 1
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(difference)


class Comparison:
    """Compares the events of one partition, log record by log record.

    Args:
        partition: Of the log.
        saved_offset: Up to this log offset everything is published; -1: nothing is.
        oldest: Per topic that no longer holds its first record, the log offset of the first event that it holds: what
            is older has expired.
    """

    def __init__(self, partition: int, *, saved_offset: int, oldest: dict[str, int] | None = None) -> None:
        self.topics: dict[str, TopicResult] = defaultdict(TopicResult)
        self._partition = partition
        self._saved_offset = saved_offset
        self._oldest = oldest or {}
        self._offset = -1

    def record(self, offset: int, folded: Iterable[Rendered], live: dict[str, list[Live]]) -> None:
        """Compares what a log record puts out with the live events that say they come from it.

        Args:
            offset: Of the log record.
            folded: What the fold puts out.
            live: By topic, the events up to this offset that were not given before.
        """
        self._offset = offset
        by_topic: dict[str, list[bytes]] = defaultdict(list)
        for rendered in folded:
            if rendered.value:  # what was taken back of a compacted topic is no event
                by_topic[rendered.topic].append(rendered.value)
        for topic in sorted({*by_topic, *live}):
            self._compare(topic, offset, by_topic.get(topic, []), live.get(topic, []))

    def finish(self, live: dict[str, list[Live]]) -> None:
        """Takes in the live events that are left behind the last log record."""
        for topic, events in live.items():
            for event in events:
                if event.offset > self._offset:
                    self.topics[topic].beyond += 1
                else:
                    self._note(topic, event, Kind.EXTRA)

    def _compare(self, topic: str, offset: int, folded: Sequence[bytes], live: Sequence[Live]) -> None:
        result = self.topics[topic]
        if list(folded) == [event.value for event in live]:  # as good as always
            result.equal += len(folded)
            return
        left = Counter(event.value for event in live)
        unmatched: list[Live] = []
        for value in folded:
            if left[value]:
                left[value] -= 1
                result.equal += 1
            else:
                event = Live.of(value)
                assert event is not None, "the fold puts out events"
                unmatched.append(event)
        others: dict[str, list[Live]] = defaultdict(list)
        for event in live:
            if left[event.value]:
                left[event.value] -= 1
                others[event.id].append(event)
        for event in unmatched:
            if others[event.id]:
                self._differs(topic, others[event.id].pop(0), event)
            else:
                self._absent(topic, offset, event)
        for events in others.values():
            for event in events:
                self._note(topic, event, Kind.EXTRA)

    def _differs(self, topic: str, live: Live, folded: Live) -> None:
        self._note(topic, folded, Kind.DIFFERS, tuple(field_differences(live.value, folded.value)))

    def _absent(self, topic: str, offset: int, event: Live) -> None:
        """The fold puts out an event that is not there: there may be a reason for it."""
        result = self.topics[topic]
        if topic == COMPACTED and offset <= self._saved_offset:
            result.compacted += 1
        elif offset <= self._oldest.get(topic, -1):
            result.expired += 1
        elif offset > self._saved_offset:
            result.unpublished += 1
        else:
            self._note(topic, event, Kind.MISSING)

    def _note(self, topic: str, event: Live, kind: Kind, fields: tuple[FieldDifference, ...] = ()) -> None:
        self.topics[topic].note(
            Difference(
                topic=topic, id=event.id, partition=self._partition, offset=event.offset, kind=kind, fields=fields
            )
        )


def field_differences(live: bytes, folded: bytes) -> list[FieldDifference]:
    """Returns the fields in which two events differ, by path; one of the whole where only the bytes do."""
    if live == folded:
        return []
    found = list(_fields("", orjson.loads(live), orjson.loads(folded)))
    return found or [FieldDifference(path="(bytes)", live=live.decode(), folded=folded.decode())]


def _fields(path: str, live: Any, folded: Any) -> Iterator[FieldDifference]:
    if isinstance(live, dict) and isinstance(folded, dict):
        for name in dict.fromkeys((*live, *folded)):
            below = f"{path}.{name}" if path else name
            yield from _fields(below, live.get(name, _ABSENT), folded.get(name, _ABSENT))
    elif isinstance(live, list) and isinstance(folded, list) and len(live) == len(folded):
        for at, (one, other) in enumerate(zip(live, folded, strict=True)):
            yield from _fields(f"{path}[{at}]", one, other)
    elif live != folded or type(live) is not type(folded):
        yield FieldDifference(path=path, live=live, folded=folded)
