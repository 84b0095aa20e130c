"""The compiled decoder of flat events equals the plain one in what it accepts and in what it refuses."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.otlp import ONLY_FIELDS, Limits, Messages, Reading, semconv
from stream.core.otlp.reference import flat as reference
from stream.core.otlp.scan import flat
from tests.core.otlp.scan.equality import assert_equal

CONFORMANCE = Path(__file__).parents[4] / "schemas" / "conformance" / "telemetry-event.v1"
EXAMPLES = [path.read_bytes() for path in sorted(CONFORMANCE.glob("*/*.json"))]

NEW, OLD = next(iter(semconv.OLD_NAMES.items()))
READING = Reading(attributes=tuple(sorted(("tier", "région", NEW))))

START = b'{"service":"checkout","time":"2026-01-02T03:04:05Z"'

USUAL = (
    b'{"service":"checkout","environment":"production","namespace":"shop","version":"1.4.0",'
    b'"time":"2026-01-02T03:04:05.123456+02:00","duration_ms":12.345678,"status":"ok","code":200,"error_type":null,'
    b'"kind":"client","count":2,"id":"01J9Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736",'
    b'"attributes":{"tier":"gold","r\xc3\xa9gion":1.50,"user":{"id":[1,true,null]}},'
    b'"message":"line one\\nline \\"two\\" \\u00e9 \xf0\x9f\x98\x80","tags":["a",{}],"size":-1.5e-3}'
)


def same(values, reading=READING):
    """Asserts that both decoders make the same of some messages; returns the compiled one's result."""
    messages = Messages.of(values, source=3, first_offset=7)
    reading = replace(reading, ids=True)
    decoded = flat.decode(messages, reading)
    expected = reference.decode(messages, reading)
    assert_equal(decoded, expected)
    assert decoded.receipts.details == expected.receipts.details
    assert list(decoded.ids) == list(reference.decode(messages, reading).ids)
    return decoded


def refused(decoded):
    return int(decoded.receipts.rejected.sum())


@pytest.fixture
def no_reference(monkeypatch):
    """Whatever is decoded is decoded by the kernel."""

    def read(value, reading):
        raise AssertionError(f"the kernel was not sure of {value!r}")

    monkeypatch.setattr(reference, "read", read)


def test_no_messages():
    same([])
    same([None])


def test_conformance_examples_together_and_alone():
    same(EXAMPLES)
    for example in EXAMPLES:
        same([example])


def test_usual_events_are_read_by_the_kernel(no_reference):
    values = [
        USUAL,
        START + b"}",
        json.dumps(json.loads(USUAL.replace("région".encode(), b"region"))).encode(),
        json.dumps(json.loads(USUAL), ensure_ascii=False, indent=2).encode() + b"\r\n\t ",
        START + ',"version":"größe-ü","environment":"生产"}'.encode(),
        b'{"service":"a","time":1767323045123456789,"duration_ms":17}',
        b'{"service":"a","time":"2026-01-02 03:04:05.5-04:30","code":200.0,"count":3e0,"duration_ms":1e-3}',
        START + b',"attributes":{"tier":"\\u00e9\\"","tier":null,"x":"\\ud83d\\ude00"},"trace_id":"","id":""}',
    ]
    decoded = flat.decode(Messages.of(values), READING)
    assert len(decoded.rows) == len(values)


def test_usual_events():
    assert refused(same([USUAL, None, USUAL, START + b"}", None, b"", USUAL])) == 1


