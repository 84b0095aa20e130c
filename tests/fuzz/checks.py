"""What must hold of whatever a decoder makes of any messages, and how two results are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from stream.core.columns import NO_CODE, Array, Kind, Receipts, RejectReason, RowFlag, Rows, Signal, Status
from stream.core.otlp import Decoded, Messages
from stream.core.otlp.reference.flat import TIME_NS_MIN
from stream.core.otlp.semconv import HTTP_MAX
from stream.core.points import MetricType, PointFlag, Points, Temporality
from stream.core.units import WEIGHT_MAX

_REASONS = frozenset(RejectReason)
_INT64_MAX, _INT8_MAX = (1 << 63) - 1, (1 << 7) - 1
_ROW_RANGES: Mapping[str, tuple[int, int]] = {
    "kind": (0, max(Kind)),
    "status": (0, max(Status)),
    "code": (NO_CODE, HTTP_MAX),
    "end_ns": (0, _INT64_MAX),
    "duration_ns": (0, _INT64_MAX),
    "count": (1, _INT64_MAX),
    "weight": (0, WEIGHT_MAX),
    "flags": (0, sum(RowFlag)),
    "severity": (0, _INT8_MAX),
}
_POINT_RANGES: Mapping[str, tuple[int, int]] = {
    "type": (0, max(MetricType)),
    "temporality": (0, max(Temporality)),
    "kind": (0, max(Kind)),
    "status": (0, max(Status)),
    "code": (NO_CODE, HTTP_MAX),
    "flags": (0, sum(PointFlag)),
    "start_ns": (0, _INT64_MAX),
    "time_ns": (1, _INT64_MAX),
    "count": (0, _INT64_MAX),
    "zero_count": (0, _INT64_MAX),
    "negative_count": (0, _INT64_MAX),
}


class Violation(Exception):
    """Something does not hold that must; says what."""


def require(holds: bool | np.bool_, what: str) -> None:
    """Raises Violation when something does not hold."""
    if not holds:
        raise Violation(what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What receipts say of each message, in the order of the offsets; several rows where there are several reasons.

    Shapes: `offset`, `items`, `rejected` int64[n], `reason` (texts) and `digest` object[n].
    """

    offset: Array
    items: Array
    rejected: Array
    reason: Array
    digest: Array


def told(receipts: Receipts, messages: Messages) -> Told:
    """Returns what receipts say message by message: runs of clean one-item messages are taken apart."""
    first = np.searchsorted(messages.offset, receipts.first_offset)
    last = np.searchsorted(messages.offset, receipts.last_offset)
    known = (first < len(messages)) & (last < len(messages))
    require(known.all(), "a receipt names an offset beyond those of the messages")
    require((messages.offset[first] == receipts.first_offset).all(), "a receipt begins where no message is")
    require((messages.offset[last] == receipts.last_offset).all(), "a receipt ends where no message is")
    lengths = last - first + 1
    require((lengths >= 1).all(), "a receipt ends before it begins")
    require(((lengths == 1) | (receipts.items == lengths)).all(), "a run holds not one item a message")
    require(((lengths == 1) | (receipts.rejected == 0)).all(), "a run holds refused messages")
    begins = np.repeat(np.cumsum(lengths) - lengths, lengths)
    index = np.repeat(first, lengths) + np.arange(lengths.sum()) - begins
    require((np.diff(index) >= 0).all(), "receipts are not in the order of the messages")
    require(bool((np.repeat(receipts.source, lengths) == messages.source[index]).all()), "a receipt's source is wrong")
    require((np.bincount(index, minlength=len(messages)) > 0).all(), "a message has no receipt")
    return Told(
        offset=messages.offset[index],
        items=np.repeat(np.where(lengths > 1, 1, receipts.items), lengths),
        rejected=np.repeat(receipts.rejected, lengths),
        reason=np.repeat(_words(receipts.reasons)[receipts.reason], lengths),
        digest=np.repeat(_words(receipts.digests), lengths),
    )


def _words(words: Sequence[Any]) -> Array:
    array = np.empty(len(words), object)
    array[:] = words
    return array


def check(decoded: Decoded, messages: Messages, signal: Signal) -> Told:
    """Checks what must hold of any result; returns what the receipts say message by message.

    Args:
        decoded: The result.
        messages: What was decoded, at rising offsets.
        signal: Whose messages.

    Raises:
        Violation: When something does not hold.
    """
    said = _check_receipts(decoded.receipts, messages)
    _check_columns(decoded.rows, Rows.DTYPES, Rows.DICTIONARIES, _ROW_RANGES, messages)
    _check_columns(decoded.points, Points.DTYPES, Points.DICTIONARIES, _POINT_RANGES, messages)
    _check_rows(decoded.rows, signal)
    _check_points(decoded.points)
    require(len(decoded.rows) == 0 if signal == Signal.METRIC else len(decoded.points) == 0, "rows of another signal")
    received, refused, accepted = (np.zeros(len(messages), "int64") for _ in range(3))
    at = np.searchsorted(messages.offset, said.offset)
    np.add.at(received, at, said.items)
    np.add.at(refused, at, said.rejected)
    np.add.at(accepted, np.searchsorted(messages.offset, decoded.rows.offset), decoded.rows.count)
    np.add.at(accepted, np.searchsorted(messages.offset, decoded.points.offset), 1)
    lost = np.flatnonzero(received != refused + accepted)
    require(not len(lost), f"items are lost or invented, in messages {lost[:5].tolist()}")
    absent = np.fromiter((value is None for value in messages.values), bool, len(messages))
    require(not received[absent].any(), "a tombstone holds items")
    return said


