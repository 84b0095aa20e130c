"""Rows and receipts: what a decoder makes of messages, as struct-of-arrays.

A *row* is one or more spans (or events) of one message that agree on every key. A *receipt* says of a message, or of
a run of clean one-item messages, how many items it held and which of them were refused. Both name their source by
an index into a table that travels beside them (`log.SourceRange`), and the offset of their message.

Columnar bytes have one codec everywhere: Arrow IPC.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum, IntFlag, StrEnum
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import pyarrow as pa

from stream.core.errors import DecodeError
from stream.core.grouping import numbered
from stream.core.units import WEIGHT_MAX, WEIGHT_ONE

Array = np.ndarray[Any, np.dtype[Any]]


class Kind(IntEnum):
    """Span kind. Source: opentelemetry-proto, trace.proto, Span.SpanKind."""

    UNSPECIFIED = 0
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Status(IntEnum):
    """Span status code. Source: opentelemetry-proto, trace.proto, Status.StatusCode."""

    UNSET = 0
    OK = 1
    ERROR = 2


class Signal(IntEnum):
    """What kind of telemetry a row was made of."""

    SPAN = 0
    EVENT = 1
    """A flat event."""
    LOG = 2
    METRIC = 3
    """A data point: it travels in `points`, not in rows."""


class RowFlag(IntFlag):
    """What a row says of itself beside its values."""

    FAILED = 1
    """The event failed by the semantic conventions: status ERROR, else `error.type`, else the code table."""
    SAMPLING_UNKNOWN = 2
    """No sampling threshold was given: the weight is 1 because it must be something."""
    WEIGHT_CAPPED = 4
    """The adjusted count exceeded 65,536."""
    NEGATIVE_DURATION = 8
    """The end lies before the start: the event counts, its duration does not."""
    INVALID_UTF8 = 16
    """A text that was read is no UTF-8: what could not be read of it is U+FFFD."""
    EXCEPTION = 32
    """An exception was recorded: a span event or a log record that carries one."""


class RejectReason(StrEnum):
    """Why an item was refused; also the label set of the metric. One value per different cause."""

    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    OUT_OF_RANGE = "out_of_range"
    TOO_LARGE = "too_large"
    TOO_MANY_ITEMS = "too_many_items"
    TOO_MANY_ATTRIBUTES = "too_many_attributes"
    TOO_MANY_BUCKETS = "too_many_buckets"
    VALUE_TOO_LONG = "value_too_long"
    TOO_DEEP = "too_deep"
    UNSUPPORTED = "unsupported"
    FUTURE = "future"
    TOO_MANY_SERVICES = "too_many_services"
    TOO_MANY_VERSIONS = "too_many_versions"
    TOO_MANY_STREAMS = "too_many_streams"
    SECOND_WRITER = "second_writer"
    """A metric point overlaps what another writer of the same stream has said."""


NO_CODE = -1
"""`code` of a row that has neither an HTTP nor a gRPC status. gRPC codes are 0-16, HTTP codes 100-599: one column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Decoded rows of one or more messages.

    Shapes: every array has `n` elements. `source` int16 (index into the source table), `offset` int64, `service` and
    `version` int32 (indices into `services`, `versions`), `kind` int8, `status` int8, `code` int16, `error_type` int32
    (index into `error_types`; the empty string for none), `end_ns` int64, `duration_ns` int64 (0 or more),
    `count` int64 (events in this row), `weight` int64 (adjusted count of the whole row in 2^-16), `flags` uint8,
    `signal` int8, `severity` int8 (severity number of a log record, 0 for none), `name` int32 (index into `names`: the
    event name of a log record, the empty string for none), `attributes` int32 (index into `attribute_sets`),
    `trace_hi` and `trace_lo` int64 (the trace id, big-endian; both 0 for none).

    `services` holds service keys; `versions` holds `service.version`, the empty string for none. `attribute_sets` holds
    the allow-listed attributes of a row as canonical JSON (`attributes.canonical`), the empty string for none.
    """

    source: Array
    offset: Array
    service: Array
    version: Array
    kind: Array
    status: Array
    code: Array
    error_type: Array
    end_ns: Array
    duration_ns: Array
    count: Array
    weight: Array
    flags: Array
    signal: Array
    severity: Array
    name: Array
    attributes: Array
    trace_hi: Array
    trace_lo: Array
    services: tuple[str, ...]
    versions: tuple[str, ...]
    error_types: tuple[str, ...]
    names: tuple[str, ...]
    attribute_sets: tuple[str, ...]

    DTYPES: ClassVar[Mapping[str, str]] = {
        "source": "int16",
        "offset": "int64",
        "service": "int32",
        "version": "int32",
        "kind": "int8",
        "status": "int8",
        "code": "int16",
        "error_type": "int32",
        "end_ns": "int64",
        "duration_ns": "int64",
        "count": "int64",
        "weight": "int64",
        "flags": "uint8",
        "signal": "int8",
        "severity": "int8",
        "name": "int32",
        "attributes": "int32",
        "trace_hi": "int64",
        "trace_lo": "int64",
    }
    DICTIONARIES: ClassVar[Mapping[str, str]] = {
        "service": "services",
        "version": "versions",
        "error_type": "error_types",
        "name": "names",
        "attributes": "attribute_sets",
    }

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def of(cls, size: int, **columns: Any) -> Self:
        """Returns `size` rows of the given columns and dictionaries; what is not given is 0, `NO_CODE` or nothing."""
        return cls(**{**blank_columns(size, cls.DTYPES, cls.DICTIONARIES, columns), **columns})

    @classmethod
    def empty(cls) -> Self:
        """Returns no rows."""
        return cls.of(0, services=(), versions=())

    def take(self, index: Array | slice) -> Self:
        """Returns the rows at `index` (an integer or boolean array, or a slice) with the same dictionaries."""
        return replace(self, **{name: getattr(self, name)[index] for name in self.DTYPES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """What was received, message by message.

    Shapes: every array has `n` elements. `source` int16, `first_offset` and `last_offset` int64 (equal but for a run of
    clean one-item messages), `items` int64 (items received; 0 in the further rows of a message refused for several
    reasons), `rejected` int64 (items of these refused for `reason`), `reason` int16 (index into `reasons`; entry 0 is
    the empty string for none). `digests` and `details` are per row: the SHA-256 of a refused message and a plain
    sentence, or None.
    """

    source: Array
    first_offset: Array
    last_offset: Array
    items: Array
    rejected: Array
    reason: Array
    reasons: tuple[str, ...]
    digests: tuple[bytes | None, ...]
    details: tuple[str | None, ...]

    DTYPES: ClassVar[Mapping[str, str]] = {
        "source": "int16",
        "first_offset": "int64",
        "last_offset": "int64",
        "items": "int64",
        "rejected": "int64",
        "reason": "int16",
    }

    def __len__(self) -> int:
        return len(self.source)


def fixed_weight(adjusted_count: float) -> tuple[int, bool]:
    """Returns the adjusted count in 2^-16 and whether it was capped at 65,536.

    Rounded to the nearest 2^-16, ties to even; the error is at most 2^-17.
    """
    scaled = round(adjusted_count * WEIGHT_ONE)
    return min(scaled, WEIGHT_MAX), scaled > WEIGHT_MAX


def blank_columns(
    size: int, dtypes: Mapping[str, str], dictionaries: Mapping[str, str], given: Collection[str]
) -> dict[str, Any]:
    """Returns columns of `size` that hold 0, or `NO_CODE`, and dictionaries of the empty text: those not `given`."""
    blank: dict[str, Any] = {name: np.zeros(size, dtype) for name, dtype in dtypes.items() if name not in given}
    if "code" in blank:
        blank["code"] += NO_CODE
    return blank | {words: ("",) for words in dictionaries.values() if words not in given}


def concat_columns(parts: Sequence[Any], dtypes: Mapping[str, str], dictionaries: Mapping[str, str]) -> dict[str, Any]:
    """Returns the columns of all `parts` in order, and their merged dictionaries."""
    columns: dict[str, Any] = {}
    for name, dtype in dtypes.items():
        if name not in dictionaries:
            columns[name] = np.concatenate([getattr(part, name) for part in parts]).astype(dtype, copy=False)
    for name, words in dictionaries.items():
        columns[name], columns[words] = merge_words([(getattr(p, name), getattr(p, words)) for p in parts])
    return columns


def concat_rows(parts: Sequence[Rows]) -> Rows:
    """Returns all rows of `parts` in order, with merged dictionaries."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Rows.empty()
    return Rows(**concat_columns(parts, Rows.DTYPES, Rows.DICTIONARIES))


