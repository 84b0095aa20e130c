"""Metric data points as struct-of-arrays. What they add to a counter depends on the point before them in their stream,
so they travel as they are and the fold, which keeps the streams, does the subtraction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum, IntFlag
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from stream.core.columns import (
    WORDS,
    Array,
    blank_columns,
    concat_columns,
    decode_table,
    encode_table,
    words_column,
)
from stream.core.errors import DecodeError


class MetricType(IntEnum):
    """What a point holds. A summary cannot be merged and is refused."""

    GAUGE = 0
    SUM = 1
    HISTOGRAM = 2
    EXPONENTIAL_HISTOGRAM = 3


class Temporality(IntEnum):
    """Source: opentelemetry-proto, metrics.proto, AggregationTemporality."""

    UNSPECIFIED = 0
    DELTA = 1
    CUMULATIVE = 2


class PointFlag(IntFlag):
    """What a point says of itself beside its values."""

    FAILED = 1
    """By the semantic conventions: `error.type` present, else the code table, else `status.code` of spanmetrics."""
    MONOTONIC = 2
    NO_RECORDED_VALUE = 4
    """The stream ended: the point has no value. Source: DataPointFlags bit 0."""
    INTEGER = 8
    """The value was an integer; `value_int` is exact."""
    HAS_SUM = 16
    INVALID_UTF8 = 32
    NO_BUCKETS = 64
    """A histogram without buckets: only its count and sum are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Metric points of one or more messages.

    Shapes: every array but `buckets` and `bucket_first` has `n` elements. `source` int16, `offset` int64; `service`,
    `version`, `name`, `unit`, `error_type`, `attributes`, `bounds` int32 (indices into dictionaries, as in `Rows`);
    `type`, `temporality`, `kind`, `status` int8; `code` int16; `flags` uint8; `start_ns`, `time_ns` int64;
    `stream_hi`, `stream_lo` int64: 128-bit hash of the stream's identity (resource, scope, name, unit, type,
    temporality, monotonicity, attributes), equal in every process and version;
    `value` float64: of a sum or gauge, else the histogram's sum; `value_int` int64: floor of a sum or gauge, 0 where
    that is no int64; `count` int64: of a histogram, 0 for numbers;
    `scale` int32, `zero_count` int64, `zero_threshold` float64, `negative_count` int64 (all buckets below zero) and
    `bucket_offset` int32 (index of the first positive bucket) of exponential histograms.
    `buckets` int64[m]: bucket counts of all points one after the other, not cumulative; those of point i are
    [bucket_first[i], bucket_first[i + 1]); `bucket_first` int64[n + 1].

    `bounds_sets` holds the explicit bounds, upper-inclusive and rising; () for none.
    """

    source: Array
    offset: Array
    service: Array
    version: Array
    name: Array
    unit: Array
    type: Array
    temporality: Array
    kind: Array
    status: Array
    code: Array
    error_type: Array
    attributes: Array
    flags: Array
    start_ns: Array
    time_ns: Array
    stream_hi: Array
    stream_lo: Array
    value: Array
    value_int: Array
    count: Array
    scale: Array
    zero_count: Array
    zero_threshold: Array
    negative_count: Array
    bucket_offset: Array
    bounds: Array
    buckets: Array
    bucket_first: Array
    services: tuple[str, ...]
    versions: tuple[str, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    error_types: tuple[str, ...]
    attribute_sets: tuple[str, ...]
    bounds_sets: tuple[tuple[float, ...], ...]

    DTYPES: ClassVar[Mapping[str, str]] = {
        "source": "int16",
        "offset": "int64",
        "service": "int32",
        "version": "int32",
        "name": "int32",
        "unit": "int32",
        "type": "int8",
        "temporality": "int8",
        "kind": "int8",
        "status": "int8",
        "code": "int16",
        "error_type": "int32",
        "attributes": "int32",
        "flags": "uint8",
        "start_ns": "int64",
        "time_ns": "int64",
        "stream_hi": "int64",
        "stream_lo": "int64",
        "value": "float64",
        "value_int": "int64",
        "count": "int64",
        "scale": "int32",
        "zero_count": "int64",
        "zero_threshold": "float64",
        "negative_count": "int64",
        "bucket_offset": "int32",
        "bounds": "int32",
    }
    DICTIONARIES: ClassVar[Mapping[str, str]] = {
        "service": "services",
        "version": "versions",
        "name": "names",
        "unit": "units",
        "error_type": "error_types",
        "attributes": "attribute_sets",
    }

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def of(cls, size: int, **columns: Any) -> Self:
        """Returns `size` points of the given columns and dictionaries; what is not given is 0 or nothing."""
        blank = blank_columns(size, cls.DTYPES, cls.DICTIONARIES, columns)
        blank |= {"bounds_sets": ((),), "buckets": np.zeros(0, "int64"), "bucket_first": np.zeros(size + 1, "int64")}
        return cls(**{**blank, **columns})

    @classmethod
    def empty(cls) -> Self:
        """Returns no points."""
        return cls.of(0, services=(), versions=())

    def take(self, index: Array) -> Self:
        """Returns the points at `index` (an integer or boolean array) with the same dictionaries."""
        columns: dict[str, Any] = {name: getattr(self, name)[index] for name in self.DTYPES}
        first, last = self.bucket_first[:-1][index], self.bucket_first[1:][index]
        lengths = last - first
        ends = np.cumsum(lengths)
        columns["bucket_first"] = np.concatenate([np.zeros(1, "int64"), ends])
        position = np.arange(int(lengths.sum())) + np.repeat(first - (ends - lengths), lengths)
        return replace(self, **columns, buckets=self.buckets[position])


NO_POINTS = Points.empty()


def concat_points(parts: Sequence[Points]) -> Points:
    """Returns all points of `parts` in order, with merged dictionaries."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return NO_POINTS
    columns = concat_columns(parts, Points.DTYPES, {**Points.DICTIONARIES, "bounds": "bounds_sets"})
    columns["buckets"] = np.concatenate([part.buckets for part in parts])
    lengths = np.concatenate([np.diff(part.bucket_first) for part in parts])
    columns["bucket_first"] = np.concatenate([np.zeros(1, "int64"), np.cumsum(lengths)])
    return Points(**columns)


