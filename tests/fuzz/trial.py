"""One batch through a decoder: what must hold of its result, and what other ways of decoding it must agree with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stream.core.columns import Array, RejectReason
from stream.core.otlp import Decoded, Messages
from stream.core.otlp.decoders import Encoding
from tests.fuzz.checks import Columns, Told, check, part_of, resolved, same, subset, told_columns
from tests.fuzz.formats import Batch, Format
from tests.fuzz.guard import FILLS, Guard

COMPARED_EACH = 50
"""About one message of so many goes through the plain decoder too."""

_ALONE = 2
_REVERSED_EACH = 6


@dataclass(slots=True)
class Tally:
    """What was run so far."""

    messages: int = 0
    refused: int = 0
    bytes: int = 0
    items: int = 0
    compared: int = 0

    def add(self, other: Tally) -> None:
        """Adds the counts of another."""
        self.messages += other.messages
        self.refused += other.refused
        self.bytes += other.bytes
        self.items += other.items
        self.compared += other.compared


def run(guard: Guard, format_: Format, batch: Batch, chance: np.random.Generator) -> Tally:
    """Decodes a batch and checks the result; returns what was run.

    Args:
        guard: Where the messages lie; it is installed.
        format_: Whose decoders.
        batch: The messages.
        chance: Where the choice of what is compared comes from.

    Raises:
        Violation: When something does not hold.
    """
    messages, size = batch.messages, len(batch.messages)
    guard.place = batch.place
    whole = format_.compiled(messages, batch.reading)
    said = check(whole, messages, format_.signal)
    if int(chance.integers(_REVERSED_EACH)) == 0:
        _check_reversed(guard, format_, batch, whole, chance)
    chosen = _chosen(messages, said, chance)
    compare(guard, format_, batch, whole, chosen)
    for at in chance.choice(size, min(_ALONE, size), replace=False).tolist():
        guard.place = replace(batch.place, fill=FILLS[chance.integers(len(FILLS))])
        alone = subset(messages, np.array([at]))
        _agree(format_.compiled(alone, batch.reading), alone, whole, messages, np.array([at]), "alone and among others")
    return Tally(
        messages=size,
        refused=len(np.unique(said.offset[said.rejected > 0])),
        bytes=sum(map(len, filter(None, messages.values))),
        items=int(said.items.sum()),
        compared=len(chosen),
    )


def _chosen(messages: Messages, said: Told, chance: np.random.Generator) -> Array:
    """Returns the messages to compare with the plain decoder: half of any, half of those with items accepted."""
    size = len(messages)
    count = max(1, size // COMPARED_EACH // 2)
    accepted = np.flatnonzero(np.isin(messages.offset, said.offset[said.rejected < said.items]))
    chosen = [chance.choice(size, count, replace=False)]
    if len(accepted):
        chosen.append(chance.choice(accepted, min(count, len(accepted)), replace=False))
    return np.unique(np.concatenate(chosen))


def compare(guard: Guard, format_: Format, batch: Batch, whole: Decoded, chosen: Array) -> None:
    """Compares what became of some messages with what the plain decoder makes of them, and with them by themselves."""
    messages = batch.messages
    some = subset(messages, chosen)
    expected = format_.plain(some, batch.reading)
    if format_.encoding == Encoding.OTLP_PROTO:
        # What is nested deeper than its parser goes only the plain decoder refuses.
        deep = _too_deep(expected)
        if len(deep):
            chosen = chosen[~np.isin(some.offset, deep)]
            some = subset(messages, chosen)
            expected = format_.plain(some, batch.reading)
    guard.place = replace(batch.place, fill=FILLS[(FILLS.index(batch.place.fill) + 1) % len(FILLS)])
    actual = format_.compiled(some, batch.reading)
    same(resolved(actual, some), resolved(expected, some), "compiled and plain")
    same(_receipts(actual), _receipts(expected), "compiled and plain")
    _agree(actual, some, whole, messages, chosen, "among few and among others")


def _receipts(decoded: Decoded) -> Columns:
    """Returns the receipts as they are, with their runs."""
    receipts = decoded.receipts
    columns = {f"receipts.{name}": getattr(receipts, name) for name in receipts.DTYPES}
    reasons = [receipts.reasons[i] for i in receipts.reason.tolist()]
    digests = np.empty(len(reasons), object)
    digests[:] = receipts.digests
    return {**columns, "receipts.reason": np.array(reasons, object), "receipts.digests": digests}


def _too_deep(decoded: Decoded) -> Array:
    receipts = decoded.receipts
    if RejectReason.TOO_DEEP not in receipts.reasons:
        return np.empty(0, "int64")
    deep: Array = receipts.first_offset[receipts.reason == receipts.reasons.index(RejectReason.TOO_DEEP)]
    return deep


def _agree(few: Decoded, some: Messages, whole: Decoded, messages: Messages, chosen: Array, what: str) -> None:
    columns, said = part_of(whole, chosen, messages)
    same(resolved(few, some), columns, what)
    same(told_columns(few.receipts, some), said, what)


def _check_reversed(guard: Guard, format_: Format, batch: Batch, whole: Decoded, chance: np.random.Generator) -> None:
    """Compares all messages with the same ones in reversed order, elsewhere in memory."""
    guard.place = replace(batch.place, at_the_end=not batch.place.at_the_end, fill=FILLS[chance.integers(len(FILLS))])
    messages = batch.messages
    backwards = Messages(
        source=messages.source[::-1].copy(), offset=messages.offset[::-1].copy(), values=messages.values[::-1]
    )
    decoded = format_.compiled(backwards, batch.reading)
    same(resolved(decoded, backwards), resolved(whole, messages), "reversed and in order")
    said = told_columns(decoded.receipts, backwards), told_columns(whole.receipts, messages)
    same(*said, "reversed and in order")