def _check_receipts(receipts: Receipts, messages: Messages) -> Told:
    for name, dtype in Receipts.DTYPES.items():
        require(getattr(receipts, name).dtype == dtype, f"receipts.{name} has another type than {dtype}")
    require(len(receipts.digests) == len(receipts.details) == len(receipts), "receipts differ in length")
    require((receipts.items >= 0).all() and (receipts.rejected >= 0).all(), "a receipt counts less than nothing")
    require(receipts.reasons[:1] == ("",), "the first reason is not none")
    require(_REASONS.issuperset(receipts.reasons[1:]), f"an unknown reason among {receipts.reasons}")
    require(_within(receipts.reason, 0, len(receipts.reasons) - 1), "a receipt's reason is no index")
    refused = receipts.rejected > 0
    require(((receipts.reason > 0) == refused).all(), "items were refused without a reason, or a reason without items")
    for texts, what in ((receipts.digests, "digest"), (receipts.details, "detail")):
        given = np.fromiter(map(bool, texts), bool, len(texts))
        require((given == refused).all(), f"a {what} is missing, or there is one of nothing refused")
    said = told(receipts, messages)
    for row in said.rejected.nonzero()[0][::16].tolist():
        value = messages.values[int(np.searchsorted(messages.offset, said.offset[row]))] or b""
        require(said.digest[row] == hashlib.sha256(value).digest(), "the digest is that of other bytes")
    return said


def _check_columns(
    part: Rows | Points,
    dtypes: Mapping[str, str],
    dictionaries: Mapping[str, str],
    ranges: Mapping[str, tuple[int, int]],
    messages: Messages,
) -> None:
    kind, size = type(part).__name__, len(part)
    for name, dtype in dtypes.items():
        column = getattr(part, name)
        require(column.dtype == dtype and len(column) == size, f"{kind}.{name} is no {dtype}[{size}]")
    for name, (least, most) in ranges.items():
        require(_within(getattr(part, name), least, most), f"{kind}.{name} is not within {least} to {most}")
    for name, dictionary in dictionaries.items():
        words = getattr(part, dictionary)
        require(_within(getattr(part, name), 0, len(words) - 1), f"{kind}.{name} is no index into {dictionary}")
        require(len(set(words)) == len(words), f"{kind}.{dictionary} holds a word twice")
        require(all(type(word) is str for word in words), f"{kind}.{dictionary} holds what is no text")
        "\0".join(words).encode()  # raises when a text has a lone surrogate: it could not be sent on
    at = np.searchsorted(messages.offset, part.offset)
    require((np.diff(at) >= 0).all(), f"{kind} are not in the order of their messages")
    require(_within(at, 0, len(messages) - 1), f"{kind}.offset is that of no message")
    require((messages.offset[at] == part.offset).all(), f"{kind}.offset is that of no message")
    require((messages.source[at] == part.source).all(), f"{kind}.source is that of another message")


def _within(column: Array, least: int, most: int) -> bool:
    return not len(column) or (int(column.min()) >= least and int(column.max()) <= most)


def _check_rows(rows: Rows, signal: Signal) -> None:
    require((rows.signal == signal).all(), "a row is of another signal")
    require(all(service.count("/") == 2 for service in rows.services), "a service's key has not three parts")
    if signal == Signal.EVENT:
        require(_within(rows.end_ns, TIME_NS_MIN, _INT64_MAX), "an event ended too early")
    else:
        require((rows.count == 1).all(), "a row counts other than one item")
    if signal != Signal.LOG:
        require(not rows.severity.any(), "a row that is no log record has a severity")
    negative = rows.flags & RowFlag.NEGATIVE_DURATION != 0
    require(not rows.duration_ns[negative].any(), "an item that ended before it began has a duration")


