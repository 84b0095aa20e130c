"""`qma status`: where every objective stands, the worst first."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fnmatch import fnmatchcase
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.cli.arguments import seconds
from stream.cli.connection import Connection, add_arguments, connected
from stream.cli.wording import figure, moment
from stream.config import exit_codes
from stream.config.problems import printable
from stream.core.slo.burn_rate import Severity, duration
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, MINUTE_NS, SECOND_NS
from stream.kafka.log_topic import log_has_create_time, log_partitions
from stream.kafka.state_reader import read_latest
from stream.metrics.sloth import percent as target_percent
from stream.notify.events import STATUS, read_event

Data = dict[str, Any]

STALE_NS = 5 * MINUTE_NS
"""A minute closes each minute; where the last one closed longer ago, nobody closes the next."""

_POLL_S = 1.0
_WIDTH_MIN = 120
_ROWS_MAX = 200
_FIGURES = ("target", "window", "SLI, 95 % interval", "budget left", "burn 1h", "burn 5m")
_COLUMNS = ("service", "objective", *_FIGURES, "alerts", "as of", "notes")
_FLAGS = {
    "no_data": "no data in the last minute",
    "gap": "gap",
    "sampling_unknown": "sampling unknown",
    "inexact": "inexact",
    "catching_up": "catching up",
}
_STYLES = {Severity.PAGE: "bold red", Severity.TICKET: "yellow"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument(
        "--service",
        default="*",
        metavar="GLOB",
        help="only services whose environment/namespace/name is like this, for example 'prod/*' or '*/checkout' (*)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object an objective")
    parser.add_argument(
        "--wait",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait until there is a status that is not stale, at most this long (0)",
    )
    parser.set_defaults(run=_run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One objective, as its status says it.

    Args:
        data: The data of the event.
        age_ns: How long ago the last closed minute ended.
        is_stale: No minute has closed for long.
    """

    data: Data
    age_ns: int
    is_stale: bool

    def firing(self, severity: Severity) -> int:
        """Returns how many alerts of a severity fire."""
        return sum(a["state"] == "firing" and a["severity"] == severity for a in self.data["alerts"])


def standings(values: Iterable[bytes], service: str, now_ns: int) -> list[Standing]:
    """Returns the objectives of the services that match, the worst first.

    Args:
        values: Records of the status topic.
        service: Shell pattern of the service key.
        now_ns: Time of day.

    Raises:
        IncompatibleError: When another version wrote a record.
    """
    events = [event for value in values if (event := read_event(value, STATUS)) is not None]
    found = [_standing(e["data"], now_ns) for e in events if fnmatchcase(e["data"]["service"], service)]
    return sorted(found, key=_order)


def _standing(data: Data, now_ns: int) -> Standing:
    """How long ago its minute ended says nothing: that is as long as the allowed lateness, and a backlog, make it."""
    closed_ago_ns = now_ns - _time_ns(data["log"]["now"])
    return Standing(data=data, age_ns=now_ns - _time_ns(data["as_of"]), is_stale=closed_ago_ns > STALE_NS)


def _order(standing: Standing) -> tuple[object, ...]:
    data, consumed = standing.data, standing.data["budget"]["consumed_ratio"]
    return (
        -standing.firing(Severity.PAGE),
        -standing.firing(Severity.TICKET),
        not data["alerts"],
        not standing.is_stale,
        consumed is not None,
        -(consumed or 0.0),
        data["service"],
        data["objective"],
    )


def exit_code(found: Sequence[Standing]) -> int:
    """Returns 2 where nothing is known or all of it is stale, 1 where a page fires, else 0."""
    if all(standing.is_stale for standing in found):
        return exit_codes.INCONCLUSIVE
    return exit_codes.FAIL if any(standing.firing(Severity.PAGE) for standing in found) else 0


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        found = asyncio.run(_settled(connection, arguments.service, arguments.wait))
    if arguments.json:
        for standing in found:
            shown = {**standing.data, "age_s": standing.age_ns / SECOND_NS, "stale": standing.is_stale}
            print(orjson.dumps(shown).decode())
        return exit_code(found)
    console = Console(highlight=False)
    if found and console.is_terminal:
        console.width = max(console.width, _WIDTH_MIN)
        console.print(table(found[:_ROWS_MAX]))
        if len(found) > _ROWS_MAX:
            print(
                f"{len(found) - _ROWS_MAX:,} more are better off than these; choose with --service, or write to a file"
            )
    elif found:
        for line in lines(found):
            print(line)
    print(verdict(found, arguments.service))
    return exit_code(found)


async def _settled(connection: Connection, service: str, wait_s: float) -> list[Standing]:
    """Returns what there is once not all of it is stale, or as it is after `wait_s`."""
    bootstrap, topic = connection.bootstrap, f"{connection.prefix}status"
    partitions = range(await log_partitions(bootstrap, connection.prefix))
    has_create_time = await log_has_create_time(bootstrap, connection.prefix)
    deadline_s = time.monotonic() + wait_s
    while True:
        began_s = time.monotonic()
        latest = await read_latest(bootstrap, topic, partitions)
        values = [value for by_key in latest.values() for value in by_key.values()]
        # A log of the demo or a backfill has the time of its sources, whatever the time of day is.
        now_ns = _newest_ns(values) if has_create_time else time.time_ns()
        found = standings(values, service, now_ns)
        if exit_code(found) != exit_codes.INCONCLUSIVE or time.monotonic() >= deadline_s:
            return found
        # Every look reads the whole topic: at most half of the time is spent on it.
        await asyncio.sleep(max(_POLL_S, time.monotonic() - began_s))


def _newest_ns(values: Iterable[bytes]) -> int:
    events = (read_event(value, STATUS) for value in values)
    return max((_time_ns(event["data"]["log"]["now"]) for event in events if event is not None), default=0)


