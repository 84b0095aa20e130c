"""Compiled decoder of OTLP metrics in protobuf; equals `reference.metrics`, whose docstring has the rules.

What a kernel cannot read, or what no encoder writes, the plain decoder decides, message by message: it knows why a
message is refused, and how the parts of a message that was sent in parts fit together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from stream.core.columns import Array, Receipts, RejectReason, Rows
from stream.core.otlp import ONLY_FIELDS, Decoded, Messages, Reading, semconv
from stream.core.otlp.attributes import Value, canonical
from stream.core.otlp.reference import metrics as plain
from stream.core.otlp.reference.points import KINDS, SPAN_KIND, STATUS_CODE, STATUSES, Unusable
from stream.core.otlp.reference.reading import names_of
from stream.core.otlp.scan import metric_state as st
from stream.core.otlp.scan.accounts import Refused, make_receipts
from stream.core.otlp.scan.identity import BOOLEAN, INTEGER, TEXT
from stream.core.otlp.scan.intern import InternTable
from stream.core.otlp.scan.memory import PADDING, address_of, joined
from stream.core.otlp.scan.metric_messages import scan
from stream.core.otlp.scan.wire import KeyTable
from stream.core.points import Points, concat_points
from stream.core.service_key import service_key

_KIND_WORDS = KeyTable([text.encode() for text in KINDS])
_STATUS_WORDS = KeyTable([text.encode() for text in STATUSES])
_GRPC_WORDS = KeyTable([text.encode() for text in semconv.GRPC_CODES])
assert all(kind == i >> 1 for i, kind in enumerate(KINDS.values()))
assert all(status == i >> 1 for i, status in enumerate(STATUSES.values()))
assert list(semconv.GRPC_CODES.values()) == list(range(17))

_POINT_KEYS = (SPAN_KIND, STATUS_CODE, semconv.ERROR_TYPE, *semconv.RPC_STATUS_CODES, *semconv.HTTP_STATUS_CODES)
_RESOURCE_KEYS = (*semconv.ENVIRONMENTS, semconv.SERVICE_NAMESPACE, semconv.SERVICE_NAME, semconv.SERVICE_VERSION)
_HISTOGRAM_BUCKETS_GUESS = 16
_POINT_BYTES_GUESS = 128
"""Bytes that a point has at least, nearly always: how much room a piece of messages is given at first."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """The wanted keys of an allow-list: tables for kernels, and the slots of each listed key in both."""

    points: KeyTable
    resources: KeyTable
    points_count: int
    resources_count: int
    listed: Array


@lru_cache(maxsize=64)
def _keys_of(attributes: tuple[str, ...]) -> _Keys:
    names = [name for key in attributes for name in names_of(key)]
    points, resources = (list(dict.fromkeys((*fixed, *names))) for fixed in (_POINT_KEYS, _RESOURCE_KEYS))
    listed = np.full((len(attributes) + 1, 4), -1, "int64")
    for row, key in zip(listed, attributes, strict=False):
        for i, name in enumerate(names_of(key)):
            row[i], row[2 + i] = points.index(name), resources.index(name)
    return _Keys(
        points=KeyTable([key.encode() for key in points]),
        resources=KeyTable([key.encode() for key in resources]),
        points_count=len(points),
        resources_count=len(resources),
        listed=listed,
    )


_TABLES = (
    st.NAMES,
    st.UNITS,
    st.TEXTS,
    st.SERVICES,
    st.VERSIONS,
    st.ERROR_TYPES,
    st.STRINGS,
    st.SETS,
    st.BOUNDS,
)
_EMPTY_IS_0 = (st.NAMES, st.UNITS, st.TEXTS, st.VERSIONS, st.ERROR_TYPES, st.BOUNDS)


class _Scan:
    """The memory of one call: what kernels read, write and remember."""

    def __init__(self, messages: Messages, reading: Reading) -> None:
        keys, limits = _keys_of(reading.attributes), reading.limits
        self._data, self._offsets = joined(messages.values)
        self.tallies = np.zeros((len(messages), st.TALLY_WORDS), "int64")
        room = 64 + len(self._data) // _POINT_BYTES_GUESS
        self.records = np.empty(room, st.RECORD)
        self.buckets = np.empty(
            room * _HISTOGRAM_BUCKETS_GUESS + max(limits.explicit_buckets, limits.exponential_buckets), "int64"
        )
        self.tables = {word: InternTable(most=64, arena=4096) for word in _TABLES}
        kept_words = 2 * (len(reading.attributes) + 1)
        # Kept alive here: kernels know only addresses.
        self._scratch = {
            st.POINT_FOUND: np.zeros((keys.points_count, 4), "int64"),
            st.RESOURCE_FOUND: np.zeros((keys.resources_count, 4), "int64"),
            st.RESOURCE_SET: np.zeros(kept_words, "int64"),
            st.POINT_SET: np.zeros(kept_words, "int64"),
            st.BOUNDS_SCRATCH: np.zeros(limits.explicit_buckets + PADDING, "int64"),
        }
        self.state = np.zeros(st.WORDS, "int64")
        self._point()
        self._set(
            {
                st.DATA: address_of(self._data),
                st.OFFSETS: self._offsets.ctypes.data,
                st.TALLIES: self.tallies.ctypes.data,
                st.POINT_KEYS: keys.points.address,
                st.RESOURCE_KEYS: keys.resources.address,
                st.KIND_WORDS: _KIND_WORDS.address,
                st.STATUS_WORDS: _STATUS_WORDS.address,
                st.GRPC_WORDS: _GRPC_WORDS.address,
                st.LISTED: keys.listed.ctypes.data,
                st.LISTED_KEYS: len(reading.attributes),
                st.MESSAGE_BYTES_MAX: limits.message_bytes,
                st.ITEMS_MAX: limits.items,
                st.ATTRIBUTES_MAX: limits.attributes,
                st.VALUE_BYTES_MAX: limits.value_bytes,
                st.EXPLICIT_MAX: limits.explicit_buckets,
                st.EXPONENTIAL_MAX: limits.exponential_buckets,
                **{word: array.ctypes.data for word, array in self._scratch.items()},
                **{word: table.address for word, table in self.tables.items()},
            }
        )
        for word in _EMPTY_IS_0:
            self.tables[word].add(b"")
        if reading.attributes:
            self.tables[st.SETS].add(bytes(st.KEPT_BYTES * len(reading.attributes)))

    def run(self) -> None:
        """Reads all messages."""
        done, size, address = 0, len(self.tallies), self.state.ctypes.data
        while (done := scan(address, done, size)) < size:
            self._grow(int(self.state[st.WHAT_IS_FULL // 8]))

    def used(self) -> tuple[Array, Array]:
        """Returns the records and the bucket counts that were written."""
        records, buckets = (int(self.state[word // 8]) for word in (st.RECORDS_USED, st.BUCKETS_USED))
        return self.records[:records], self.buckets[:buckets]

    def _grow(self, what: int) -> None:
        if what == st.RECORDS:
            self.records = np.concatenate([self.records, np.empty_like(self.records)])
        elif what == st.BUCKETS:
            self.buckets = np.concatenate([self.buckets, np.empty_like(self.buckets)])
        else:
            self.tables[what].grow()
        self._point()

    def _point(self) -> None:
        self._set(
            {
                st.RECORDS: self.records.ctypes.data,
                st.BUCKETS: self.buckets.ctypes.data,
                st.RECORDS_MAX: len(self.records),
                st.BUCKETS_MAX: len(self.buckets),
            }
        )

    def _set(self, words: dict[int, int]) -> None:
        for word, value in words.items():
            self.state[word // 8] = value


def decode(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the points and receipts of OTLP protobuf metric messages; never raises on what a producer sent.

    A tombstone and an empty request (zero bytes) are received and hold no items.
    """
    if not len(messages):
        return plain.decode(messages, reading)
    scanned = _Scan(messages, reading)
    scanned.run()
    account = _Account(messages, reading, scanned.tallies)
    points = _points(messages, reading, scanned)
    return Decoded(
        rows=Rows.empty(),
        points=_merged(scanned.used()[0]["message"], points, account.left),
        receipts=account.receipts(),
    )


