"""The end of the demo: the product's ledger against the generator's own tally."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.demo import story
from stream.demo.reader import OUTPUTS, Accounts
from stream.demo.tally import Tally, TopicTally
from stream.demo.view import View, left, percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run came to.

    Args:
        seed: Of the run.
        tally: What the generator knows.
        accounts: The product's accounts by source topic.
        indicators: Its account of what it read back of its own output, for the composite.
        requests: The product's (requests, bad requests) by objective.
        view: What was read from the output topics.
        kills: Workers killed.
        restarts: Workers restarted.
        elapsed_s: From the first line to the last.
    """

    seed: int
    tally: Tally
    accounts: Mapping[str, Accounts]
    indicators: Accounts
    requests: Mapping[str, tuple[int, int]]
    view: View
    kills: int
    restarts: int
    elapsed_s: float

    @property
    def topics_equal(self) -> bool:
        """Every account is what the tally says, and sums up."""
        return all(is_equal(tally, self.accounts[topic]) for topic, tally in self.tally.topics.items())

    @property
    def requests_equal(self) -> bool:
        """Every objective has counted the requests, good and bad, that the generator made."""
        return dict(self.requests) == self.tally.objectives

    @property
    def is_equal(self) -> bool:
        """Both."""
        return self.topics_equal and self.requests_equal


def is_equal(tally: TopicTally, accounts: Accounts) -> bool:
    """Returns whether produced = received = counted + duplicate + late + rejected, each as the tally says."""
    rejected = sum(accounts.rejected.values())
    return (
        accounts.in_flight == 0
        and accounts.received == tally.produced
        and accounts.received == accounts.counted + accounts.duplicate + accounts.late + rejected
        and (accounts.counted, accounts.duplicate, accounts.late) == (tally.counted, tally.duplicate, tally.late)
        and accounts.rejected == dict(tally.rejected)
    )


def as_json(result: Result) -> dict[str, Any]:
    """Returns the result as plain values."""
    accounts = result.accounts.values()
    rejected: dict[str, int] = {}
    for account in accounts:
        for reason, items in account.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + items
    return {
        "seed": result.seed,
        "produced": result.tally.produced,
        "received": sum(a.received for a in accounts),
        "counted": sum(a.counted for a in accounts),
        "duplicate": sum(a.duplicate for a in accounts),
        "late": sum(a.late for a in accounts),
        "rejected": dict(sorted(rejected.items())),
        "replayed": sum(a.replayed for a in accounts),
        "ledger_equal": result.is_equal,
        "topics": {topic: _topic(tally, result.accounts[topic]) for topic, tally in result.tally.topics.items()},
        "objectives": {
            name: {"requests": n, "bad": bad, "equal": result.requests.get(name) == (n, bad)}
            for name, (n, bad) in result.tally.objectives.items()
        },
        "indicators_read_back": result.indicators.received,
        "sli_events": result.view.events["sli"],
        "sli_revisions": result.view.revisions,
        "burn_rate_events": result.view.events["burn-rate"],
        "budget_events": result.view.events["budget"],
        "certificate_events": result.view.events["certificate"],
        "deadletter_events": result.view.events["deadletter"],
        "repeated_events": result.view.repeated,
        "certificates": {f"{c.service} {c.version}": c.state for c in result.view.certificates.values()},
        "kills": result.kills,
        "restarts": result.restarts,
        "elapsed_s": round(result.elapsed_s, 1),
    }


def _topic(tally: TopicTally, accounts: Accounts) -> dict[str, Any]:
    return {
        "messages": tally.messages,
        "produced": tally.produced,
        "received": accounts.received,
        "counted": accounts.counted,
        "duplicate": accounts.duplicate,
        "late": accounts.late,
        "rejected": accounts.rejected,
        "replayed": accounts.replayed,
        "in_flight": accounts.in_flight,
        "equal": is_equal(tally, accounts),
    }