def encode_points(points: Points) -> bytes:
    """Returns the points as an Arrow IPC stream; dictionaries keep only the words that the points use."""
    arrays: dict[str, pa.Array] = {}
    for name in Points.DTYPES:
        values = getattr(points, name)
        words = Points.DICTIONARIES.get(name)
        if name == "bounds":
            arrays[name] = words_column(values, points.bounds_sets, pa.list_(pa.float64()))
        elif words is not None:
            arrays[name] = words_column(values, getattr(points, words))
        else:
            arrays[name] = pa.array(values)
    first = pa.array(points.bucket_first.astype("int32"))
    arrays["buckets"] = pa.ListArray.from_arrays(first, pa.array(points.buckets))
    return encode_table(arrays)


def decode_points(data: bytes | memoryview) -> Points:
    """Returns the points of an Arrow IPC stream written by `encode_points`.

    Raises:
        DecodeError: When the bytes are no such stream.
    """
    batch = decode_table(data, _SCHEMA)
    lists = batch.column("buckets")
    if lists.values.null_count or batch.column("bounds").dictionary.values.null_count:
        raise DecodeError("corrupt_columns", "a list of bucket counts or of bounds has nulls")
    columns: dict[str, Any] = {}
    for name, dtype in Points.DTYPES.items():
        column = batch.column(name)
        if pa.types.is_dictionary(column.type):
            words = column.dictionary.to_pylist()
            if name == "bounds":
                columns["bounds_sets"] = tuple(tuple(bounds) for bounds in words)
            else:
                columns[Points.DICTIONARIES[name]] = tuple(words)
            column = column.indices
        columns[name] = column.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    first = lists.offsets.to_numpy().astype("int64")
    columns["buckets"] = lists.values.to_numpy()[first[0] : first[-1]]
    return Points(**columns, bucket_first=first - first[0])


def _type(name: str, dtype: str) -> pa.DataType:
    if name == "bounds":
        return pa.dictionary(pa.int32(), pa.list_(pa.float64()))
    return WORDS if name in Points.DICTIONARIES else pa.type_for_alias({"float64": "double"}.get(dtype, dtype))


_SCHEMA = pa.schema(
    [
        *((name, _type(name, dtype)) for name, dtype in Points.DTYPES.items()),
        ("buckets", pa.list_(pa.int64())),
    ]
)

assert {f.name for f in fields(Points)} == {
    *Points.DTYPES,
    *Points.DICTIONARIES.values(),
    "buckets",
    "bucket_first",
    "bounds_sets",
}