TOKENS = """
0 -0 -0.0 0.0 00 01 -01 - + +1 .5 1. 1.e5 1e 1e+ 1e5 1E+5 1e-05 1e05 1e400 -1e400 1e-400 0e999999999999999999999
1e9999999999999 0x10 1_0 1-2 1.5.5 1e5e5 NaN Infinity -Infinity nan true false null True nul tru truefalse nulll fals
falsee 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615
18446744073709551616 123456789012345678901234567890 1797693134862315800e290 1.7976931348623157e308
1.7976931348623159e308 5e-324 2e-324 0.1 0.30000000000000004 100.0 100.5 1e2 5e-1 503e0 0.503e3 16 17 99 599
599.0000000000000001 600 65536 65536.0 65537 -1 1.0 9007199254740993 9007199254740993.0 9223372036854 9223372036854.0
9223372036854.775 9223372036855 0.0000005 0.0000015 0.0000025 1234567.8912345 4503599627.3704965 123456789.12345678
0.1e-21 0.1e-22 1e22 1e23 126230400000000000 126230399999999999 1767323045000000000 1767323045000000000.0
1.767323045e18 {} [] [[]] [{}] {"a":{}} {"a":[1,2,{"b":null}]} [1,] [,1] [1 [1} {"a":1] {"a":1,} {"a"} {"a":} {"a"::1}
{1:2} {a:1} {,} {'a':1} [1,2 {"a":1 {"\\u0061":1} {"\\ud800":1} {"a":"\\x"} ["\\ud83d\\ude00"] "" "ok" "error" "OK"
"server" "client" "internal" "producer" "consumer" "unspecified" "o\\u006b" "a" "\\/" "\\b\\f\\n\\r\\t\\\\\\""
"\\u0000" "\\ud800" "\\udc00" "\\ud83d\\ude00" "\\uD83D\\uDE00" "\\ud800\\ud800" "\\ud800x" "\\ud800\\n" "\\u12"
"\\u12g4" "\\U00e9" "\\x" "\\'" "\\" " "2026-01-02T03:04:05Z" "2026-01-02t03:04:05z" "2026-01-02T03:04:05.1Z"
"2026-01-02T03:04:05.123456789Z" "2026-01-02T03:04:05.1234567890Z" "2026-01-02T03:04:05.Z" "2026-01-02T03:04:05"
"2026-01-02T03:04:05+02:30" "2026-01-02T03:04:05-23:59" "2026-01-02T03:04:05+24:00" "2026-01-02T03:04:05+02:60"
"2026-01-02T03:04:05+0230" "2026-01-02T03:04:05+02:3" "2026-01-02T03:04:05ZZ" "2026-01-02T03:04:60Z"
"2026-01-02T03:04:61Z" "2026-01-02T24:00:00Z" "2026-01-02T23:60:00Z" "2026-02-29T00:00:00Z" "2024-02-29T00:00:00Z"
"2100-02-29T00:00:00Z" "2000-02-29T00:00:00Z" "2026-04-31T00:00:00Z" "2026-13-01T00:00:00Z" "2026-00-01T00:00:00Z"
"2026-01-00T00:00:00Z" "2026-01-32T00:00:00Z" "1973-12-31T23:59:59.999999999Z" "1974-01-01T00:00:00Z"
"1974-01-01T00:00:00+00:01" "1973-12-31T23:59:59-00:01" "2262-04-11T23:47:15.999999999Z"
"2262-04-11T23:47:16.854775807Z" "2262-04-11T23:47:16.854775808Z" "9999-12-31T23:59:59Z" "0000-01-01T00:00:00Z"
"2026/01/02T03:04:05Z" "2026-01-02X03:04:05Z" "2026-01-02T03:04:05,5Z" "2026-1-2T3:4:5Z" "2O26-01-02T03:04:05Z"
"4bf92f3577b34da6a3ce929d0e0e4736" "4BF92F3577B34DA6A3CE929D0E0E4736" "00000000000000000000000000000000"
"ffffffffffffffffffffffffffffffff" "4bf92f3577b34da6a3ce929d0e0e473" "4bf92f3577b34da6a3ce929d0e0e473g"
"4bf92f3577b34da6a3ce929d0e0e473/" "4bf92f3577b34da6a3ce929d0e0e473:" "4bf92f3577b34da6a3ce929d0e0e473@"
"4bf92f3577b34da6a3ce929d0e0e473`" "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"
"""

