"""What rows and metric points have in common: they are judged, admitted within the caps, and counted by objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from stream.core.columns import Array, RejectReason
from stream.core.engine.overflow import OTHER_VERSION, Room
from stream.core.engine.series_index import NONE
from stream.core.engine.services import Service
from stream.core.engine.state import State
from stream.core.engine.verdicts import Items, Verdicts
from stream.core.events import Output
from stream.core.grouping import numbered
from stream.core.log import LogRecord, SourceRange
from stream.core.units import DAY_NS, HOUR_NS, MINUTE_NS

LATE_AFTER_NS = 6 * HOUR_NS
"""What ends before frontier − 6 h is late: no longer counted."""

FUTURE_AFTER_NS = 5 * MINUTE_NS
"""What ends after now + 5 min is rejected."""

UNKNOWN_FRONTIER_SPAN_NS = 8 * DAY_NS
"""Before the frontier is known, what is this much older than `now` is late: it bounds the minute ring."""


_OFFSET_BITS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What is to be counted and the pairs (service, version) that it belongs to.

    Shapes: `index` int64[n]: positions among the items of the record; `pair` int64[n], an index into `number`; `minute`
    int64[n]; `number` int64[pairs], in `State.index`, `NONE` where there was no room. `outputs`: what followed from
    making room.
    """

    index: Array
    pair: Array
    minute: Array
    number: Array
    outputs: list[Output] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.index)

    def take(self, chosen: Array) -> Admitted:
        """Returns the ones at `chosen`."""
        return replace(self, index=self.index[chosen], pair=self.pair[chosen], minute=self.minute[chosen])


class Repetitions:
    """The messages of one record that their producer has sent before, and those that are remembered from now on.

    A message is an int64, its source index and offset in one. What our own replay repeats is none of them: it is
    known by its offset.

    Args:
        repeated: int64[n], sent before.
        new: The fingerprint of each message that is new.
    """

    def __init__(self, repeated: Array, new: Mapping[int, bytes]) -> None:
        self._repeated = repeated
        self._new = new
        self._counted: set[int] = set()

    def among(self, messages: Array) -> Array:
        """Returns bool[messages]: whether a message was sent before."""
        return np.isin(messages, self._repeated)

    def counted(self, items: Items, open_: Array) -> None:
        """Takes note of the items that count."""
        if self._new:
            self._counted.update(_messages_of(items)[np.logical_or.reduceat(open_, items.begins)].tolist())

    def forget_uncounted(self, state: State) -> None:
        """Forgets messages none of whose items counted: sent again with the cause removed they shall count."""
        state.duplicates.forget({word for message, word in self._new.items() if message not in self._counted})


_NO_REPETITIONS = np.empty(0, np.int64)