def table(found: Sequence[Standing]) -> Table:
    """Returns the objectives as a table for a terminal."""
    shown = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        shown.add_column(name, justify="right" if name in _FIGURES else "left", no_wrap=name in _FIGURES)
    for standing in found:
        severities = [severity for severity in _STYLES if standing.firing(severity)]
        style = "dim" if standing.is_stale else _STYLES[severities[0]] if severities else ""
        shown.add_row(*map(Text, _cells(standing)), style=style)
    return shown


def lines(found: Sequence[Standing]) -> Iterator[str]:
    """Yields the table as plain lines, one an objective, whatever their length."""
    rows = [_COLUMNS, *(_cells(standing) for standing in found)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            cell.rjust(width) if name in _FIGURES else cell.ljust(width)
            for name, cell, width in zip(_COLUMNS, row, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()


def _cells(standing: Standing) -> tuple[str, ...]:
    data = standing.data
    flags = ["stale"] * standing.is_stale + [text for flag, text in _FLAGS.items() if data["flags"].get(flag)]
    backfilled = data["window"].get("backfilled_minutes")
    flags += [f"{_age(backfilled * MINUTE_NS)} backfilled"] if backfilled else []
    cells = (
        data["service"],
        data["objective"],
        f"{target_percent(data['target'])} %",
        _window(data["window"]),
        _indicator(data["window"]),
        _budget_left(data["budget"]),
        *(_burn_rate(data["burn_rates"], length) for length in ("1h", "5m")),
        ", ".join(_alert(alert) for alert in sorted(data["alerts"], key=_alert_order)),
        f"{_age(standing.age_ns)} ago",
        ", ".join(flags),
    )
    return tuple(map(printable, cells))


def _window(window: Data) -> str:
    """Returns the length of the window, and how much of it was seen where that is not all."""
    length = duration((_time_ns(window["complete_at"]) - _time_ns(window["start"])) // MINUTE_NS)
    coverage = window["coverage_ratio"]
    return length if coverage == 1 else f"{coverage * 100:.2g} % of {length}"


def _indicator(window: Data) -> str:
    if window["ratio"] is None:
        return "no data"
    low, high = window["interval_95"]
    return f"{_percent(window['ratio'], 4)} ({_number(low, 3)}..{_number(high, 3, ROUND_CEILING)})"


def _budget_left(budget: Data) -> str:
    """Returns what is left of the error budget: bounds while parts of the window were not seen."""
    low, high = budget["remaining_min_ratio"], budget["remaining_max_ratio"]
    if low is None or high is None:
        return "no data"
    if low == high:
        return _percent(low, 1)
    return f"{_percent(low, 1) if low >= 0 else '<0 %'}..{_percent(high, 1, ROUND_CEILING)}"


def _burn_rate(rates: Data, length: str) -> str:
    """Returns a burn rate; `-` where no alert looks at a window of this length."""
    if length not in rates:
        return "-"
    rate = rates[length]
    return figure(rate) if rate is None or rate < 100 else f"{rate:,.0f}"


def _alert(alert: Data) -> str:
    state = alert["severity"].upper() if alert["state"] == "firing" else alert["state"]
    held_back = " (held back)" if alert["state"] == "firing" and not alert["told"] else ""
    return f"{state} {alert['rule']} since {moment(alert['began_at'])}{held_back}"


def _alert_order(alert: Data) -> tuple[bool, bool, str]:
    return alert["state"] != "firing", alert["severity"] != Severity.PAGE, alert["rule"]


def _percent(ratio: float, places: int, rounding: str = ROUND_FLOOR) -> str:
    return f"{_number(ratio, places, rounding)} %"


def _number(ratio: float, places: int, rounding: str = ROUND_FLOOR) -> str:
    """Returns a ratio times 100, with as many decimals as it takes: only 1 is 100."""
    exact = Decimal(str(ratio)) * 100
    number = exact.quantize(Decimal(1).scaleb(-places), rounding)
    if number == 100 != exact:
        return _number(ratio, places + 1, rounding)
    return f"{number:f}".rstrip("0").rstrip(".") if number else "0"


def _age(age_ns: int) -> str:
    minutes = age_ns // MINUTE_NS
    if minutes < 2:
        return f"{max(0, age_ns) // SECOND_NS} s"
    if minutes < 2 * HOUR_MINUTES:
        return f"{minutes} min"
    return f"{minutes // HOUR_MINUTES} h" if minutes < 2 * DAY_MINUTES else f"{minutes // DAY_MINUTES} d"


def _time_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND_NS


def verdict(found: Sequence[Standing], service: str) -> str:
    """Returns what matters in one sentence, and what to do where nothing is known in another."""
    if not found:
        if service != "*":
            return f"no objective of a service like {printable(service)!r} has a status; `qma status` shows all"
        return "no status yet: the first minute is decided about two minutes after `qma worker` started; try --wait 180"
    firing = {severity: sum(standing.firing(severity) for standing in found) for severity in Severity}
    told = [f"{count} {severity}{'s fire' if count > 1 else ' fires'}" for severity, count in firing.items() if count]
    no_data = sum(standing.data["window"]["ratio"] is None for standing in found)
    stale = sum(standing.is_stale for standing in found)
    parts = [
        f"{len(found)} objective{'s' * (len(found) != 1)}",
        *(told or ["nothing fires"]),
        *([f"{no_data} without data"] if no_data else []),
        f"as of {moment(max(standing.data['as_of'] for standing in found))}",
    ]
    told_of_stale = (
        f"\n{stale} stale: no minute closed for more than 5 min; `qma doctor --pipeline` says what holds it up"
    )
    return ", ".join(parts) + (told_of_stale if stale else "")
