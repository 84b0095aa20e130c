"""What a metric point's values mean: pure rules, shared by the plain decoders of every encoding.

The checks of a point are made in the order in which they stand here, and the first that fails names the reason:
buckets too many, numbers out of range, numbers that contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from stream.core.columns import Kind, RejectReason, Status
from stream.core.otlp import Limits
from stream.core.points import PointFlag

INT64_MAX = (1 << 63) - 1

SPAN_KIND = "span.kind"
STATUS_CODE = "status.code"

KINDS = {text: int(kind) for kind in Kind for text in (f"SPAN_KIND_{kind.name}", kind.name.lower())}
"""Texts of the point attribute `span.kind`, as span metrics write it."""

STATUSES = {text: int(status) for status in Status for text in (f"STATUS_CODE_{status.name}", status.name)}
"""Texts of the point attribute `status.code`, likewise."""


class Values(NamedTuple):
    """The values of a point, in the terms of `Points`; a tuple has a `count` already."""

    flags: int = 0
    value: float = 0.0
    value_int: int = 0
    events: int = 0
    scale: int = 0
    zero_count: int = 0
    zero_threshold: float = 0.0
    negative_count: int = 0
    bucket_offset: int = 0
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()


NOT_RECORDED = Values(flags=int(PointFlag.NO_RECORDED_VALUE))
"""The stream ended: whatever else the point says is no value."""


class Unusable(NamedTuple):
    """Why a point is refused."""

    reason: RejectReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """An exponential histogram point as sent."""

    count: int
    total: float | None
    scale: int
    zero_count: int
    zero_threshold: float
    offset: int
    positive: Sequence[int]
    negative: Sequence[int]


def kind_of_metric(name: bytes) -> int:
    """Returns the kind of the calls that a metric is about, as its name says it.

    Source: semantic conventions: `http.server.request.duration`, `rpc.client.call.duration`, `messaging.process.*`.
    """
    if b".server." in name:
        return Kind.SERVER
    if b".client." in name:
        return Kind.CLIENT
    return Kind.CONSUMER if name.startswith(b"messaging.process.") else Kind.UNSPECIFIED


def number(value: int | float | None, *, is_sum: bool) -> Values | Unusable:
    """Returns the values of a sum's or gauge's point; a gauge may be no finite number, a sum may not.

    Args:
        value: As sent, an integer where it was sent as one; None where it was not sent.
        is_sum: Whether the metric is a sum.
    """
    if value is None:
        return Unusable(RejectReason.MISSING_FIELD, "a point has neither as_int nor as_double")
    if isinstance(value, int):
        return Values(flags=int(PointFlag.INTEGER), value=float(value), value_int=value)
    if not math.isfinite(value):
        if is_sum:
            return Unusable(RejectReason.OUT_OF_RANGE, f"a sum is {value}")
        return Values(value=value)
    floor = math.floor(value)
    return Values(value=value, value_int=floor if -INT64_MAX - 1 <= floor <= INT64_MAX else 0)


def histogram(
    count: int, total: float | None, counts: Sequence[int], bounds: Sequence[float], limits: Limits
) -> Values | Unusable:
    """Returns the values of an explicit histogram's point.

    Args:
        count: Recorded values.
        total: Their sum; None where it was not sent. One that is not finite counts as not sent.
        counts: Per bucket, not cumulative; empty where only the count and the sum are known.
        bounds: Upper bounds of all buckets but the last, which has none.
        limits: What is refused.
    """
    if max(len(counts), len(bounds)) > limits.explicit_buckets:
        detail = f"a histogram point has {max(len(counts), len(bounds))} buckets, more than {limits.explicit_buckets}"
        return Unusable(RejectReason.TOO_MANY_BUCKETS, detail)
    if count > INT64_MAX or sum(counts) > INT64_MAX:
        return Unusable(RejectReason.OUT_OF_RANGE, "a histogram point counts 2^63 values or more")
    flags, value = _sum(total)
    if not counts:
        return Values(flags=flags | PointFlag.NO_BUCKETS, value=value, events=count)
    if len(counts) != len(bounds) + 1:
        detail = f"a histogram point has {len(counts)} bucket counts and {len(bounds)} bounds: one less is needed"
        return Unusable(RejectReason.MALFORMED, detail)
    if not _rising(bounds):
        return Unusable(RejectReason.MALFORMED, "the bounds of a histogram point do not rise")
    if sum(counts) != count:
        detail = f"the bucket counts of a histogram point add up to {sum(counts)}, its count is {count}"
        return Unusable(RejectReason.MALFORMED, detail)
    return Values(flags=flags, value=value, events=count, bounds=tuple(bounds), buckets=tuple(counts))


def exponential(point: Exponential, limits: Limits) -> Values | Unusable:
    """Returns the values of an exponential histogram's point.

    Args:
        point: As sent.
        limits: What is refused.
    """
    most = max(len(point.positive), len(point.negative))
    if most > limits.exponential_buckets:
        detail = f"an exponential histogram point has {most} buckets, more than {limits.exponential_buckets}"
        return Unusable(RejectReason.TOO_MANY_BUCKETS, detail)
    negative = sum(point.negative)
    counted = sum(point.positive) + negative + point.zero_count
    if max(counted, point.count) > INT64_MAX:
        return Unusable(RejectReason.OUT_OF_RANGE, "an exponential histogram point counts 2^63 values or more")
    if not 0 <= point.zero_threshold < math.inf:
        return Unusable(RejectReason.OUT_OF_RANGE, f"the zero threshold of a point is {point.zero_threshold}")
    flags, value = _sum(point.total)
    if counted != point.count:
        if most or point.zero_count:
            detail = f"the buckets of an exponential histogram point add up to {counted}, its count is {point.count}"
            return Unusable(RejectReason.MALFORMED, detail)
        flags |= PointFlag.NO_BUCKETS
    return Values(
        flags=flags,
        value=value,
        events=point.count,
        scale=point.scale,
        zero_count=point.zero_count,
        zero_threshold=point.zero_threshold,
        negative_count=negative,
        bucket_offset=point.offset,
        buckets=tuple(point.positive),
    )


def _sum(total: float | None) -> tuple[int, float]:
    if total is None or not math.isfinite(total):
        return 0, 0.0
    return int(PointFlag.HAS_SUM), total


def _rising(bounds: Sequence[float]) -> bool:
    return not any(map(math.isnan, bounds)) and all(a < b for a, b in pairwise(bounds))