RAW_TEXTS = [
    b"\x7f", b"\x1f", b"\x00", b"\t", b"\n", b"\xc3\xa9", b"\xc3", b"\xe2\x82", b"\x80", b"\xff", b"\xc0\x80",
    b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xed\xa0\x80", b"\xee\x80\x80",
    b"\xf0\x8f\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
    b"\xf0\x9f\x98", b"x" * 31, b"x" * 32, b"x" * 33, b"x" * 255, b"x" * 256, b"\xc3\xa9" * 255, b"\xc3\xa9" *
    256, b"x" * 31 + b"\xc3\xa9", b"x" * 30 + b"\xf0\x9f\x98\x80", b"x" * 31 + b"\\n", b"x" * 5000,
]  # fmt: skip

ALL_TOKENS = [token.encode() for token in TOKENS.split()] + [b'"' + text + b'"' for text in RAW_TEXTS]
FIELDS = [*json.loads((CONFORMANCE.parents[1] / "telemetry-event.v1.schema.json").read_text())["properties"], "other"]


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_with_every_token(field):
    values = []
    for token in ALL_TOKENS:
        before = (
            b'{"service":"a"' if field == "time" else b'{"time":"2026-01-02T03:04:05Z"' if field == "service" else START
        )
        member = b',"' + field.encode() + b'":' + token
        values += [before + member + b"}", before + b" ,\n" + member[1:] + b"\r }\t", before + member]
        values += [b"{" + member[1:] + b"," + before[1:] + b"}"]
    same(values)


def test_tokens_in_attributes():
    keys = (b'"tier":', f'"{OLD}":'.encode(), f'"{NEW}":'.encode(), '"région":'.encode(), b'"t\\u0069er":', b'"x":')
    values = [START + b',"attributes":{' + key + token + b"}}" for key in keys for token in ALL_TOKENS]
    values += [START + b',"attributes":{"tier":1,' + keys[i % 6] + token + b"}}" for i, token in enumerate(ALL_TOKENS)]
    for reading in (READING, ONLY_FIELDS, Reading(attributes=("tier",), limits=Limits(value_bytes=20, attributes=1))):
        same(values, reading)


def test_whole_messages():
    white = [b"", b" ", b"\t\r\n ", b"\x0b", b"\x0c", b"\xc2\xa0", b"\xef\xbb\xbf", b"\x00", b"x", b",", b"}", b"{}"]
    same([before + START + b"}" + after for before in white for after in white])
    same(
        [*ALL_TOKENS, b"{}", b"{", b"}", b"[" + START + b"}]", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b"{,}", b"{ }"]
    )


def test_levels_of_nesting():
    for levels in (1, 58, 59, 60, 61, 62, 63, 64, 65, 66, 1000, 1022, 1023, 1024, 1025, 5000):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")):
            for field in (b"other", b"attributes", b"service"):
                nested = b',"' + field + b'":' + opening * levels + b"1" + closing * levels
                same([START + nested + b"}", START + nested[:-1] + b"}", START + nested + closing + b"}"])


def test_duplicated_fields():
    members = [b'"code":200', b'"code":503', b'"code":null', b'"code":"x"', b'"service":"b"', b'"service":""']
    members += [b'"s\\u0065rvice":"c"', b'"attributes":{"tier":1}', b'"attributes":{}']
    same([START + b"," + one + b"," + other + b"}" for one in members for other in members])


def test_limits_of_a_message():
    values = [
        START + b" " * size + b"}" for size in (0, 1, 2, 1 << 20, (1 << 20) - len(START) - 1, (1 << 20) - len(START))
    ]
    assert refused(same(values)) == 2
    assert refused(same(values, Reading(limits=Limits(message_bytes=len(START) + 2)))) == 4


