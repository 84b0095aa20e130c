"""Generated requests: the rows equal what a plain loop over the sent values says they must be."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.core.otlp import Messages
from stream.core.otlp.reference import traces
from tests.core.otlp.spans import T0, attributes, span

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 4, 14, 16, 17, 99, 100, 200, 404, 500, 599, 600]),
    st.floats(),
    st.sampled_from(["", "OK", "UNAVAILABLE", "NOT_FOUND", "timeout", "a/b"]),
    st.text(max_size=4),
)
RESOURCE_KEYS = st.sampled_from(
    [
        "service.name",
        "service.namespace",
        "service.version",
        "deployment.environment.name",
        "deployment.environment",
        "host.name",
    ]
)
SPAN_KEYS = st.sampled_from(
    [
        "http.response.status_code",
        "http.status_code",
        "rpc.response.status_code",
        "rpc.grpc.status_code",
        "rpc.status_code",
        "error.type",
        "http.route",
    ]
)
TIMES = st.one_of(st.integers(0, 2**64 - 1), st.integers(T0, T0 + 10**9))
SPANS = st.fixed_dictionaries(
    {
        "pairs": st.lists(st.tuples(SPAN_KEYS, SCALARS), max_size=5),
        "kind": st.integers(-1, 7),
        "status": st.integers(-1, 4),
        "start": TIMES,
        "end": st.one_of(st.just(T0), TIMES.filter(bool)),
    }
)
RESOURCES = st.tuples(
    st.lists(st.tuples(RESOURCE_KEYS, SCALARS), max_size=6), st.lists(st.lists(SPANS, max_size=3), max_size=2)
)


def serialized(resources):
    made = ExportTraceServiceRequest()
    for resource, scopes in resources:
        part = made.resource_spans.add()
        part.resource.attributes.extend(attributes(*resource))
        for spans in scopes:
            part.scope_spans.add().spans.extend(
                span(
                    *one["pairs"],
                    kind=one["kind"],
                    status={"code": one["status"]},
                    start_time_unix_nano=one["start"],
                    end_time_unix_nano=one["end"],
                )
                for one in spans
            )
    return made.SerializeToString()


def first(pairs, *names, accept):
    """The first accepted value among names in order of preference, each by its first occurrence."""
    for name in names:
        for key, value in pairs:
            if key == name:
                if accept(value):
                    return value
                break
    return None


def is_text(value):
    return isinstance(value, str) and value != ""


def is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


NAMES = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]


def expected_row(resource, one):
    """What a span must become, written as plainly as it can be."""
    pairs = one["pairs"]
    rpc = first(
        pairs,
        "rpc.response.status_code",
        "rpc.grpc.status_code",
        "rpc.status_code",
        accept=lambda value: value in NAMES or (is_integer(value) and 0 <= value <= 16),
    )
    http = first(
        pairs,
        "http.response.status_code",
        "http.status_code",
        accept=lambda value: is_integer(value) and 100 <= value <= 599,
    )
    code = NAMES.index(rpc) if isinstance(rpc, str) else rpc if rpc is not None else http
    error_type = first(pairs, "error.type", accept=is_text)
    kind = one["kind"] if 0 <= one["kind"] <= 5 else 0
    status = one["status"] if one["status"] in (0, 1, 2) else 0
    if code is None:
        bad_code = False
    elif code < 100:
        bad_code = code != 0 if kind == 3 else code in (2, 4, 12, 13, 14, 15)
    else:
        bad_code = code >= 500 or (kind == 3 and code >= 400)
    failed = status == 2 or (status == 0 and (error_type is not None or bad_code))
    duration = one["end"] - one["start"]
    environment = first(resource, "deployment.environment.name", "deployment.environment", accept=is_text)
    parts = (
        environment or "unknown",
        first(resource, "service.namespace", accept=is_text) or "-",
        first(resource, "service.name", accept=is_text) or "unknown_service",
    )
    return (
        "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts),
        first(resource, "service.version", accept=is_text) or "",
        kind,
        status,
        -1 if code is None else code,
        error_type or "",
        min(one["end"], 2**63 - 1),
        min(max(duration, 0), 2**63 - 1),
        1,
        65_536,
        (1 if failed else 0) + 2 + (8 if duration < 0 else 0),
    )


@given(st.lists(st.lists(RESOURCES, max_size=2), max_size=3))
def test_rows_equal_a_plain_loop_over_what_was_sent(requests):
    expected = [
        (offset, *expected_row(resource, one))
        for offset, resources in enumerate(requests)
        for resource, scopes in resources
        for spans in scopes
        for one in spans
    ]
    result = traces.decode(Messages.of([serialized(resources) for resources in requests]))
    rows = result.rows
    actual = list(
        zip(
            rows.offset.tolist(),
            [rows.services[i] for i in rows.service],
            [rows.versions[i] for i in rows.version],
            rows.kind.tolist(),
            rows.status.tolist(),
            rows.code.tolist(),
            [rows.error_types[i] for i in rows.error_type],
            rows.end_ns.tolist(),
            rows.duration_ns.tolist(),
            rows.count.tolist(),
            rows.weight.tolist(),
            rows.flags.tolist(),
            strict=True,
        )
    )
    assert actual == expected
    assert int(result.receipts.rejected.sum()) == 0
    assert int(result.receipts.items.sum()) == len(expected)
