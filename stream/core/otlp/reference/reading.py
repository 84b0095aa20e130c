"""What the plain decoders of all signals do alike: attributes, the allow-list, services, status codes and texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from stream.core.columns import NO_CODE, RejectReason
from stream.core.otlp import Limits, semconv
from stream.core.otlp.attributes import Value
from stream.core.otlp.reference.batch import Batch

# Messages are made of descriptors at run time: they have no static type.
AnyValue = Any
KeyValue = Any
Attributes = Mapping[bytes, AnyValue]
"""Wanted attributes by key; of a duplicated key the first."""

_EXCEPTION = b"exception"
_GRPC_CODES = {name.encode(): code for name, code in semconv.GRPC_CODES.items()}


def too_large(value: bytes, limits: Limits) -> tuple[RejectReason, str] | None:
    """Returns why a message is refused for its size, or None."""
    if len(value) <= limits.message_bytes:
        return None
    detail = f"this message has {len(value)} bytes, more than limits.message_bytes allows: {limits.message_bytes}"
    return RejectReason.TOO_LARGE, detail


def names_of(key: str) -> tuple[str, ...]:
    """Returns the names of an attribute of the allow-list, in the order in which they are looked for."""
    old = semconv.OLD_NAMES.get(key)
    return (key,) if old is None else (key, old)


class AllowList:
    """The attributes that some objective names, as they may have been sent."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._names = {key: tuple(name.encode() for name in names_of(key)) for key in keys}

    def __bool__(self) -> bool:
        return bool(self._names)

    def with_fields(self, keys: Iterable[str]) -> AbstractSet[bytes]:
        """Returns all names under which they may have been sent, and the keys that fields are made of."""
        listed = {name for names in self._names.values() for name in names}
        return listed.union(key.encode() for key in keys)

    def found(self, *places: Attributes) -> dict[str, Value]:
        """Returns those that are there: an item's own before its resource's, the newer name before the older."""
        values: dict[str, Value] = {}
        for key, names in self._names.items():
            candidates = (_kept(place[name]) for place in places for name in names if name in place)
            value = next((candidate for candidate in candidates if candidate is not None), None)
            if value is not None:
                values[key] = value
        return values


def _kept(value: AnyValue) -> Value | None:
    """Returns the value of an allow-listed attribute; None where it counts as absent."""
    match value.WhichOneof("value"):
        case "string_value":
            return as_text(value.string_value)
        case "bool_value" | "int_value" as name:
            number: bool | int = getattr(value, name)
            return number
        case "double_value" if math.isfinite(value.double_value):
            return float(value.double_value)
    return None


def first_of_each(attributes: Iterable[KeyValue], wanted: AbstractSet[bytes]) -> Attributes:
    """Returns the wanted attributes by key; of a duplicated key the first."""
    found: dict[bytes, AnyValue] = {}
    for attribute in attributes:
        key = attribute.key
        if key in wanted and key not in found:
            found[key] = attribute.value
    return found


def sent_text(attributes: Attributes, name: str) -> bytes:
    """Returns a text as it was sent; empty where it is absent or something else."""
    value = attributes.get(name.encode())
    return value.string_value if value is not None else b""


def text(attributes: Attributes, name: str) -> str:
    """Returns a text; empty where it is absent or something else."""
    return as_text(sent_text(attributes, name))


def as_text(value: bytes) -> str:
    """Returns bytes as text, with U+FFFD for what is no UTF-8."""
    return value.decode("utf-8", "replace")


def is_utf8(value: bytes) -> bool:
    """Returns whether bytes are a text."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def all_utf8(attributes: Attributes) -> bool:
    """Returns whether the texts among attributes are such."""
    return all(is_utf8(value.string_value) for value in attributes.values())


def any_longer(attributes: Attributes, limit: int) -> bool:
    """Returns whether a text among attributes has more bytes than `limit`."""
    return any(len(value.string_value) > limit for value in attributes.values())


def service_of(attributes: Attributes, batch: Batch) -> int:
    """Returns the index of the service that a resource names."""
    environments = (text(attributes, name) for name in semconv.ENVIRONMENTS)
    return batch.service(
        next(filter(None, environments), None),
        text(attributes, semconv.SERVICE_NAMESPACE) or None,
        text(attributes, semconv.SERVICE_NAME) or None,
    )


def status_code(attributes: Attributes) -> int:
    """Returns the gRPC status code, else the HTTP one, else `NO_CODE`; out of its range it is absent."""
    for name in semconv.RPC_STATUS_CODES:
        value = attributes.get(name.encode())
        if value is None:
            continue
        if value.HasField("int_value") and semconv.is_grpc_code(value.int_value):
            return int(value.int_value)
        if value.string_value in _GRPC_CODES:
            return _GRPC_CODES[value.string_value]
    for name in semconv.HTTP_STATUS_CODES:
        value = attributes.get(name.encode())
        # An absent or differently typed integer reads as 0, which is no HTTP status.
        if value is not None and semconv.is_http_code(value.int_value):
            return int(value.int_value)
    return NO_CODE


def is_exception(name: bytes) -> bool:
    """Returns whether an event of this name records an exception."""
    return name == _EXCEPTION or name.endswith(b"." + _EXCEPTION)
