"""The reference decoder of OTLP logs: what each field becomes, and what is refused."""

import base64
import gzip
import json
from collections import Counter

import pytest
from hypothesis import assume, given
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from stream.core.columns import NO_CODE, Kind, RowFlag, Signal, Status
from stream.core.otlp import Limits, Messages, Reading
from stream.core.otlp.reference import logs
from stream.core.service_key import split_service_key
from stream.core.units import TIME_NS_MAX, WEIGHT_MAX, WEIGHT_ONE
from tests.core.otlp.captures import CAPTURES, GOLDEN
from tests.core.otlp.log_messages import MESSAGES, TRACE_ID, delimited, fixed64, log, request
from tests.core.otlp.spans import T0, span


def decode(*values, **reading):
    return logs.decode(Messages.of(values), Reading(**reading))


def rows_of(*records, resource=(("service.name", "checkout"),), **reading):
    return decode(request(records, resource=resource).SerializeToString(), **reading).rows


def flags_of(*pairs, **fields):
    return RowFlag(int(rows_of(log(*pairs, **fields)).flags[0]))


def refusals(*values, **reading):
    receipts = decode(*values, **reading).receipts
    return [(receipts.reasons[r], n) for r, n in zip(receipts.reason, receipts.rejected.tolist(), strict=True) if n]


def test_a_record_becomes_a_row():
    made = log(
        ("error.type", "timeout"),
        ("http.response.status_code", 504),
        ("sampling.threshold", "8"),
        ("feature_flag.key", "new-checkout"),
        observed_time_unix_nano=T0 + 9,
        severity_number=9,
        severity_text="INFO",
        event_name="feature_flag.evaluation",
        trace_id=b"\xff" * 16,
    )
    resource = (("service.name", "checkout"), ("service.version", "1.4.0"), ("deployment.environment.name", "prod"))
    value = request([made], resource=resource).SerializeToString()
    reading = Reading(attributes=("feature_flag.key",))
    rows = logs.decode(Messages.of([value], source=2, first_offset=77), reading).rows
    assert {name: getattr(rows, name).tolist() for name in rows.DTYPES if name not in rows.DICTIONARIES} == {
        "source": [2],
        "offset": [77],
        "kind": [Kind.UNSPECIFIED],
        "status": [Status.UNSET],
        "code": [504],
        "end_ns": [T0],
        "duration_ns": [0],
        "count": [1],
        "weight": [2 * WEIGHT_ONE],
        "flags": [RowFlag.FAILED],
        "signal": [Signal.LOG],
        "severity": [9],
        "trace_hi": [-1],
        "trace_lo": [-1],
    }
    assert rows.services[rows.service[0]] == "prod/-/checkout"
    assert rows.versions[rows.version[0]] == "1.4.0"
    assert rows.error_types[rows.error_type[0]] == "timeout"
    assert rows.names[rows.name[0]] == "feature_flag.evaluation"
    assert rows.attribute_sets[rows.attributes[0]] == '{"feature_flag.key":"new-checkout"}'


def test_the_time_is_the_record_s_own_else_that_of_its_observation():
    rows = rows_of(log(time_unix_nano=0, observed_time_unix_nano=T0 + 1), log(time_unix_nano=2**64 - 1))
    assert rows.end_ns.tolist() == [T0 + 1, TIME_NS_MAX]


def test_a_record_without_any_time_is_refused_and_its_neighbour_counts():
    value = request([log(), log(time_unix_nano=0)]).SerializeToString()
    assert len(decode(value).rows) == 1
    assert refusals(value) == [("missing_field", 1)]
    assert refusals(request([log(time_unix_nano=0)] * 3).SerializeToString()) == [("missing_field", 3)]


@pytest.mark.parametrize(
    ("sent", "severity", "status"),
    [
        (0, 0, Status.UNSET),
        (1, 1, Status.UNSET),
        (16, 16, Status.UNSET),
        (17, 17, Status.ERROR),
        (24, 24, Status.ERROR),
        (25, 25, Status.ERROR),
        (99, 99, Status.ERROR),
        (127, 127, Status.ERROR),
        (128, 0, Status.UNSET),
        (-1, 0, Status.UNSET),
    ],
)
def test_severity_and_status(sent, severity, status):
    rows = rows_of(log(severity_number=sent))
    assert (rows.severity.tolist(), rows.status.tolist()) == ([severity], [status])
    assert bool(rows.flags[0] & RowFlag.FAILED) == (status == Status.ERROR)


def test_an_exception_is_a_record_that_names_its_type_or_an_event_of_that_name():
    assert flags_of(("exception.type", "E")) & RowFlag.EXCEPTION
    assert flags_of(event_name="exception") & RowFlag.EXCEPTION
    assert flags_of(("event.name", "http.exception")) & RowFlag.EXCEPTION
    assert not flags_of(("exception.type", ""), event_name="exceptional") & RowFlag.EXCEPTION
    assert not flags_of(("event.name", "myexception")) & RowFlag.EXCEPTION


