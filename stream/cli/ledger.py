"""`qma ledger`: is every item accounted for? received = counted + duplicate + late + rejected(reason)."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import asdict

import orjson
from rich.console import Console
from rich.table import Table

from stream.cli.connection import Connection, add_arguments, connected
from stream.core.engine import Balance, balance
from stream.kafka.log_topic import log_partitions
from stream.kafka.state_reader import read_ledgers

_POLL_S = 0.5
_WIDTH_MIN = 120


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    text = "account for every item of every source, from the checkpoints; exit 1 when the ledger does not balance"
    parser = commands.add_parser("ledger", help=text, description=text)
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a source")
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="wait until nothing is in flight, at most this long"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        balances = asyncio.run(_settled(connection, arguments.wait))
    if arguments.json:
        for entry in balances:
            print(orjson.dumps({**asdict(entry), "is_equal": entry.is_equal}).decode())
    else:
        Console(width=max(Console().width, _WIDTH_MIN)).print(table(balances))
        print(verdict(balances))
    return exit_code(balances)


async def _settled(connection: Connection, wait_s: float) -> list[Balance]:
    partitions = await log_partitions(connection.bootstrap, connection.prefix)
    deadline_s = time.monotonic() + wait_s
    while True:
        balances = balance(await read_ledgers(connection.bootstrap, f"{connection.prefix}state", partitions))
        settled = balances and not any(entry.in_flight for entry in balances)
        if settled or time.monotonic() >= deadline_s:
            return balances
        await asyncio.sleep(_POLL_S)


def exit_code(balances: list[Balance]) -> int:
    """Returns 1 where a settled source does not balance, 2 while something is in flight or nothing is known, else 0."""
    if any(not entry.in_flight and not entry.is_equal for entry in balances):
        return 1
    return 2 if not balances or any(entry.in_flight for entry in balances) else 0


def verdict(balances: list[Balance]) -> str:
    """Returns the result in one sentence."""
    if not balances:
        return "no checkpoint yet: nothing to compare"
    in_flight = sum(entry.in_flight for entry in balances)
    if exit_code(balances) == 1:
        return "NOT EQUAL: received differs from counted + duplicate + late + rejected"
    if in_flight:
        return f"in flight: {in_flight} messages are applied in some partitions and not yet in others; try --wait 10"
    return "equal: received = counted + duplicate + late + rejected, for every source"


def table(balances: list[Balance]) -> Table:
    """Returns the accounts as a table."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("source", no_wrap=True)
    columns = ("received", "counted", "duplicate", "late", "rejected", "in flight", "replayed")
    for name in columns:
        shown.add_column(name, justify="right")
    shown.add_column("rejected because")
    for b in balances:
        figures = (b.received, b.counted, b.duplicate, b.late, sum(b.rejected.values()), b.in_flight, b.replayed)
        reasons = ", ".join(f"{reason} {items}" for reason, items in b.rejected.items())
        shown.add_row(f"{b.topic}/{b.partition}", *(f"{figure:,}" for figure in figures), reasons)
    return shown
