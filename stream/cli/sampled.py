"""What the newest messages of a topic say: how they are written, who sends them, and what a decoder makes of them.

Pure: messages in, a summary out. `findings` says what to think of it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson

from stream.core.columns import Array, Kind, RowFlag, Rows, Signal
from stream.core.engine.admission import FUTURE_AFTER_NS, LATE_AFTER_NS
from stream.core.otlp import Decoded, Limits, Messages, Reading
from stream.core.otlp.decoders import DECODERS, Encoding, sniff
from stream.core.points import MetricType, PointFlag, Points, Temporality
from stream.core.units import WEIGHT_ONE

SIGNAL_NAMES: Mapping[Signal, str] = {
    Signal.SPAN: "traces",
    Signal.METRIC: "metrics",
    Signal.LOG: "logs",
    Signal.EVENT: "events",
}

_JSON_SIGNALS = {"resourceSpans": Signal.SPAN, "resourceMetrics": Signal.METRIC, "resourceLogs": Signal.LOG}
_OTLP = (Signal.SPAN, Signal.METRIC, Signal.LOG)
_GUESSED_FROM = 16
_PLAIN_BYTES = 8 << 20
"""So much is read sooner by the plain decoders than the compiled ones can be made ready."""

_DETAILS_MAX = 3
_UNKNOWN_NS = 1 << 62
_A_TIME_NS = 10**17  # 1973: what is read as the wrong signal has no such time
_TRACE_ID = re.compile(rb"[0-9a-f]{32}")
_HASH_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One message as it was read; `time_ns` of its record."""

    key: bytes | None
    value: bytes | None
    time_ns: int


@dataclass(slots=True)
class ServiceSample:
    """The items of one service.

    Args:
        items: Spans, events, log records or points.
        versions: Items by version, the empty text for none.
        kinds: Items by span kind.
        unknown_sampling: Items without a sampling threshold.
        weight: Sum of the adjusted counts.
    """

    items: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    unknown_sampling: int = 0
    weight: float = 0.0


@dataclass(slots=True)
class MetricSample:
    """The points of one metric."""

    type: str
    temporality: str
    unit: str
    points: int = 0


@dataclass(slots=True)
class Refusals:
    """Items that were refused for one reason, and the first sentences that say why, each another one."""

    items: int = 0
    details: list[str] = field(default_factory=list)


