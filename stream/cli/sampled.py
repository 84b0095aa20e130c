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
from stream.core.otlp import Decoded, Limits, Messages, Reading
from stream.core.otlp.decoders import DECODERS, Encoding, sniff
from stream.core.points import MetricType, Points, Temporality
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
    """Items that were refused for one reason, and the first one's sentence."""

    items: int = 0
    detail: str = ""


@dataclass(slots=True)
class TopicSample:
    """The newest messages of one topic, summed up.

    Args:
        topic: Its name.
        signal: What it carries, as far as anything is known: declared, or told by its name.
        limits: What the decoders refuse.
    """

    topic: str
    signal: Signal | None = None
    limits: Limits = field(default_factory=Limits)
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
    newest_ns: int = 0
    _hashes: set[bytes] = field(default_factory=set)
    _protobuf: Signal | None = None

    def add(self, messages: Sequence[Observed]) -> None:
        """Takes in further messages."""
        by_form: dict[tuple[Signal, Encoding], list[bytes]] = {}
        protobuf: list[bytes] = []
        for message in messages:
            self._count(message)
            if not message.value:
                continue
            form = _json_form(message.value)
            if form is not None:
                by_form.setdefault(form, []).append(message.value)
            elif sniff(message.value) is Encoding.OTLP_PROTO:
                protobuf.append(message.value)
            else:
                self.unreadable += 1
                self._refuse("malformed", 1, "it begins like JSON and is none")
        if protobuf:
            if self._protobuf is None:
                self._protobuf = _guess(protobuf[:_GUESSED_FROM], self.signal, self.limits)
            by_form[self._protobuf, Encoding.OTLP_PROTO] = protobuf
        for (signal, encoding), values in by_form.items():
            self.forms[SIGNAL_NAMES[signal], encoding.value] += len(values)
            self._sum_up(_decoded(signal, encoding, values, self.limits, large=self.size_bytes > _PLAIN_BYTES))

    def _count(self, message: Observed) -> None:
        self.messages += 1
        self.newest_ns = max(self.newest_ns, message.time_ns)
        self.keys[key_use(message.key)] += 1
        if message.value is None:
            self.tombstones += 1
            return
        if not message.value:
            return
        self.size_bytes += len(message.value)
        digest = hashlib.blake2b(message.value, digest_size=_HASH_BYTES).digest()
        self.repeated += digest in self._hashes
        self._hashes.add(digest)

    def _sum_up(self, decoded: Decoded) -> None:
        receipts = decoded.receipts
        self.items += int(receipts.items.sum())
        for at in receipts.rejected.nonzero()[0].tolist():
            self._refuse(receipts.reasons[receipts.reason[at]], int(receipts.rejected[at]), receipts.details[at] or "")
        self._rows(decoded.rows)
        self._points(decoded.points)

    def _refuse(self, reason: str, items: int, detail: str) -> None:
        refusals = self.rejected.setdefault(reason, Refusals(detail=detail))
        refusals.items += items

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


def _guess(values: Sequence[bytes], expected: Signal | None, limits: Limits) -> Signal:
    """Returns the OTLP signal that these protobuf messages make most sense as; the expected one where none is better.

    Wrong signals rarely fail: fields of other wire types are skipped. But their items have no sensible time.
    """
    order = sorted(_OTLP, key=lambda signal: signal is not expected)
    sense = {signal: _sensible(_decoded(signal, Encoding.OTLP_PROTO, values, limits)) for signal in order}
    return max(order, key=lambda signal: sense[signal])


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
