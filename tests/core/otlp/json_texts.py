"""OTLP/JSON messages for tests: every spelling that a value may have, and some that it may not."""

import base64
import gzip
import json
import random
from typing import Any

import numpy as np

from stream.core.columns import Rows, Signal
from stream.core.otlp.json_fields import REQUESTS, Kind, fields
from stream.core.points import Points
from tests.core.otlp.captures import GOLDEN

LISTED = ("team", "region", "http.route", "feature_flag.result.variant", "deployment.environment.name", "x")
KEYS = (
    *LISTED,
    *("service.name", "service.namespace", "service.version", "deployment.environment", "http.response.status_code"),
    *(
        "http.status_code",
        "rpc.grpc.status_code",
        "rpc.response.status_code",
        "error.type",
        "exception.type",
        "event.name",
    ),
    *(
        "sampling.threshold",
        "sampling.randomness",
        "feature_flag.variant",
        "url.path",
        "user_agent.original",
        "",
        "é",
        "long" * 20,
    ),
)
TEXTS = (
    *(
        "checkout",
        "",
        "1.2.3",
        "exception",
        "app.exception",
        "ot=th:8;rv:00000000000001",
        "ot=th:e668,v=x",
        "th:c",
        "NOT_FOUND",
        "OK",
        "5",
    ),
    *(
        "c",
        "é",
        "\u2028",
        "😀",
        'say "hi"\\/',
        "tab\tand\nmore\x00",
        "a" * 31,
        "b" * 32,
        "c" * 33,
        "😀é" * 40,
        "d" * 200,
    ),
)
UNREAD = (
    *("spanId", "parentSpanId", "name", "flags", "droppedAttributesCount", "links", "body", "exemplars", "min"),
    *(
        "resource_spans",
        "trace_id",
        "end_time_unix_nano",
        "Kind",
        "KIND",
        "schemaUrl",
        "instrumentationLibrarySpans",
        "",
        "new",
        "stringvalue",
    ),
)
T0 = 1_760_000_000_000_000_000


def captured(name, signal):
    """Returns the OTLP/JSON messages of a capture."""
    word = {Signal.SPAN: "traces", Signal.METRIC: "metrics", Signal.LOG: "logs"}[signal]
    with gzip.open(GOLDEN / f"{name}.otlp_json.{word}.jsonl.gz") as lines:
        return [base64.b64decode(json.loads(line)["value"]) for line in lines]


def resolved(decoded):
    """What two decoders must agree on: words for their indices, and no sentences."""
    found: dict[Any, Any] = {}
    for part in (decoded.rows, decoded.points):
        kind = Rows if isinstance(part, Rows) else Points
        for name in kind.DTYPES:
            column = getattr(part, name)
            found[kind.__name__, name] = (
                column.view("int64").tolist() if column.dtype == np.float64 else column.tolist()
            )
        for name, words in {**kind.DICTIONARIES, **({"bounds": "bounds_sets"} if kind is Points else {})}.items():
            found[kind.__name__, name] = [getattr(part, words)[index] for index in found[kind.__name__, name]]
    found["buckets"] = decoded.points.buckets.tolist(), decoded.points.bucket_first.tolist()
    receipts = decoded.receipts
    for name in receipts.DTYPES:
        found["Receipts", name] = getattr(receipts, name).tolist()
    found["Receipts", "reason"] = [receipts.reasons[index] for index in found["Receipts", "reason"]]
    found["Receipts", "digests"] = receipts.digests
    return found