def take_receipts(receipts: Receipts, index: Array) -> Receipts:
    """Returns the receipts at `index`, an integer array."""
    arrays: dict[str, Any] = {name: getattr(receipts, name)[index] for name in Receipts.DTYPES}
    return Receipts(
        **arrays,
        reasons=receipts.reasons,
        digests=tuple(receipts.digests[at] for at in index.tolist()),
        details=tuple(receipts.details[at] for at in index.tolist()),
    )


def concat_receipts(parts: Sequence[Receipts]) -> Receipts:
    """Returns all receipts of `parts`, in order, with one dictionary of reasons."""
    if len(parts) == 1:
        return parts[0]
    reasons: dict[str, int] = {"": 0}
    columns: dict[str, list[Array]] = {name: [np.empty(0, dtype)] for name, dtype in Receipts.DTYPES.items()}
    for part in parts:
        lookup = np.array([reasons.setdefault(reason, len(reasons)) for reason in part.reasons], "int16")
        for name in Receipts.DTYPES:
            values = getattr(part, name)
            columns[name].append(lookup[values] if name == "reason" and len(lookup) else values)
    arrays: dict[str, Any] = {
        name: np.concatenate(columns[name]).astype(dtype, copy=False) for name, dtype in Receipts.DTYPES.items()
    }
    return Receipts(
        **arrays,
        reasons=tuple(reasons),
        digests=tuple(digest for part in parts for digest in part.digests),
        details=tuple(detail for part in parts for detail in part.details),
    )


