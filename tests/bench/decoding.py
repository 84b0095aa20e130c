"""The decoders alone: compiled against the plain loop and the plain decoder, the same bytes, turn by turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stream.core.columns import Signal
from stream.core.otlp import Messages, Reading
from stream.core.otlp.decoders import DECODERS, Decode, Encoding
from stream.ingest.cycle import Fetched, pieces
from stream.ingest.priming import Format, prime
from tests.bench import loops, payloads
from tests.bench.turns import medians_s

READING = Reading(attributes=("http.route",))

_REPEATS = 10
_FEW = 16
"""Of how many messages the slow sides take one: rates are compared, and a plain decoder takes seconds for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Items a CPU-second of one format.

    Args:
        name: The format.
        rate: Of the compiled decoder.
        loop: Of the library and a loop.
        plain: Of the plain decoder.
        library: That parses for the loop.
        target: What `rate` should be.
        target_ratio: What `rate` over `loop` should be.
    """

    name: str
    rate: float
    loop: float
    plain: float
    library: str
    target: float
    target_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    name: str
    format: Format
    values: Callable[[], list[bytes]]
    loop: loops.Loop
    library: str
    target: float
    target_ratio: float


_SPAN, _METRIC, _LOG, _EVENT = Signal.SPAN, Signal.METRIC, Signal.LOG, Signal.EVENT
_CASES = (
    _Case(
        name="OTLP protobuf traces, spans",
        format=(_SPAN, Encoding.OTLP_PROTO),
        values=lambda: payloads.traces(32),
        loop=loops.traces,
        library="upb and a loop",
        target=2.5e6,
        target_ratio=30,
    ),
    _Case(
        name="OTLP/JSON traces, spans",
        format=(_SPAN, Encoding.OTLP_JSON),
        values=lambda: payloads.as_json(payloads.traces(32)),
        loop=loops.json_traces,
        library="orjson and a loop",
        target=0.8e6,
        target_ratio=10,
    ),
    _Case(
        name="OTLP protobuf metrics, points",
        format=(_METRIC, Encoding.OTLP_PROTO),
        values=lambda: payloads.metrics(32),
        loop=loops.metrics,
        library="upb and a loop",
        target=1.5e6,
        target_ratio=10,
    ),
    _Case(
        name="OTLP protobuf logs, records",
        format=(_LOG, Encoding.OTLP_PROTO),
        values=lambda: payloads.logs(32),
        loop=loops.logs,
        library="upb and a loop",
        target=2e6,
        target_ratio=10,
    ),
    _Case(
        name="flat events",
        format=(_EVENT, Encoding.FLAT),
        values=lambda: payloads.flat(8192),
        loop=loops.flat,
        library="orjson alone",
        target=0.8e6,
        target_ratio=2.5,
    ),
)


def measure(runs: int) -> list[Decoding]:
    """Returns the median rates of `runs` turns of each format."""
    prime(case.format for case in _CASES)
    return [_measured(case, runs) for case in _CASES]


def _measured(case: _Case, runs: int) -> Decoding:
    values = case.values()
    few = values[: max(1, len(values) // _FEW)]
    decoder = DECODERS[case.format]
    compiled, plain = decoder.load_compiled(), decoder.load_plain()
    items, few_items = _items(compiled, values), _items(compiled, few)
    assert case.loop(few) == few_items, case.name
    parts, few_messages = _parts(values), Messages.of(few)
    taken_s = medians_s(
        runs,
        {
            "compiled": lambda _: [compiled(part, READING) for _ in range(_REPEATS) for part in parts],
            "loop": lambda _: case.loop(values),
            "plain": lambda _: plain(few_messages, READING),
        },
    )
    return Decoding(
        name=case.name,
        rate=items * _REPEATS / taken_s["compiled"],
        loop=items / taken_s["loop"],
        plain=few_items / taken_s["plain"],
        library=case.library,
        target=case.target,
        target_ratio=case.target_ratio,
    )


def _parts(values: list[bytes]) -> list[Messages]:
    """Returns the messages as the ingest cuts them for its decoders."""
    fetched = Fetched(
        source=0,
        offsets=range(len(values)),
        times_ns=[0] * len(values),
        values=values,
        next_offset=len(values),
    )
    return [Messages.of(part.values) for piece in pieces([fetched]) for part in piece]


def _items(decode: Decode, values: list[bytes]) -> int:
    decoded = decode(Messages.of(values), READING)
    return len(decoded.rows) + len(decoded.points)
