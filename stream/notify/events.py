"""Records of the output topics as their readers see them."""

from __future__ import annotations

from typing import Any

import orjson

from stream.core.errors import IncompatibleError

STATUS = "qma.status.v1"
BURN_RATE = "qma.burn-rate.v1"

Event = dict[str, Any]


def read_event(value: bytes, kind: str) -> Event | None:
    """Returns the CloudEvent of a record; None where it is of another kind, which a topic may carry beside.

    Args:
        value: The record's value.
        kind: The wanted type with its major version, for example `qma.status.v1`.

    Raises:
        IncompatibleError: When it is of this kind in another major version.
        ValueError: When it is no CloudEvent.
    """
    event = orjson.loads(value)
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ValueError("no CloudEvent")
    found = event["type"]
    if found == kind:
        return event
    if found.rpartition(".")[0] == kind.rpartition(".")[0]:
        raise IncompatibleError(
            f"an event is of type {found}, this program reads {kind}; run the version that wrote it"
        )
    return None
