"""Routing: a cycle's columns become one log record per destination.

Our own indicators go to every partition with an objective that asks for them; one copy, that of the source's home
whoever asks for it, is the one that counts.

A record says of each source which offsets it covers: every row, point and receipt of [first offset of the session,
next offset) for its destination is in it or in an earlier record of the session.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Self

import numpy as np

from stream.core.columns import Array, Receipts, Rows, take_receipts
from stream.core.exemplars import thinned
from stream.core.fingerprints import Fingerprints
from stream.core.grouping import numbered
from stream.core.indicators import Indicators
from stream.core.log import LogRecord, Progress
from stream.core.points import Points
from stream.core.service_key import partition_of
from stream.core.slo.spec import Bundle, Input
from stream.ingest.columns import Columns, concat_columns
from stream.ingest.cycle import Cycle

_SERVICES_REMEMBERED = 100_000
_OFFSET_BITS = 48


Listeners = Mapping[Input, Collection[int]]
"""Of objectives the partitions of those that ask for their indicators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A bundle as the ingest forwards it: its version, its bytes, and where indicators are to go."""

    version: int
    body: bytes
    listeners: Listeners = field(default_factory=dict)

    @classmethod
    def of(cls, version: int, body: bytes, bundle: Bundle) -> Self:
        """Returns the configuration of a bundle whose bytes are `body`."""
        listeners = {
            name: {partition_of(objective.service, bundle.partitions) for objective in asking}
            for name, asking in bundle.asked.items()
        }
        return cls(version=version, body=body, listeners=listeners)


@dataclass(slots=True)
class Sequences:
    """Counts the records of one incarnation at each destination, from 0."""

    following: dict[int, int] = field(default_factory=dict)

    def take(self, destination: int) -> int:
        """Returns the next sequence number at `destination` and counts it as used."""
        sequence = self.following.get(destination, 0)
        self.following[destination] = sequence + 1
        return sequence


class Router:
    """Makes the log records of one incarnation. Its state: sequences, configurations sent, known partitions.

    Args:
        generation: Pipeline generation.
        partitions: P, partitions of the shuffle log.
        incarnation: Unique per process start.
    """

    def __init__(self, *, generation: str, partitions: int, incarnation: str) -> None:
        assert 0 < partitions <= np.iinfo(np.int16).max, partitions
        self.generation = generation
        self.partitions = partitions
        self.incarnation = incarnation
        self.sequences = Sequences()
        self.config_sent: dict[int, int] = {}
        self._partition_of: dict[str, int] = {}

    def route(self, cycle: Cycle, config: Configuration, progress: Progress | None = None) -> dict[int, LogRecord]:
        """Returns the cycle's record of each destination that gets one; each must be sent, and none twice.

        With progress every partition gets a record. The first record of a configuration version at a
        destination carries its body.

        Args:
            cycle: What was read.
            config: The configuration under which it was decoded.
            progress: The reading positions at the end of this cycle, where they are due.
        """
        listed = range(len(cycle.sessions)) if progress is not None else sorted(cycle.touched)
        decoded = _renumbered(concat_columns(cycle.parts), listed, len(cycle.sessions))
        sources = tuple(cycle.sessions[source].covered() for source in listed)
        rows_to = self._destinations(decoded.rows.services).take(decoded.rows.service)
        points_to = self._destinations(decoded.points.services).take(decoded.points.service)
        order = np.argsort(rows_to, kind="stable")  # radix sort for int16; keeps the offsets' order
        sorted_rows, rows_to = thinned(decoded.rows).take(order), rows_to[order]
        rows = _rows_by_destination(sorted_rows, rows_to, self.partitions)
        points = _points_by_destination(decoded.points, points_to)
        homes = np.array([cycle.sessions[source].home(self.partitions) for source in listed], "int16")
        receipts = _receipts_by_destination(decoded.receipts, homes)
        indicators = _indicators_by_destination(decoded.indicators, homes, config.listeners)
        used = {*rows, *points, *indicators, *receipts}
        destinations = range(self.partitions) if progress is not None else sorted(used)
        sent = [_messages_sent(sorted_rows, rows_to), _messages_sent(decoded.points, points_to)]
        wanted = _fingerprints_by_destination(decoded.fingerprints, *map(np.concatenate, zip(*sent, strict=True)))
        return {
            destination: LogRecord(
                generation=self.generation,
                partitions=self.partitions,
                incarnation=self.incarnation,
                sequence=self.sequences.take(destination),
                config_version=config.version,
                sources=sources,
                config=self._config_for(destination, config),
                fingerprints=wanted.get(destination),
                rows=rows.get(destination),
                points=points.get(destination),
                indicators=indicators.get(destination),
                receipts=receipts.get(destination),
                progress=progress,
            )
            for destination in destinations
        }

    def _config_for(self, destination: int, config: Configuration) -> bytes | None:
        if self.config_sent.get(destination) == config.version:
            return None
        self.config_sent[destination] = config.version
        return config.body

    def _destinations(self, services: Sequence[str]) -> Array:
        """Returns the destination of each service key; each key is hashed once."""
        known = self._partition_of
        if len(known) > _SERVICES_REMEMBERED:
            known.clear()  # the names come from outside: memory must not grow with them
        for service in services:
            if service not in known:
                known[service] = partition_of(service, self.partitions)
        return np.array([known[service] for service in services], "int16")


def _renumbered(decoded: Columns, listed: Sequence[int], sessions: int) -> Columns:
    """Returns the columns with their sources as indices into the record's table."""
    if len(listed) == sessions:
        return decoded
    table = np.full(sessions, -1, "int16")
    table[np.array(listed, "int64")] = np.arange(len(listed), dtype="int16")
    rows = replace(decoded.rows, source=table[decoded.rows.source])
    points = replace(decoded.points, source=table[decoded.points.source])
    receipts = replace(decoded.receipts, source=table[decoded.receipts.source])
    prints = replace(decoded.fingerprints, source=table[decoded.fingerprints.source])
    indicators = replace(decoded.indicators, source=table[decoded.indicators.source])
    for part in (rows, points, receipts, indicators):
        assert (part.source >= 0).all(), "columns of a source that was not read"
    return Columns(rows=rows, points=points, receipts=receipts, fingerprints=prints, indicators=indicators)


