"""Reference decoder of OTLP metrics in protobuf: `ExportMetricsServiceRequest`, the same bytes as `MetricsData`.

Rules that every decoder of OTLP metrics keeps:

* Every data point is one item, whatever its metric; a metric without data has none. Points of summaries are refused.
* The kind is that of the point attribute `span.kind` where it is one, else what the metric's name says; the status is
  that of the point attribute `status.code`. Codes and `error.type` are point attributes, read as those of spans are.
* What is checked of a point, in this order; the first that fails names the reason: a summary, too many attributes (of
  its resource, scope or itself), a text that is read too long (of its resource, metric or itself), no time, its values.
* A point that is marked as having no recorded value is a point without values, whatever else it holds.
* Times beyond `TIME_NS_MAX` count as that. A temporality that this version does not know is UNSPECIFIED.
* The identity of its stream is made of all its attributes, read or not (`identity`).
* What is said of duplicated keys, of texts that are read and of the allow-list in `traces` holds here as well, with the
  point in place of the span; the name and the unit of a metric are read too.
* A message that is too large, cannot be read, has too many points or is another signal's is refused as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stream.core.columns import RejectReason, Signal, Status
from stream.core.otlp import ONLY_FIELDS, Decoded, Limits, Message, Messages, Reading, identity, semconv
from stream.core.otlp.identity import Hash, Place, added, of_attributes, of_metric
from stream.core.otlp.reference import schema
from stream.core.otlp.reference.batch import Batch, Point, Refusal
from stream.core.otlp.reference.points import (
    KINDS,
    NOT_RECORDED,
    SPAN_KIND,
    STATUS_CODE,
    STATUSES,
    Exponential,
    Unusable,
    Values,
    exponential,
    histogram,
    kind_of_metric,
    number,
)
from stream.core.otlp.reference.reading import (
    AllowList,
    AnyValue,
    Attributes,
    KeyValue,
    all_utf8,
    any_longer,
    as_text,
    first_of_each,
    is_utf8,
    service_of,
    status_code,
    text,
    too_large,
)
from stream.core.points import MetricType, PointFlag, Temporality
from stream.core.units import TIME_NS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resource:
    service: int
    version: int
    attributes: Attributes
    hash: Hash
    too_many: bool
    too_long: bool
    invalid: bool
    """A text that is read is no UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    name: bytes
    version: bytes
    hash: Hash
    too_many: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metric:
    """A metric that has data; `type` is None for a summary."""

    name: int
    unit: int
    type: MetricType | None
    temporality: int
    monotonic: bool
    kind: int
    hash: Hash
    too_long: bool
    invalid: bool


@dataclass(slots=True)
class _Refusals:
    """The points of one message that are refused, by reason, and what is wrong with the first of each."""

    items: Counter[RejectReason] = field(default_factory=Counter)
    details: dict[RejectReason, str] = field(default_factory=dict)

    def add(self, unusable: Unusable) -> None:
        self.items[unusable.reason] += 1
        self.details.setdefault(unusable.reason, unusable.detail)

    def listed(self) -> list[Refusal]:
        """Returns the refusals in the order in which the reasons are declared."""
        return [
            Refusal(reason=reason, items=self.items[reason], detail=self.details[reason])
            for reason in RejectReason
            if reason in self.items
        ]


