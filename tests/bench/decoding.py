"""The decoders alone: compiled against plain, the same bytes, in one process, turn by turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import orjson

from stream.core.columns import Signal
from stream.core.otlp import Messages, Reading
from stream.core.otlp.decoders import DECODERS, Encoding
from stream.ingest.priming import Format, prime
from tests.bench import payloads
from tests.bench.counting import requests_of

READING = Reading(attributes=("http.route",))
_REPEATS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Items a CPU-second of one format; `against` names what `other` is the rate of. What is aimed at, where it is."""

    name: str
    rate: float
    target: float | None
    against: str
    other: float
    target_ratio: float | None

    @property
    def ratio(self) -> float:
        """How many times as fast."""
        return self.rate / self.other


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    name: str
    items: int
    compiled: Callable[[], object]
    against: str
    other: Callable[[], object]
    target: float | None = None
    target_ratio: float | None = None


def measure(runs: int) -> list[Decoding]:
    """Returns the median rates of `runs` turns of each format."""
    prime(DECODERS)
    return [_measured(case, runs) for case in _cases()]


def _cases() -> list[_Case]:
    spans = payloads.traces(32)
    events = payloads.flat(4096)
    traces = _case("OTLP protobuf traces, spans", (Signal.SPAN, Encoding.OTLP_PROTO), spans, (2.5e6, 30))
    flat = _case("flat events", (Signal.EVENT, Encoding.FLAT), events, (0.8e6, None))
    return [
        traces,
        replace(traces, against="upb and a bare loop", other=partial(_loop, spans), target_ratio=None),
        _case("OTLP/JSON traces, spans", (Signal.SPAN, Encoding.OTLP_JSON), payloads.as_json(spans), (0.8e6, 10)),
        _case("OTLP protobuf metrics, points", (Signal.METRIC, Encoding.OTLP_PROTO), payloads.metrics(32), (1.5e6, 10)),
        _case("OTLP protobuf logs, records", (Signal.LOG, Encoding.OTLP_PROTO), payloads.logs(32), (2e6, 10)),
        flat,
        replace(flat, against="orjson alone", other=partial(_parse, events), target_ratio=2.5),
    ]


def _case(name: str, format: Format, values: list[bytes], targets: tuple[float, float | None]) -> _Case:
    messages, decoder = Messages.of(values), DECODERS[format]
    compiled = partial(decoder.load_compiled(), messages, READING)
    decoded = compiled()
    plain = partial(decoder.load_plain(), messages, READING)
    return _Case(
        name=name,
        items=len(decoded.rows) + len(decoded.points),
        compiled=compiled,
        against="plain decoder",
        other=plain,
        target=targets[0],
        target_ratio=targets[1],
    )


def _loop(values: list[bytes]) -> None:
    for value in values:
        for _ in requests_of(value):
            pass


def _parse(values: list[bytes]) -> None:
    for value in values:
        orjson.loads(value)


def _measured(case: _Case, runs: int) -> Decoding:
    fast, slow = [], []
    for _ in range(runs):
        fast.append(_seconds(case.compiled, _REPEATS))
        slow.append(_seconds(case.other, 1))
    return Decoding(
        name=case.name,
        rate=case.items / statistics.median(fast),
        target=case.target,
        target_ratio=case.target_ratio,
        against=case.against,
        other=case.items / statistics.median(slow),
    )


def _seconds(work: Callable[[], object], repeats: int) -> float:
    began_ns = time.process_time_ns()
    for _ in range(repeats):
        work()
    return (time.process_time_ns() - began_ns) / 1e9 / repeats