@dataclass(slots=True)
class _Account:
    """What became of the messages: items of each, what was refused, points that the plain decoder read."""

    messages: Messages
    reading: Reading
    tallies: Array
    items: Array = field(init=False)
    refused: list[Refused] = field(default_factory=list)
    left: list[tuple[int, Points]] = field(default_factory=list)

    def __post_init__(self) -> None:
        outcomes = self.tallies[:, st.OUTCOME]
        self.items = np.where(outcomes == st.READ, self.tallies[:, 0], 1)
        for i in np.flatnonzero(self.tallies[:, 1:].any(axis=1)).tolist():
            outcome = int(outcomes[i])
            if outcome == st.READ:
                self._refuse_points(i)
            elif outcome == st.LEFT_TO_PLAIN:
                self._leave_to_plain(i)
            else:
                self._refuse_message(i, outcome)

    def receipts(self) -> Receipts:
        """Returns the receipts of all messages."""
        return make_receipts(self.messages, self.items, self.refused)

    def _refuse_points(self, i: int) -> None:
        counts = dict(zip(st.REASONS, self.tallies[i, 1:].tolist(), strict=False))
        for reason in RejectReason:
            if items := counts.get(reason):
                self.refused.append(Refused(message=i, reason=reason, items=items, detail=_DETAILS[reason]))

    def _refuse_message(self, i: int, outcome: int) -> None:
        limits, size = self.reading.limits, len(self.messages.values[i] or b"")
        if outcome == st.TOO_LARGE:
            detail = f"this message has {size} bytes, more than limits.message_bytes allows: {limits.message_bytes}"
            self.refused.append(Refused(message=i, reason=RejectReason.TOO_LARGE, items=1, detail=detail))
        else:
            items = int(self.tallies[i, 0])
            detail = f"this message has {items} points, more than limits.items allows: {limits.items}"
            self.refused.append(Refused(message=i, reason=RejectReason.TOO_MANY_ITEMS, items=1, detail=detail))

    def _leave_to_plain(self, i: int) -> None:
        messages, value = self.messages, self.messages.values[i]
        why = plain.parsed(value, self.reading.limits) if value else None
        if isinstance(why, Unusable):  # nearly all: a batch of its own for each would cost ten times as much
            self.refused.append(Refused(message=i, reason=why.reason, items=1, detail=why.detail))
            return
        one = Messages(
            source=messages.source[i : i + 1], offset=messages.offset[i : i + 1], values=messages.values[i : i + 1]
        )
        decoded = plain.decode(one, self.reading)
        receipts = decoded.receipts
        self.items[i] = int(receipts.items.sum())
        for rejected, reason, detail in zip(receipts.rejected, receipts.reason, receipts.details, strict=True):
            if rejected:
                reject_reason = RejectReason(receipts.reasons[reason])
                self.refused.append(Refused(message=i, reason=reject_reason, items=int(rejected), detail=detail or ""))
        if len(decoded.points):
            self.left.append((i, decoded.points))


