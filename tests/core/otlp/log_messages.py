"""OTLP log messages for tests: from plain values, and byte by byte as no well-behaved writer would write them."""

import struct

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from stream.core.columns import Rows
from tests.core.otlp.spans import T0, attributes

TRACE_ID = bytes(range(1, 17))


def log(*pairs, **fields):
    return LogRecord(attributes=attributes(*pairs), **{"time_unix_nano": T0, **fields})


def request(records, resource=(("service.name", "checkout"),)):
    made = ExportLogsServiceRequest()
    part = made.resource_logs.add()
    part.resource.attributes.extend(attributes(*resource))
    part.scope_logs.add().log_records.extend(records)
    return made


def resolved(decoded):
    """What two decoders must agree on: rows with their words, receipts without their sentences."""
    rows, receipts = decoded.rows, decoded.receipts
    columns = {name: getattr(rows, name).tolist() for name in Rows.DTYPES}
    for name, words in Rows.DICTIONARIES.items():
        columns[name] = [getattr(rows, words)[index] for index in columns[name]]
    said = {name: getattr(receipts, name).tolist() for name in receipts.DTYPES}
    said["reason"] = [receipts.reasons[index] for index in said["reason"]]
    return columns, said, receipts.digests


def varint(value, bytes_more=0):
    """A varint, longer than it need be by some bytes; of a negative number its 64 bits."""
    value &= (1 << 64) - 1
    groups: list[int] = []
    while value or not groups:
        groups.append(value & 0x7F)
        value >>= 7
    groups += [0] * min(bytes_more, 10 - len(groups))
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


def tagged(number, wire_type, payload):
    return varint(number << 3 | wire_type) + payload


def delimited(number, payload):
    return tagged(number, 2, varint(len(payload)) + payload)


def fixed64(number, value):
    return tagged(number, 1, struct.pack("<Q", value))


def joined(pieces, max_size=6):
    return st.lists(st.one_of(*pieces), max_size=max_size).map(b"".join)


def within(number, payload):
    return payload.map(lambda data: delimited(number, data))


VARINTS = st.builds(
    varint,
    st.one_of(st.integers(0, 30), st.integers(-(2**63), 2**64 - 1), st.sampled_from([100, 200, 404, 500, 599, 600])),
    st.sampled_from([0, 0, 0, 1, 9]),
)
SCALARS = st.one_of(
    VARINTS.map(lambda data: (0, data)),
    st.binary(min_size=8, max_size=8).map(lambda data: (1, data)),
    st.binary(max_size=3).map(lambda data: (2, varint(len(data)) + data)),
    st.binary(min_size=4, max_size=4).map(lambda data: (5, data)),
)
ANY_NUMBER = st.one_of(st.integers(1, 20), st.integers(1, 2**29 - 1))
ODD_FIELDS = st.recursive(
    st.builds(lambda number, scalar: tagged(number, *scalar), ANY_NUMBER, SCALARS),
    lambda fields: st.builds(
        lambda number, inner: tagged(number, 3, b"".join(inner)) + tagged(number, 4, b""),
        ANY_NUMBER,
        st.lists(fields, max_size=2),
    ),
    max_leaves=3,
)
"""Fields of any number and wire type, groups among them: mostly unknown, else of the wrong type."""

TEXTS = st.one_of(
    st.sampled_from(["", "a/b", "timeout", "exception", "my.exception", "UNAVAILABLE", "NOT_FOUND", "OK", "8", "c"]),
    st.sampled_from(["fd70a", "e666", "8" * 14, "ffffffffffffff", "80000000000000", "0", "é", "x" * 40]),
    st.text(max_size=3),
).map(str.encode)
BROKEN_TEXTS = st.sampled_from([b"\xff", b"caf\xc3", b"ok\xed\xa0\x80", b"\xf0\x9f\x92"])

