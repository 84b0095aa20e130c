"""Decoders: the bytes of one source's messages in, columns and receipts out.

`reference/` holds the plain decoders, one Python object per item: what every other decoder must equal. `scan/` holds
the compiled ones, one file per format. All of them are functions `decode(messages, reading) -> Decoded`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from stream.core.columns import Array, Receipts, Rows, concat_receipts, concat_rows
from stream.core.fingerprints import NO_FINGERPRINTS, Fingerprints, concat_fingerprints
from stream.core.points import Points, concat_points


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """Messages of one or more sources, in order.

    Shapes: all have `n` elements. `source` int16 (index into the table of sources that travels beside the rows),
    `offset` int64 (in the source partition), `values` (the bytes, or None for a tombstone).
    """

    source: Array
    offset: Array
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Message]:
        """Yields the messages as objects, for the reference decoders."""
        for source, offset, value in zip(self.source.tolist(), self.offset.tolist(), self.values, strict=True):
            yield Message(source=source, offset=offset, value=value)

    @classmethod
    def of(cls, values: Sequence[bytes | None], *, source: int = 0, first_offset: int = 0) -> Self:
        """Returns messages of one source at consecutive offsets."""
        offsets = np.arange(first_offset, first_offset + len(values), dtype="int64")
        return cls(source=np.full(len(values), source, "int16"), offset=offsets, values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a source; value None for a tombstone."""

    source: int
    offset: int
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a decoder reads at most. Each is refused with a reason of its own.

    Args:
        message_bytes: Of a message: `too_large`.
        items: Spans, points or log records of a message; the message is refused: `too_many_items`.
        attributes: Of an item, a scope or a resource; the items concerned are refused: `too_many_attributes`.
        value_bytes: Of a text that is read; the items concerned are refused: `value_too_long`.
        depth: Levels of nested attribute values in a JSON message: `too_deep`.
        explicit_buckets: Of a histogram point; the point is refused: `too_many_buckets`.
        exponential_buckets: Of an exponential histogram point, positive and negative each; likewise.
    """

    message_bytes: int = 4 << 20
    items: int = 50_000
    attributes: int = 128
    value_bytes: int = 4096
    depth: int = 32
    explicit_buckets: int = 256
    exponential_buckets: int = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a decoder is asked to read beside the fields that every row has.

    Args:
        attributes: Keys of the attributes that some objective names, sorted: nothing else is materialised. A span's own
            attribute is taken before its resource's, and where a key has an older name that is read where it is absent.
        limits: What is refused.
        ids: Whether to return by what the producers call their messages, where the format has that.
    """

    attributes: tuple[str, ...] = ()
    limits: Limits = Limits()
    ids: bool = False


ONLY_FIELDS = Reading()
"""Reads no attributes beside those that every row has a field for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What a decoder made of some messages: rows, points and receipts, each in message order.

    Every item is in one of them: the receipts' items less those rejected are the events of the rows and the points.

    Args:
        ids: By what the producer calls each message, None where it does not; () where nobody asked or none can.
        fingerprints: Of messages among which repeated ones are looked for; the decoders leave it to who calls them.
    """

    rows: Rows
    points: Points
    receipts: Receipts
    ids: Sequence[bytes | None] = ()
    fingerprints: Fingerprints = NO_FINGERPRINTS


def concat_decoded(parts: Sequence[Decoded]) -> Decoded:
    """Returns all rows, points, receipts and fingerprints of `parts`, in order; their ids are not kept."""
    if len(parts) == 1:
        return parts[0]
    return Decoded(
        rows=concat_rows([part.rows for part in parts]),
        points=concat_points([part.points for part in parts]),
        receipts=concat_receipts([part.receipts for part in parts]),
        fingerprints=concat_fingerprints([part.fingerprints for part in parts]),
    )
