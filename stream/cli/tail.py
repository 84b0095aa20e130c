"""`qma tail TOPIC`: follows an output topic as its readers see it, one readable line an event."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from stream.cli.arguments import positive
from stream.cli.connection import Connection, add_arguments, connected
from stream.config.problems import printable
from stream.core.errors import ConfigError
from stream.core.slo.explanation import share_text
from stream.core.units import DAY_MINUTES, HOUR_MINUTES
from stream.kafka.clients import TopicPartition, assigned_reader, stop
from stream.kafka.topic_ids import describe

Data = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    names = ", ".join(sorted(_LINES))
    parser.add_argument("topic", metavar="TOPIC", choices=sorted(_LINES), help=f"without the prefix: {names}")
    parser.add_argument("--from-beginning", action="store_true", help="start with the oldest event kept")
    parser.add_argument("--max", type=positive, metavar="N", help="end after N events")
    parser.add_argument("--json", action="store_true", help="print the whole events, one JSON object a line")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        asyncio.run(_follow(connection, arguments))
    return 0


async def _follow(connection: Connection, arguments: argparse.Namespace) -> None:
    topic = f"{connection.prefix}{arguments.topic}"
    reader = await assigned_reader(connection.bootstrap)
    try:
        found = await describe(reader, [topic])
        if topic not in found:
            raise ConfigError(f"no topic {topic}; create the pipeline's topics with `qma topics apply`")
        partitions = [TopicPartition(topic, number) for number in range(found[topic].partitions)]
        reader.assign(partitions)
        await (reader.seek_to_beginning if arguments.from_beginning else reader.seek_to_end)(*partitions)
        shown = 0
        while arguments.max is None or shown < arguments.max:
            for records in (await reader.getmany(timeout_ms=500)).values():
                for record in records[: None if arguments.max is None else arguments.max - shown]:
                    if record.value is None:
                        continue  # of a compacted topic: what stood under the key is gone
                    print(record.value.decode() if arguments.json else line(arguments.topic, record.value))
                    shown += 1
            sys.stdout.flush()
    finally:
        await stop(reader)


def line(topic: str, value: bytes) -> str:
    """Returns an event of an output topic as one readable line.

    Names come from whoever sends telemetry: what a terminal would act on is shown escaped.
    """
    event = orjson.loads(value)
    text = f"{event['time']} {_LINES[topic](event['data'])}"
    return printable(text)


def _sli(data: Data) -> str:
    if "centroids" in data:
        return f"{data['service']} sketch of {sum(c['c'] for c in data['centroids']):g} durations"
    minute, window = data["minute"], data["window"]
    flags = "".join(f" [{name}]" for name, on in data["flags"].items() if on)
    left = _bounds(data["budget"]["remaining_min_ratio"], data["budget"]["remaining_max_ratio"])
    revision = f" revision {data['revision']}" if data["revision"] else ""
    return (
        f"{data['service']} {data['objective']}: minute {_ratio(minute['ratio'])} of {minute['n']}, "
        f"window {_ratio(window['ratio'])} (target {data['target']}, {window['coverage_ratio']:.2%} covered), "
        f"budget left {left}{revision}{flags}{_worst(data)}"
    )


def _worst(data: Data) -> str:
    """Returns the trace of the worst event, where that is a bad one: one to look at."""
    worst = data["exemplars"]["worst"] if "exemplars" in data else {"bad": False}
    return f", worst trace {worst['trace_id']}" if worst["bad"] else ""


def _burn_rate(data: Data) -> str:
    held_back = data["held_back"]
    told = "" if held_back is None else f" (nobody is told: {held_back['by']} {held_back['name']}".rstrip() + ")"
    subject = f"{data['severity'].upper()} {data['state']} {data['service']} {data['objective']}"
    return f"{subject}, {data['rule']}{told}: {data['explanation']}"


def _budget(data: Data) -> str:
    subject, entry, forecast = f"{data['service']} {data['objective']}", data["entry"], data["forecast"]
    left = f"budget left {_bounds(data['budget']['remaining_min_ratio'], data['budget']['remaining_max_ratio'])}"
    if entry is not None:
        return f"{subject}: {_entry(entry)}; {left}"
    return f"{subject}: {left}; {'no forecast without data' if forecast is None else _when_gone(forecast)}"


def _entry(entry: Data) -> str:
    name = f" {entry['name']}" if entry["name"] else ""
    if entry["kind"] == "deploy":
        return f"version{name} seen for the first time"
    took = "" if entry["consumed_ratio"] is None else f", {entry['consumed_ratio']:.2%} of the budget"
    until = f"until {entry['end']}" if entry["end"] is not None else "still going on"
    return f"{entry['kind']}{name} from {entry['start']} {until}: {entry['bad']:g} of {entry['total']:g} bad{took}"


def _when_gone(forecast: Data) -> str:
    if forecast["exhausted"]:
        return "used up"
    low, high = (
        "never" if hours is None else _span(round(hours * HOUR_MINUTES)) for hours in forecast["interval_80_hours"]
    )
    soon = f"{forecast['p_exhausted_within_24h']:.0%} within 24 h"
    return f"used up {soon}, never {forecast['p_never']:.0%}, 80 % interval {low} to {high}"


def _status(data: Data) -> str:
    window = data["window"]
    left = _bounds(data["budget"]["remaining_min_ratio"], data["budget"]["remaining_max_ratio"])
    alerts = ", ".join(f"{alert['rule']} {alert['state']}" for alert in data["alerts"]) or "no alert"
    return (
        f"{data['service']} {data['objective']}: window {_ratio(window['ratio'])} (target {data['target']}), "
        f"budget left {left}, {alerts}"
    )


def _certificate(data: Data) -> str:
    parts = [f"{data['service']} {data['version'] or '(no version)'}: {data['state']}"]
    if data["state"] == "issued":
        parts.append(f"until {data['valid_until']}, confidence {data['confidence']:.0%}")
    if data["revoked_by"]:
        parts.append(f"the evidence turned on {', '.join(data['revoked_by'])}")
    parts += _pending(data)
    return "; ".join(parts)


def _pending(data: Data) -> Iterator[str]:
    for entry in data["reasons"]:
        yield f"{entry['reason']}: {entry['explanation']}"
    for objective in data["objectives"]:
        if data["state"] == "pending" and not objective["decided"]:
            minutes = objective["minutes_until_decidable"]
            when = f"about {_span(minutes)} at this rate" if minutes is not None else "no traffic"
            yield f"{objective['objective']} needs {objective['needs_failure_free_events']} more good requests, {when}"


def _span(minutes: int) -> str:
    if minutes < 2 * HOUR_MINUTES:
        return f"{minutes} min"
    return f"{minutes / HOUR_MINUTES:.0f} h" if minutes < 2 * DAY_MINUTES else f"{minutes / DAY_MINUTES:.0f} d"


def _dead_letter(data: Data) -> str:
    items, detail = data["items"], f": {data['detail']}" if data["detail"] else ""
    return f"{data['position']}: {items} item{'s' * (items != 1)} rejected, {data['reason']}{detail}"


def _ratio(ratio: float | None) -> str:
    return "no data" if ratio is None else share_text(ratio, 4)


def _bounds(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "unknown"
    if low == high:
        return share_text(high)
    return f"at most {share_text(high)}" if low < 0 else f"{share_text(low)} to {share_text(high)}"


_LINES: dict[str, Callable[[Data], str]] = {
    "sli": _sli,
    "burn-rate": _burn_rate,
    "budget": _budget,
    "status": _status,
    "certificate": _certificate,
    "deadletter": _dead_letter,
}