Word = TypeVar("Word", bound=Hashable)


def merge_words(parts: Sequence[tuple[Array, tuple[Word, ...]]]) -> tuple[Array, tuple[Word, ...]]:
    """Returns indices into one dictionary that unites those of the parts, in order of first appearance."""
    union: dict[Word, int] = {}
    merged = []
    for index, words in parts:
        lookup = np.array([union.setdefault(word, len(union)) for word in words], "int32")
        merged.append(lookup[index] if len(words) else index)
    return np.concatenate(merged).astype("int32", copy=False), tuple(union)


def encode_rows(rows: Rows) -> bytes:
    """Returns the rows as an Arrow IPC stream.

    Dictionaries keep only the words that the rows use. A column that most rows have no use for is left out where it
    holds nothing.
    """
    arrays: dict[str, pa.Array] = {}
    for name in Rows.DTYPES:
        values = getattr(rows, name)
        if name in _LEFT_OUT_WHEN_BLANK and not values.any():
            words = getattr(rows, Rows.DICTIONARIES[name])[:1] if name in Rows.DICTIONARIES else ("",)
            if words in ((), ("",)):
                continue
        if name in Rows.DICTIONARIES:
            arrays[name] = words_column(values, getattr(rows, Rows.DICTIONARIES[name]))
        else:
            arrays[name] = pa.array(values)
    return encode_table(arrays)


def words_column(index: Array, words: Sequence[Any], kind: pa.DataType | None = None) -> pa.Array:
    """Returns a column of words (strings, unless `kind` says otherwise), with a dictionary of those in use."""
    kind = pa.string() if kind is None else kind
    if len(words) == 1 and len(index):
        return pa.DictionaryArray.from_arrays(pa.array(index.astype("int32", copy=False)), pa.array(words, kind))
    codes, used = numbered(index, len(words))
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype("int32", copy=False)), pa.array([words[i] for i in used.tolist()], kind)
    )


def decode_rows(data: bytes | memoryview) -> Rows:
    """Returns the rows of an Arrow IPC stream written by `encode_rows`.

    Raises:
        DecodeError: When the bytes are no such stream.
    """
    batch = decode_table(data, _ROWS_SCHEMA, _LEFT_OUT_WHEN_BLANK)
    columns: dict[str, Any] = {}
    for name in batch.schema.names:
        column, dtype = batch.column(name), Rows.DTYPES[name]
        if name in Rows.DICTIONARIES:
            columns[Rows.DICTIONARIES[name]] = tuple(column.dictionary.to_pylist())
            column = column.indices
        columns[name] = column.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return Rows.of(len(batch), **columns)