def decode(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the points and receipts of OTLP protobuf metric messages; never raises on what a producer sent.

    A tombstone and an empty request (zero bytes) are received and hold no items.
    """
    batch = Batch()
    for message in messages:
        if not message.value:
            batch.accept(message)
            continue
        request = parsed(message.value, reading.limits)
        if isinstance(request, Unusable):
            batch.reject(message, *request)
        else:
            points, refusals = _Reader(message, batch, reading).read(request)
            batch.accept(message, points=points, refusals=refusals)
    return batch.decoded()


def parsed(value: bytes, limits: Limits) -> Any | Unusable:
    """Returns a request, or why the message is refused as a whole."""
    if reason := too_large(value, limits):
        return Unusable(*reason)
    try:
        request = schema.METRICS.FromString(value)
    except ProtobufDecodeError as error:
        return Unusable(*schema.unreadable(value, Signal.METRIC, error))
    items = sum(len(_points_of(metric)) for metric in _metrics(request))
    if items > limits.items:
        detail = f"this message has {items} points, more than limits.items allows: {limits.items}"
        return Unusable(RejectReason.TOO_MANY_ITEMS, detail)
    # Every point has a time; a span or a log record that happens to parse as a metric has none.
    if not schema.is_timed(request) and (other := schema.foreign(value, Signal.METRIC, request)):
        return Unusable(RejectReason.WRONG_TYPE, other)
    return request


def _metrics(request: Any) -> Iterator[Any]:
    for resource_metrics in request.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            yield from scope_metrics.metrics


def _points_of(metric: Any) -> Sequence[Any]:
    data = metric.WhichOneof("data")
    return getattr(metric, data).data_points if data else ()


class _Reader:
    """Reads the points of one message."""

    def __init__(self, message: Message, batch: Batch, reading: Reading) -> None:
        self._message = message
        self._batch = batch
        self._limits = reading.limits
        self._listed = AllowList(reading.attributes)
        self._of_resources = self._listed.with_fields(semconv.RESOURCE_ATTRIBUTES)
        self._of_points = self._listed.with_fields((*semconv.SPAN_ATTRIBUTES, SPAN_KIND, STATUS_CODE))
        self._refusals = _Refusals()

    def read(self, request: Any) -> tuple[list[Point], list[Refusal]]:
        """Returns the points of a request, and those that are refused."""
        points: list[Point] = []
        for resource_metrics in request.resource_metrics:
            resource = self._resource(resource_metrics.resource)
            for scope_metrics in resource_metrics.scope_metrics:
                scope = self._scope(scope_metrics.scope)
                for metric in scope_metrics.metrics:
                    points.extend(self._points(resource, scope, metric))
        return points, self._refusals.listed()

    def _points(self, resource: _Resource, scope: _Scope, message: Any) -> Iterator[Point]:
        sent = _points_of(message)
        if not sent:
            return
        metric = self._metric(scope, message)
        around = added(resource.hash, scope.hash, metric.hash)
        for point in sent:
            found = first_of_each(point.attributes, self._of_points)
            values = self._refused(resource, scope, metric, point, found) or self._values(metric, point)
            if isinstance(values, Unusable):
                self._refusals.add(values)
                continue
            stream = added(around, of_attributes(Place.POINT, _hashed(point.attributes)))
            yield self._point(resource, metric, point, found, stream, values)

    def _resource(self, resource: Any) -> _Resource:
        found = first_of_each(resource.attributes, self._of_resources)
        return _Resource(
            service=service_of(found, self._batch),
            version=self._batch.version(text(found, semconv.SERVICE_VERSION)),
            attributes=found,
            hash=of_attributes(Place.RESOURCE, _hashed(resource.attributes)),
            too_many=len(resource.attributes) > self._limits.attributes,
            too_long=any_longer(found, self._limits.value_bytes),
            invalid=not all_utf8(found),
        )

    def _scope(self, scope: Any) -> _Scope:
        return _Scope(
            name=scope.name,
            version=scope.version,
            hash=of_attributes(Place.SCOPE, _hashed(scope.attributes)),
            too_many=len(scope.attributes) > self._limits.attributes,
        )

    def _metric(self, scope: _Scope, metric: Any) -> _Metric:
        data = metric.WhichOneof("data")
        kind = _TYPES.get(data)
        temporality = getattr(metric, data).aggregation_temporality if kind in _HAVE_TEMPORALITY else 0
        if temporality not in _TEMPORALITIES:
            temporality = 0
        monotonic = kind == MetricType.SUM and metric.sum.is_monotonic
        return _Metric(
            name=self._batch.name(as_text(metric.name)),
            unit=self._batch.unit(as_text(metric.unit)),
            type=kind,
            temporality=temporality,
            monotonic=monotonic,
            kind=kind_of_metric(metric.name),
            hash=of_metric(
                name=metric.name,
                unit=metric.unit,
                scope_name=scope.name,
                scope_version=scope.version,
                kind=kind or 0,
                temporality=temporality,
                monotonic=monotonic,
            ),
            too_long=max(len(metric.name), len(metric.unit)) > self._limits.value_bytes,
            invalid=not (is_utf8(metric.name) and is_utf8(metric.unit)),
        )

    def _refused(
        self, resource: _Resource, scope: _Scope, metric: _Metric, point: Any, found: Attributes
    ) -> Unusable | None:
        """Returns why a point is refused whatever its values are, or None."""
        limits = self._limits
        if metric.type is None:
            return Unusable(RejectReason.UNSUPPORTED, "a summary cannot be added up or compared: send a histogram")
        if resource.too_many or scope.too_many or len(point.attributes) > limits.attributes:
            detail = f"a point, its scope or its resource has more than limits.attributes: {limits.attributes}"
            return Unusable(RejectReason.TOO_MANY_ATTRIBUTES, detail)
        if resource.too_long or metric.too_long or any_longer(found, limits.value_bytes):
            detail = f"a text of a point is longer than limits.value_bytes: {limits.value_bytes}"
            return Unusable(RejectReason.VALUE_TOO_LONG, detail)
        if not point.time_unix_nano:
            return Unusable(RejectReason.MISSING_FIELD, "a point has no time_unix_nano")
        return None

    def _values(self, metric: _Metric, point: Any) -> Values | Unusable:
        if point.flags & 1:
            return NOT_RECORDED
        if metric.type == MetricType.HISTOGRAM:
            return histogram(
                point.count,
                point.sum if point.HasField("sum") else None,
                point.bucket_counts,
                point.explicit_bounds,
                self._limits,
            )
        if metric.type == MetricType.EXPONENTIAL_HISTOGRAM:
            return exponential(_exponential(point), self._limits)
        value = point.WhichOneof("value")
        return number(getattr(point, value) if value else None, is_sum=metric.type == MetricType.SUM)

    def _point(
        self, resource: _Resource, metric: _Metric, point: Any, found: Attributes, stream: Hash, values: Values
    ) -> Point:
        kind = KINDS.get(text(found, SPAN_KIND), metric.kind)
        status = STATUSES.get(text(found, STATUS_CODE), Status.UNSET)
        error_type, code = text(found, semconv.ERROR_TYPE), status_code(found)
        flags = values.flags
        if semconv.failed(kind=kind, status=status, error_type=error_type, code=code):
            flags |= PointFlag.FAILED
        if metric.monotonic:
            flags |= PointFlag.MONOTONIC
        if resource.invalid or metric.invalid or not all_utf8(found):
            flags |= PointFlag.INVALID_UTF8
        assert metric.type is not None
        bounds = self._batch.bounds(values.bounds)
        stream_hi, stream_lo = stream.signed()
        return Point(
            source=self._message.source,
            offset=self._message.offset,
            service=resource.service,
            version=resource.version,
            name=metric.name,
            unit=metric.unit,
            type=metric.type,
            temporality=metric.temporality,
            kind=kind,
            status=status,
            code=code,
            error_type=self._batch.error_type(error_type),
            attributes=self._batch.attributes(self._listed.found(found, resource.attributes)),
            start_ns=min(point.start_time_unix_nano, TIME_NS_MAX),
            time_ns=min(point.time_unix_nano, TIME_NS_MAX),
            stream_hi=stream_hi,
            stream_lo=stream_lo,
            **{**values._asdict(), "flags": flags, "bounds": bounds},
        )


_TYPES = {
    "gauge": MetricType.GAUGE,
    "sum": MetricType.SUM,
    "histogram": MetricType.HISTOGRAM,
    "exponential_histogram": MetricType.EXPONENTIAL_HISTOGRAM,
}
_HAVE_TEMPORALITY = (MetricType.SUM, MetricType.HISTOGRAM, MetricType.EXPONENTIAL_HISTOGRAM)
_TEMPORALITIES = frozenset(Temporality)


def _exponential(point: Any) -> Exponential:
    return Exponential(
        count=point.count,
        total=point.sum if point.HasField("sum") else None,
        scale=point.scale,
        zero_count=point.zero_count,
        zero_threshold=point.zero_threshold,
        offset=point.positive.offset,
        positive=point.positive.bucket_counts,
        negative=point.negative.bucket_counts,
    )


def _hashed(attributes: Iterable[KeyValue]) -> Iterator[tuple[bytes, identity.Value]]:
    return ((attribute.key, _identified(attribute.value)) for attribute in attributes)


def _identified(value: AnyValue) -> identity.Value:
    """Returns an attribute's value as the identity of a stream sees it."""
    match value.WhichOneof("value"):
        case "string_value":
            return identity.text(value.string_value)
        case "bool_value":
            return identity.boolean(value.bool_value)
        case "int_value":
            return identity.integer(value.int_value)
        case "double_value":
            return identity.double(value.double_value)
        case "bytes_value":
            return identity.binary(value.bytes_value)
        case "array_value":
            return identity.array([_identified(item) for item in value.array_value.values])
        case "kvlist_value":
            return identity.mapping(list(_hashed(value.kvlist_value.values)))
    return identity.NO_VALUE
