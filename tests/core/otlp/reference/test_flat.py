"""The reference decoder of flat events, held to its published schema in both directions."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from stream.core.columns import NO_CODE, Kind, RowFlag, Signal, Status
from stream.core.otlp import Limits, Messages, Reading, semconv
from stream.core.otlp.reference import flat
from stream.core.units import WEIGHT_ONE

SCHEMAS = Path(__file__).parents[4] / "schemas"
CONFORMANCE = SCHEMAS / "conformance" / "telemetry-event.v1"
SCHEMA = json.loads((SCHEMAS / "telemetry-event.v1.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)

T0 = 1_767_323_045_000_000_000
"""2026-01-02T03:04:05Z"""

EVENT = {"service": "checkout", "time": "2026-01-02T03:04:05Z"}


def decode(*values):
    return flat.decode(Messages.of(values, source=1))


def rows_of(**fields):
    result = decode(json.dumps({**EVENT, **fields}).encode())
    assert result.receipts.details == (None,)
    return result.rows


def refusal(value):
    """Returns (reason, detail) of a message that is refused, (None, None) of one that is not."""
    result = decode(value)
    receipts = result.receipts
    assert (len(result.rows), int(receipts.rejected[0])) in ((1, 0), (0, 1))
    assert len(result.rows) or receipts.items.tolist() == [1]
    return (receipts.reasons[receipts.reason[0]] or None), receipts.details[0]


def refusal_of(**fields):
    return refusal(json.dumps({**EVENT, **fields}).encode())


def by_name(folder):
    paths = sorted((CONFORMANCE / folder).glob("*.json"))
    assert paths
    return [pytest.param(path, id=path.stem) for path in paths]


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", by_name("valid"))
def test_a_valid_example_is_accepted_by_decoder_and_schema(path):
    assert decode(path.read_bytes()).receipts.details == (None,)
    VALIDATOR.validate(json.loads(path.read_bytes()))


@pytest.mark.parametrize("path", by_name("invalid"))
def test_an_invalid_example_is_refused_by_decoder_and_schema(path):
    reason, detail = refusal(path.read_bytes())
    assert reason == path.name.partition(".")[0]
    assert detail
    if reason != "malformed":  # what is no JSON in UTF-8 never comes before a schema
        assert not VALIDATOR.is_valid(json.loads(path.read_bytes()))


def test_a_full_event_becomes_a_row():
    event = {
        "service": "checkout",
        "environment": "production",
        "namespace": "shop",
        "version": "1.4.0",
        "time": "2026-01-02T03:04:05.000000001Z",
        "duration_ms": 12.345678,
        "status": "error",
        "code": 503,
        "error_type": "timeout",
        "kind": "client",
        "count": 3,
        "id": "a",
        "trace_id": "80000000000000017fffffffffffffff",
        "attributes": {"http.route": "/a", "tier": 2, "user_id": "u-1"},
    }
    rows = flat.decode(
        Messages.of([json.dumps(event).encode()], source=1), Reading(attributes=("http.route", "tier"))
    ).rows
    assert {name: getattr(rows, name).tolist() for name in rows.DTYPES} == {
        "source": [1],
        "offset": [0],
        "service": [0],
        "version": [0],
        "kind": [Kind.CLIENT],
        "status": [Status.ERROR],
        "code": [503],
        "error_type": [1],
        "end_ns": [T0 + 1],
        "duration_ns": [12_345_678],
        "count": [3],
        "weight": [3 * WEIGHT_ONE],
        "flags": [RowFlag.FAILED],
        "signal": [Signal.EVENT],
        "severity": [0],
        "name": [0],
        "attributes": [1],
        "trace_hi": [1 - 2**63],
        "trace_lo": [2**63 - 1],
    }
    assert (rows.services, rows.versions) == (("production/shop/checkout",), ("1.4.0",))
    assert (rows.error_types, rows.names) == (("", "timeout"), ("",))
    assert rows.attribute_sets == ("", '{"http.route":"/a","tier":2}')


def test_the_least_event():
    rows = rows_of()
    assert rows.services == ("unknown/-/checkout",)
    assert rows.versions == ("",)
    assert (rows.kind[0], rows.status[0], rows.code[0]) == (Kind.SERVER, Status.UNSET, NO_CODE)
    assert (rows.duration_ns[0], rows.count[0], rows.weight[0], rows.flags[0]) == (0, 1, WEIGHT_ONE, 0)


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({"code": 500}, True),
        ({"code": 404}, False),
        ({"code": 404, "kind": "client"}, True),
        ({"code": 14}, True),
        ({"error_type": "timeout"}, True),
        ({"status": "ok", "code": 500, "error_type": "timeout"}, False),
        ({"status": "error", "code": 200}, True),
    ],
)
def test_failed(fields, failed):
    assert bool(rows_of(**fields).flags[0] & RowFlag.FAILED) is failed


@pytest.mark.parametrize(
    ("time", "end_ns"),
    [
        (T0 + 7, T0 + 7),
        (2**63 - 1, 2**63 - 1),
        ("2026-01-02T03:04:05Z", T0),
        ("2026-01-02t03:04:05z", T0),
        ("2026-01-02 03:04:05+00:00", T0),
        ("2026-01-02T05:34:05+02:30", T0),
        ("2026-01-01T23:04:05-04:00", T0),
        ("2026-01-02T03:04:05-00:00", T0),
        ("2026-01-02T03:04:05.1Z", T0 + 100_000_000),
        ("2026-01-02T03:04:05.123456789Z", T0 + 123_456_789),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
        ("1974-01-01T00:00:00Z", 126_230_400_000_000_000),
        ("2262-04-11T23:47:16.854775807Z", 2**63 - 1),
    ],
)
def test_times(time, end_ns):
    assert rows_of(time=time).end_ns.tolist() == [end_ns]


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2026-02-29T00:00:00Z", "out_of_range"),
        ("2026-04-31T00:00:00Z", "out_of_range"),
        ("2262-04-11T23:47:16.854775808Z", "out_of_range"),
        ("1973-12-31T23:59:59.999999999Z", "out_of_range"),
        ("0000-01-01T00:00:00Z", "out_of_range"),
        ("2026-01-02T03:60:05Z", "out_of_range"),
        ("2026-01-02T03:04:61Z", "out_of_range"),
        ("2026-01-02T03:04:05+01:60", "out_of_range"),
        ("2026-01-02", "wrong_type"),
        ("2026-01-02T03:04Z", "wrong_type"),
        ("2026-01-02T03:04:05.Z", "wrong_type"),
        ("2026-01-02T03:04:05Z\n", "wrong_type"),
        ("２026-01-02T03:04:05Z", "wrong_type"),
        ("", "wrong_type"),
        (1_767_323_045, "out_of_range"),
        (1_767_323_045_123_456, "out_of_range"),
        (1_767_323_045.5, "wrong_type"),
    ],
)
def test_times_that_are_none(time, reason):
    assert refusal_of(time=time)[0] == reason


@given(st.integers(0, 2**51))
def test_durations_are_exact_to_the_nanosecond(duration_ns):
    text = f"{Decimal(duration_ns).scaleb(-6):f}"
    value = json.dumps(EVENT)[:-1].encode() + b', "duration_ms": ' + text.encode() + b"}"
    assert decode(value).rows.duration_ns.tolist() == [duration_ns]


def test_integer_durations_are_exact():
    assert rows_of(duration_ms=9_223_372_036_854).duration_ns.tolist() == [9_223_372_036_854_000_000]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"duration_ms": "12"}, ["`duration_ms`", '"12"', "a number of milliseconds"]),
        ({"status": "failed"}, ["`status`", '"failed"', '"ok", "error"']),
        ({"time": 1_767_323_045_123}, ["`time`", "1767323045123", "nanoseconds"]),
        ({"count": 0}, ["`count`", "1 to 65536"]),
        ({"service": None}, ["`service`", "missing"]),
    ],
)
def test_a_detail_names_the_field_and_what_is_expected(fields, words):
    detail = refusal_of(**fields)[1]
    for word in words:
        assert word in detail


SECRET = "correct horse battery staple " * 10


@pytest.mark.parametrize(
    "fields",
    [
        {"time": SECRET},
        {"status": SECRET},
        {"code": SECRET},
        {"service": SECRET},
        {"version": [SECRET]},
        {"namespace": {"a": SECRET}},
    ],
)
def test_a_detail_does_not_carry_long_values(fields):
    reason, detail = refusal_of(**fields)
    assert reason
    assert "horse" not in detail


@pytest.mark.parametrize("field", ["count", "code", "time", "duration_ms"])
def test_a_detail_does_not_carry_long_numbers(field):
    value = json.dumps(EVENT)[:-1].encode() + f', "{field}": 1e300}}'.encode()
    reason, detail = refusal(value)
    assert reason == "out_of_range"
    assert "0" * 41 not in detail


def test_a_message_beyond_1_mib_is_refused_unread():
    padding = " " * (2**20 - len(json.dumps(EVENT)))
    assert refusal((json.dumps(EVENT) + padding).encode()) == (None, None)
    assert refusal((json.dumps(EVENT) + padding + " ").encode())[0] == "too_large"


def test_a_smaller_limit_of_bytes_is_kept():
    value = json.dumps(EVENT).encode()
    for limit, refused in ((len(value), False), (len(value) - 1, True)):
        result = flat.decode(Messages.of([value]), Reading(limits=Limits(message_bytes=limit)))
        assert ("too_large" in result.receipts.reasons) is refused


def attribute_set(sent, *keys, **limits):
    value = json.dumps({**EVENT, "attributes": sent}).encode()
    result = flat.decode(Messages.of([value]), Reading(attributes=keys, limits=Limits(**limits)))
    if not len(result.rows):
        return result.receipts.reasons[1]
    return result.rows.attribute_sets[result.rows.attributes[0]]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ""),
        (None, ""),
        ({"c": 1}, ""),
        ({"b": "x", "a": "y"}, '{"a":"y","b":"x"}'),
        ({"a": ""}, '{"a":""}'),
        ({"a": True, "b": False}, '{"a":true,"b":false}'),
        ({"a": 1, "b": 1.0}, '{"a":1,"b":1.0}'),
        ({"a": None, "b": [1]}, ""),
        ({"a": {"b": 1}}, ""),
        ({"a": "é😀"}, '{"a":"é😀"}'),
    ],
)
def test_attributes_that_are_asked_for_become_one_text(attributes, expected):
    assert attribute_set(attributes, "a", "b") == expected


def test_an_attribute_of_an_older_name_is_read_where_the_new_one_is_absent():
    new, old = next(iter(semconv.OLD_NAMES.items()))
    assert attribute_set({old: "x"}, new) == json.dumps({new: "x"}, separators=(",", ":"))
    assert attribute_set({old: "x", new: "y"}, new) == json.dumps({new: "y"}, separators=(",", ":"))
    assert attribute_set({old: "x", new: None}, new) == json.dumps({new: "x"}, separators=(",", ":"))
    assert attribute_set({new: "x"}, old) == ""


def test_limits_of_attributes():
    assert attribute_set({"a": 1, "b": 2}, attributes=2) == ""
    assert attribute_set({"a": 1, "b": 2}, attributes=1) == "too_many_attributes"
    assert attribute_set({"a": "éé"}, "a", value_bytes=4) == '{"a":"éé"}'
    assert attribute_set({"a": "éé!"}, "a", value_bytes=4) == "value_too_long"
    assert attribute_set({"a": "éé!"}, "b", value_bytes=4) == ""


@pytest.mark.parametrize(
    ("text", "high", "low"), [("0" * 31 + "1", 0, 1), ("F" * 32, -1, -1), ("", 0, 0), (None, 0, 0)]
)
def test_trace_ids(text, high, low):
    rows = rows_of(trace_id=text)
    assert (rows.trace_hi.tolist(), rows.trace_lo.tolist()) == ([high], [low])


def test_ids():
    values = [json.dumps({**EVENT, "id": id_}).encode() for id_ in ("a", "é\n", "", None, 7)]
    messages = Messages.of([*values, None, b"{"])
    assert list(flat.decode(messages, Reading(ids=True)).ids) == [b"a", "é\n".encode(), None, None, None, None, None]


def test_bad_events_are_refused_and_their_neighbours_counted():
    good = json.dumps(EVENT).encode()
    result = decode(good, good, b"{", None, good)
    receipts = result.receipts
    assert result.rows.offset.tolist() == [0, 1, 4]
    assert receipts.first_offset.tolist() == [0, 2, 3, 4]
    assert receipts.last_offset.tolist() == [1, 2, 3, 4]
    assert receipts.items.tolist() == [2, 1, 0, 1]
    assert receipts.rejected.tolist() == [0, 1, 0, 0]
    assert receipts.digests == (None, hashlib.sha256(b"{").digest(), None, None)


def test_a_refused_event_leaves_no_trace_in_the_dictionaries():
    result = decode(json.dumps({**EVENT, "version": "secret", "error_type": "x", "count": 0}).encode())
    assert result.rows.services == result.rows.versions == ()
    assert result.rows.error_types == ("",)


@given(st.binary(max_size=100))
def test_no_bytes_raise(value):
    refusal(value)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70_000),
    st.integers(2**62, 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-3, 600).map(float),
    st.sampled_from(["", "ok", "error", "server", "SERVER", "2026-01-02T03:04:05Z", "2026-01-02"]),
    st.text(max_size=3),
    st.integers(250, 260).map(lambda n: "x" * n),
    st.lists(st.integers(), max_size=1),
    st.sampled_from(["4bf92f3577b34da6a3ce929d0e0e4736", "4BF92F3577B34DA6A3CE929D0E0E473", "g" * 32]),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@given(st.dictionaries(st.sampled_from(sorted(SCHEMA["properties"])), ODD, max_size=4))
def test_decoder_and_schema_accept_the_same_events(fields):
    event = {**EVENT, **fields}
    accepted = refusal(json.dumps(event).encode())[0] is None
    assert accepted == VALIDATOR.is_valid(event), event