def encode_receipts(receipts: Receipts) -> bytes:
    """Returns the receipts as an Arrow IPC stream."""
    arrays: dict[str, pa.Array] = {name: pa.array(getattr(receipts, name)) for name in Receipts.DTYPES}
    arrays["reason"] = pa.DictionaryArray.from_arrays(arrays["reason"], pa.array(receipts.reasons, pa.string()))
    arrays["digest"] = pa.array(receipts.digests, pa.binary())
    arrays["detail"] = pa.array(receipts.details, pa.string())
    return encode_table(arrays)


def decode_receipts(data: bytes | memoryview) -> Receipts:
    """Returns the receipts of an Arrow IPC stream written by `encode_receipts`.

    Raises:
        DecodeError: When the bytes are no such stream.
    """
    batch = decode_table(data, _RECEIPTS_SCHEMA)
    columns: dict[str, Any] = {}
    for name, dtype in Receipts.DTYPES.items():
        column = batch.column(name)
        if name == "reason":
            columns["reasons"] = tuple(column.dictionary.to_pylist())
            column = column.indices
        columns[name] = column.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return Receipts(
        **columns,
        digests=tuple(batch.column("digest").to_pylist()),
        details=tuple(batch.column("detail").to_pylist()),
    )


_WRITE_OPTIONS = pa.ipc.IpcWriteOptions()


def encode_table(arrays: Mapping[str, pa.Array]) -> bytes:
    """Returns one Arrow record batch as an IPC stream."""
    batch = pa.record_batch(list(arrays.values()), names=list(arrays))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_WRITE_OPTIONS) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def decode_table(data: bytes | memoryview, schema: pa.Schema, optional: frozenset[str] = frozenset()) -> pa.RecordBatch:
    """Returns the one record batch of an Arrow IPC stream, checked: its schema, and every index and offset in it.

    Args:
        data: The stream.
        schema: Its columns, in order.
        optional: Of these, the columns that may be missing.

    Raises:
        DecodeError: When the bytes are no such stream.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            batch = reader.read_next_batch()
        batch.validate(full=True)  # unchecked indices would read outside the buffers
        _check_schema(batch, schema, optional)
    except (pa.ArrowException, StopIteration, OSError, ValueError) as error:
        raise DecodeError("corrupt_columns", f"not an Arrow IPC stream with a record batch: {error}") from error
    return batch


def _check_schema(batch: pa.RecordBatch, schema: pa.Schema, optional: frozenset[str]) -> None:
    expected = schema
    if optional:
        present = set(batch.schema.names)
        expected = pa.schema([field for field in schema if field.name in present or field.name not in optional])
    if not batch.schema.equals(expected):
        raise DecodeError("corrupt_columns", f"columns are not the expected ones: {schema.names}")
    for name, column in zip(expected.names, batch.columns, strict=True):
        if name not in _NULLABLE and (column.null_count or _has_null_words(column)):
            raise DecodeError("corrupt_columns", f"column {name} has nulls")


def _has_null_words(column: pa.Array) -> bool:
    return isinstance(column, pa.DictionaryArray) and column.dictionary.null_count > 0


_NULLABLE = ("digest", "detail")

_LEFT_OUT_WHEN_BLANK = frozenset(("signal", "severity", "name", "attributes", "trace_hi", "trace_lo"))


WORDS = pa.dictionary(pa.int32(), pa.string())
"""Type of a column of repeated strings."""

_ROWS_SCHEMA = pa.schema(
    [(name, WORDS if name in Rows.DICTIONARIES else pa.type_for_alias(dtype)) for name, dtype in Rows.DTYPES.items()]
)
_RECEIPTS_SCHEMA = pa.schema(
    [
        *((name, pa.type_for_alias(dtype)) for name, dtype in Receipts.DTYPES.items() if name != "reason"),
        ("reason", pa.dictionary(pa.int16(), pa.string())),
        ("digest", pa.binary()),
        ("detail", pa.string()),
    ]
)

assert {f.name for f in fields(Rows)} == {*Rows.DTYPES, *Rows.DICTIONARIES.values()}