_DETAILS = {
    RejectReason.UNSUPPORTED: "a summary cannot be added up or compared: send a histogram",
    RejectReason.TOO_MANY_ATTRIBUTES: "a point, its scope or its resource has more than limits.attributes allows",
    RejectReason.VALUE_TOO_LONG: "a text of a point is longer than limits.value_bytes allows",
    RejectReason.MISSING_FIELD: "a point has no time_unix_nano, or neither as_int nor as_double",
    RejectReason.TOO_MANY_BUCKETS: "a histogram point has more buckets than limits allow",
    RejectReason.OUT_OF_RANGE: "a sum is no finite number, or a histogram point counts 2^63 values or more",
    RejectReason.MALFORMED: "the buckets of a histogram point contradict its count, its bounds or each other",
}


def _points(messages: Messages, reading: Reading, scanned: _Scan) -> Points:
    records, buckets = scanned.used()
    if not len(records):
        return Points.empty()
    columns: dict[str, Any] = {
        name: np.ascontiguousarray(records[name]) for name in Points.DTYPES if name not in ("source", "offset")
    }
    first = np.zeros(len(records) + 1, "int64")
    np.cumsum(records["bucket_count"], out=first[1:])
    words: dict[str, Iterable[Any]] = {
        "services": _services(scanned),
        "versions": scanned.tables[st.VERSIONS].texts(),
        "names": scanned.tables[st.NAMES].texts(),
        "units": scanned.tables[st.UNITS].texts(),
        "error_types": scanned.tables[st.ERROR_TYPES].texts(),
        "attribute_sets": _attribute_sets(reading.attributes, scanned),
        "bounds_sets": [tuple(np.frombuffer(word, "<f8").tolist()) for word in scanned.tables[st.BOUNDS].words()],
    }
    for name, dictionary in {**Points.DICTIONARIES, "bounds": "bounds_sets"}.items():
        columns[name], columns[dictionary] = _distinct(columns[name], words[dictionary])
    return Points(
        **columns,
        source=messages.source[records["message"]].astype("int16", copy=False),
        offset=messages.offset[records["message"]].astype("int64", copy=False),
        buckets=buckets.copy(),
        bucket_first=first,
    )


def _services(scanned: _Scan) -> list[str]:
    texts = scanned.tables[st.TEXTS].texts()
    triples = scanned.tables[st.SERVICES].tuples(3).tolist()
    return [service_key(*(texts[part] or None for part in triple)) for triple in triples]


def _attribute_sets(keys: tuple[str, ...], scanned: _Scan) -> list[str]:
    if not keys:
        return [""]
    strings = scanned.tables[st.STRINGS].texts()
    sets = scanned.tables[st.SETS].tuples(2 * len(keys)).reshape(-1, len(keys), 2).tolist()
    return [
        canonical({key: _value(kind, word, strings) for key, (kind, word) in zip(keys, values, strict=True) if kind})
        for values in sets
    ]


def _value(kind: int, word: int, strings: list[str]) -> Value:
    if kind == TEXT:
        return strings[word]
    if kind == BOOLEAN:
        return bool(word)
    return word if kind == INTEGER else float(np.int64(word).view("float64"))


Word = TypeVar("Word", bound=Hashable)


def _distinct(index: Array, words: Iterable[Word]) -> tuple[Array, tuple[Word, ...]]:
    """Returns indices into distinct words: several byte strings may be one text where they are no UTF-8."""
    union: dict[Word, int] = {}
    lookup = [union.setdefault(word, len(union)) for word in words]
    if len(union) < len(lookup):
        index = np.array(lookup, "int32")[index]
    return index, tuple(union)


def _merged(message: Array, points: Points, left: Sequence[tuple[int, Points]]) -> Points:
    """Returns all points in the order of their messages.

    Args:
        message: Index of the message of each of `points`.
        points: What kernels read.
        left: What the plain decoder read, by the index of its message.
    """
    if not left:
        return points
    every = np.concatenate([message, *(np.full(len(part), i) for i, part in left)])
    return concat_points([points, *(part for _, part in left)]).take(np.argsort(every, kind="stable"))
