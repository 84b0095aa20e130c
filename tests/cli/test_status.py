"""`qma status`: what somebody reads who knows nothing of us, and what a script gets as exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
from functools import lru_cache
from typing import Any

import orjson
import pytest
from rich.console import Console

from stream.cli import status as command
from stream.cli.status import exit_code, lines, standings, table, verdict
from stream.core.errors import ConfigError, IncompatibleError
from stream.core.rendering import render, rfc3339
from stream.core.units import MINUTE_NS
from stream.kafka.clients import checkpoint_producer, stop
from stream.kafka.local import LocalKafka
from stream.kafka.topics import TimestampType, apply, pipeline_topics
from tests.core.engine.log_writer import T0_NS as LOG_BEGINS_NS
from tests.core.engine.log_writer import run
from tests.core.engine.scenarios import BAD, GOOD, rich_log
from tests.notify.written import SERVICE, T0_NS, TICKET, listed, status

FULL = {"consumed_ratio": 0.25, "remaining_min_ratio": 0.75, "remaining_max_ratio": 0.75}


def moment(minute: int) -> str:
    return rfc3339(T0_NS + minute * MINUTE_NS)


def objective(service: str = SERVICE, *alerts: dict[str, Any], closed: int = 2, **data: Any) -> bytes:
    """Returns the status of a service whose window is covered, after its first minute, which closed at another."""
    window = orjson.loads(status(0))["data"]["window"]
    window |= {
        "start": moment(1 - 43_200),
        "end": moment(1),
        "complete_at": moment(1),
        "coverage_ratio": 1.0,
        "ratio": 0.99951234,
        "interval_95": [0.99912345, 0.99981234],
    }
    log = {**orjson.loads(status(0))["data"]["log"], "now": moment(closed)}
    shown = {"service": service, "budget": FULL, "window": window, "log": log, **data}
    return status(0, *alerts, **shown)


def shown(*values: bytes, service: str = "*", now_ns: int = T0_NS + 2 * MINUTE_NS) -> tuple[list[dict[str, str]], str]:
    """Returns the lines of the table by their columns, and the verdict."""
    found = standings(values, service, now_ns)
    columns = table(found).columns
    names = [str(column.header) for column in columns]
    rows = zip(*(map(str, column.cells) for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows], verdict(found, service)


def test_a_line_says_everything_about_an_objective():
    [row], said = shown(
        objective(
            SERVICE,
            listed(told=False, state="firing"),
            listed(TICKET),
            listed("ticket-3d-6h", state="pending", told=False),
            burn_rates={"5m": 20.123, "1h": 1234.5, "1d": 0.5},
        )
    )

    assert row == {
        "service": SERVICE,
        "objective": "availability",
        "target": "99.9 %",
        "window": "30d",
        "SLI, 95 % interval": "99.9512 % (99.912..99.982)",
        "budget left": "75 %",
        "burn 1h": "1,234",
        "burn 5m": "20.1",
        "alerts": "PAGE page-1h-5m since 2025-11-24T16:00Z (held back), TICKET ticket-1d-2h since 2025-11-24T16:00Z, "
        "pending ticket-3d-6h since 2025-11-24T16:00Z",
        "as of": "60 s ago",
        "notes": "",
    }
    assert said == "1 objective, 1 page fires, 1 ticket fires, as of 2025-11-24T16:01Z"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.12, 1.0, "12 %..100 %"),
        (-998.97, 0.99985, "<0 %..99.99 %"),
        (0.1299, 0.98761, "12.9 %..98.8 %"),
        (-998.97, 1.0, "<0 %..100 %"),
        (0.99999, 0.99999, "99.9 %"),
        (1.0, 1.0, "100 %"),
        (-0.352, -0.352, "-35.2 %"),
        (0.0, 0.0, "0 %"),
        (None, None, "no data"),
    ],
)
def test_the_budget_is_bounds_while_the_window_is_not_covered(low: float | None, high: float | None, said: str):
    """100 % stands alone only where all was seen and nothing failed."""
    budget = {"consumed_ratio": 0.0, "remaining_min_ratio": low, "remaining_max_ratio": high}

    [row], _ = shown(objective(budget=budget))

    assert row["budget left"] == said


def test_a_window_says_how_much_of_it_was_seen():
    rows, _ = shown(status(0, **{"window": orjson.loads(status(0))["data"]["window"]}))

    assert rows[0]["window"] == "0.0023 % of 30d"


def test_an_indicator_is_rounded_down_so_that_only_1_is_100():
    window = orjson.loads(objective())["data"]["window"]
    for ratio, said in ((0.99999999, "99.9999 %"), (1.0, "100 %"), (0.5, "50 %"), (0.0, "0 %")):
        [row], _ = shown(objective(window={**window, "ratio": ratio}))
        assert row["SLI, 95 % interval"].startswith(f"{said} (")


def test_no_data_is_said_and_is_not_100_percent():
    window = orjson.loads(objective())["data"]["window"] | {"ratio": None, "interval_95": None}
    nothing = {"consumed_ratio": None, "remaining_min_ratio": None, "remaining_max_ratio": None}
    flags = {"no_data": True, "sampling_unknown": False, "catching_up": False, "gap": True}

    [row], said = shown(objective(window=window, budget=nothing, flags=flags, burn_rates={"5m": None}))

    assert (row["SLI, 95 % interval"], row["budget left"]) == ("no data", "no data")
    assert (row["burn 1h"], row["burn 5m"]) == ("-", "no data")
    assert row["notes"] == "no data in the last minute, gap"
    assert said.startswith("1 objective, nothing fires, 1 without data, as of")


def test_the_worst_comes_first():
    spent = {"consumed_ratio": 2.0, "remaining_min_ratio": -1.0, "remaining_max_ratio": -1.0}
    unknown = {"consumed_ratio": None, "remaining_min_ratio": None, "remaining_max_ratio": None}
    values = [
        objective("p/n/quiet"),
        objective("p/n/spent", budget=spent),
        objective("p/n/empty", budget=unknown),
        objective("p/n/pending", listed(state="pending", told=False)),
        objective("p/n/ticket", listed(TICKET)),
        objective("p/n/page", listed()),
        objective("p/n/stale", as_of=moment(-20), closed=-19),
    ]

    rows, _ = shown(*values)

    order = ["page", "ticket", "pending", "stale", "empty", "spent", "quiet"]
    assert [row["service"].removeprefix("p/n/") for row in rows] == order


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([objective()], 0),
        ([objective(SERVICE, listed(TICKET))], 0),
        ([objective(SERVICE, listed(state="pending", told=False))], 0),
        ([objective(SERVICE, listed())], 1),
        ([objective(SERVICE, listed(told=False))], 1),
        ([objective(), objective("p/n/s", listed())], 1),
        ([], 2),
        ([objective(as_of=moment(-5), closed=-4)], 2),
        ([objective(SERVICE, listed(), as_of=moment(-5), closed=-4)], 2),
        ([objective(), objective("p/n/s", as_of=moment(-5), closed=-4)], 0),
    ],
)
def test_the_exit_code_says_whether_a_page_fires_and_whether_anything_is_known(values: list[bytes], code: int):
    assert exit_code(standings(values, "*", T0_NS + 2 * MINUTE_NS)) == code


def test_a_status_is_stale_when_no_minute_closed_for_five_however_late_minutes_close():
    for value, is_stale in (
        (objective(as_of=moment(-4), closed=-3), False),
        (objective(as_of=moment(-5), closed=-4), True),
        (objective(as_of=moment(-9), closed=2), False),  # ten minutes are allowed to be late
        (objective(as_of=moment(-600), closed=1), False),  # a backlog is read
        (objective(as_of=moment(-600), closed=-590), True),
    ):
        [standing] = standings([value], "*", T0_NS + 2 * MINUTE_NS)
        assert standing.is_stale is is_stale

    [row], said = shown(objective(as_of=moment(-600), closed=-590))
    assert (row["as of"], row["notes"]) == ("10 h ago", "stale")
    assert said.splitlines()[1].startswith("1 stale: no minute closed for more than 5 min; `qma doctor --pipeline`")


def test_services_are_chosen_by_a_pattern():
    values = [objective("prod/shop/checkout"), objective("prod/-/batch"), objective("test/shop/checkout")]
    for pattern, count in (("*", 3), ("prod/*", 2), ("*/checkout", 2), ("prod/shop/checkout", 1), ("PROD/*", 0)):
        assert len(standings(values, pattern, T0_NS)) == count

    assert verdict([], "x/*") == "no objective of a service like 'x/*' has a status; `qma status` shows all"
    assert "try --wait 180" in verdict([], "*")


def test_what_a_terminal_would_act_on_is_shown_escaped():
    [row], _ = shown(objective("prod/shop/\x1b[31m[red]x"))

    assert row["service"] == r"prod/shop/\x1b[31m[red]x"


def test_a_narrow_terminal_gets_every_figure():
    out = io.StringIO()
    found = standings([objective(SERVICE, listed(), listed(TICKET))], "*", T0_NS)
    Console(file=out, width=120, highlight=False).print(table(found))

    assert {"PAGE", "99.9512", "75"} <= set(out.getvalue().split())


def test_a_file_gets_one_aligned_line_an_objective():
    found = standings([objective(SERVICE, listed(), listed(TICKET)), objective("p/n/other")], "*", T0_NS)

    header, first, second = lines(found)
    for word, in_first, in_second in (("budget left", "75 %", "75 %"), ("target", "99.9 %", "99.9 %")):
        end = header.index(word) + len(word)
        assert first[:end].endswith(in_first)
        assert second[:end].endswith(in_second)
    at = header.index("alerts")
    assert first[at:].startswith("PAGE ")
    assert second[at:].strip() == "0 s ago"


def test_other_records_of_the_topic_are_no_objectives_and_newer_ones_are_refused():
    assert standings([b'{"type":"qma.certificate-status.v1"}'], "*", 0) == []
    with pytest.raises(IncompatibleError, match="this program reads qma"):
        standings([objective().replace(b"status.v1", b"status.v2")], "*", 0)


@lru_cache
def folded() -> dict[str, bytes]:
    """Returns the latest status of each objective while an alert of a real fold fires."""
    outputs = [render(output) for output in run(rich_log()[:75])[1]]
    return {record.key.decode(): record.value for record in outputs if record.topic == "status" and record.value}


def test_what_a_real_fold_writes_is_shown():
    rows, said = shown(*folded().values(), now_ns=LOG_BEGINS_NS + 75 * MINUTE_NS)

    assert rows[0]["service"] == BAD
    assert rows[0]["alerts"].startswith("PAGE page-6h-30m since 2025-11-24T17:08Z, ")
    assert {row["service"] for row in rows} > {GOOD, BAD}
    assert all(row["budget left"].startswith("<0 %..") for row in rows if row["budget left"] != "no data")
    assert "fires" in said


def qma_status(kafka: LocalKafka, prefix: str, *arguments: str) -> tuple[int, str]:
    """Runs the command. Returns exit code and stdout."""
    parser = argparse.ArgumentParser()
    command.configure(parser)
    parsed = parser.parse_args(["--broker", kafka.bootstrap, "--prefix", prefix, *arguments])
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = parsed.run(parsed)
    return code, out.getvalue()


def create(kafka: LocalKafka, prefix: str, clock: TimestampType) -> None:
    asyncio.run(apply(kafka.bootstrap, pipeline_topics(prefix, 2, 1, clock)))


def commit(kafka: LocalKafka, prefix: str, *records: tuple[str, bytes | None]) -> None:
    """Writes records to `status` in one transaction."""

    async def write() -> None:
        producer = await checkpoint_producer(kafka.bootstrap, prefix)
        try:
            await producer.begin_transaction()
            for service, value in records:
                await (await producer.send(f"{prefix}status", value, key=service.encode(), partition=1))
            await producer.commit_transaction()
        finally:
            await stop(producer)

    asyncio.run(write())


@pytest.mark.kafka
def test_the_latest_of_each_objective_is_read_from_kafka(kafka: LocalKafka, topic_prefix: str):
    with pytest.raises(ConfigError, match="`qma topics apply`"):
        qma_status(kafka, topic_prefix)
    create(kafka, topic_prefix, "CreateTime")
    code, out = qma_status(kafka, topic_prefix, "--wait", "0")
    assert (code, out.split(":")[0]) == (2, "no status yet")

    commit(
        kafka,
        topic_prefix,
        ("a", objective("prod/shop/a", listed())),
        ("b", objective("prod/shop/b")),
        ("gone", objective("prod/shop/gone", listed())),
    )
    assert qma_status(kafka, topic_prefix)[0] == 1
    commit(kafka, topic_prefix, ("a", objective("prod/shop/a")), ("gone", None))

    code, out = qma_status(kafka, topic_prefix)
    assert code == 0
    header, *lines, said = out.splitlines()
    assert header.startswith("service ")
    assert [line.split()[0] for line in lines] == ["prod/shop/a", "prod/shop/b"]
    assert said == "2 objectives, nothing fires, as of 2025-11-24T16:01Z"

    code, out = qma_status(kafka, topic_prefix, "--json", "--service", "*/b")
    [shown] = [orjson.loads(line) for line in out.splitlines()]
    assert (shown["service"], shown["stale"], shown["age_s"]) == ("prod/shop/b", False, 60.0)
    assert shown["budget"] == FULL


@pytest.mark.kafka
def test_with_the_brokers_clock_a_status_of_last_year_is_stale(kafka: LocalKafka, topic_prefix: str):
    create(kafka, topic_prefix, "LogAppendTime")
    commit(kafka, topic_prefix, ("a", objective()))

    code, out = qma_status(kafka, topic_prefix, "--wait", "0.1")

    assert code == 2
    assert "1 stale: no minute closed for more than 5 min" in out