def repetitions_in(state: State, record: LogRecord) -> Repetitions:
    """Returns what a record repeats, and remembers the fingerprints of the rest."""
    prints = record.fingerprints
    assert state.bundle is not None
    minutes = state.bundle.settings.duplicate_minutes
    state.duplicates.forget_before(state.clocks.now_ns // MINUTE_NS - minutes)
    if prints is None or not minutes:
        return Repetitions(_NO_REPETITIONS, {})
    next_offsets = np.array([state.ledger.source(source).next_offset for source in record.sources], np.int64)
    new = prints.take(prints.offset >= next_offsets[prints.source])
    words = new.words([source.topic for source in record.sources])
    repeated = state.duplicates.note(words, state.clocks.now_ns // MINUTE_NS)
    messages = _codes(new.source, new.offset)
    listed = zip(messages.tolist(), words, repeated, strict=True)
    return Repetitions(
        messages[np.array(repeated, bool)], {message: word for message, word, known in listed if not known}
    )


def _messages_of(items: Items) -> Array:
    """Returns int64[messages]."""
    return _codes(items.source[items.begins], items.offset[items.begins])


def _codes(source: Array, offset: Array) -> Array:
    return np.asarray((source.astype(np.int64) << _OFFSET_BITS) | offset)


def judge(state: State, record: LogRecord, items: Items, repetitions: Repetitions) -> Verdicts:
    """Returns the verdicts on a record's items so far: open are those that are new, not late and not of the future."""
    accounts = [state.ledger.source(source) for source in record.sources]
    assert len({account.id for account in accounts}) == len(accounts), "a record lists a source twice"
    source, offset = items.source[items.begins], items.offset[items.begins]
    _check_ranges(record.sources, source, offset)
    verdicts = Verdicts(accounts, items)
    next_offsets = np.array([account.next_offset for account in accounts], np.int64)
    known = offset < next_offsets[source]
    if known.any():
        verdicts.replayed(items.of_messages(known))
    repeated = repetitions.among(_codes(source, offset))
    if repeated.any():
        verdicts.duplicate(items.of_messages(repeated))
    verdicts.reject(items.time_ns > state.clocks.now_ns + FUTURE_AFTER_NS, RejectReason.FUTURE)
    verdicts.late(items.time_ns < _late_before_ns(state))
    return verdicts


def _check_ranges(sources: tuple[SourceRange, ...], source: Array, offset: Array) -> None:
    first = np.array([one.first_offset for one in sources])[source]
    last = np.array([one.next_offset for one in sources])[source]
    assert ((first <= offset) & (offset < last)).all(), "a row outside its source's range"


def _late_before_ns(state: State) -> int:
    if state.clocks.frontier_ns is not None:
        return state.clocks.frontier_ns - LATE_AFTER_NS
    return state.clocks.now_ns - UNKNOWN_FRONTIER_SPAN_NS


def admit(state: State, items: Items, verdicts: Verdicts) -> Admitted:
    """Takes in new services and versions, in order of name, while there is room for them or an idle one makes room.

    Items of a service without room are counted, and not admitted: no objective is about them. Those of a version
    without room are admitted as `overflow.OTHER_VERSION`.
    """
    index = np.flatnonzero(verdicts.open)
    versions = max(1, len(items.versions))
    codes = items.service[index].astype(np.int64) * versions + items.version[index]
    pair, codes = numbered(codes, len(items.services) * versions)
    service, version = codes // versions, codes % versions
    number = state.index.find(items.services, items.versions, service, version)
    outputs: list[Output] = []
    if (number == NONE).any():
        named = zip(service.tolist(), version.tolist(), strict=True)
        counts = np.zeros(len(number), np.int64)
        np.add.at(counts, pair, items.count[index])
        room = Room(state)
        places = _places(state, room, [(items.services[at], items.versions[which]) for at, which in named], counts)
        number, outputs = state.index.numbers(places, state.services), room.outputs
        homed = number[pair] != NONE
        index, pair = index[homed], pair[homed]
    minute = items.time_ns[index] // MINUTE_NS
    return Admitted(index=index, pair=pair, minute=minute, number=number, outputs=outputs)


def _places(state: State, room: Room, pairs: list[tuple[str, str]], counts: Array) -> list[tuple[str, str] | None]:
    """Returns the service and version that items of each pair are counted for; None where a service has no room.

    Args:
        state: The partition's, which takes in what is new.
        room: What makes room.
        pairs: Some of which may be new.
        counts: int64[pairs], the items of each.
    """
    places: list[tuple[str, str] | None] = list(pairs)
    unknown = [at for at, pair in enumerate(pairs) if not _is_known(state, *pair)]
    for at in sorted(unknown, key=pairs.__getitem__):
        places[at] = _place(state, room, *pairs[at])
        if places[at] is None:
            state.overflowed["services"] += int(counts[at])
        elif places[at] != pairs[at]:
            state.overflowed["versions"] += int(counts[at])
    return places


def _is_known(state: State, key: str, version: str) -> bool:
    service = state.services.get(key)
    return service is not None and version in service.versions


def _place(state: State, room: Room, key: str, version: str) -> tuple[str, str] | None:
    """Returns the service and version that items of a new pair are counted for; None where the service has no room."""
    service = state.services.get(key)
    if service is None:
        if not room.for_service():
            return None
        service = state.services[key] = Service(key)
    if version not in service.versions:
        version = version if room.for_version(service) else OTHER_VERSION
        service.versions.add(version)
    state.changes.heads.add(key)  # its points may all be refused by their streams, and then nothing is counted
    return key, version