class Writer:
    """Writes messages of a signal from a source of randomness.

    Args:
        source: A `random.Random`.
        signal: Whose messages.
        faults: Share of values that are of a wrong type.
        room: After so many messages within one, few more are written.
    """

    def __init__(self, source, signal, faults=0.0, room=150):
        self.source = source
        self.messages = fields(signal)
        self.request = REQUESTS[signal]
        self.faults = faults
        self.size = self.room = room

    def text(self):
        """Returns a message."""
        self.room = self.size
        return self.blank() + self.message(self.request, 0) + self.blank()

    def chance(self, share):
        return self.source.random() < share

    def blank(self):
        return self.source.choice((b" ", b"\n\t", b"\r\n  ")) if self.chance(0.05) else b""

    def message(self, name, depth):
        self.room -= 1
        known = list(self.messages[name].values())
        short = name.rpartition(".")[2]
        members = self.histogram() if short in ("HistogramDataPoint", "ExponentialHistogramDataPoint") else []
        added_up = {name for name, _ in members}
        for field in known:
            if short == "AnyValue":
                break
            if field.name in added_up or (short == "Metric" and field.kind == Kind.MESSAGE):
                continue
            if self.chance(0.9 if self.room > 0 and depth < 14 else 0.1):
                members.append(self.member(field, depth, short))
        if short == "AnyValue":
            scalar = [field for field in known if field.kind != Kind.MESSAGE]
            choice = known if self.chance(0.15) and depth < 25 else scalar[: 1 if self.chance(0.5) else 4]
            members += [
                self.member(self.source.choice(choice), depth, short) for _ in range(2 if self.chance(0.05) else 1)
            ]
        elif self.chance(0.03) and members:
            members.append(self.member(self.source.choice(known), depth, short))
        if short == "Metric":  # one kind of data, mostly one that can be read
            data = [field for field in known if field.kind == Kind.MESSAGE]
            members.append(self.member(self.source.choice(data[:4] if self.chance(0.95) else data), depth, short))
        if self.chance(0.2) and (unread := self.source.choice(UNREAD)) not in self.messages[name]:
            members.append((unread, self.anything(depth)))
        if self.chance(0.25):
            self.source.shuffle(members)
        written = [
            self.blank() + self.string(key) + self.blank() + b":" + self.blank() + value for key, value in members
        ]
        return b"{" + (self.blank() + b",").join(written) + self.blank() + b"}"

    def histogram(self):
        """Returns members that add up as those of a point mostly do; one name is of either kind of histogram only."""
        source = self.source
        if self.chance(0.1):
            return []
        counts, zeros = [source.randrange(300) for _ in range(source.choice((0, 1, 4, 9)))], source.choice((0, 0, 0, 3))
        bounds = b",".join(
            self.spelled(number) for number in sorted(source.sample(range(1, 50), max(0, len(counts) - 1)))
        )
        listed = b",".join(self.spelled(number) for number in counts)
        return [
            ("count", self.spelled(sum(counts) + zeros)),
            ("zeroCount", self.spelled(zeros)),
            ("bucketCounts", b"[" + listed + b"]"),
            ("explicitBounds", b"[" + bounds + b"]"),
            ("positive", b'{"offset":%d,"bucketCounts":[' % source.randrange(-20, 20) + listed + b"]}"),
            ("negative", source.choice((b"null", b"{}", b'{"bucketCounts":[]}'))),
        ]

    def spelled(self, number):
        """Returns a number, bare or as a text."""
        return b"%d" % number if self.chance(0.5) else self.string(str(number))

    def member(self, field, depth, message):
        if self.chance(0.02):
            return field.name, b"null"
        if self.chance(self.faults):
            return field.name, self.anything(depth)
        if not field.repeated:
            return field.name, self.value(field, depth, message)
        count = self.source.choice((0, 1, 1, 2, 3, 5))
        if field.name in ("bucketCounts", "explicitBounds") and self.chance(0.5):
            count = 3 + (field.name == "bucketCounts")
        elements = [
            b"null"
            if self.chance(0.01) and (field.kind == Kind.MESSAGE or self.faults)
            else self.blank() + self.value(field, depth + 1, message) + self.blank()
            for _ in range(count)
        ]
        return field.name, b"[" + b",".join(elements) + b"]"

    def value(self, field, depth, message):
        source = self.source
        match field.kind:
            case Kind.MESSAGE:
                usual = field.message.endswith("KeyValue") and self.chance(0.6)
                return self.usual_attribute() if usual else self.message(field.message, depth + 1)
            case Kind.TEXT:
                return self.string(source.choice(KEYS if field.name == "key" else TEXTS))
            case Kind.TRACE_ID:
                digits = source.choice((source.randbytes(16).hex(), "0" * 32, source.randbytes(16).hex().upper(), ""))
                return self.string(
                    digits if not self.chance(self.faults) else digits[1:] + source.choice(("", "g", "ab"))
                )
            case Kind.BYTES:
                encoded = base64.b64encode(source.randbytes(source.randrange(6))).decode()
                return self.string(encoded if not self.chance(self.faults) else encoded + source.choice("=Aä-_ "))
            case Kind.BOOL:
                return source.choice((b"true", b"false"))
            case Kind.DOUBLE:
                return self.double(field)
        return self.integer(field)

    def usual_attribute(self):
        source = self.source
        value = source.choice(
            (
                lambda: b'"stringValue":' + self.string(source.choice(TEXTS)),
                lambda: (
                    b'"intValue":'
                    + source.choice((b"200", b'"404"', b"0", b'"-3"', b'"9223372036854775807"', b"12", b"1e2"))
                ),
                lambda: b'"boolValue":true',
                lambda: b'"doubleValue":' + source.choice((b"1.5", b'"NaN"', b"-0", b"3")),
            )
        )()
        return b'{"key":' + self.string(source.choice(KEYS)) + b',"value":{' + value + b"}}"

    def integer(self, field):
        source = self.source
        usual = {
            "kind": 6,
            "code": 3,
            "aggregationTemporality": 3,
            "severityNumber": 25,
            "flags": 2,
            "scale": 5,
            "offset": 20,
        }
        if field.name.endswith("UnixNano"):
            number = source.choice((T0 + source.randrange(10**10), 0, 1, (1 << 64) - 1, T0))
        elif self.chance(self.faults):
            number = source.choice(
                (-1, 1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 32, 1 << 63, (1 << 63) - 1, -(1 << 63), 1 << 64)
            )
        else:
            number = source.randrange(usual.get(field.name, 1000))
        spelled = str(number)
        if self.chance(0.1):
            zeros = len(spelled) - len(spelled.rstrip("0"))
            spelled = source.choice(
                (
                    f"{number}.0",
                    f"{number}e0",
                    f"{number}00E-2" if number else "0E-2",
                    f"{spelled[: len(spelled) - zeros]}e+{zeros}" if number else "-0",
                    f"{number}.5" if self.faults else f"{number}.000",
                    f"0{number}" if self.faults else spelled,
                    f"{number}e999999999999999999999" if self.faults else spelled,
                )
            )
        if field.kind == Kind.ENUM or self.chance(0.5):
            return spelled.encode()
        return self.string(spelled)

    def double(self, field):
        source = self.source
        number = source.choice(
            (1.5, 0.1, 3.0, 1e-7, 1e21, 5e-324, 1.7976931348623157e308, source.random() * 1000, 2.5, -0.0)
        )
        spelled = source.choice(
            (repr(number), f"{number:.3f}", f"{number:.25e}", str(int(number)) if abs(number) < 1e22 else "7")
        )
        if self.chance(self.faults):
            return source.choice((b'"nan"', b"NaN", b"1e400", b"-1e309", b'"inf"', b"0x1", b"1.", b".5", b"+1"))
        if self.chance(0.05):
            return source.choice((b'"NaN"', b'"Infinity"', b'"-Infinity"', b"1e308", b"1e-400", b"0.1e1"))
        return spelled.encode() if self.chance(0.8) else self.string(spelled)

    def string(self, text):
        """Returns a text within quotes, with escapes here and there, and sometimes bytes that are no UTF-8."""
        source = self.source
        mode = source.random()
        if mode < 0.9:
            return json.dumps(text, ensure_ascii=mode < 0.3).encode()
        written = b""
        for character in text:
            if self.chance(0.3):
                units = character.encode("utf-16-be")
                written += b"".join(b"\\u" + units[i : i + 2].hex().encode() for i in range(0, len(units), 2))
            else:
                written += json.dumps(character, ensure_ascii=False)[1:-1].encode()
        if mode > 0.98 and text in TEXTS:
            written += source.choice(
                (b"\xff", b"\\ud800", b"\\udc00\\ud83d", b"\xed\xa0\x80", b"\\ud83d\\u0041", b"\\/")
            )
        return b'"' + written + b'"'

    def anything(self, depth):
        """Returns any JSON value."""
        source = self.source
        match source.randrange(9 if depth < 20 else 7):
            case 0:
                return b"null"
            case 1:
                return source.choice((b"true", b"false"))
            case 2 | 3:
                return source.choice((b"0", b"-1.5e-3", b"12345678901234567890123", b"1e999", b"17"))
            case 4 | 5 | 6:
                return self.string(source.choice(TEXTS))
            case 7:
                return b"[" + b",".join(self.anything(depth + 1) for _ in range(source.randrange(3))) + b"]"
        members = [
            self.string(source.choice(UNREAD)) + b":" + self.anything(depth + 1) for _ in range(source.randrange(3))
        ]
        return b"{" + b",".join(members) + b"}"


