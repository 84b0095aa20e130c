"""Collects the rows and receipts of messages while they are decoded. Shared by the reference decoders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.core.columns import Array, Receipts, RejectReason, Rows
from stream.core.otlp import Decoded, Message
from stream.core.service_key import service_key

Row = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]
"""The values of one row in the order of `Rows.DTYPES`."""

_COUNT = list(Rows.DTYPES).index("count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Items of one message that were refused for one reason, and a plain sentence that says why."""

    reason: RejectReason
    items: int
    detail: str


@dataclass(slots=True)
class _Receipt:
    source: int
    first_offset: int
    last_offset: int
    items: int
    rejected: int = 0
    reason: int = 0
    digest: bytes | None = None
    detail: str | None = None
    run: bool = False
    """Clean messages of one item each: the only receipts that grow."""


class Batch:
    """The rows and receipts of the messages decoded so far."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._receipts: list[_Receipt] = []
        self._services: dict[str, int] = {}
        self._keys: dict[tuple[str | None, str | None, str | None], int] = {}
        self._versions: dict[str, int] = {}
        self._error_types: dict[str, int] = {"": 0}
        self._reasons: dict[str, int] = {"": 0}

    def service(self, environment: str | None, namespace: str | None, name: str | None) -> int:
        """Returns the index of a service's key in the dictionary of this batch."""
        attributes = (environment, namespace, name)
        index = self._keys.get(attributes)
        if index is None:
            key = service_key(environment, namespace, name)
            index = self._keys[attributes] = self._services.setdefault(key, len(self._services))
        return index

    def version(self, version: str) -> int:
        """Returns the index of a version; the empty string stands for none."""
        return self._versions.setdefault(version, len(self._versions))

    def error_type(self, error_type: str) -> int:
        """Returns the index of an error type; the empty string, for none, is always 0."""
        return self._error_types.setdefault(error_type, len(self._error_types))

    def accept(self, message: Message, rows: Sequence[Row], refusals: Sequence[Refusal] = ()) -> None:
        """Adds the rows of a message and its receipt; items that were refused instead are in `refusals`."""
        self._rows.extend(rows)
        items = sum(row[_COUNT] for row in rows) + sum(refusal.items for refusal in refusals)
        if refusals:
            self._refuse(message, items, refusals)
        elif not (items == 1 and self._extended_run(message)):
            self._receipts.append(_Receipt(message.source, message.offset, message.offset, items, run=items == 1))

    def reject(self, message: Message, reason: str, detail: str) -> None:
        """Adds the receipt of a message that is refused as a whole: it counts as one item."""
        self._refuse(message, 1, [Refusal(reason=RejectReason(reason), items=1, detail=detail)])

    def _refuse(self, message: Message, items: int, refusals: Sequence[Refusal]) -> None:
        digest = hashlib.sha256(message.value or b"").digest()
        for refusal in refusals:
            self._receipts.append(
                _Receipt(
                    message.source,
                    message.offset,
                    message.offset,
                    items,
                    rejected=refusal.items,
                    reason=self._reasons.setdefault(refusal.reason.value, len(self._reasons)),
                    digest=digest,
                    detail=refusal.detail,
                )
            )
            items = 0  # the first row speaks for the whole message

    def _extended_run(self, message: Message) -> bool:
        """Adds a clean one-item message to the run before it, where there is one that it continues.

        Only without a gap in the offsets: then the items of a run are its offsets, and the part of a run that
        lies above a position is known. That is what deduplication asks for.
        """
        last = self._receipts[-1] if self._receipts else None
        here = (message.source, message.offset)
        if last is None or not last.run or (last.source, last.last_offset + 1) != here:
            return False
        last.last_offset = message.offset
        last.items += 1
        return True

    def decoded(self) -> Decoded:
        """Returns everything collected.

        Raises:
            AssertionError: When items were lost or invented, which is a bug of the decoder.
        """
        rows, receipts = self._as_rows(), self._as_receipts()
        accepted = int(receipts.items.sum()) - int(receipts.rejected.sum())
        assert accepted == int(rows.count.sum()), "every item received is in a row or rejected in a receipt"
        return Decoded(rows=rows, receipts=receipts)

    def _as_rows(self) -> Rows:
        if not self._rows:
            return Rows.empty()
        arrays = {
            name: np.array(column, dtype)
            for (name, dtype), column in zip(Rows.DTYPES.items(), zip(*self._rows, strict=True), strict=True)
        }
        return Rows(
            **arrays,
            services=tuple(self._services),
            versions=tuple(self._versions),
            error_types=tuple(self._error_types),
        )

    def _as_receipts(self) -> Receipts:
        arrays: dict[str, Array] = {
            name: np.array([getattr(receipt, name) for receipt in self._receipts], dtype)
            for name, dtype in Receipts.DTYPES.items()
        }
        return Receipts(
            **arrays,
            reasons=tuple(self._reasons),
            digests=tuple(receipt.digest for receipt in self._receipts),
            details=tuple(receipt.detail for receipt in self._receipts),
        )
