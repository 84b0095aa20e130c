"""Records of `qma.status` and `qma.burn-rate` as the fold writes them, for what a test wants to happen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from stream.core.rendering import rfc3339
from stream.core.units import MINUTE_NS

_EXAMPLES = Path(__file__).parents[2] / "schemas" / "conformance"
_STATUS = json.loads((_EXAMPLES / "status.v1" / "valid" / "page_fires.json").read_text())
_BURN_RATE = json.loads((_EXAMPLES / "burn-rate.v1" / "valid" / "firing_page.json").read_text())

SERVICE, OBJECTIVE = "prod/shop/checkout", "availability"
KEY = f"{SERVICE}/{OBJECTIVE}".encode()
T0_NS = 29_400_000 * MINUTE_NS
PAGE, TICKET = "page-1h-5m", "ticket-1d-2h"


def alert_id(rule: str, service: str = SERVICE) -> str:
    """Returns an id as long as a real one."""
    return f"{service}.{rule}".encode().hex().ljust(32, "0")[-32:]


def at(minute: int) -> str:
    """Returns the start of a minute after T0, as events write it."""
    return rfc3339(T0_NS + minute * MINUTE_NS)


def listed(rule: str = PAGE, *, service: str = SERVICE, **rest: Any) -> dict[str, Any]:
    """Returns an alert as a status lists it: it fires, and was told."""
    entry = {
        "alert": alert_id(rule, service),
        "rule": rule,
        "severity": rule.split("-")[0],
        "state": "firing",
        "began_at": at(0),
        "told": True,
    }
    return {**entry, **rest}


def status(minute: int, *alerts: dict[str, Any], service: str = SERVICE, pipeline: str = "test", **data: Any) -> bytes:
    """Returns the status of an objective after a minute has closed, decided at that log offset."""
    event = {
        **_STATUS,
        "source": f"/qma/{pipeline}/1",
        "subject": f"{service}/{OBJECTIVE}",
        "time": at(minute + 1),
        "data": {
            **_STATUS["data"],
            "service": service,
            "objective": OBJECTIVE,
            "as_of": at(minute + 1),
            "alerts": list(alerts),
            "links": {"runbook": "https://wiki.example/checkout", "dashboard": None},
            "log": {**_STATUS["data"]["log"], "offset": minute},
            **data,
        },
    }
    return orjson.dumps(event)


def burn_rate(minute: int, state: str, explanation: str, *, rule: str = PAGE, service: str = SERVICE) -> bytes:
    """Returns the event of an alert after a minute has closed."""
    event = {
        **_BURN_RATE,
        "subject": service,
        "time": at(minute + 1),
        "data": {
            **_BURN_RATE["data"],
            "alert": alert_id(rule, service),
            "state": state,
            "rule": rule,
            "severity": rule.split("-")[0],
            "service": service,
            "objective": OBJECTIVE,
            "explanation": explanation,
            "notify": True,
            "held_back": None,
            "log": {**_BURN_RATE["data"]["log"], "offset": minute},
        },
    }
    return orjson.dumps(event)