TOKENS = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"null", b"true", b"0", b"-", b"e5", b".5", b" "),
    *(b"\n", b"\x00", b"\xff"),
    *(b'"', b"\\u", b"\\ud800", b'""', b"{}", b"[]", b'"kind":', b'"key":"x",', b'"a":1,', b"\x1f"),
    *(b"9" * 20, b"[[[[[[[[[[[[[[[["),
)


def mutated(source, value):
    """Returns the bytes changed at a few places."""
    changed = bytearray(value)
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        at = source.randrange(len(changed) + 1)
        match source.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << source.randrange(8)
            case 1:
                del changed[at:]
            case 2:
                del changed[at : at + source.randrange(1, 9)]
            case 3:
                changed[at:at] = source.choice(TOKENS)
            case 4:
                length = source.randrange(1, 60)
                changed[at:at] = changed[max(0, at - length) : at]
            case 5:
                duplicate_member(source, changed)
            case _ if at < len(changed):
                changed[at] = source.randrange(256)
    return bytes(changed)


def duplicate_member(source, changed):
    """Writes a short member of an object a second time."""
    start = changed.find(b'"', source.randrange(len(changed) + 1))
    stop = changed.find(b",", start)
    if 0 <= start < stop < start + 200:
        changed[start:start] = changed[start : stop + 1]


def seeded(*words):
    """Returns a source of randomness of its own for each name."""
    return random.Random(" ".join(map(str, words)))
