"""Whole messages that the mutations start from: captured, of the benchmark, and made by the generators of the tests."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from google.protobuf.message import DecodeError as ProtobufDecodeError

from stream.core.columns import Signal
from stream.core.otlp.decoders import Encoding
from stream.core.otlp.json_fields import fields
from stream.core.otlp.reference import schema
from tests.bench import payloads
from tests.core.otlp import json_texts, metric_messages
from tests.core.otlp.captures import CAPTURES, GOLDEN
from tests.core.otlp.scan.wire_messages import Writer

SMALL_BYTES = 1200
"""A message of up to this many is one of thousands in a batch."""

_WORDS = {Signal.SPAN: "traces", Signal.METRIC: "metrics", Signal.LOG: "logs"}
REQUESTS: dict[Signal, Any] = {Signal.SPAN: schema.TRACES, Signal.METRIC: schema.METRICS, Signal.LOG: schema.LOGS}
"""Classes of the requests, whose texts are bytes."""

_EXAMPLES = Path(__file__).parents[2] / "schemas" / "conformance" / "telemetry-event.v1"
_GENERATED, _CUT_OF_EACH = 150, 40


@lru_cache
def whole(signal: Signal, encoding: Encoding) -> tuple[bytes, ...]:
    """Returns captured messages and those of the benchmark as they are: most have hundreds of items."""
    if encoding == Encoding.FLAT:
        return tuple(payloads.flat(200))
    made = {Signal.SPAN: payloads.traces, Signal.METRIC: payloads.metrics, Signal.LOG: payloads.logs}[signal](1)
    if encoding == Encoding.OTLP_PROTO:
        return (*_captured(f"*.{_WORDS[signal]}.jsonl.gz"), *made)
    in_json = payloads.as_json(made) if signal == Signal.SPAN else []
    return (*_captured(f"*.otlp_json.{_WORDS[signal]}.jsonl.gz"), *in_json)


def _captured(pattern: str) -> Iterator[bytes]:
    for path in sorted(GOLDEN.glob(pattern)):
        if "otlp_json" in path.name and "otlp_json" not in pattern:
            continue
        assert path.name.split(".")[0] in CAPTURES
        with gzip.open(path) as lines:
            yield from (base64.b64decode(json.loads(line)["value"]) for line in lines)


@lru_cache
def small(signal: Signal, encoding: Encoding) -> tuple[bytes, ...]:
    """Returns messages of one or a few items: cut out of whole ones, and made by the generators of the tests."""
    chance = random.Random(f"{signal.name} {encoding}")
    if encoding == Encoding.FLAT:
        examples = (path.read_bytes() for path in sorted(_EXAMPLES.glob("*/*.json")))
        found = [*whole(signal, encoding), *examples]
    elif encoding == Encoding.OTLP_PROTO:
        found = [part for value in whole(signal, encoding) for part in _cut(REQUESTS[signal], value, chance)]
    else:
        found = [part for value in whole(signal, encoding) for part in _cut_json(value, chance)]
    found += fresh(signal, encoding, chance, _GENERATED)
    return tuple(dict.fromkeys(value for value in found if 0 < len(value) <= SMALL_BYTES))


def _cut(request: Any, value: bytes, chance: random.Random) -> Iterator[bytes]:
    """Yields requests of single items of a request, each with some of the attributes of its resource."""
    try:
        parsed = request.FromString(value)
    except ProtobufDecodeError:
        return  # one of the captures is nested deeper than the parser goes
    every = [
        (resource, scope, item)
        for resource in getattr(parsed, request.DESCRIPTOR.fields[0].name)
        for scope in getattr(resource, resource.DESCRIPTOR.fields[1].name)
        for item in getattr(scope, scope.DESCRIPTOR.fields[1].name)
    ]
    for resource, scope, item in chance.sample(every, min(_CUT_OF_EACH, len(every))):
        made = request()
        part = getattr(made, request.DESCRIPTOR.fields[0].name).add()
        part.resource.attributes.extend(resource.resource.attributes[: chance.randrange(8)])
        inner = getattr(part, resource.DESCRIPTOR.fields[1].name).add()
        inner.scope.name = scope.scope.name
        kept = getattr(inner, scope.DESCRIPTOR.fields[1].name).add()
        kept.CopyFrom(item)
        for data in ("gauge", "sum", "histogram", "exponential_histogram"):
            if data in item.DESCRIPTOR.fields_by_name and item.HasField(data):
                del getattr(kept, data).data_points[2:]
        yield made.SerializeToString()


def _cut_json(value: bytes, chance: random.Random) -> Iterator[bytes]:
    (top, resources), *_ = orjson.loads(value).items()
    every = [
        (resource, key, scope, items_key, item)
        for resource in resources
        for key, scopes in resource.items()
        if key.startswith("scope") and isinstance(scopes, list)
        for scope in scopes
        for items_key, items in scope.items()
        if isinstance(items, list)
        for item in items
    ]
    for resource, key, scope, items_key, item in chance.sample(every, min(_CUT_OF_EACH, len(every))):
        attributes = resource.get("resource", {}).get("attributes", [])[: chance.randrange(8)]
        kept = {
            name: {**data, "dataPoints": data["dataPoints"][:2]}
            if isinstance(data, dict) and "dataPoints" in data
            else data
            for name, data in item.items()
        }
        inner = {"scope": scope.get("scope", {}), items_key: [kept]}
        made = {top: [{"resource": {"attributes": attributes}, key: [inner]}]}
        yield orjson.dumps(made, option=orjson.OPT_INDENT_2 if chance.random() < 0.1 else None)


def fresh(signal: Signal, encoding: Encoding, chance: random.Random, count: int) -> list[bytes]:
    """Returns messages in odd but mostly legal spellings from a source of randomness."""
    if encoding == Encoding.FLAT:
        return [_odd_event(chance) for _ in range(count)]
    if encoding == Encoding.OTLP_JSON:
        writers = [json_texts.Writer(chance, signal, faults, room) for faults in (0.0, 0.01) for room in (8, 30)]
        return [chance.choice(writers).text() for _ in range(count)]
    writer = Writer(chance, size=12)
    made = [writer.message(REQUESTS[signal].DESCRIPTOR) for _ in range(count)]
    if signal == Signal.METRIC:
        made[::2] = [metric_messages.generated(chance.getrandbits(32)).SerializeToString() for _ in made[::2]]
    return made


def _odd_event(chance: random.Random) -> bytes:
    """Returns a flat event with fields in any order, left out, repeated, with escapes and white space."""
    every: Sequence[tuple[str, Sequence[Any]]] = (
        ("attributes", ({"team": "é", "x": 1.5, "http.route": None}, {}, {"region": [1, {"a": None}], "team": True})),
        ("code", (200, 404, 16, None, 599, 600, -1)),
        ("count", (1, 2, 65536, None)),
        ("duration_ms", (1.5, 0, 123456.789, 1e-7, None)),
        ("environment", json_texts.TEXTS),
        ("error_type", (*json_texts.TEXTS, None)),
        ("id", ("01J9Z", "", "é", None)),
        ("kind", ("server", "client", "internal", "producer", "consumer")),
        ("message", json_texts.TEXTS),
        ("status", ("ok", "error", "unset")),
        ("trace_id", ("4bf92f3577b34da6a3ce929d0e0e4736", "", "0" * 32)),
        ("version", json_texts.TEXTS),
    )
    members = [(name, chance.choice(values)) for name, values in chance.sample(every, chance.randrange(len(every)))]
    members += [("service", chance.choice(("checkout", "a/b", "é"))), ("time", chance.choice(_TIMES))]
    chance.shuffle(members)
    gap = chance.choice(("", "", " ", "\n  "))
    ascii_only = chance.random() < 0.3
    written = (f"{json.dumps(key)}:{gap}{json.dumps(value, ensure_ascii=ascii_only)}" for key, value in members)
    return ("{" + f",{gap}".join(written) + "}").encode()


_TIMES = (
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.123456789+02:00",
    "2024-02-29 23:59:59.5-04:30",
    1_767_323_045_123_456_789,
)


def names(signal: Signal, encoding: Encoding) -> tuple[bytes, ...]:
    """Returns the names that members of a JSON message have."""
    if encoding == Encoding.FLAT:
        return tuple(sorted({json.dumps(key).encode() for value in small(signal, encoding) for key in _keys(value)}))
    known = {field.name for message in fields(signal).values() for field in message.values()}
    return tuple(sorted(json.dumps(name).encode() for name in known | set(json_texts.KEYS)))


def _keys(value: bytes) -> Iterator[str]:
    try:
        decoded = orjson.loads(value)
    except orjson.JSONDecodeError:
        return
    if isinstance(decoded, dict):
        yield from decoded