def test_more_distinct_texts_than_a_table_has_room_for():
    values = [
        b'{"service":"%d","version":"%d","error_type":"%d","time":"2026-01-02T03:04:05Z","attributes":{"tier":"%s"}}'
        % (i % 3000, i, i // 2, b"y" * (i % 977))
        for i in range(5000)
    ]
    decoded = same(values)
    assert len(decoded.rows.versions) == 5000


def test_a_refused_event_leaves_no_trace_in_the_dictionaries():
    rows = same([START + b',"version":"secret","error_type":"x","count":0}']).rows
    assert (rows.services, rows.versions) == ((), ())
    assert set(rows.error_types) <= {""}


def test_every_truncation_between_neighbours():
    cut = [USUAL[:size] for size in range(len(USUAL))]
    same(cut)
    same([piece for size in range(len(USUAL)) for piece in (USUAL[:size], USUAL[size:])])


WHITE = st.sampled_from(["", "", "", " ", "\n\t", "\r\n  "])
ODD_CHARACTERS = st.sampled_from(['"', "\\", "/", "\n", "\x00", "\x7f", "é", "€", "😀", "a", "%", "-"])
TEXT = st.one_of(
    st.text(max_size=8), st.lists(ODD_CHARACTERS, max_size=6).map("".join), st.text("ab", min_size=25, max_size=70)
)


@st.composite
def spelt_text(draw, text):
    """A text as JSON, each character spelt in one of the ways that there are."""
    short = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}
    escaped = draw(st.sampled_from(["never", "ascii", "some"]))
    spelt = []
    for character in text:
        always = character < " " or character in '"\\'
        if always or (escaped == "ascii" and character > "~") or (escaped == "some" and draw(st.booleans())):
            units = character.encode("utf-16-be")
            unicode = "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2))
            spelt.append(short.get(character, unicode))
        else:
            spelt.append(character)
    return '"' + "".join(spelt) + '"'


TEXTS = TEXT.flatmap(spelt_text)
INTEGERS = st.one_of(st.integers(-3, 700), st.integers(2**52, 2**70), st.integers(10**17, 2**63)).map(str)
DECIMALS = st.tuples(st.integers(-(10**4), 10**20), st.integers(0, 22)).map(lambda n: f"{n[0]}.{n[1]:0{1 + n[1] % 9}d}")
EXPONENTS = st.tuples(st.integers(0, 10**17), st.integers(-30, 30), st.sampled_from("eE"), st.booleans()).map(
    lambda n: f"{n[0]}{n[2]}{'+' if n[3] and n[1] >= 0 else ''}{n[1]}"
)
NUMBERS = st.one_of(INTEGERS, DECIMALS, EXPONENTS, st.floats(allow_nan=False, allow_infinity=False).map(repr))
SCALARS = st.one_of(st.sampled_from(["null", "true", "false"]), NUMBERS, TEXTS)


@st.composite
def spelt_object(draw, members):
    """An object of (key, spelt value) pairs with white space wherever it may be."""
    pairs = [
        draw(WHITE) + draw(spelt_text(key)) + draw(WHITE) + ":" + draw(WHITE) + value + draw(WHITE)
        for key, value in members
    ]
    return "{" + (",".join(pairs) or draw(WHITE)) + "}"


NESTED = st.recursive(
    SCALARS,
    lambda values: st.one_of(
        st.lists(values, max_size=3).map(lambda items: "[ " + " ,".join(items) + "]"),
        st.lists(st.tuples(TEXT, values), max_size=3).flatmap(spelt_object),
    ),
    max_leaves=8,
)
TIMES = st.one_of(
    st.datetimes().map(lambda time: f'"{time.isoformat()}Z"'),
    st.datetimes().map(lambda time: f'"{time.isoformat(" ")}+05:30"'),
    st.integers(126_230_399 * 10**9, 2**63 + 10).map(str),
    st.just('"2026-01-02T03:04:05.123Z"'),
    SCALARS,
)
ATTRIBUTES = st.lists(
    st.tuples(st.sampled_from(["tier", "région", NEW, OLD, "other"]), st.one_of(SCALARS, NESTED)), max_size=5
).flatmap(spelt_object)
OWN = {
    "service": st.one_of(TEXTS, st.just('"checkout"')),
    "time": TIMES,
    "duration_ms": NUMBERS,
    "status": st.sampled_from(['"ok"', '"error"', "null", '"unset"']),
    "code": st.one_of(st.integers(0, 16).map(str), st.integers(100, 599).map(str), NUMBERS),
    "kind": st.sampled_from(['"server"', '"client"', '"internal"', '"producer"', '"consumer"', "null"]),
    "count": st.one_of(st.integers(1, 70_000).map(str), NUMBERS),
    "trace_id": st.one_of(st.binary(min_size=16, max_size=16).map(lambda data: f'"{data.hex()}"'), TEXTS),
    "attributes": ATTRIBUTES,
}
USUAL_MEMBERS = st.sampled_from(FIELDS).flatmap(lambda name: st.tuples(st.just(name), OWN.get(name, TEXTS)))
MEMBERS = st.one_of(USUAL_MEMBERS, USUAL_MEMBERS, st.tuples(st.one_of(st.sampled_from(FIELDS), TEXT), NESTED))
EVENTS = st.lists(MEMBERS, max_size=7).flatmap(
    lambda members: st.permutations([("service", '"a"'), ("time", '"2026-01-02T03:04:05Z"'), *members])
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS.flatmap(spelt_object), min_size=1, max_size=4))
def test_generated_events(events):
    same([event.encode("utf-8", "surrogatepass") for event in events])


