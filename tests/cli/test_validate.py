"""`qma validate`: a line for everything that is wrong or doubtful, then what was understood."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from stream.cli import apply, validate

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "schemas/config/examples"
AVAILABILITY = str(EXAMPLES / "availability.yaml")
BROKEN = str(Path(__file__).with_name("broken.yaml"))
DOUBTFUL = str(ROOT / "deploy/slo/order-events-latency.yaml")


def run(*arguments: str) -> int:
    """Runs `qma validate`, or another command that the arguments name."""
    parser, is_apply = argparse.ArgumentParser(), arguments[0] == "apply"
    (apply if is_apply else validate).configure(parser)
    parsed = parser.parse_args(arguments[1:] if is_apply else arguments)
    code: int = parsed.run(parsed)
    return code


def test_a_valid_file_is_0_with_a_table_of_what_was_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(EXAMPLES / "latency-p99.yaml")) == 0

    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "latency-p99 production/shop/checkout 0.99 slices of 1m in which at least 0.99 of requests take" in shown
    assert shown.endswith("1 objective, 0 problems, 0 warnings: valid ")


def test_a_wrong_file_is_78_with_a_line_for_each_problem_and_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(BROKEN, AVAILABILITY) == 78

    printed = capsys.readouterr()
    places = re.findall(rf"^{re.escape(BROKEN)}:(\d+):(\d+): (\S+): .*; .*", printed.out, re.MULTILINE)
    assert [path for _, _, path in places] == ["spec.timeWindow[0].isRollin", "spec.objectives[0].target"]
    assert printed.out.endswith("2 problems, 0 warnings: not valid\n")
    assert "availability" not in printed.out
    assert printed.err == ""


def test_warnings_are_fatal_only_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DOUBTFUL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(": warning: " in text for text in lines) == 2
    assert run("--strict", DOUBTFUL) == 78
    assert capsys.readouterr().out.splitlines() == lines


def test_a_file_that_does_not_exist_is_78_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("nowhere.yaml") == 78
    assert capsys.readouterr().out.startswith("nowhere.yaml:1:1: file: cannot be read (No such file")


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", BROKEN, DOUBTFUL) == 78
    wrong = json.loads(capsys.readouterr().out)
    assert wrong["valid"] is False
    assert wrong["problems"][0] == {
        "file": BROKEN,
        "line": 42,
        "column": 7,
        "path": "spec.timeWindow[0].isRollin",
        "message": "is not a known field; did you mean `isRolling`?",
    }

    assert run("--json", str(EXAMPLES / "planned-exclusion.yaml"), str(EXAMPLES / "calendar-month.yaml")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], found["problems"], len(found["warnings"])) == (True, [], 2)
    assert [(one["name"], one["target"]) for one in found["objectives"]] == [
        ("planned-exclusion", "0.999"),
        ("calendar-month", "0.995"),
    ]
    assert found["objectives"][0]["says"] == (
        "production/shop/checkout planned-exclusion: 0.999 of requests succeed, over 30d"
    )
    assert [len(found[name]) for name in ("calendars", "adjustments", "mutes")] == [1, 1, 1]


@pytest.mark.parametrize("command", [(), ("apply", "--dry-run")])
def test_what_is_declared_about_times_is_said(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    assert run(*command, str(EXAMPLES / "planned-exclusion.yaml")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "database-move: 120 minutes from 2026-12-06 01:00 UTC do not count against the budget of planned-exclusion"
    ) in lines
    assert (
        "database-move: notifications of production/shop/checkout are held back for 180 minutes from 2026-12-06 "
        "01:00 UTC"
    ) in lines


@pytest.mark.parametrize(("events", "warned"), [("5", True), ("0.5", True), ("10000", False)])
def test_traffic_is_looked_at_where_it_is_known(capsys: pytest.CaptureFixture[str], events: str, warned: bool) -> None:
    assert run("--events-per-hour", events, AVAILABILITY) == 0
    assert ("without a failure are needed to show 0.999" in capsys.readouterr().out) is warned


@pytest.mark.parametrize("events", ["0", "-1", "many", "1e9", "1/0", "9" * 30])
def test_a_traffic_that_is_none_is_wrong_usage(events: str) -> None:
    with pytest.raises(SystemExit):
        run(f"--events-per-hour={events}", AVAILABILITY)


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ("error-rate", "0.999 of requests do not have http.response.status_code=500|501|502|503|504"),
        ("error-rate-by-counters", "0.999 of what shop.orders counts is not in shop.orders.failed"),
        ("saturation", "0.99 of points of k8s.container.cpu_limit_utilization are less than 0.7"),
        ("readiness", "0.999 of slices of 1m in which at least 0.95 of points of k8s.container.ready (each as good as"),
        ("busy-and-quiet", "0.999 of requests succeed, each slice of 5m counting the same, over 30d"),
        ("freshness", "0.99 of pipeline.loaded events have a pipeline.freshness_s of at most 300"),
        ("calendar-month", "0.995 of requests succeed, in each 1M@2026-01-01T00:00:00 Europe/Berlin"),
        ("routes-and-versions", "0.99 of requests to 1.10 and 1.11 with http.route=/orders|/orders/{id} without"),
    ],
)
def test_objectives_are_said_in_words(capsys: pytest.CaptureFixture[str], example: str, said: str) -> None:
    assert run("apply", "--dry-run", str(EXAMPLES / f"{example}.yaml")) == 0
    assert f" {example}: {said}" in capsys.readouterr().out


def test_apply_says_warnings_beside_its_output_and_stops_at_them_where_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("apply", "--dry-run", DOUBTFUL) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    assert printed.err.count(": warning: ") == len(printed.err.splitlines()) == 2

    assert run("apply", "--dry-run", "--strict", DOUBTFUL) == 78
    assert capsys.readouterr().out == ""


def test_composites_and_inventories_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", str(EXAMPLES / "composite.yaml"), str(EXAMPLES / "coverage.yaml")) == 0
    says = {o["name"]: o["says"] for o in json.loads(capsys.readouterr().out)["objectives"]}
    assert says["composite"] == (
        "production/shop/shop composite: 0.997 of the mean minute of 3 x composite-checkout, 1 x composite-search, "
        "1 x composite-shipping, over 30d"
    )
    assert says["composite/calls-of-search@checkout"] == (
        "production/shop/search composite/calls-of-search@checkout: 0.997 of calls with service.peer.name=checkout "
        "succeed, over 30d"
    )
    assert says["coverage"] == (
        "production/shop/instrumentation coverage: 0.9 of 6 services or spans seen within 1d, over 30d"
    )
