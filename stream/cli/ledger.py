"""`qma ledger`: is every item accounted for? received = counted + duplicate + late + rejected(reason)."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import asdict, dataclass

import orjson
from rich.console import Console
from rich.table import Table

from stream.cli.arguments import seconds
from stream.cli.connection import Connection, add_arguments, connected
from stream.core.engine import Balance, balance
from stream.kafka.config_topic import read_bundle
from stream.kafka.log_topic import log_partitions
from stream.kafka.source_ends import SourceEnd, source_ends
from stream.kafka.state_reader import read_ledgers

_POLL_S = 0.5
_WIDTH_MIN = 120


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a source partition")
    parser.add_argument(
        "--wait",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait until everything sent so far is in a checkpoint, at most this long (0)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        account = asyncio.run(_settled(connection, arguments.wait))
    if arguments.json:
        for entry, unread in zip(account.balances, account.unread, strict=True):
            print(orjson.dumps({**asdict(entry), "is_equal": entry.is_equal, "unread": unread}).decode())
    else:
        if account.balances:
            Console(width=max(Console().width, _WIDTH_MIN)).print(table(account))
        print(verdict(account))
    return exit_code(account)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The ledger of every source, and what it cannot know yet.

    Args:
        balances: One per source partition that was heard of.
        unread: Messages of each of these that lie beyond its last checkpoint.
        unheard: Messages of source partitions that no checkpoint names.
    """

    balances: list[Balance]
    unread: list[int]
    unheard: int = 0

    @property
    def in_flight(self) -> int:
        """Messages applied in some partitions of the log and not yet in others."""
        return sum(entry.in_flight for entry in self.balances)

    @property
    def outstanding(self) -> int:
        """Messages in the sources that are not in a checkpoint yet."""
        return sum(self.unread) + self.unheard

    @property
    def is_settled(self) -> bool:
        """Everything that was sent is in the checkpoints of all partitions."""
        return bool(self.balances) and not self.in_flight and not self.outstanding


async def _settled(connection: Connection, wait_s: float) -> Account:
    """Returns the account when everything sent before this call is in it, or as it is after `wait_s`."""
    partitions = await log_partitions(connection.bootstrap, connection.prefix)
    configured = await read_bundle(connection.bootstrap, connection.prefix)
    topics = [source.topic for source in configured[1].sources] if configured is not None else []
    ends = await source_ends(connection.bootstrap, topics)
    deadline_s = time.monotonic() + wait_s
    while True:
        began_s = time.monotonic()
        ledgers = await read_ledgers(connection.bootstrap, f"{connection.prefix}state", partitions)
        account = reconcile(balance(ledgers), ends)
        if account.is_settled or time.monotonic() >= deadline_s:
            return account
        # Every look reads the whole state topic: at most half of the time is spent on it.
        await asyncio.sleep(max(_POLL_S, time.monotonic() - began_s))


def reconcile(balances: list[Balance], ends: list[SourceEnd]) -> Account:
    """Returns the account of `balances` against what the sources hold.

    A topic that was deleted and created again is another source: its id differs.
    """
    heard = {(entry.topic_id, entry.partition) for entry in balances}
    held = {(end.topic_id, end.partition): end for end in ends}
    unread = []
    for entry in balances:
        end = held.get((entry.topic_id, entry.partition))
        unread.append(max(0, end.next_offset - max(entry.next_offset, end.first_offset)) if end is not None else 0)
    unheard = sum(end.next_offset - end.first_offset for at, end in held.items() if at not in heard)
    return Account(balances=balances, unread=unread, unheard=unheard)


def exit_code(account: Account) -> int:
    """Returns 1 where a settled source does not balance, 2 while anything is outstanding or nothing known, else 0."""
    if any(not entry.in_flight and not entry.is_equal for entry in account.balances):
        return 1
    return 0 if account.is_settled else 2


def verdict(account: Account) -> str:
    """Returns the result in one sentence, and what expired unread in another."""
    lost = sum(entry.lost_offsets for entry in account.balances)
    gap = f"\n{lost:,} offsets expired before they were read: what they held is unknown" if lost else ""
    return _result(account) + gap


def _result(account: Account) -> str:
    if exit_code(account) == 1:
        return "NOT EQUAL: received differs from counted + duplicate + late + rejected"
    if not account.balances:
        waiting = f"; {account.unheard:,} messages wait in the sources" if account.unheard else ""
        return f"no checkpoint yet, nothing to compare{waiting}: is a `qma worker` running? Try --wait 30"
    if account.outstanding:
        return f"not known yet: {account.outstanding:,} messages are not in a checkpoint; try --wait 30"
    if account.in_flight:
        return (
            f"not known yet: {account.in_flight:,} messages are applied in some partitions and not yet in others; "
            "try --wait 30"
        )
    return "equal: received = counted + duplicate + late + rejected, for every source"


def table(account: Account) -> Table:
    """Returns the accounts as a table; source partitions that hold nothing are left out."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("source", no_wrap=True)
    columns = ("received", "counted", "duplicate", "late", "rejected", "in flight", "not read", "replayed")
    for name in columns:
        shown.add_column(name, justify="right")
    shown.add_column("rejected because")
    totals, rows = [0] * len(columns), 0
    for b, unread in zip(account.balances, account.unread, strict=True):
        rejected = sum(b.rejected.values())
        figures = (b.received, b.counted, b.duplicate, b.late, rejected, b.in_flight, unread, b.replayed)
        if not any(figures):
            continue
        reasons = ", ".join(f"{reason} {items:,}" for reason, items in b.rejected.items())
        shown.add_row(f"{b.topic}/{b.partition}", *(f"{figure:,}" for figure in figures), reasons)
        totals, rows = [total + figure for total, figure in zip(totals, figures, strict=True)], rows + 1
    if rows != 1:
        shown.add_row("all", *(f"{total:,}" for total in totals), "")
    return shown
