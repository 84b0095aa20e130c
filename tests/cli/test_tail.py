"""`qma tail`: every event that the fold can put out is one readable line."""

from __future__ import annotations

import re
from functools import lru_cache

import orjson
import pytest

from stream.cli.tail import line
from stream.core.rendering import Rendered, render
from tests.core.engine.log_writer import run
from tests.core.engine.scenarios import BAD, GOOD, rich_log

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@lru_cache
def events() -> tuple[Rendered, ...]:
    return tuple(one for output in run(rich_log())[1] if (one := render(output)).value)


def shown(topic: str) -> list[str]:
    """Returns the lines of a topic, without their times."""
    lines = [line(event.topic, event.value) for event in events() if event.topic == topic]
    assert all(re.match(TIME, shown) for shown in lines)
    return [re.sub(TIME, "TIME", shown).removeprefix("TIME ") for shown in lines]


@pytest.mark.parametrize("topic", ["sli", "burn-rate", "budget", "status", "certificate", "deadletter"])
def test_every_event_is_one_line(topic: str):
    lines = shown(topic)

    assert lines
    for text in lines:
        assert "\n" not in text
        assert not re.search(r"\b(None|True|False)\b|[{}\[]'", text), text


def test_an_indicator_says_minute_window_target_and_budget():
    found = [text for text in shown("sli") if text.startswith(f"{GOOD} availability: minute 100.0000% of ")]

    assert found
    assert re.fullmatch(
        rf"{GOOD} availability: minute 100.0000% of \d+, window 100.0000% \(target 0.99, \d+\.\d\d% covered\), "
        r"budget left at most 100.0%",
        found[0],
    )


def test_a_bad_event_is_shown_by_its_trace():
    found = [re.search(r", worst trace [0-9a-f]{32}$", text) is not None for text in shown("sli")]

    assert set(found) == {True, False}
    assert all(", worst trace" not in text for text in shown("sli") if f"{GOOD} availability" in text)


def test_no_data_is_said_and_not_a_number():
    found = [text for text in shown("sli") if " minute no data of 0," in text]

    assert found
    assert all("[no_data]" in text for text in found)


def test_a_corrected_indicator_says_its_revision():
    assert any(" revision 1" in text for text in shown("sli"))


def test_a_gap_is_said():
    assert any("[gap]" in text for text in shown("sli"))


def test_a_sketch_says_how_many_durations_it_holds():
    assert any(re.fullmatch(rf"{GOOD} sketch of \d+ durations", text) for text in shown("sli"))


def test_an_alert_says_severity_state_and_why():
    lines = shown("burn-rate")

    assert any(
        re.match(rf"PAGE firing {BAD} search-availability, page-1h-5m: Over the last 1h and 5m the ", text)
        for text in lines
    )
    assert any(re.match(rf"(PAGE|TICKET) resolved {BAD} search-availability, ", text) for text in lines)
    assert any("(nobody is told: " in text for text in lines)


def test_a_budget_says_what_an_incident_took_and_when_the_rest_is_gone():
    lines = shown("budget")

    assert any(
        re.search(r": incident from TIME until TIME: \d+ of \d+ bad, \d+\.\d\d% of the budget; ", t) for t in lines
    )
    assert any("incident from TIME still going on" in text for text in lines)
    assert any("seen for the first time" in text for text in lines)
    assert any(re.search(r"; used up \d+% within 24 h, never \d+%, 80 % interval ", text) for text in lines)


def test_a_status_says_window_budget_and_alerts():
    lines = shown("status")

    assert any(re.search(rf"{BAD} search-availability: .*, page-1h-5m firing", text) for text in lines)
    assert any(text.endswith("no alert") for text in lines)


def test_a_pending_certificate_says_every_reason_and_how_to_fix_it():
    lines = [text for text in shown("certificate") if ": pending" in text]

    assert any(
        "insufficient_evidence: " in text
        and re.search(r"availability needs \d+ more good requests, about \d+ min at this rate", text)
        for text in lines
    )
    assert any(
        text.startswith("unknown/-/legacy (no version): pending; ")
        and "environment_unknown: Set the resource attribute deployment.environment.name." in text
        for text in lines
    )


def test_an_issued_certificate_says_until_when_and_a_revoked_one_what_turned():
    lines = shown("certificate")

    assert any(text == f"{GOOD} v1: issued; until TIME, confidence 95%" for text in lines)
    assert any(re.fullmatch(rf"{BAD} v\d: revoked; the evidence turned on search-availability", text) for text in lines)


def test_a_dead_letter_says_where_the_message_is():
    assert "extra/0/1: 2 items rejected, malformed: not JSON" in shown("deadletter")
    assert "extra/0/0: 1 item rejected, malformed: not JSON" in shown("deadletter")


def test_the_time_is_that_of_the_event():
    event = events()[0]

    assert line(event.topic, event.value).startswith(f"{orjson.loads(event.value)['time']} ")