@dataclass(slots=True)
class TopicSample:
    """The newest messages of one topic, summed up.

    Args:
        topic: Its name.
        signal: What it carries, as far as anything is known: declared, or told by its name.
        limits: What the decoders refuse.
        now_ns: When they were read.
    """

    topic: str
    signal: Signal | None = None
    limits: Limits = field(default_factory=Limits)
    now_ns: int = _UNKNOWN_NS
    messages: int = 0
    size_bytes: int = 0
    tombstones: int = 0
    repeated: int = 0
    forms: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Messages by signal and encoding."""
    unreadable: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    items: int = 0
    services: dict[str, ServiceSample] = field(default_factory=dict)
    metrics: dict[str, MetricSample] = field(default_factory=dict)
    log_events: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Refusals] = field(default_factory=dict)
    invalid_texts: int = 0
    """Items with a text that is no UTF-8."""
    future: int = 0
    """Items that end so long after their message was written that they are refused."""
    late: int = 0
    """Items that end so long before it that they are not counted."""
    newest_ns: int = 0
    _hashes: set[bytes] = field(default_factory=set)
    _protobuf: Signal | None = None

    def add(self, messages: Sequence[Observed]) -> None:
        """Takes in further messages."""
        by_form: dict[tuple[Signal, Encoding], list[Observed]] = {}
        protobuf: list[Observed] = []
        for message in messages:
            self._count(message)
            if not message.value:
                continue
            form = _json_form(message.value)
            if form is not None:
                by_form.setdefault(form, []).append(message)
            elif self.signal is Signal.EVENT or sniff(message.value) is Encoding.OTLP_PROTO:
                protobuf.append(message)
            else:
                self.unreadable += 1
                self._refuse("malformed", 1, "it begins like JSON and is none")
        if protobuf:
            by_form.setdefault(self._form_of_others(protobuf), []).extend(protobuf)
        for form, found in by_form.items():
            self.forms[SIGNAL_NAMES[form[0]], form[1].value] += len(found)
            self._look_for_repeated(form, found)
            values = [message.value or b"" for message in found]
            decoded = _decoded(*form, values, self.limits, large=self.size_bytes > _PLAIN_BYTES)
            self._sum_up(decoded, np.array([message.time_ns for message in found], "int64"))

    def _form_of_others(self, messages: Sequence[Observed]) -> tuple[Signal, Encoding]:
        """Returns what messages that are no JSON objects are, the better the more was seen of them."""
        if self._protobuf is None:
            values = [message.value or b"" for message in messages[:_GUESSED_FROM]]
            self._protobuf = _guess(values, self.signal, self.limits)
        if self._protobuf is not None:
            return self._protobuf, Encoding.OTLP_PROTO
        if self.signal is Signal.EVENT:
            return Signal.EVENT, Encoding.FLAT
        return Signal.SPAN if self.signal is None else self.signal, Encoding.OTLP_PROTO

    def _count(self, message: Observed) -> None:
        self.messages += 1
        self.newest_ns = max(self.newest_ns, message.time_ns)
        self.keys[key_use(message.key)] += 1
        self.tombstones += message.value is None
        self.size_bytes += len(message.value or b"")

    def _look_for_repeated(self, form: tuple[Signal, Encoding], messages: Sequence[Observed]) -> None:
        for message in messages:
            known_by = message.value if form[1] is not Encoding.FLAT else _event_id(message.value)
            if known_by:
                digest = hashlib.blake2b(known_by, digest_size=_HASH_BYTES).digest()
                self.repeated += digest in self._hashes
                self._hashes.add(digest)

    def _sum_up(self, decoded: Decoded, times_ns: Array) -> None:
        """Adds what was decoded of messages whose records have these times."""
        receipts, rows, points = decoded.receipts, decoded.rows, decoded.points
        self.items += int(receipts.items.sum())
        for at in receipts.rejected.nonzero()[0].tolist():
            self._refuse(receipts.reasons[receipts.reason[at]], int(receipts.rejected[at]), receipts.details[at] or "")
        self._rows(rows)
        self._points(points)
        self.invalid_texts += int(((rows.flags & RowFlag.INVALID_UTF8) != 0).sum())
        self.invalid_texts += int(((points.flags & PointFlag.INVALID_UTF8) != 0).sum())
        # A producer whose clock is ahead writes that time on its messages, too.
        read_ns = np.minimum(np.where(times_ns > 0, times_ns, _UNKNOWN_NS), self.now_ns)
        for ends_ns, counts, offset in (
            (rows.end_ns, rows.count, rows.offset),
            (points.time_ns, np.ones(len(points), "int64"), points.offset),
        ):
            self.future += int(counts[ends_ns > read_ns[offset] + FUTURE_AFTER_NS].sum())
            self.late += int(counts[ends_ns < times_ns[offset] - LATE_AFTER_NS].sum())

    def _refuse(self, reason: str, items: int, detail: str) -> None:
        refusals = self.rejected.setdefault(reason, Refusals())
        refusals.items += items
        if detail not in refusals.details and len(refusals.details) < _DETAILS_MAX:
            refusals.details.append(detail)

    def _rows(self, rows: Rows) -> None:
        unknown = (rows.flags & RowFlag.SAMPLING_UNKNOWN) != 0
        for at, service in enumerate(rows.services):
            mine = rows.service == at
            if not mine.any():
                continue
            counts = rows.count[mine]
            sample = self.services.setdefault(service, ServiceSample())
            sample.items += int(counts.sum())
            sample.unknown_sampling += int(counts[unknown[mine]].sum())
            sample.weight += float(rows.weight[mine].sum()) / WEIGHT_ONE
            sample.versions += _by_value(rows.version[mine], counts, rows.versions)
            if (rows.signal[mine] != Signal.LOG).all():
                sample.kinds += _by_value(rows.kind[mine], counts, [Kind(kind).name for kind in Kind])
        logs = rows.signal == Signal.LOG
        self.log_events += _by_value(rows.name[logs], rows.count[logs], rows.names)

    def _points(self, points: Points) -> None:
        ones = np.ones(len(points), "int64")
        for at, service in enumerate(points.services):
            mine = points.service == at
            if mine.any():
                sample = self.services.setdefault(service, ServiceSample())
                sample.items += int(mine.sum())
                sample.versions += _by_value(points.version[mine], ones[mine], points.versions)
        columns = (points.name, points.type, points.temporality, points.unit)
        for name, kind, temporality, unit in zip(*(column.tolist() for column in columns), strict=True):
            metric = self.metrics.get(points.names[name])
            if metric is None:
                metric = self.metrics[points.names[name]] = MetricSample(
                    type=MetricType(kind).name.lower(),
                    temporality=Temporality(temporality).name.lower(),
                    unit=points.units[unit],
                )
            metric.points += 1


def key_use(key: bytes | None) -> str:
    """Returns what a producer uses the key for, as far as it shows."""
    if key is None:
        return "none"
    if not key:
        return "empty"
    if _TRACE_ID.fullmatch(key):
        return "trace id"
    return f"{_HASH_BYTES} bytes" if len(key) == _HASH_BYTES else "other"


def _event_id(value: bytes | None) -> bytes | None:
    """Returns what an event is known by among repeated ones: its service and `id`; None where it has no `id`."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(event, dict) or not event.get("id"):
        return None
    return orjson.dumps([event.get(name) or "" for name in ("environment", "namespace", "service", "id")])


