"""Collects the rows, points and receipts of messages while they are decoded. Shared by the reference decoders."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream.core.columns import Array, Receipts, RejectReason, Rows, Signal
from stream.core.otlp import Decoded, Message
from stream.core.otlp.attributes import Value, canonical
from stream.core.points import Points
from stream.core.service_key import service_key


class Row(NamedTuple):
    """The values of one row in the order of `Rows.DTYPES`; a tuple has a `count` already."""

    source: int
    offset: int
    service: int
    version: int
    kind: int
    status: int
    code: int
    error_type: int
    end_ns: int
    duration_ns: int
    events: int
    weight: int
    flags: int
    signal: int = Signal.SPAN
    severity: int = 0
    name: int = 0
    attributes: int = 0
    trace_hi: int = 0
    trace_lo: int = 0


class Point(NamedTuple):
    """The values of one metric point in the order of `Points.DTYPES`, and its bucket counts."""

    source: int
    offset: int
    service: int
    version: int
    name: int
    unit: int
    type: int
    temporality: int
    kind: int
    status: int
    code: int
    error_type: int
    attributes: int
    flags: int
    start_ns: int
    time_ns: int
    stream_hi: int
    stream_lo: int
    value: float = 0.0
    value_int: int = 0
    events: int = 0
    scale: int = 0
    zero_count: int = 0
    zero_threshold: float = 0.0
    negative_count: int = 0
    bucket_offset: int = 0
    bounds: int = 0
    buckets: tuple[int, ...] = ()


_OTHER_NAMES = {"count": "events"}
assert Row._fields == tuple(_OTHER_NAMES.get(name, name) for name in Rows.DTYPES)
assert Point._fields == (*(_OTHER_NAMES.get(name, name) for name in Points.DTYPES), "buckets")


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
    """The rows, points and receipts of the messages decoded so far."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._points: list[Point] = []
        self._receipts: list[_Receipt] = []
        self._services: dict[str, int] = {}
        self._keys: dict[tuple[str | None, str | None, str | None], int] = {}
        self._versions: dict[str, int] = {}
        self._error_types: dict[str, int] = {"": 0}
        self._names: dict[str, int] = {"": 0}
        self._attribute_sets: dict[str, int] = {"": 0}
        self._units: dict[str, int] = {"": 0}
        self._bounds_sets: dict[tuple[float, ...], int] = {(): 0}
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

    def name(self, name: str) -> int:
        """Returns the index of the name of an event or a metric; the empty string, for none, is always 0."""
        return self._names.setdefault(name, len(self._names))

    def attributes(self, attributes: Mapping[str, Value]) -> int:
        """Returns the index of a set of allow-listed attributes; that of the empty set is always 0."""
        return self._attribute_sets.setdefault(canonical(attributes), len(self._attribute_sets))

    def unit(self, unit: str) -> int:
        """Returns the index of a metric's unit; the empty string, for none, is always 0."""
        return self._units.setdefault(unit, len(self._units))

    def bounds(self, bounds: tuple[float, ...]) -> int:
        """Returns the index of a histogram's explicit bounds; that of none is always 0."""
        return self._bounds_sets.setdefault(bounds, len(self._bounds_sets))

    def accept(
        self,
        message: Message,
        rows: Sequence[Row] = (),
        refusals: Sequence[Refusal] = (),
        *,
        points: Sequence[Point] = (),
    ) -> None:
        """Adds the rows and points of a message and its receipt; items that were refused instead are in `refusals`."""
        self._rows.extend(rows)
        self._points.extend(points)
        items = sum(row.events for row in rows) + len(points) + sum(refusal.items for refusal in refusals)
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
        rows, points, receipts = self._as_rows(), self._as_points(), self._as_receipts()
        accepted = int(receipts.items.sum()) - int(receipts.rejected.sum())
        counted = int(rows.count.sum()) + len(points)
        assert accepted == counted, "every item received is in a row, a point or rejected in a receipt"
        return Decoded(rows=rows, points=points, receipts=receipts)

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
            names=tuple(self._names),
            attribute_sets=tuple(self._attribute_sets),
        )

    def _as_points(self) -> Points:
        if not self._points:
            return Points.empty()
        *columns, buckets = zip(*self._points, strict=True)
        arrays = {
            name: np.array(column, dtype) for (name, dtype), column in zip(Points.DTYPES.items(), columns, strict=True)
        }
        first = np.zeros(len(buckets) + 1, "int64")
        np.cumsum([len(counts) for counts in buckets], out=first[1:])
        return Points(
            **arrays,
            buckets=np.array([count for counts in buckets for count in counts], "int64"),
            bucket_first=first,
            services=tuple(self._services),
            versions=tuple(self._versions),
            names=tuple(self._names),
            units=tuple(self._units),
            error_types=tuple(self._error_types),
            attribute_sets=tuple(self._attribute_sets),
            bounds_sets=tuple(self._bounds_sets),
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
