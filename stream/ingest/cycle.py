"""One cycle of the ingest, without Kafka and without a clock: messages in, a log record per destination out.

The order of use: `pieces` cuts what was fetched at message boundaries, `decode_piece` makes columns of each,
a `Cycle` collects them until it is full, `Router.route` makes the records. A record says of each source which
offsets it covers: every row and receipt of [first offset of the session, next offset) for its destination is
in it or in an earlier record of the session.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from stream.core.columns import Array, Receipts, RejectReason, Rows, concat_rows
from stream.core.errors import IncompatibleError
from stream.core.log import LogRecord, LostRange, Progress, SourceProgress, SourceRange
from stream.core.otlp import Decoded, Message, flat, protobuf
from stream.core.service_key import murmur2, partition_of

CYCLE_ROWS_MAX = 65_536
CYCLE_BYTES_MAX = 4 << 20
"""A cycle is closed before its columns exceed this: one record may hold them all, and Kafka takes 8 MiB."""

MESSAGE_COLUMNS_BYTES_MAX = 7 << 20
"""A message whose columns alone exceed this is refused as too large: no record could hold it."""

PIECE_BYTES = 512 << 10
PIECE_MESSAGES = 4096
"""Messages are decoded in pieces of this size: large enough for columns to pay, small beside a cycle."""

_SERVICES_REMEMBERED = 100_000
_ROW_BYTES = sum(np.dtype(dtype).itemsize for dtype in Rows.DTYPES.values())
_RECEIPT_BYTES = sum(np.dtype(dtype).itemsize for dtype in Receipts.DTYPES.values()) + 8

Decode = Callable[[Sequence[Message]], Decoded]

DECODERS: Mapping[str, Decode] = {"otlp_proto": protobuf.decode, "flat": flat.decode}
"""The decoder of each encoding that a topic may be declared to have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One assignment of one source partition to one process, and how far it has been read.

    Args:
        id: Unique per assignment: the incarnation and a count.
        first_offset: The committed offset that the session began at.
        next_offset: Everything in [first_offset, next_offset) was read.
        began_ns: Timestamp of the first message read; None while there is none.
        until_ns: Largest timestamp of a message read; None while there is none.
    """

    topic: str
    topic_id: str
    partition: int
    id: str
    first_offset: int
    next_offset: int
    began_ns: int | None = None
    until_ns: int | None = None

    def covered(self) -> SourceRange:
        """Returns what a record sent now covers of this source."""
        return SourceRange(
            topic=self.topic,
            topic_id=self.topic_id,
            partition=self.partition,
            session=self.id,
            first_offset=self.first_offset,
            next_offset=self.next_offset,
        )

    def home(self, partitions: int) -> int:
        """Returns the partition that this source's receipts go to, whatever services its messages name."""
        return murmur2(self.covered().id.encode()) % partitions

    def advanced(self, fetched: Fetched) -> Session:
        """Returns the session after these messages, which must be the next ones."""
        offsets = fetched.offsets
        if offsets:
            assert self.next_offset <= offsets[0] <= offsets[-1] < fetched.next_offset, (self, offsets)
        assert self.next_offset <= fetched.next_offset, (self, fetched.next_offset)
        times = fetched.times_ns
        began_ns, until_ns = self.began_ns, self.until_ns
        if times:
            began_ns = times[0] if began_ns is None else began_ns
            until_ns = max(times) if until_ns is None else max(until_ns, max(times))
        return replace(self, next_offset=fetched.next_offset, began_ns=began_ns, until_ns=until_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Consecutive messages of one source.

    Args:
        source: Index of the source among the sessions of the process.
        offsets: Their offsets, rising; gaps are offsets that hold no message.
        times_ns: Their record timestamps.
        values: Their bodies, None for a tombstone.
        next_offset: Where reading goes on: at least the last offset + 1.
    """

    source: int
    offsets: Sequence[int]
    times_ns: Sequence[int]
    values: Sequence[bytes | None]
    next_offset: int

    def cut(self, start: int, stop: int) -> Fetched:
        """Returns the messages [start, stop); the last part takes the offsets behind its last message too."""
        last = stop >= len(self.offsets)
        return Fetched(
            source=self.source,
            offsets=self.offsets[start:stop],
            times_ns=self.times_ns[start:stop],
            values=self.values[start:stop],
            next_offset=self.next_offset if last else self.offsets[stop - 1] + 1,
        )


Piece = tuple[Fetched, ...]
"""Messages of several sources that are decoded together; per source they are consecutive."""


def pieces(
    fetched: Sequence[Fetched], *, bytes_max: int = PIECE_BYTES, messages_max: int = PIECE_MESSAGES
) -> Iterator[Piece]:
    """Yields everything in `fetched`, in order, cut at message boundaries.

    Args:
        bytes_max: A piece is closed by the message that brings its bodies to this size.
        messages_max: Or by the message that brings it to this number.
    """
    piece: list[Fetched] = []
    size = count = 0
    for part in fetched:
        start = 0
        for at, value in enumerate(part.values):
            size += len(value or b"")
            count += 1
            if size >= bytes_max or count >= messages_max:
                yield (*piece, part.cut(start, at + 1))
                piece, start, size, count = [], at + 1, 0, 0
        if start < len(part.values) or not part.values:
            piece.append(part.cut(start, len(part.values)))
    if piece:
        yield tuple(piece)


def decode_cycle(piece: Sequence[Fetched], encodings: Sequence[str]) -> Decoded:
    """Returns the rows and receipts of all messages, decoded as the configuration says of their topics.

    Args:
        piece: Messages, per source in order.
        encodings: The encoding of each source, by its index.

    Raises:
        IncompatibleError: An encoding is unknown to this version.
    """
    by_encoding: dict[str, list[Message]] = {}
    for part in piece:
        messages = by_encoding.setdefault(encodings[part.source], [])
        messages.extend(
            Message(source=part.source, offset=offset, value=value)
            for offset, value in zip(part.offsets, part.values, strict=True)
        )
    decoded = [_decoder(encoding)(messages) for encoding, messages in by_encoding.items() if messages]
    return concat_decoded(decoded)


def _decoder(encoding: str) -> Decode:
    if encoding not in DECODERS:
        raise IncompatibleError(
            f"the configuration declares a topic with encoding {encoding!r}; this version reads "
            f"{', '.join(sorted(DECODERS))}: upgrade it, or declare another encoding"
        )
    return DECODERS[encoding]


def decode_piece(
    piece: Piece,
    encodings: Sequence[str],
    *,
    bytes_max: int = CYCLE_BYTES_MAX,
    message_bytes_max: int = MESSAGE_COLUMNS_BYTES_MAX,
) -> Iterator[tuple[Piece, Decoded]]:
    """Yields the piece decoded, halved at message boundaries as often as its columns are too big for a cycle.

    A single message that no record could hold is refused: its items are rejected as too large.
    """
    decoded = decode_cycle(piece, encodings)
    size = column_bytes(decoded)
    messages = sum(len(part.values) for part in piece)
    if size > bytes_max and messages > 1:
        for half in pieces(piece, bytes_max=1 << 62, messages_max=(messages + 1) // 2):
            yield from decode_piece(half, encodings, bytes_max=bytes_max, message_bytes_max=message_bytes_max)
    elif size > message_bytes_max:
        yield piece, _refused(decoded, size, message_bytes_max)
    else:
        yield piece, decoded


def _refused(decoded: Decoded, size: int, limit: int) -> Decoded:
    """Returns one message's items, all rejected as too large."""
    receipts = decoded.receipts
    items = int(receipts.items.sum())
    first = replace(
        _take_receipts(receipts, np.zeros(1, "int64")),
        items=np.array([items], "int64"),
        rejected=np.array([items], "int64"),
        reason=np.array([1], "int16"),
        reasons=("", RejectReason.TOO_LARGE.value),
        digests=(next((digest for digest in receipts.digests if digest), None),),
        details=(f"its rows take {size} bytes, a log record holds {limit}; send fewer items in a message",),
    )
    return Decoded(rows=Rows.empty(), receipts=first)


def column_bytes(decoded: Decoded) -> int:
    """Returns an upper bound of the bytes of these columns in one log record, but for its fixed headers."""
    rows, receipts = decoded.rows, decoded.receipts
    words = (*rows.services, *rows.versions, *rows.error_types, *receipts.reasons)
    blobs = sum(len(digest) for digest in receipts.digests if digest)
    texts = sum(len(detail.encode()) for detail in receipts.details if detail)
    return (
        _ROW_BYTES * len(rows)
        + sum(len(word.encode()) + 4 for word in words)
        + _RECEIPT_BYTES * len(receipts)
        + blobs
        + texts
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A bundle as the ingest forwards it: its version, its bytes."""

    version: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What was read and decoded since the last records were sent.

    Args:
        sessions: All sources of the process, as far as they were read at the end of the cycle.
        parts: Rows and receipts; their sources are indices into `sessions`.
        touched: The sources that were read on in this cycle.
    """

    sessions: tuple[Session, ...]
    parts: tuple[Decoded, ...] = ()
    touched: frozenset[int] = frozenset()
    rows: int = 0
    messages: int = 0
    bytes: int = 0

    def has_room_for(self, decoded: Decoded) -> bool:
        """Returns whether the cycle stays within its limits; an empty one takes any piece."""
        if not self.parts:
            return True
        return self.rows + len(decoded.rows) <= CYCLE_ROWS_MAX and self.bytes + column_bytes(decoded) <= CYCLE_BYTES_MAX

    def added(self, piece: Piece, decoded: Decoded) -> Self:
        """Returns the cycle with one more decoded piece."""
        sessions = list(self.sessions)
        for part in piece:
            sessions[part.source] = sessions[part.source].advanced(part)
        return replace(
            self,
            sessions=tuple(sessions),
            parts=(*self.parts, decoded),
            touched=self.touched | {part.source for part in piece},
            rows=self.rows + len(decoded.rows),
            messages=self.messages + sum(len(part.values) for part in piece),
            bytes=self.bytes + column_bytes(decoded),
        )

    def skipped(self, source: int, next_offset: int) -> Self:
        """Returns the cycle with the session of `source` moved on over offsets that can no longer be read."""
        session = self.sessions[source]
        assert next_offset >= session.next_offset, (session, next_offset)
        moved = replace(session, next_offset=next_offset)
        sessions = (*self.sessions[:source], moved, *self.sessions[source + 1 :])
        return replace(self, sessions=sessions, touched=self.touched | {source})


def sources_at_end(sessions: Sequence[Session], ends: Mapping[int, int]) -> frozenset[int]:
    """Returns the sources that were read up to their end.

    Args:
        ends: End offsets by source, asked for after the last progress record was acknowledged; a source
            whose end is not known is missing.
    """
    return frozenset(source for source, end in ends.items() if sessions[source].next_offset >= end)


def progress_of(
    sessions: Sequence[Session],
    *,
    at_end: Collection[int],
    topic_partitions: Mapping[str, int],
    lost: Sequence[LostRange] = (),
) -> Progress:
    """Returns the reading positions of all sources; source indices are those of `sessions`."""
    return Progress(
        sources=tuple(
            SourceProgress(source=source, began_ns=session.began_ns, until_ns=session.until_ns, at_end=source in at_end)
            for source, session in enumerate(sessions)
        ),
        topic_partitions=dict(sorted(topic_partitions.items())),
        lost=tuple(lost),
    )


def is_news(sessions: Sequence[Session], at_end: Collection[int], reported: Progress | None) -> bool:
    """Returns whether progress should go out at once: a source was first read, or read to its end."""
    if reported is None:
        return True
    known = {entry.source: entry for entry in reported.sources}
    return any(
        source not in known
        or (session.began_ns is not None and known[source].began_ns is None)
        or (source in at_end and not known[source].at_end)
        for source, session in enumerate(sessions)
    )


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
        decoded = _renumbered(concat_decoded(cycle.parts), listed, len(cycle.sessions))
        sources = tuple(cycle.sessions[source].covered() for source in listed)
        rows = _rows_by_destination(decoded.rows, self._destinations(decoded.rows.services), self.partitions)
        homes = np.array([cycle.sessions[source].home(self.partitions) for source in listed], "int16")
        receipts = _receipts_by_destination(decoded.receipts, homes)
        destinations = range(self.partitions) if progress is not None else sorted({*rows, *receipts})
        return {
            destination: LogRecord(
                generation=self.generation,
                partitions=self.partitions,
                incarnation=self.incarnation,
                sequence=self.sequences.take(destination),
                config_version=config.version,
                sources=sources,
                config=self._config_for(destination, config),
                rows=rows.get(destination),
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


def _renumbered(decoded: Decoded, listed: Sequence[int], sessions: int) -> Decoded:
    """Returns the columns with their sources as indices into the record's table."""
    if len(listed) == sessions:
        return decoded
    table = np.full(sessions, -1, "int16")
    table[np.array(listed, "int64")] = np.arange(len(listed), dtype="int16")
    rows = replace(decoded.rows, source=table[decoded.rows.source])
    receipts = replace(decoded.receipts, source=table[decoded.receipts.source])
    assert (rows.source >= 0).all(), "rows of a source that was not read"
    assert (receipts.source >= 0).all(), "receipts of a source that was not read"
    return Decoded(rows=rows, receipts=receipts)


def _rows_by_destination(rows: Rows, of_service: Array, partitions: int) -> dict[int, Rows]:
    if not len(rows):
        return {}
    destination = of_service[rows.service]
    order = np.argsort(destination, kind="stable")  # radix sort for int16; keeps the offsets' order
    arrays = {name: getattr(rows, name)[order] for name in Rows.DTYPES}
    bounds = np.searchsorted(destination[order], np.arange(partitions + 1))
    return {
        at: replace(rows, **{name: array[bounds[at] : bounds[at + 1]] for name, array in arrays.items()})
        for at in range(partitions)
        if bounds[at] < bounds[at + 1]
    }


def _receipts_by_destination(receipts: Receipts, homes: Array) -> dict[int, Receipts]:
    if not len(receipts):
        return {}
    home = homes[receipts.source]
    return {int(at): _take_receipts(receipts, np.flatnonzero(home == at)) for at in np.unique(home)}


def _take_receipts(receipts: Receipts, index: Array) -> Receipts:
    arrays: dict[str, Any] = {name: getattr(receipts, name)[index] for name in Receipts.DTYPES}
    return Receipts(
        **arrays,
        reasons=receipts.reasons,
        digests=tuple(receipts.digests[at] for at in index.tolist()),
        details=tuple(receipts.details[at] for at in index.tolist()),
    )


def concat_decoded(parts: Sequence[Decoded]) -> Decoded:
    """Returns all rows and receipts of `parts`, in order."""
    return Decoded(
        rows=concat_rows([part.rows for part in parts]),
        receipts=concat_receipts([part.receipts for part in parts]),
    )


def concat_receipts(parts: Sequence[Receipts]) -> Receipts:
    """Returns all receipts of `parts`, in order, with one dictionary of reasons."""
    if len(parts) == 1:
        return parts[0]
    reasons: dict[str, int] = {"": 0}
    columns: dict[str, list[Array]] = {name: [np.empty(0, dtype)] for name, dtype in Receipts.DTYPES.items()}
    for part in parts:
        lookup = np.array([reasons.setdefault(reason, len(reasons)) for reason in part.reasons], "int16")
        for name in Receipts.DTYPES:
            values = getattr(part, name)
            columns[name].append(lookup[values] if name == "reason" and len(lookup) else values)
    arrays: dict[str, Any] = {
        name: np.concatenate(columns[name]).astype(dtype, copy=False) for name, dtype in Receipts.DTYPES.items()
    }
    return Receipts(
        **arrays,
        reasons=tuple(reasons),
        digests=tuple(digest for part in parts for digest in part.digests),
        details=tuple(detail for part in parts for detail in part.details),
    )
