"""What decoders made of messages, for people: each row as an object with readable names, and totals of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from stream.core.columns import NO_CODE, Array, Kind, RowFlag, Rows, Signal, Status
from stream.core.indicators import Indicators
from stream.core.otlp import Decoded, attributes, semconv
from stream.core.points import MetricType, PointFlag, Points, Temporality
from stream.core.service_key import split_service_key
from stream.core.units import MINUTE_NS, SECOND_NS, WEIGHT_ONE
from stream.ingest.columns import Columns

Line = dict[str, Any]
Name = str | int | float | bool | None

NAMING_ATTRIBUTES = (semconv.SERVICE_NAME, semconv.SERVICE_VERSION)
"""Read for the totals: they name a service as it was sent, where our key says that its name is no text."""

_UNNAMED = "unknown_service"
_HISTOGRAMS = (MetricType.HISTOGRAM, MetricType.EXPONENTIAL_HISTOGRAM)


def lines(decoded: Columns, at: Callable[[int], str]) -> Iterator[tuple[int, Line]]:
    """Yields the offset of the message and an object for each row, point, indicator and refusal, by kind, in order.

    Args:
        decoded: What a decoder returned.
        at: Where the message at an offset was found.
    """
    yield from _row_lines(decoded.rows, at)
    yield from _point_lines(decoded.points, at)
    yield from _indicator_lines(decoded.indicators, at)
    receipts = decoded.receipts
    for i in receipts.rejected.nonzero()[0].tolist():
        offset = int(receipts.first_offset[i])
        yield (
            offset,
            {
                "at": at(offset),
                "refused": receipts.reasons[receipts.reason[i]],
                "items": int(receipts.rejected[i]),
                "detail": receipts.details[i],
            },
        )


def _indicator_lines(indicators: Indicators, at: Callable[[int], str]) -> Iterator[tuple[int, Line]]:
    shown = ("revision", "events", "weight", "weight_bad", "gap")
    for i, offset in enumerate(indicators.offset.tolist()):
        yield (
            offset,
            {
                "at": at(offset),
                "signal": "indicators",
                "service": indicators.service[i],
                "objective": indicators.objective[i] or None,
                "minute": _rfc_3339(int(indicators.minute[i]) * MINUTE_NS),
                **{name: getattr(indicators, name)[i].item() for name in shown},
            },
        )


def _row_lines(rows: Rows, at: Callable[[int], str]) -> Iterator[tuple[int, Line]]:
    columns = {name: getattr(rows, name).tolist() for name in Rows.DTYPES}
    sets = [attributes.parse(text) for text in rows.attribute_sets]
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        line: Line = {
            "at": at(row["offset"]),
            "signal": Signal(row["signal"]).name.lower(),
            "service": rows.services[row["service"]],
            "version": rows.versions[row["version"]] or None,
            "end": _rfc_3339(row["end_ns"]),
            "end_ns": row["end_ns"],
        }
        if row["signal"] == Signal.LOG:
            line |= {"severity": row["severity"], "event_name": rows.names[row["name"]] or None}
        else:
            line |= {"kind": Kind(row["kind"]).name, "duration_ns": row["duration_ns"]}
        yield (
            row["offset"],
            line
            | {
                "status": Status(row["status"]).name,
                "code": row["code"] if row["code"] != NO_CODE else None,
                "error_type": rows.error_types[row["error_type"]] or None,
                "count": row["count"],
                "weight": row["weight"] / WEIGHT_ONE,
                "flags": _flags(RowFlag, row["flags"]),
                "trace_id": _trace_id(row["trace_hi"], row["trace_lo"]),
                "attributes": sets[row["attributes"]],
            },
        )


def _point_lines(points: Points, at: Callable[[int], str]) -> Iterator[tuple[int, Line]]:
    columns = {name: getattr(points, name).tolist() for name in Points.DTYPES}
    sets = [attributes.parse(text) for text in points.attribute_sets]
    first = points.bucket_first.tolist()
    for i, values in enumerate(zip(*columns.values(), strict=True)):
        point = dict(zip(columns, values, strict=True))
        line: Line = {
            "at": at(point["offset"]),
            "signal": Signal.METRIC.name.lower(),
            "service": points.services[point["service"]],
            "version": points.versions[point["version"]] or None,
            "name": points.names[point["name"]],
            "unit": points.units[point["unit"]],
            "type": MetricType(point["type"]).name.lower(),
            "temporality": _temporality(point["type"], point["temporality"]),
            "start": _rfc_3339(point["start_ns"]) if point["start_ns"] else None,
            "start_ns": point["start_ns"],
            "time": _rfc_3339(point["time_ns"]),
            "time_ns": point["time_ns"],
            "kind": Kind(point["kind"]).name,
            "status": Status(point["status"]).name,
            "code": point["code"] if point["code"] != NO_CODE else None,
            "error_type": points.error_types[point["error_type"]] or None,
            "flags": _flags(PointFlag, point["flags"]),
            "stream": _trace_id(point["stream_hi"], point["stream_lo"]),
            "attributes": sets[point["attributes"]],
        }
        yield point["offset"], line | _value(point, points.bounds_sets, points.buckets[first[i] : first[i + 1]])


def _value(point: Line, bounds_sets: Sequence[Sequence[float]], buckets: Array) -> Line:
    """Returns the value of a point: a number, or a sum, a count and buckets."""
    if point["type"] not in _HISTOGRAMS:
        return {"value": point["value_int"] if point["flags"] & PointFlag.INTEGER else number(point["value"])}
    value: Line = {
        "sum": number(point["value"]) if point["flags"] & PointFlag.HAS_SUM else None,
        "count": point["count"],
        "buckets": buckets.tolist(),
    }
    if point["type"] == MetricType.HISTOGRAM:
        return value | {"bounds": list(bounds_sets[point["bounds"]])}
    return value | {
        "scale": point["scale"],
        "bucket_offset": point["bucket_offset"],
        "zero_count": point["zero_count"],
        "zero_threshold": number(point["zero_threshold"]),
        "negative_count": point["negative_count"],
    }


def number(value: float) -> float | str:
    """Returns a number as JSON can hold it: what is not finite has its name in OTLP/JSON."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _flags(names: type[RowFlag] | type[PointFlag], flags: int) -> list[str]:
    return [flag.name.lower() for flag in names if flag.name and flag & flags]