def _rows_by_destination(rows: Rows, destination: Array, partitions: int) -> dict[int, Rows]:
    """Returns the rows of each destination, by which they are sorted."""
    bounds = np.searchsorted(destination, np.arange(partitions + 1)).tolist()
    return {at: rows.take(slice(first, end)) for at, (first, end) in enumerate(pairwise(bounds)) if first < end}


def _points_by_destination(points: Points, destination: Array) -> dict[int, Points]:
    return {int(at): points.take(np.flatnonzero(destination == at)) for at in np.unique(destination)}


def _indicators_by_destination(indicators: Indicators, homes: Array, listeners: Listeners) -> dict[int, Indicators]:
    """Returns the indicators of each destination.

    Whether a copy counts depends on nothing but the source: what is read again under another configuration, after a
    crash, is then known where it was counted.
    """
    found: dict[int, list[int]] = {}
    home = homes[indicators.source].tolist()
    for at, name in enumerate(zip(indicators.service, indicators.objective, strict=True)):
        for destination in {home[at], *listeners.get(name, ())}:
            found.setdefault(destination, []).append(at)
    copies = {destination: (indicators.take(np.array(index)), index) for destination, index in found.items()}
    return {
        destination: replace(copy, counts=np.array([home[at] == destination for at in index], bool))
        for destination, (copy, index) in copies.items()
    }


def _receipts_by_destination(receipts: Receipts, homes: Array) -> dict[int, Receipts]:
    if not len(receipts):
        return {}
    home = homes[receipts.source]
    return {int(at): take_receipts(receipts, np.flatnonzero(home == at)) for at in np.unique(home)}


def _messages_sent(items: Rows | Points, to: Array) -> tuple[Array, Array]:
    """Returns the destination and the key of each message with items for it, both int64[n], some more than once."""
    source, offset = items.source, items.offset
    begins = np.ones(len(to), bool)
    begins[1:] = (offset[1:] != offset[:-1]) | (source[1:] != source[:-1]) | (to[1:] != to[:-1])
    at = np.flatnonzero(begins)
    return to[at].astype("int64"), _message_keys(source[at], offset[at])


def _fingerprints_by_destination(prints: Fingerprints, to: Array, keys: Array) -> dict[int, Fingerprints]:
    """Returns, for each destination, the fingerprints of the messages that are sent there.

    Args:
        prints: Of all messages that have one.
        to: int64[n], a destination.
        keys: int64[n], a message of which rows or points go there.
    """
    if not len(prints):
        return {}
    order = np.argsort(_message_keys(prints.source, prints.offset), kind="stable")
    prints = prints.take(order)
    known = _message_keys(prints.source, prints.offset)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    _, pairs = numbered((to * len(known) + at)[known[at] == keys], (int(to.max(initial=0)) + 1) * len(known))
    destination, index = pairs // len(known), pairs % len(known)
    return {int(one): prints.take(index[destination == one]) for one in np.unique(destination)}


def _message_keys(source: Array, offset: Array) -> Array:
    return (source.astype("int64") << _OFFSET_BITS) | offset
