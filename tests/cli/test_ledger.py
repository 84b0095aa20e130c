"""`qma ledger`: the figures of every source, one verdict, and an exit code that a script can rely on."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from stream.cli.ledger import Account, exit_code, reconcile, table, verdict
from stream.core.engine import Balance, balance
from stream.kafka.source_ends import SourceEnd
from tests.core.engine.log_writer import run
from tests.core.engine.scenarios import rich_log


def entry(**figures: Any) -> Balance:
    """Returns a balance of `events/0`; all figures that are not named are 0."""
    zeros = ("in_flight", "received", "counted", "duplicate", "late", "replayed", "lost_offsets")
    plain = {"topic": "events", "topic_id": "id-1", "partition": 0, "next_offset": 100, "rejected": {}}
    return Balance(**{**dict.fromkeys(zeros, 0), **plain, **figures})


def end(next_offset: int, *, first_offset: int = 0, partition: int = 0, topic_id: str = "id-1") -> SourceEnd:
    return SourceEnd(
        topic="events", topic_id=topic_id, partition=partition, first_offset=first_offset, next_offset=next_offset
    )


EQUAL = entry(received=1_234, counted=1_200, duplicate=10, late=20, rejected={"future": 1, "malformed": 3}, replayed=7)
UNEQUAL = entry(received=5, counted=4)


def lines(account: Account) -> list[list[str]]:
    """Returns the printed table, split at spaces."""
    console = Console(width=120, file=io.StringIO())
    console.print(table(account))
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("balances", "ends", "code", "said"),
    [
        ([EQUAL], [], 0, "equal: received = counted + duplicate + late + rejected"),
        ([EQUAL], [end(100)], 0, "equal: received"),
        ([EQUAL], [end(107)], 2, "not known yet: 7 messages are not in a checkpoint; try --wait"),
        ([EQUAL], [end(100), end(3, partition=1)], 2, "not known yet: 3 messages are not in a checkpoint"),
        ([EQUAL], [end(100), end(3, topic_id="id-2")], 2, "not known yet: 3 messages are not in a checkpoint"),
        ([EQUAL], [end(100), end(3, first_offset=3, partition=1)], 0, "equal: received"),
        ([entry(received=5, counted=4, in_flight=3)], [], 2, "not known yet: 3 messages are applied in some"),
        ([UNEQUAL], [], 1, "NOT EQUAL: received differs"),
        ([UNEQUAL, entry(partition=1, in_flight=1)], [end(107)], 1, "NOT EQUAL"),
        ([], [], 2, "no checkpoint yet, nothing to compare: is a `qma worker` running?"),
        ([], [end(12)], 2, "nothing to compare; 12 messages wait in the sources"),
    ],
)
def test_exit_code_and_verdict_agree(balances: list[Balance], ends: list[SourceEnd], code: int, said: str):
    account = reconcile(balances, ends)

    assert exit_code(account) == code
    assert said in verdict(account)


def test_offsets_that_expired_unread_are_said_even_when_the_rest_is_equal():
    account = reconcile([entry(received=1, counted=1, lost_offsets=1_500)], [])

    assert "1,500 offsets expired before they were read" in verdict(account)


def test_a_message_before_the_first_one_kept_is_not_waited_for():
    account = reconcile([entry(next_offset=10)], [end(100, first_offset=60)])

    assert account.unread == [40]


def test_the_table_has_a_line_per_source_and_one_for_all():
    account = reconcile([EQUAL, entry(partition=1, received=2, counted=2)], [end(105), end(100, partition=1)])

    header, first, second, total = lines(account)
    assert header[:5] == ["source", "received", "counted", "duplicate", "late"]
    assert first == ["events/0", "1,234", "1,200", "10", "20", "4", "0", "5", "7", "future", "1,", "malformed", "3"]
    assert second == ["events/1", "2", "2", "0", "0", "0", "0", "0", "0"]
    assert total == ["all", "1,236", "1,202", "10", "20", "4", "0", "5", "7"]


def test_sources_that_hold_nothing_are_left_out():
    account = reconcile([EQUAL, *(entry(partition=number) for number in range(1, 32))], [])

    assert [line[0] for line in lines(account)] == ["source", "events/0"]


def test_a_real_ledger_balances():
    engine, _ = run(rich_log())
    account = reconcile(balance([engine.ledger]), [])

    assert exit_code(account) == 0
    refused = next(line for line in lines(account) if line[0] == "extra/0")
    assert refused[1:6] == ["3", "0", "0", "0", "3"]
    assert refused[-2:] == ["malformed", "3"]
    assert "3 offsets expired before they were read" in verdict(account)
