"""Decoders: the bytes of one source's messages in, columns and receipts out.

One module per format, each with one function `decode(messages) -> Decoded`. `protobuf` and `flat` are the
plain reference decoders: the fast ones are tested against them and fall back to them.
"""

from dataclasses import dataclass

from stream.core.columns import Receipts, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a source.

    Args:
        source: Index into the table of sources that travels beside the rows.
        offset: Offset of the message in its source partition.
        value: The bytes, or None for a tombstone.
    """

    source: int
    offset: int
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What a decoder made of some messages: rows and receipts, both in message order.

    Every item is in one of them: the receipts' items less those rejected are the events of the rows.
    """

    rows: Rows
    receipts: Receipts
