"""`qma plan`, as somebody sees it who calls it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.cli import main

DAY_S = 86_400.0


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]):
    """Runs the command on one line of arguments. Returns what it prints."""

    def run(line: str) -> str:
        assert main(["plan", *line.split()]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run


@pytest.fixture
def planned(plan):
    """Runs the command with `--json`. Returns the object."""

    def run(line: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(plan(f"{line} --json"))
        return body

    return run


def alerts(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {alert["rule"]: alert for alert in body["alerts"]}


def test_a_month_of_three_nines(planned):
    # Workbook, chapter 5: table 5-8; total outage and exhaustion computed from its formulas.
    body = planned("--target 99.9 --period 30d --events-per-hour 10")

    assert (body["target_ratio"], body["period_minutes"], body["events_per_hour"]) == (0.999, 43_200, 10.0)
    assert (body["budget_minutes"], body["budget_events"]) == (43.2, 7.2)
    exhausts = {"total_outage": 2592.0, "x10": 3 * DAY_S, "x5": 6 * DAY_S, "x2": 15 * DAY_S}
    assert body["exhausts_s"] == exhausts
    page = alerts(body)["page-1h-5m"]
    assert (page["severity"], page["long"], page["short"]) == ("page", "1h", "5m")
    assert (page["factor"], page["nominal_factor"], page["budget_share_ratio"]) == (14.4, 14.4, 0.02)
    assert (page["reachable"], page["sustainable"]) == (True, False)
    assert page["detect_s"] == {"total_outage": 51.84, "x10": None, "x5": None, "x2": None}
    assert page["reset_s"]["total_outage"] == 295.68
    assert [name for name, alert in alerts(body).items() if alert["availability_only"]] == ["page-5x-6h-30m"]
    slow = alerts(body)["ticket-3d-6h"]
    assert (slow["detect_s"]["total_outage"], slow["detect_s"]["x2"]) == (259.2, 1.5 * DAY_S)


def test_the_exhaustion_alert_by_what_is_left(planned):
    # A month's budget is gone within 24 h above 30, 15 and 3 times with 100, 50 and 10 % of it left.
    (alert,) = planned("--target 99.9 --events-per-hour 10")["exhaustion_alerts"]

    assert alert["factor_by_budget_left"] == {"full": 30.0, "half": 15.0, "tenth": 3.0}
    # At 2 times 15 days remain; after 14 of them one.
    assert alert["detect_s"]["x2"] == 14 * DAY_S


def test_one_failure_at_low_traffic_is_told_as_what_it_is(planned):
    # Workbook, chapter 5, corrected: one failure in 10 requests an hour burns 100 times and is 13.9 % of the budget.
    body = planned("--target 99.9 --events-per-hour 10")

    assert body["one_failure"]["burn_rate_1h"] == 100.0
    assert body["one_failure"]["budget_share_ratio"] == pytest.approx(0.139, abs=5e-4)
    assert "page-1h-5m" in body["one_failure"]["fires"]
    (finding,) = body["findings"]
    assert finding["about"] == "traffic"
    assert "one failure fires page-1h-5m" in finding["says"]


def test_how_long_until_a_version_is_certified(planned):
    # Zero failures: the e-process needs 3,678 events, one look (Clopper-Pearson) 2,995.
    certify = planned("--target 99.9 --events-per-hour 10")["certify"]

    assert certify["confidence"] == 0.95
    assert certify["zero_failures"] == {"events": 3678, "days": 15.325}
    assert certify["fixed_zero_failures"]["events"] == 2995
    assert certify["fifth_budget"]["error_ratio"] == 0.0002
    waits = [certify["zero_failures"], certify["fifth_budget"]["p50"], certify["half_budget"]["p50"]]
    waits.append(certify["half_budget"]["p90"])
    assert [wait["events"] for wait in waits] == sorted({wait["events"] for wait in waits})
    assert all(wait["days"] == pytest.approx(wait["events"] / 240) for wait in waits)


def test_the_finest_objective_that_it_names_is_one_that_it_finds_nothing_wrong_with(planned):
    body = planned("--target 99.999 --period 7d --events-per-hour 1000")
    (finding,) = [finding for finding in body["findings"] if "finer than this traffic" in finding["says"]]
    finest = body["finest_target_ratio"]
    assert f"{finest * 100:.6g} %" in finding["fix"][0]

    again = planned(f"--target {finest * 100:.6g} --period 7d --events-per-hour 1000")
    assert again["certify"]["zero_failures"]["days"] <= 7
    assert not [finding for finding in again["findings"] if "finer than this traffic" in finding["says"]]


def test_a_target_too_low_for_an_alert_is_a_finding_with_a_target_that_is_not(planned):
    # 14.4 times cannot be reached below 93.06 %, 6 times not below 83.33 %.
    body = planned("--target 80 --events-per-hour 36000")
    found = {finding["about"]: finding for finding in body["findings"]}

    assert alerts(body)["page-1h-5m"]["reachable"] is False
    assert found["page-1h-5m"]["fix"][0] == "set a target above 93.06 %"
    assert found["page-6h-30m"]["fix"][0] == "set a target above 83.34 %"
    assert "ticket-1d-2h" not in found
    better = planned("--target 93.06 --events-per-hour 36000")
    assert alerts(better)["page-1h-5m"]["reachable"] is True


def test_a_share_that_would_ticket_sustainable_burning_is_a_finding(planned):
    # Sloth's 28 d ticket has the factor 0.9333; its 7 d shares give 13.44, 3.5, 1.4 and 0.98.
    month = alerts(planned("--target 99.9 --period 28d --events-per-hour 36000"))["ticket-3d-6h"]
    assert (month["nominal_factor"], month["factor"]) == (pytest.approx(0.9333, abs=5e-5), 1.0)
    body = planned("--target 99.9 --period 1w --events-per-hour 36000 --shares 8,12.5,20,42")

    workbook = [alert["nominal_factor"] for alert in body["alerts"][:4]]
    assert workbook == [13.44, 3.5, 1.4, 0.98]
    assert [alert["sustainable"] for alert in body["alerts"][:4]] == [False, False, False, True]
    (finding,) = [finding for finding in body["findings"] if finding["about"] == "ticket-3d-6h"]
    assert "at a burn rate of 0.98" in finding["says"]
    (fix,) = finding["fix"]
    assert fix == "take a longer period, or a share above 42.86 %"
    repaired = planned("--target 99.9 --period 1w --events-per-hour 36000 --shares 8,12.5,20,42.86")
    assert repaired["findings"] == []


def test_a_budget_shorter_than_any_decision_is_a_finding(planned):
    # Workbook, chapter 5: a total outage at 99.999 % leaves 26 s.
    body = planned("--target 99.999 --events-per-hour 3600000")

    assert body["exhausts_s"]["total_outage"] == 25.92
    assert body["decision_delay_s_max"] == 120
    (finding,) = body["findings"]
    assert finding["about"] == "budget"
    assert "in 25.9 s" in finding["says"]


def test_alerts_that_do_not_fit_into_the_period_are_left_out_and_named(planned):
    body = planned("--target 99 --period 1d --events-per-hour 36000")

    assert "ticket-3d-6h" not in alerts(body)
    assert "left out" in {finding["about"]: finding["says"] for finding in body["findings"]}["ticket-3d-6h"]


def test_what_people_see(plan):
    lines = plan("--target 99.9 --events-per-hour 10").splitlines()

    assert lines[0] == "99.9 % of the events of every 30d are good, at 10 events an hour"
    assert "error budget  43.2 min of total outage, or 7.2 of 7,200 events" in lines
    (page,) = [" ".join(line.split()) for line in lines if line.startswith("page-1h-5m")]
    assert page == "page-1h-5m 1h and 5m 14.4× 2 % 51.8 s 4.93 min never never never never"
    assert any(line.startswith("never") and line.count("3,678 events, 15.3 d") == 2 for line in lines)
    assert "The finest objective that 30d of this traffic can certify is 99.9489 %." in lines
    assert lines[lines.index("findings") + 1].startswith("  1. traffic: one failure fires page-1h-5m")
    assert not any("…" in line for line in lines)


def test_a_percent_sign_and_the_default_period_are_understood(plan):
    assert plan("--target 99.5% --events-per-hour 0.5") == plan("--target 99.50 --period 720h --events-per-hour 0.5")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--target 0.999 --events-per-hour 1", "'0.999' is less than 1 %; targets are percentages, write 99.9"),
        ("--target 100 --events-per-hour 1", "'100' is not a percentage from 1 to below 100"),
        ("--target 99.99999999999 --events-per-hour 1", "with at most 10 decimals"),
        ("--target nan --events-per-hour 1", "'nan' is not a percentage"),
        ("--target 99.9 --period 1M --events-per-hour 1", "'1M' is not a whole number and one of m, h, d, w"),
        ("--target 99.9 --period 91d --events-per-hour 1", "'91d' is not between 1 hour and 90 days"),
        ("--target 99.9 --events-per-hour 0", "'0' is not a number of events above 0"),
        ("--target 99.9 --events-per-hour inf", "'inf' is not a number of events above 0"),
        ("--target 99.9 --events-per-hour 1 --shares 2,5,10", "'2,5,10' is not 4 percentages"),
        ("--target 99.9 --events-per-hour 1 --shares 2,5,10,101", "is not 4 percentages above 0 and up to 100"),
        ("--target 99.9", "arguments are required: --events-per-hour"),
    ],
)
def test_what_cannot_be_is_64_and_says_what_to_write(line: str, said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *line.split()])

    printed = capsys.readouterr()
    assert ended.value.code == 64
    assert said in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    "line",
    [
        "--target 1 --period 1h --events-per-hour 0.000000001",
        "--target 99.9999999999 --period 90d --events-per-hour 1000000000000",
        "--target 99.9999999999 --period 60m --events-per-hour 0.001 --shares 0.000001,100,100,100",
        "--target 50 --period 3d --events-per-hour 1",
    ],
)
def test_the_ends_of_what_can_be_asked_are_answered(line: str, plan, planned):
    plan(line)
    body = planned(line)
    for alert in body["alerts"]:
        assert alert["factor"] >= 1
        assert alert["reachable"] == (alert["detect_s"]["total_outage"] is not None)


def test_five_percent_more_errors_take_millions_of_requests_to_tell(plan, planned):
    # From 0.1 % to 0.105 %, 6.43 million requests of each version.
    body = planned("--target 99.9 --events-per-hour 36000 --delta 5")

    assert (body["compare"]["events_of_each"], body["compare"]["delta_ratio"]) == (6_429_484, 0.05)
    assert body["compare"]["days"] == pytest.approx(2 * 6_429_484 / 36_000 / 24)
    assert planned("--target 99.9 --events-per-hour 36000")["compare"] is None
    said = plan("--target 99.9 --events-per-hour 36000 --delta 5%")
    assert "fails 0.105 % instead of 0.1 % takes 6,429,484 events of each version to tell" in said


@pytest.mark.parametrize("delta", ["0", "-5", "1001", "five"])
def test_a_difference_that_is_none(delta, capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--target", "99.9", "--events-per-hour", "10", f"--delta={delta}"])
    assert "is not a percentage above 0 and up to 1000" in capsys.readouterr().err