def _trace_id(hi: int, lo: int) -> str | None:
    return f"{hi & (1 << 64) - 1:016x}{lo & (1 << 64) - 1:016x}" if hi or lo else None


def _rfc_3339(time_ns: int) -> str:
    seconds, rest_ns = divmod(time_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"


def _temporality(kind: int, temporality: int) -> str:
    """Returns the name of a temporality, `-` for a gauge, which has none."""
    return "-" if kind == MetricType.GAUGE else Temporality(temporality).name.lower()


@dataclass(slots=True)
class Summary:
    """Totals of everything that was decoded, over all batches.

    Args:
        signal: What is decoded.
        threshold_ns: A duration is over it where it is strictly longer; need not be whole.
    """

    signal: Signal
    threshold_ns: Any
    messages: int = 0
    rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    services: dict[tuple[Name, Name], Line] = field(default_factory=dict)
    metrics: dict[tuple[str, ...], Line] = field(default_factory=dict)

    def add(self, decoded: Decoded) -> None:
        """Adds what a decoder returned."""
        receipts = decoded.receipts
        for i in receipts.rejected.nonzero()[0].tolist():
            reason = receipts.reasons[receipts.reason[i]]
            self.rejected[reason] = self.rejected.get(reason, 0) + int(receipts.rejected[i])
        self.rows += len(decoded.rows) + len(decoded.points)
        self._add_rows(decoded.rows)
        self._add_points(decoded.points)

    def _add_rows(self, rows: Rows) -> None:
        columns = ["service", "version", "attributes", "signal", "kind", "status", "duration_ns"]
        columns += ["flags", "weight", "severity"]
        sets = [attributes.parse(text) for text in rows.attribute_sets]
        for values in zip(*(getattr(rows, name).tolist() for name in columns), strict=True):
            row = dict(zip(columns, values, strict=True))
            key, version = rows.services[row["service"]], rows.versions[row["version"]]
            name = _names(key, version, sets[row["attributes"]], row["signal"] == Signal.EVENT)
            total = self.services.get(_distinct(name))
            if total is None:
                total = self.services[_distinct(name)] = {"service": name[0], "version": name[1], **self._nothing()}
            total["rows"] += 1
            if self.signal == Signal.LOG:
                _count(total["severity"], str(row["severity"]))
            else:
                self._add_request(total, row)

    def _nothing(self) -> Line:
        if self.signal == Signal.LOG:
            return {"rows": 0, "severity": {}}
        return {
            "rows": 0,
            "kind": {},
            "status": {},
            "duration_ns_sum": 0,
            "negative_duration": 0,
            "over_threshold": 0,
            "weight_sum": 0,
            "weight_unknown": 0,
        }

    def _add_request(self, total: Line, row: Line) -> None:
        _count(total["kind"], Kind(row["kind"]).name)
        _count(total["status"], Status(row["status"]).name)
        total["duration_ns_sum"] += row["duration_ns"]
        total["negative_duration"] += bool(row["flags"] & RowFlag.NEGATIVE_DURATION)
        total["over_threshold"] += row["duration_ns"] > self.threshold_ns
        total["weight_sum"] += row["weight"]
        total["weight_unknown"] += bool(row["flags"] & RowFlag.SAMPLING_UNKNOWN)

    def _add_points(self, points: Points) -> None:
        columns = ("name", "unit", "type", "temporality", "flags", "value", "value_int", "count", "bounds")
        first = points.bucket_first.tolist()
        for i, values in enumerate(zip(*(getattr(points, name).tolist() for name in columns), strict=True)):
            point = dict(zip(columns, values, strict=True))
            kind = MetricType(point["type"])
            key = (
                points.names[point["name"]],
                kind.name.lower(),
                _temporality(kind, point["temporality"]),
                points.units[point["unit"]],
            )
            total = self.metrics.get(key)
            if total is None:
                named = dict(zip(("name", "type", "temporality", "unit"), key, strict=True))
                total = self.metrics[key] = {**named, "points": 0, "sum": 0, "count": 0, "buckets": {}}
            total["points"] += 1
            total["sum"] += _sum(point)
            total["count"] += point["count"]
            if kind == MetricType.HISTOGRAM:
                bounds, more = points.bounds_sets[point["bounds"]], points.buckets[first[i] : first[i + 1]].tolist()
                if point["flags"] & PointFlag.NO_BUCKETS:
                    bounds, more = (), []
                counts = total["buckets"].get(bounds, [])
                total["buckets"][bounds] = [a + b for a, b in zip_longest(counts, more, fillvalue=0)]

    def as_object(self) -> Line:
        """Returns the totals as an object for JSON."""
        totals: Line = {"messages": self.messages, "rows": self.rows, "rejected": self.rejected}
        if self.signal == Signal.METRIC:
            return totals | {"by_metric": [_metric(total) for total in self.metrics.values()]}
        for total in self.services.values():
            if "weight_sum" in total:
                total["weight_sum"] /= WEIGHT_ONE
        return totals | {"by_service": list(self.services.values())}


def _count(counts: dict[str, int], word: str) -> None:
    counts[word] = counts.get(word, 0) + 1


def _sum(point: Line) -> int | float:
    """Returns what a point adds to the sum of its metric: nothing where it has no value or none that is finite."""
    flags, value = point["flags"], point["value"]
    if flags & PointFlag.NO_RECORDED_VALUE or (point["type"] in _HISTOGRAMS and not flags & PointFlag.HAS_SUM):
        return 0
    if flags & PointFlag.INTEGER:
        whole: int = point["value_int"]
        return whole
    finite: float = value if abs(value) < float("inf") else 0
    return finite


def _metric(total: Line) -> Line:
    if total["type"] not in [kind.name.lower() for kind in _HISTOGRAMS]:
        return total | {"sum": number(total["sum"]), "count": None, "buckets": []}
    buckets = [{"bounds": list(bounds), "counts": counts} for bounds, counts in total["buckets"].items()]
    return total | {"sum": number(total["sum"]), "buckets": buckets}


def _names(key: str, version: str, found: Line, is_event: bool) -> tuple[Name, Name]:
    """Returns name and version of a service as they were sent; what is neither text, number nor boolean is None.

    The key has the name wherever that is text. Where it is not, the attribute tells what it is; text found there then
    is an attribute of the item, which says nothing of the service.
    """
    service = split_service_key(key)[2]
    if is_event:
        return service, version or None
    name: Name = service
    if service == _UNNAMED:
        name = found.get(semconv.SERVICE_NAME)
        name = None if isinstance(name, str) and name not in ("", _UNNAMED) else name
    if version:
        return name, version
    sent = found.get(semconv.SERVICE_VERSION)
    return name, None if isinstance(sent, str) and sent else sent


def _distinct(name: tuple[Name, Name]) -> tuple[Any, Any]:
    """Returns a key under which 1, 1.0 and True differ."""
    return (type(name[0]), name[0]), (type(name[1]), name[1])
