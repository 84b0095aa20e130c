"""One cycle of the ingest, without Kafka and without a clock.

The order of use: `pieces` cuts what was fetched at message boundaries, `decode_piece` makes columns of each,
a `Cycle` collects them until it is full, `routing.Router` makes a log record per destination of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Self

import numpy as np

from stream.core.columns import RejectReason, RowFlag, Rows, take_receipts
from stream.core.log import LostRange, Progress, SourceProgress, SourceRange
from stream.core.otlp import Decoded, Messages
from stream.core.points import NO_POINTS, PointFlag
from stream.core.service_key import murmur2
from stream.ingest.columns import Columns, concat_columns
from stream.ingest.refused import decoded_refusals
from stream.kafka.batches import RefusedBatch

CYCLE_BYTES_MAX = 6 << 20
"""A cycle is closed before its columns exceed this, some 65,000 rows: one record may hold them all, and Kafka takes
8 MiB. Much of the cost of a record does not depend on its size: few large ones are cheaper."""

MESSAGE_COLUMNS_BYTES_MAX = CYCLE_BYTES_MAX
"""A message whose columns alone exceed this is refused as too large: no record could hold it."""

_RECORD_BYTES_MAX = (8 << 20) - (64 << 10)
"""What columns and a configuration may take together in one record, beside its headers."""

PIECE_BYTES = 4 << 20
PIECE_MESSAGES = 4096
"""Messages are decoded in pieces of this size: large enough for columns to pay, small beside a cycle."""

Decode = Callable[[Messages], Decoded]
"""Decodes the messages of sources that are written alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One assignment of one source partition to one process, and how far it has been read.

    Args:
        id: Unique per assignment: the incarnation and a count.
        first_offset: The committed offset that the session began at.
        next_offset: Everything in [first_offset, next_offset) was read.
        began_ns: Timestamp of the first message read; None while there is none.
        until_ns: Largest timestamp of a message read; None while there is none.
        is_telemetry: It has a time, which moves the frontier. Our own indicators have none: they follow it.
    """

    topic: str
    topic_id: str
    partition: int
    id: str
    first_offset: int
    next_offset: int
    began_ns: int | None = None
    until_ns: int | None = None
    is_telemetry: bool = True

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
        if not self.is_telemetry:
            return replace(self, next_offset=fetched.next_offset)
        times = fetched.times_ns
        if fetched.refused is not None and fetched.refused.time_ns is not None:
            times = [fetched.refused.time_ns]
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
        refused: A batch that the consumer stepped over; then there are no messages.
    """

    source: int
    offsets: Sequence[int]
    times_ns: Sequence[int]
    values: Sequence[bytes | None]
    next_offset: int
    refused: RefusedBatch | None = None

    def cut(self, start: int, stop: int) -> Fetched:
        """Returns the messages [start, stop); the last part takes the offsets behind its last message too."""
        last = stop >= len(self.offsets)
        return Fetched(
            source=self.source,
            offsets=self.offsets[start:stop],
            times_ns=self.times_ns[start:stop],
            values=self.values[start:stop],
            next_offset=self.next_offset if last else self.offsets[stop - 1] + 1,
            refused=self.refused,
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
    bytes_left, messages_left = bytes_max, messages_max
    for part in fetched:
        count, start = len(part.values), 0
        ends = list(accumulate((len(value) if value else 0 for value in part.values), initial=0))
        while True:
            stop = min(bisect_left(ends, ends[start] + bytes_left, start + 1), start + messages_left)
            if stop > count:
                break
            yield (*piece, part.cut(start, stop))
            piece, start = [], stop
            bytes_left, messages_left = bytes_max, messages_max
        if start < count or not count:
            piece.append(part.cut(start, count))
            bytes_left -= ends[count] - ends[start]
            messages_left -= count - start
    if piece:
        yield tuple(piece)


def decode_cycle(piece: Sequence[Fetched], decoders: Sequence[Decode]) -> Columns:
    """Returns the columns of all messages.

    Args:
        piece: Messages, per source in order.
        decoders: The decoder of each source, by its index; sources with the same one are decoded together.
    """
    alike: dict[Decode, list[Fetched]] = {}
    for part in piece:
        if part.values:
            alike.setdefault(decoders[part.source], []).append(part)
    return concat_columns([decode(_messages(parts)) for decode, parts in alike.items()])


def _messages(parts: Sequence[Fetched]) -> Messages:
    return Messages(
        source=np.repeat(np.array([part.source for part in parts], "int16"), [len(part.values) for part in parts]),
        offset=np.concatenate([np.array(part.offsets, "int64") for part in parts]),
        values=[value for part in parts for value in part.values],
    )


def columns_bytes_max(config_bytes: int) -> int:
    """Returns what the columns of a cycle may take where a configuration of this size may travel with them."""
    return min(CYCLE_BYTES_MAX, _RECORD_BYTES_MAX - config_bytes)


def decode_piece(
    piece: Piece,
    decoders: Sequence[Decode],
    *,
    bytes_max: int = CYCLE_BYTES_MAX,
    message_bytes_max: int = MESSAGE_COLUMNS_BYTES_MAX,
) -> Iterator[tuple[Piece, Columns]]:
    """Yields the piece decoded, halved at message boundaries as often as its columns are too big for a cycle.

    A single message that no record could hold is refused: its items are rejected as too large.
    """
    decoded = decode_cycle(piece, decoders)
    size = decoded.bytes
    messages = sum(len(part.values) for part in piece)
    if size > bytes_max and messages > 1:
        for half in pieces(piece, bytes_max=1 << 62, messages_max=(messages + 1) // 2):
            yield from decode_piece(half, decoders, bytes_max=bytes_max, message_bytes_max=message_bytes_max)
    elif size > message_bytes_max:
        yield piece, _with_refusals(piece, _refused(decoded, size, message_bytes_max))
    else:
        yield piece, _with_refusals(piece, decoded)


def _with_refusals(piece: Piece, decoded: Columns) -> Columns:
    """Returns the columns with the receipts of the batches that were stepped over."""
    found = [(part.source, part.refused) for part in piece if part.refused is not None]
    return concat_columns([decoded, decoded_refusals(found)]) if found else decoded


def _refused(decoded: Columns, size: int, limit: int) -> Columns:
    """Returns one message's items, all rejected as too large."""
    receipts = decoded.receipts
    items = int(receipts.items.sum())
    first = replace(
        take_receipts(receipts, np.zeros(1, "int64")),
        items=np.array([items], "int64"),
        rejected=np.array([items], "int64"),
        reason=np.array([1], "int16"),
        reasons=("", RejectReason.TOO_LARGE.value),
        digests=(next((digest for digest in receipts.digests if digest), None),),
        details=(f"its rows take {size} bytes, a log record holds {limit}; send fewer items in a message",),
    )
    return Columns(rows=Rows.empty(), points=NO_POINTS, receipts=first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What was read and decoded since the last records were sent.

    Args:
        sessions: All sources of the process, as far as they were read at the end of the cycle.
        parts: Columns; their sources are indices into `sessions`.
        items: Rows, points and indicators.
        touched: The sources that were read on in this cycle.
    """

    sessions: tuple[Session, ...]
    parts: tuple[Columns, ...] = ()
    touched: frozenset[int] = frozenset()
    items: int = 0
    messages: int = 0
    bytes: int = 0

    def has_room_for(self, decoded: Columns, bytes_max: int = CYCLE_BYTES_MAX) -> bool:
        """Returns whether the cycle stays within its limit; an empty one takes any piece."""
        return not self.parts or self.bytes + decoded.bytes <= bytes_max

    def added(self, piece: Piece, decoded: Columns) -> Self:
        """Returns the cycle with one more decoded piece."""
        sessions = list(self.sessions)
        for part in piece:
            sessions[part.source] = sessions[part.source].advanced(part)
        return replace(
            self,
            sessions=tuple(sessions),
            parts=(*self.parts, decoded),
            touched=self.touched | {part.source for part in piece},
            items=self.items + decoded.items,
            messages=self.messages + sum(len(part.values) for part in piece),
            bytes=self.bytes + decoded.bytes,
        )

    def skipped(self, source: int, next_offset: int) -> Self:
        """Returns the cycle with the session of `source` moved on over offsets that can no longer be read."""
        session = self.sessions[source]
        assert next_offset >= session.next_offset, (session, next_offset)
        moved = replace(session, next_offset=next_offset)
        sessions = (*self.sessions[:source], moved, *self.sessions[source + 1 :])
        return replace(self, sessions=sessions, touched=self.touched | {source})


def invalid_texts(cycle: Cycle) -> Counter[str]:
    """Returns the items of a cycle with a text that is no UTF-8, of which each topic has some."""
    found: Counter[str] = Counter()
    for part in cycle.parts:
        for columns, flag in ((part.rows, RowFlag.INVALID_UTF8), (part.points, PointFlag.INVALID_UTF8)):
            flagged = columns.source[(columns.flags & flag) != 0]
            for source, items in zip(*np.unique(flagged, return_counts=True), strict=True):
                found[cycle.sessions[source].topic] += int(items)
    return found


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
    """Returns the reading positions of all sources of telemetry; source indices are those of `sessions`."""
    return Progress(
        sources=tuple(
            SourceProgress(source=source, began_ns=session.began_ns, until_ns=session.until_ns, at_end=source in at_end)
            for source, session in enumerate(sessions)
            if session.is_telemetry
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
        if session.is_telemetry
    )