def _json_form(value: bytes) -> tuple[Signal, Encoding] | None:
    """Returns what a JSON object holds; None for anything else."""
    if sniff(value) is not Encoding.OTLP_JSON:
        return None
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        # Invalid UTF-8 costs no message; its first bytes tell what it is.
        body = {word: () for word in _JSON_SIGNALS if f'"{word}"'.encode() in value[:256]}
        if not body:
            return None
    for name, signal in _JSON_SIGNALS.items():
        if name in body:
            return signal, Encoding.OTLP_JSON
    return Signal.EVENT, Encoding.FLAT


def _guess(values: Sequence[bytes], expected: Signal | None, limits: Limits) -> Signal | None:
    """Returns the OTLP signal that these protobuf messages make most sense as, the expected one before others.

    None where they make sense as none. Wrong signals rarely fail: fields of other wire types are skipped. But their
    items have no sensible time.
    """
    order = sorted(_OTLP, key=lambda signal: signal is not expected)
    sense = {signal: _sensible(_decoded(signal, Encoding.OTLP_PROTO, values, limits)) for signal in order}
    best = max(order, key=lambda signal: sense[signal])
    return best if sense[best] else None


def _sensible(decoded: Decoded) -> int:
    return int((decoded.rows.end_ns > _A_TIME_NS).sum() + (decoded.points.time_ns > _A_TIME_NS).sum())


def _decoded(
    signal: Signal, encoding: Encoding, values: Sequence[bytes], limits: Limits, *, large: bool = False
) -> Decoded:
    decoder = DECODERS[signal, encoding]
    decode = decoder.load_compiled() if large else decoder.load_plain()
    return decode(Messages.of(values), Reading(limits=limits))


def _by_value(index: Array, counts: Array, words: Sequence[str]) -> Counter[str]:
    sums = np.bincount(index, weights=counts, minlength=len(words))
    return Counter({word: int(sums[at]) for at, word in enumerate(words) if sums[at]})