def _check_points(points: Points) -> None:
    first, buckets = points.bucket_first, points.buckets
    require(
        first.dtype == buckets.dtype == "int64" and len(first) == len(points) + 1, "bucket_first is no int64[n + 1]"
    )
    require(first[0] == 0 and first[-1] == len(buckets), "the buckets are not those of the points")
    lengths = np.diff(first)
    require((lengths >= 0).all(), "bucket_first falls")
    require(_within(buckets, 0, _INT64_MAX), "a bucket counts less than nothing")
    require(_within(points.bounds, 0, len(points.bounds_sets) - 1), "Points.bounds is no index into bounds_sets")
    require(len(set(points.bounds_sets)) == len(points.bounds_sets), "Points.bounds_sets holds bounds twice")
    for bounds in points.bounds_sets:
        require(all(a < b for a, b in pairwise(bounds)), f"bounds do not rise: {bounds}")
    if not len(points):
        return
    is_histogram = points.type == MetricType.HISTOGRAM
    bounds_counts = np.fromiter(map(len, points.bounds_sets), "int64", len(points.bounds_sets))[points.bounds]
    explicit = is_histogram & (lengths > 0)
    require((lengths[explicit] == bounds_counts[explicit] + 1).all(), "a histogram has not one bucket more than bounds")
    is_number = (points.type == MetricType.GAUGE) | (points.type == MetricType.SUM)
    require(not lengths[is_number].any() and not points.count[is_number].any(), "a number has buckets or a count")
    sums = np.add.reduceat(np.append(buckets, 0), first[:-1]) * (lengths > 0)
    sums = sums + points.zero_count + points.negative_count
    counted = (lengths > 0) & (is_histogram | (points.type == MetricType.EXPONENTIAL_HISTOGRAM))
    require((sums[counted] == points.count[counted]).all(), "the buckets of a histogram do not add up to its count")


Columns = Mapping[str, Array]


def resolved(decoded: Decoded, messages: Messages) -> Columns:
    """Returns the columns in the order of the offsets, with words in place of indices and doubles by their bits."""
    columns: dict[str, Array] = {}
    for kind, part, dictionaries in (
        ("rows", decoded.rows, Rows.DICTIONARIES),
        ("points", decoded.points, {**Points.DICTIONARIES, "bounds": "bounds_sets"}),
    ):
        order = np.argsort(part.offset, kind="stable")
        part = part.take(order)
        for name in type(part).DTYPES:
            column = getattr(part, name)
            if name in dictionaries:
                column = _words(getattr(part, dictionaries[name]))[column] if len(column) else column.astype(object)
            columns[f"{kind}.{name}"] = column.view("int64") if column.dtype == np.float64 else column
        if isinstance(part, Points):
            columns["points.bucket counts"] = np.diff(part.bucket_first)
            columns["points.buckets"] = part.buckets
    if decoded.ids:
        columns["ids"] = _words(list(decoded.ids))[np.argsort(messages.offset, kind="stable")]
    return columns


def told_columns(receipts: Receipts, messages: Messages) -> Columns:
    """Returns what the receipts say, message by message, in the order of the offsets.

    Unlike `told` the messages may be in any order.
    """
    size = len(messages)
    rank = np.argsort(messages.offset, kind="stable")
    at_place = np.empty(size, "int64")
    at_place[rank] = np.arange(size)
    where = {offset: place for place, offset in enumerate(messages.offset.tolist())}
    first = np.array([where[offset] for offset in receipts.first_offset.tolist()], "int64")
    last = np.array([where[offset] for offset in receipts.last_offset.tolist()], "int64")
    lengths = last - first + 1
    index = np.repeat(first, lengths) + np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    order = np.argsort(at_place[index], kind="stable")
    columns = {
        "offset": messages.offset[index],
        "items": np.repeat(np.where(lengths > 1, 1, receipts.items), lengths),
        "rejected": np.repeat(receipts.rejected, lengths),
        "reason": np.repeat(_words(receipts.reasons)[receipts.reason], lengths),
        "digest": np.repeat(_words(receipts.digests), lengths),
    }
    return {f"receipts.{name}": column[order] for name, column in columns.items()}


def part_of(decoded: Decoded, chosen: Array, messages: Messages) -> tuple[Columns, Columns]:
    """Returns what a result has of some of its messages: its columns, and what its receipts say.

    Args:
        decoded: The result.
        chosen: Indices of messages, rising.
        messages: All messages of the result.
    """
    offsets = messages.offset[chosen]
    rows, points = decoded.rows, decoded.points
    ids = [decoded.ids[i] for i in chosen.tolist()] if decoded.ids else ()
    part = Decoded(
        rows=rows.take(np.isin(rows.offset, offsets)),
        points=points.take(np.isin(points.offset, offsets)),
        receipts=decoded.receipts,
        ids=ids,
    )
    said = told_columns(decoded.receipts, messages)
    kept = np.isin(said["receipts.offset"], offsets)
    return resolved(part, subset(messages, chosen)), {name: column[kept] for name, column in said.items()}


def subset(messages: Messages, chosen: Array) -> Messages:
    """Returns some of the messages, with the offsets that they have."""
    values = [messages.values[i] for i in chosen.tolist()]
    return Messages(source=messages.source[chosen], offset=messages.offset[chosen], values=values)


def same(ours: Columns, theirs: Columns, what: str) -> None:
    """Raises Violation when two results differ, and says in what."""
    require(ours.keys() == theirs.keys(), f"{what}: one of them has no {sorted(ours.keys() ^ theirs.keys())}")
    for name, column in ours.items():
        other = theirs[name]
        require(len(column) == len(other), f"{what}: {len(column)} and {len(other)} {name}")
        unequal = np.flatnonzero(column != other)
        if len(unequal):
            at = unequal[0]
            raise Violation(f"{what}: {name}[{at}] is {column[at]!r} and {other[at]!r}")
