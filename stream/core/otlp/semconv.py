"""Semantic conventions: which attributes are read, under which names, and what makes an event a failure.

Source: opentelemetry semantic-conventions 1.44 (`docs/http/http-spans.md`, `docs/rpc/grpc.md`, resource
registry); the wire format is opentelemetry-proto 1.11. Old names are read where the new one is absent. Under
`OTEL_SEMCONV_STABILITY_OPT_IN=*/dup` a span carries both: the new one is taken, nothing is read twice.
"""

from stream.core.columns import NO_CODE, Kind, Status

SERVICE_NAME = "service.name"
SERVICE_NAMESPACE = "service.namespace"
SERVICE_VERSION = "service.version"
ENVIRONMENTS = ("deployment.environment.name", "deployment.environment")
HTTP_STATUS_CODES = ("http.response.status_code", "http.status_code")
RPC_STATUS_CODES = ("rpc.response.status_code", "rpc.grpc.status_code", "rpc.status_code")
ERROR_TYPE = "error.type"

RESOURCE_ATTRIBUTES = frozenset((SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_VERSION, *ENVIRONMENTS))
SPAN_ATTRIBUTES = frozenset((*HTTP_STATUS_CODES, *RPC_STATUS_CODES, ERROR_TYPE))

OLD_NAMES = {
    "client.address": "http.client_ip",
    "code.file.path": "code.filepath",
    "code.function.name": "code.function",
    "code.line.number": "code.lineno",
    "db.collection.name": "db.sql.table",
    "db.namespace": "db.name",
    "db.operation.name": "db.operation",
    "db.query.text": "db.statement",
    "db.system.name": "db.system",
    "deployment.environment.name": "deployment.environment",
    "feature_flag.provider.name": "feature_flag.provider_name",
    "feature_flag.result.variant": "feature_flag.variant",
    "gen_ai.provider.name": "gen_ai.system",
    "http.request.body.size": "http.request_content_length",
    "http.request.method": "http.method",
    "http.request.resend_count": "http.resend_count",
    "http.response.body.size": "http.response_content_length",
    "http.response.status_code": "http.status_code",
    "messaging.client.id": "messaging.client_id",
    "messaging.consumer.group.name": "messaging.kafka.consumer.group",
    "messaging.destination.name": "messaging.destination",
    "messaging.destination.partition.id": "messaging.kafka.destination.partition",
    "messaging.kafka.message.key": "messaging.kafka.message_key",
    "messaging.kafka.offset": "messaging.kafka.message.offset",
    "messaging.message.id": "messaging.message_id",
    "messaging.operation.type": "messaging.operation",
    "network.peer.address": "net.sock.peer.addr",
    "network.peer.port": "net.sock.peer.port",
    "network.protocol.name": "net.protocol.name",
    "network.protocol.version": "http.flavor",
    "network.transport": "net.transport",
    "rpc.response.status_code": "rpc.grpc.status_code",
    "rpc.system.name": "rpc.system",
    "server.address": "net.host.name",
    "server.port": "net.host.port",
    "service.peer.name": "peer.service",
    "url.full": "http.url",
    "url.scheme": "http.scheme",
    "user_agent.original": "http.user_agent",
}
"""The former name of an attribute, by its name of today, where both mean the same. Source: `docs/non-normative/` of the
semantic conventions (`http-migration.md`, `db-migration.md`, `code-attrs-migration.md`) and the registry's renames."""

GRPC_CODES = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""Canonical names of gRPC status codes. Source: google.rpc.Code."""

GRPC_MAX = 16
HTTP_MIN, HTTP_MAX = 100, 599

_GRPC_SERVER_FAILURES = frozenset(
    GRPC_CODES[name]
    for name in ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)


def is_http_code(code: int) -> bool:
    """Returns whether `code` is an HTTP status code, 100-599."""
    return HTTP_MIN <= code <= HTTP_MAX


def is_grpc_code(code: int) -> bool:
    """Returns whether `code` is a gRPC status code, 0-16."""
    return 0 <= code <= GRPC_MAX


def failed(*, kind: int, status: int, error_type: str, code: int) -> bool:
    """Returns whether an event failed: by its status, else its `error.type`, else its code.

    A status of OK is the author's final word, so it wins over the other two.

    Args:
        kind: A `Kind`.
        status: A `Status`.
        error_type: Value of `error.type`, the empty string for none.
        code: HTTP 100-599, gRPC 0-16 or `NO_CODE`.

    Source: trace API, "Set Status" (OK is final); `error.type` registry entry: an operation that succeeded
        does not set it.
    """
    if status == Status.UNSET:
        return error_type != "" or failed_by_code(kind, code)
    return status == Status.ERROR


def failed_by_code(kind: int, code: int) -> bool:
    """Returns whether a status code alone means failure for a span of this kind.

    A server that refuses a bad request did its work: 4xx is a failure of the call, not of the server.
    Kinds that the conventions leave out are judged as servers.
    """
    if code == NO_CODE:
        return False
    if code >= HTTP_MIN:
        return code >= (400 if kind == Kind.CLIENT else 500)
    return code != 0 if kind == Kind.CLIENT else code in _GRPC_SERVER_FAILURES