def test_the_error_type_falls_back_to_the_exception_s():
    rows = rows_of(
        log(("exception.type", "E"), ("error.type", "timeout")),
        log(("exception.type", "E"), ("error.type", "")),
        log(),
    )
    assert [rows.error_types[i] for i in rows.error_type] == ["timeout", "E", ""]


def test_the_event_name_is_the_field_s_else_the_attribute_s():
    rows = rows_of(log(("event.name", "a"), event_name="b"), log(("event.name", "a")), log(("event.name", 1)))
    assert [rows.names[i] for i in rows.name] == ["b", "a", ""]


@pytest.mark.parametrize(
    ("pairs", "trace_id", "weight", "flags"),
    [
        ((), TRACE_ID, WEIGHT_ONE, RowFlag.SAMPLING_UNKNOWN),
        ((("sampling.threshold", "c"),), b"\xff" * 16, 4 * WEIGHT_ONE, 0),
        ((("sampling.threshold", "c"),), TRACE_ID, WEIGHT_ONE, RowFlag.SAMPLING_UNKNOWN),
        ((("sampling.threshold", "c"), ("sampling.randomness", "f" * 14)), TRACE_ID, 4 * WEIGHT_ONE, 0),
        ((("sampling.threshold", "c"), ("sampling.randomness", "f" * 13)), b"\xff" * 16, WEIGHT_ONE, 2),
        ((("sampling.threshold", "c"), ("sampling.randomness", "0" * 14)), b"\xff" * 16, WEIGHT_ONE, 2),
        ((("sampling.threshold", "0"),), b"", WEIGHT_ONE, 0),
        ((("sampling.threshold", "8;p:3"),), b"\xff" * 16, WEIGHT_ONE, RowFlag.SAMPLING_UNKNOWN),
        ((("sampling.threshold", "8"), ("sampling.randomness", "f" * 14 + ";p:3")), TRACE_ID, WEIGHT_ONE, 2),
        ((("sampling.threshold", 8),), b"\xff" * 16, WEIGHT_ONE, RowFlag.SAMPLING_UNKNOWN),
        ((("sampling.threshold", "f" * 14),), b"\xff" * 16, WEIGHT_MAX, RowFlag.WEIGHT_CAPPED),
    ],
)
def test_the_weight_is_that_of_the_sampling_attributes(pairs, trace_id, weight, flags):
    rows = rows_of(log(*pairs, trace_id=trace_id))
    assert (rows.weight.tolist(), rows.flags.tolist()) == ([weight], [flags])


def test_an_id_of_another_length_is_no_trace_id():
    rows = rows_of(log(trace_id=TRACE_ID), log(trace_id=b"\x01" * 15))
    assert rows.trace_hi.tolist() == [0x0102030405060708, 0]
    assert rows.trace_lo.tolist() == [0x090A0B0C0D0E0F10, 0]


def test_listed_attributes_come_from_the_record_before_its_resource():
    rows = rows_of(
        log(("team", "mine"), ("feature_flag.variant", "old")),
        log(("team", [])),
        log(("feature_flag.result.variant", "new"), ("feature_flag.variant", "old")),
        resource=(("team", "its"),),
        attributes=("feature_flag.result.variant", "team"),
    )
    assert [json.loads(rows.attribute_sets[i]) for i in rows.attributes] == [
        {"team": "mine", "feature_flag.result.variant": "old"},
        {"team": "its"},
        {"team": "its", "feature_flag.result.variant": "new"},
    ]


def test_limits_cost_what_exceeds_them():
    two = request([log(("a", 1), ("b", 2)), log(("a", 1))]).SerializeToString()
    assert refusals(two, limits=Limits(attributes=1)) == [("too_many_attributes", 1)]
    assert refusals(two, limits=Limits(items=1)) == [("too_many_items", 1)]
    assert refusals(two, limits=Limits(message_bytes=len(two) - 1)) == [("too_large", 1)]
    crowded = request([log(), log()], resource=(("a", 1), ("b", 2))).SerializeToString()
    assert refusals(crowded, limits=Limits(attributes=1)) == [("too_many_attributes", 2)]
    long = request([log(event_name="12345"), log(("error.type", "12345")), log(("note", "12345"))])
    assert refusals(long.SerializeToString(), limits=Limits(value_bytes=4)) == [("value_too_long", 3)]
    kept = request([log(event_name="12345"), log(("note", "12345"))], resource=()).SerializeToString()
    assert refusals(kept, limits=Limits(value_bytes=4)) == [("value_too_long", 1)]


