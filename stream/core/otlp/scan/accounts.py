"""Receipts of decoded messages from counts: the same as the reference decoders collect message by message."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.core.columns import Array, Receipts, RejectReason
from stream.core.otlp import Messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Items of one message that were refused for one reason.

    Args:
        message: Index of the message.
        reason: Why.
        items: How many of its items.
        detail: A plain sentence that says why.
    """

    message: int
    reason: RejectReason
    items: int
    detail: str


def make_receipts(messages: Messages, items: Array, refused: Sequence[Refused]) -> Receipts:
    """Returns the receipts of messages; runs of clean one-item messages at consecutive offsets share one.

    Args:
        messages: What was received.
        items: Items of each message, refused ones included; 1 for a message that was refused as a whole.
        refused: In message order. A message may be refused for several reasons.

    Shapes: `items` int64[n].
    """
    if not refused:
        return _clean(messages, items)
    size = len(messages)
    times_refused = np.bincount([one.message for one in refused], minlength=size)
    first = _first_of_runs(messages, (items == 1) & (times_refused == 0))
    # One row for each run, and one more for each further reason.
    message = np.repeat(np.arange(size)[first], np.maximum(times_refused[first], 1))
    ends = np.append(np.flatnonzero(first)[1:], size)
    is_first_row = np.append(True, message[1:] != message[:-1])
    run = np.cumsum(is_first_row) - 1
    totals = np.add.reduceat(items, np.flatnonzero(first))
    columns = _refusals(messages, message, refused)
    return Receipts(
        source=messages.source[message].astype("int16", copy=False),
        first_offset=messages.offset[message],
        last_offset=messages.offset[ends[run] - 1],
        items=np.where(is_first_row, totals[run], 0).astype("int64", copy=False),
        **columns,  # type: ignore[arg-type]
    )


def _clean(messages: Messages, items: Array) -> Receipts:
    """Returns the receipts of messages of which nothing was refused."""
    first_offset = last_offset = messages.offset
    source = messages.source
    single = items == 1
    if single.any():
        begins = np.flatnonzero(_first_of_runs(messages, single))
        source, first_offset = source[begins], first_offset[begins]
        last_offset = last_offset[np.append(begins[1:], len(messages)) - 1]
        items = np.add.reduceat(items, begins)
    size = len(source)
    return Receipts(
        source=source.astype("int16", copy=False),
        first_offset=first_offset,
        last_offset=last_offset,
        items=items.astype("int64", copy=False),
        rejected=np.zeros(size, "int64"),
        reason=np.zeros(size, "int16"),
        reasons=("",),
        digests=(None,) * size,
        details=(None,) * size,
    )


def _first_of_runs(messages: Messages, clean: Array) -> Array:
    """Returns where a receipt begins: everywhere but where a clean one-item message continues a run."""
    first = np.ones(len(messages), bool)
    source, offset = messages.source, messages.offset
    continues = clean[1:] & clean[:-1] & (source[1:] == source[:-1]) & (offset[1:] == offset[:-1] + 1)
    first[1:] = ~continues
    return first


def _refusals(messages: Messages, message: Array, refused: Sequence[Refused]) -> dict[str, object]:
    """Returns the columns that say what was refused, for rows that belong to these messages."""
    size = len(message)
    rejected, reason = np.zeros(size, "int64"), np.zeros(size, "int16")
    digests: list[bytes | None] = [None] * size
    details: list[str | None] = [None] * size
    reasons: dict[str, int] = {"": 0}
    row, before, digest = -1, -1, b""
    for one in refused:
        if one.message != before:
            row = int(np.searchsorted(message, one.message))
            before = one.message
            digest = hashlib.sha256(messages.values[before] or b"").digest()
        else:
            row += 1
        rejected[row] = one.items
        reason[row] = reasons.setdefault(one.reason.value, len(reasons))
        digests[row], details[row] = digest, one.detail
    return {
        "rejected": rejected,
        "reason": reason,
        "reasons": tuple(reasons),
        "digests": tuple(digests),
        "details": tuple(details),
    }