VALUE_LEAVES = st.one_of(
    within(1, TEXTS),
    VARINTS.map(lambda data: tagged(2, 0, data)),
    VARINTS.map(lambda data: tagged(3, 0, data)),
    st.one_of(st.floats(), st.sampled_from([500.0, 0.5])).map(lambda value: tagged(4, 1, struct.pack("<d", value))),
    within(7, st.binary(max_size=3)),
    VARINTS.map(lambda data: tagged(8, 0, data)),
)
VALUES = st.recursive(
    joined([VALUE_LEAVES], 2),
    lambda values: st.one_of(
        within(5, st.lists(within(1, values), max_size=2).map(b"".join)),
        within(
            6,
            st.lists(
                within(1, st.tuples(within(1, TEXTS), within(2, values)).map(b"".join)),
                max_size=2,
            ).map(b"".join),
        ),
        st.tuples(values, ODD_FIELDS).map(b"".join),
    ),
    max_leaves=4,
)

RESOURCE_KEYS = (
    "service.name",
    "service.namespace",
    "service.version",
    "deployment.environment.name",
    "deployment.environment",
    "team",
    "host.name",
)
RECORD_KEYS = (
    "http.response.status_code",
    "http.status_code",
    "rpc.response.status_code",
    "rpc.grpc.status_code",
    "rpc.status_code",
    "error.type",
    "exception.type",
    "event.name",
    "sampling.threshold",
    "sampling.randomness",
    "feature_flag.key",
    "feature_flag.result.variant",
    "team",
    "",
)


def key_values(keys):
    key = within(1, st.one_of(st.sampled_from([key.encode() for key in keys]), TEXTS))
    ordered = st.tuples(key, within(2, VALUES))
    return st.one_of(
        ordered.map(b"".join),
        ordered.map(lambda pair: pair[1] + pair[0]),
        joined([key, within(2, VALUES), ODD_FIELDS], 4),
    )


TIMES = st.one_of(st.just(T0), st.integers(0, 2**64 - 1), st.just(0))
IDS = st.one_of(st.binary(min_size=16, max_size=16), st.just(TRACE_ID), st.binary(max_size=17))
RECORD_FIELDS = (
    TIMES.map(lambda value: fixed64(1, value)),
    TIMES.map(lambda value: fixed64(11, value)),
    VARINTS.map(lambda data: tagged(2, 0, data)),
    st.integers(-1, 30).map(lambda value: tagged(2, 0, varint(value))),
    within(3, TEXTS),
    within(5, VALUES),
    within(6, key_values(RECORD_KEYS)),
    within(6, key_values(RECORD_KEYS)),
    VARINTS.map(lambda data: tagged(7, 0, data)),
    st.binary(min_size=4, max_size=4).map(lambda data: tagged(8, 5, data)),
    within(9, IDS),
    within(10, st.binary(max_size=9)),
    within(12, TEXTS),
    ODD_FIELDS,
)
RECORDS = st.one_of(joined(RECORD_FIELDS, 10), joined(RECORD_FIELDS, 10).map(lambda data: data + fixed64(1, T0)))
RESOURCES = joined(
    [
        within(1, key_values(RESOURCE_KEYS)),
        within(1, key_values(RESOURCE_KEYS)),
        VARINTS.map(lambda data: tagged(2, 0, data)),
        within(3, joined([within(1, TEXTS), within(2, TEXTS), within(3, TEXTS), within(4, TEXTS), ODD_FIELDS])),
        ODD_FIELDS,
    ]
)
SCOPES = joined([within(1, TEXTS), within(2, TEXTS), within(3, key_values(("team", "a"))), ODD_FIELDS], 3)
SCOPE_LOGS = joined([within(1, SCOPES), within(2, RECORDS), within(2, RECORDS), within(3, TEXTS), ODD_FIELDS], 5)
RESOURCE_LOGS = joined(
    [within(1, RESOURCES), within(2, SCOPE_LOGS), within(2, SCOPE_LOGS), within(3, TEXTS), ODD_FIELDS], 5
)
MESSAGES = joined([within(1, RESOURCE_LOGS), within(1, RESOURCE_LOGS), ODD_FIELDS], 3)
"""Requests as bytes: fields in any order, repeated, merged, unknown, of the wrong wire type; lengths are right."""