def mutated(rng, value):
    """Returns a message with a few bytes changed, removed, doubled or exchanged for those of another."""
    data = bytearray(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(12):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[at : at + rng.choice((1, 1, 2, 8))]
            case 2:
                data[at:at] = rng.choice(MUTATIONS)
            case 3:
                data[at : at + 1] = rng.choice(MUTATIONS)
            case 4:
                data[at:at] = data[at : at + rng.randrange(40)]
            case 5:
                del data[at:]
            case 6:
                if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
            case _:  # still the same kind of character, where it is a digit or letter: mostly an event that can be read
                places = [place for place, byte in enumerate(data) if chr(byte).isalnum()]
                if places:
                    place = rng.choice(places)
                    data[place] = rng.choice(b"0123456789" if chr(data[place]).isdigit() else b"aAbBeEfgTtzZ\xc3")
    return bytes(data)


MUTATIONS = [
    *(bytes([c]) for c in b'"\\{}[]:,0159-+.eEuntf \n\x00\x1f\x80\xc3\xff'),
    b"\\u",
    b"\\ud83d",
    b"null",
    b'":"',
    b'","',
    *ALL_TOKENS,
]
VALID = [USUAL, START + b"}", *(path.read_bytes() for path in sorted(CONFORMANCE.glob("valid/*.json")))]
SEEDS = [*VALID * 20, *(example for example in EXAMPLES if len(example) < 2000)]


def check_mutations(seed, count):
    rng = random.Random(seed)
    for first in range(0, count, 500):
        values = [mutated(rng, rng.choice(SEEDS)) for _ in range(min(500, count - first))]
        same(values, rng.choice((READING, ONLY_FIELDS)))


def test_mutated_events():
    check_mutations(seed=1, count=10_000)


def test_keys_that_differ_from_those_of_the_message_before():
    keys = [
        "version",
        "versions",
        "versio",
        "version ",
        "version\\u0031",
        "code",
        "cod",
        "id",
        "",
        "a" * 14,
        "a" * 15,
        "a" * 40,
    ]
    spelt = [f'"{key}"{colon}"1.0"' for key in keys for colon in (":", " :", ": ", ";", "")]
    values = [f'{{{one},"service":"a","time":"2026-01-02T03:04:05Z"}}' for one in spelt]
    values += [f'{{"service":"a","time":"2026-01-02T03:04:05Z",{one}}}' for one in spelt]
    for first in values[:5]:
        same([value.encode() for other in values for value in (first, other)])
    whole = values[0].encode()
    same([piece for size in range(len(whole)) for piece in (whole, whole[:size], whole[size:])])


def test_places_of_keys_beyond_those_that_are_remembered():
    many = ",".join(f'"key{i}":"{i}"' for i in range(70))
    same([START + f',{many},"version":"{i}"}}'.encode() for i in range(3)])


def test_long_runs_of_offsets_share_a_receipt():
    decoded = same([USUAL] * 3 + [START + b"}"] * 50)
    assert decoded.receipts.items.tolist() == [2, 2, 2, 50]
    assert np.all(decoded.rows.weight == decoded.rows.count << 16)