def test_messages_that_are_no_logs():
    traces = ExportTraceServiceRequest()
    traces.resource_spans.add().scope_spans.add().spans.append(span())
    assert refusals(traces.SerializeToString()) == [("wrong_type", 1)]
    assert refusals(b'{"resourceLogs":[]}') == [("wrong_type", 1)]
    assert refusals(b"\xff\xff") == [("malformed", 1)]
    empty = decode(b"", None)
    assert (len(empty.rows), empty.receipts.items.tolist()) == (0, [0, 0])


def test_a_bad_text_costs_no_message_and_is_flagged_where_it_is_read():
    record = fixed64(1, T0) + delimited(12, b"caf\xc3") + delimited(3, b"\xff")
    value = delimited(1, delimited(2, delimited(2, record) + delimited(2, fixed64(1, T0) + delimited(3, b"\xff"))))
    rows = decode(value).rows
    assert [rows.names[i] for i in rows.name] == ["caf\ufffd", ""]
    assert [bool(flags & RowFlag.INVALID_UTF8) for flags in rows.flags.tolist()] == [True, False]


@given(MESSAGES)
def test_rows_equal_what_the_official_classes_read(value):
    try:
        sent = ExportLogsServiceRequest.FromString(value)
    except Exception:
        assume(False)
    records = [
        (resource_logs, record)
        for resource_logs in sent.resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]
    assume(any(record.time_unix_nano or record.observed_time_unix_nano for _, record in records))
    records = [pair for pair in records if pair[1].time_unix_nano or pair[1].observed_time_unix_nano]
    rows = decode(value).rows
    for column, read in (
        ("end_ns", lambda record: min(record.time_unix_nano or record.observed_time_unix_nano, TIME_NS_MAX)),
        ("severity", lambda record: record.severity_number if 1 <= record.severity_number <= 127 else 0),
        ("code", _code),
        ("trace_lo", _trace_lo),
    ):
        assert getattr(rows, column).tolist() == [read(record) for _, record in records], column
    assert [rows.names[i] for i in rows.name] == [r.event_name or _text(r, "event.name") for _, r in records]
    errors = [_text(r, "error.type") or _text(r, "exception.type") for _, r in records]
    assert [rows.error_types[i] for i in rows.error_type] == errors
    services = [_text(resource_logs.resource, "service.name") or "unknown_service" for resource_logs, _ in records]
    assert [split_service_key(rows.services[i])[2] for i in rows.service] == services


def _first(holder, key):
    return next((attribute.value for attribute in holder.attributes if attribute.key == key), None)


def _text(holder, key):
    value = _first(holder, key)
    return value.string_value if value is not None else ""


def _code(record: LogRecord):
    for key in ("rpc.response.status_code", "rpc.grpc.status_code", "rpc.status_code"):
        value = _first(record, key)
        if value is not None and value.WhichOneof("value") == "int_value" and 0 <= value.int_value <= 16:
            return value.int_value
        names = {"OK": 0, "NOT_FOUND": 5, "UNAVAILABLE": 14}
        if value is not None and value.string_value in names:
            return names[value.string_value]
    for key in ("http.response.status_code", "http.status_code"):
        value = _first(record, key)
        if value is not None and 100 <= value.int_value <= 599:
            return value.int_value
    return NO_CODE


def _trace_lo(record: LogRecord):
    return int.from_bytes(record.trace_id[8:], "big", signed=True) if len(record.trace_id) == 16 else 0


@pytest.mark.parametrize("name", CAPTURES)
def test_totals_of_captured_messages_equal_the_truth(name):
    truth = json.loads((GOLDEN / f"{name}.logs.truth.json").read_text())
    with gzip.open(GOLDEN / f"{name}.logs.jsonl.gz") as lines:
        values = [base64.b64decode(json.loads(line)["value"]) for line in lines]
    result = decode(*values)
    expected: Counter[tuple[str, str]] = Counter()
    for key, counted in truth["by_service"].items():
        service, version = json.loads(key)
        # The truth writes an array-valued attribute as text in angle brackets.
        named = isinstance(service, str) and service not in ("", "<array_value>")
        expected[service if named else "unknown_service", version if isinstance(version, str) else ""] += counted[
            "records"
        ]
    rows = result.rows
    found = Counter(
        (split_service_key(rows.services[service])[2], rows.versions[version])
        for service, version in zip(rows.service, rows.version, strict=True)
    )
    untimed = int(result.receipts.rejected.sum())
    assert untimed == (2 if name in ("codec", "edge") else 0)  # sent with no time at all, by a service without a name
    found["unknown_service", ""] += untimed
    assert found == +expected
    severities: Counter[str] = Counter()
    for counted in truth["by_service"].values():
        severities.update(counted["severity"])
    assert {str(s): n for s, n in Counter(rows.severity.tolist()).items() if s} == {
        s: n
        for s, n in severities.items()
        if 1 <= int(s) <= 24  # 99 is one of those without a time
    }