def write_json(path: Path, result: Result) -> None:
    """Writes the result to a file."""
    path.write_bytes(orjson.dumps(as_json(result), option=orjson.OPT_INDENT_2) + b"\n")


def print_report(console: Console, result: Result) -> None:
    """Prints both tables and the verdict."""
    view = result.view
    events = ", ".join(f"{view.events[name]:,} {name}" for name in OUTPUTS)
    verdict = (
        "EQUAL: produced = received = counted + duplicate + late + rejected, as the generator's own tally says"
        if result.is_equal
        else "NOT EQUAL: see the rows marked so"
    )
    repeated = f"; {view.repeated} ids came again" if view.repeated else "; every id once"
    killed = f" Workers killed (kill -9) meanwhile: {result.kills}." if result.kills else ""
    console.print()
    for part in (_topics_table(result), _notes(result), _objectives_table(result), _budgets_table(view)):
        console.print(part, soft_wrap=isinstance(part, Text))
        console.print()
    console.print(Text(f"{verdict}.{killed}", style="bold green" if result.is_equal else "bold red"), soft_wrap=True)
    console.print(
        f"Events read, committed ones only: {events}{repeated}. {result.elapsed_s:.0f} s in all.", soft_wrap=True
    )


def _topics_table(result: Result) -> Table:
    table = _table("items by topic", ("produced", "received", "counted", "duplicate", "late", "rejected"))
    for topic, tally in result.tally.topics.items():
        a = result.accounts[topic]
        figures = (tally.produced, a.received, a.counted, a.duplicate, a.late, sum(a.rejected.values()))
        table.add_row(topic, *(f"{figure:,}" for figure in figures), _mark(is_equal(tally, a)))
        rejected = sum(tally.rejected.values())
        expected = (tally.produced, tally.produced, tally.counted, tally.duplicate, tally.late, rejected)
        table.add_row("  generator", *(f"{figure:,}" for figure in expected), style="dim")
    return table


def _notes(result: Result) -> Text:
    """Returns what duplicates are, why items were rejected, and how many a replay repeated."""
    lines = ["duplicate: of OTLP messages that were sent again, byte for byte, as a Collector does that got no answer"]
    for topic, account in result.accounts.items():
        reasons = ", ".join(f"{reason} {items}" for reason, items in account.rejected.items()) or "nothing"
        lines.append(f"rejected of {topic}: {reasons}")
    own = result.indicators
    lines.append(f"read back for the composite: {own.received:,} indicators, {own.counted:,} of them counted")
    replayed = sum(account.replayed for account in result.accounts.values())
    lines.append(f"replayed after a restart, outside the equation: {replayed:,}")
    return Text("\n".join(lines), style="dim")


def _objectives_table(result: Result) -> Table:
    table = _table("requests by objective", ("from", "generated", "bad", "counted", "bad"))
    for service in story.SERVICES:
        for indicator in service.indicators:
            made = result.tally.objectives.get(indicator.objective, (0, 0))
            counted = result.requests.get(indicator.objective, (0, 0))
            figures = (f"{figure:,}" for figure in (*made, *counted))
            table.add_row(indicator.objective, service.carrier.value, *figures, _mark(made == counted))
    return table


def _budgets_table(view: View) -> Table:
    """Returns where each budget stands; forecasts are made at full hours of event time and beside incidents."""
    table = _table("error budgets", ("window", "left", "burn 1h", "gone"))
    for o in sorted(view.objectives.values(), key=lambda o: (o.service, o.objective)):
        burn = o.burn_rates.get("1h")
        figures = (percent(o.window_ratio), left(o.budget_left), "-" if burn is None else f"{burn:.1f}")
        table.add_row(o.objective, *figures, o.forecast or "-", "")
    return table


def _table(title: str, figures: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title, no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    return table


def _mark(equal: bool) -> Text:
    return Text("equal", style="green") if equal else Text("NOT EQUAL", style="bold red")
