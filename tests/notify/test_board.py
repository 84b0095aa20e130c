"""Which alerts Alertmanager hears of: those that fire and were told, and for a while those that ended."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator

from stream.core.errors import IncompatibleError
from stream.core.rendering import Rendered, render
from stream.core.units import MINUTE_NS, SECOND_NS
from stream.notify.board import Alert, Board
from tests.core.engine.log_writer import run
from tests.core.engine.scenarios import BAD, rich_log
from tests.notify.written import KEY, PAGE, SERVICE, T0_NS, TICKET, alert_id, at, burn_rate, listed, status

SCHEMAS = Path(__file__).parents[2] / "schemas" / "topics"


def ns(minute: int) -> int:
    return T0_NS + minute * MINUTE_NS


def firing(board: Board, minute: int = 0) -> dict[str, Alert]:
    """Returns what fires, by rule."""
    return {alert.labels["rule"]: alert for alert in board.alerts(ns(minute)) if alert.ends_at is None}


def ended(board: Board, minute: int) -> dict[str, str]:
    """Returns when what ended did, by rule."""
    return {alert.labels["rule"]: alert.ends_at for alert in board.alerts(ns(minute)) if alert.ends_at}


def of(*values: bytes | None) -> Board:
    """Returns the board after statuses of one objective, one a minute."""
    board = Board()
    for minute, value in enumerate(values):
        board.take_status(KEY, value, ns(minute + 1))
    return board


@pytest.mark.parametrize("value", [status(0, listed()), burn_rate(0, "firing", "why")])
def test_what_these_tests_write_is_what_the_topics_hold(value: bytes):
    event = orjson.loads(value)
    schema = json.loads((SCHEMAS / f"{event['type'].removeprefix('qma.')}.schema.json").read_text())

    assert [error.message for error in Draft202012Validator(schema).iter_errors(event)] == []


def test_an_alert_is_named_by_labels_without_figures_and_told_by_annotations():
    board = Board()
    board.take_burn_rate(burn_rate(0, "firing", "It burned 20 times too fast."), ns(1))
    board.take_status(KEY, status(0, listed()), ns(1))

    [alert] = board.alerts(ns(1))
    assert alert.labels == {
        "alertname": "ObjectiveAtRisk",
        "severity": "page",
        "pipeline": "test",
        "service": SERVICE,
        "environment": "prod",
        "namespace": "shop",
        "objective": "availability",
        "rule": PAGE,
        "qma_alert": alert_id(PAGE),
        "sloth_id": f"{SERVICE}-availability",
    }
    assert alert.annotations == {
        "summary": f"{SERVICE}: availability (target 0.999) is at risk: page-1h-5m",
        "description": "It burned 20 times too fast.",
        "runbook_url": "https://wiki.example/checkout",
    }
    assert (alert.starts_at, alert.ends_at) == (at(0), None)


def test_names_are_those_that_people_wrote_and_an_absent_namespace_is_no_label():
    board = Board()
    for service in ("eu%2Fwest/-/a", "prod/%2D/b"):
        board.take_status(f"{service}/availability".encode(), status(0, listed(service=service), service=service), 0)

    first, second = (alert.labels for alert in board.alerts(0))
    assert (first["environment"], "namespace" in first) == ("eu/west", False)
    assert second["namespace"] == "-"
    assert first["service"] == "eu%2Fwest/-/a"


@pytest.mark.parametrize("rest", [{"told": False}, {"state": "pending", "told": False}])
def test_what_is_held_back_or_pending_is_not_told(rest: dict):
    assert of(status(0, listed(**rest))).alerts(ns(1)) == []


def test_an_alert_that_was_held_back_is_told_later():
    board = of(status(0, listed(told=False)), status(1, listed(told=True)))

    assert firing(board).keys() == {PAGE}


def test_the_explanation_may_come_later_than_the_status():
    board = of(status(0, listed()))
    assert firing(board)[PAGE].annotations["description"] == f"{PAGE} has burned since {at(0)}."

    assert board.take_burn_rate(burn_rate(0, "firing", "why"), ns(1))
    assert firing(board)[PAGE].annotations["description"] == "why"
    assert not board.take_status(KEY, status(1, listed()), ns(2)), "nothing that Alertmanager would show has changed"


def test_what_ends_is_told_for_five_minutes_after_it_was_published():
    board = of(status(0, listed()), status(1))

    assert ended(board, 2) == {PAGE: at(2)}
    assert ended(board, 6) == {PAGE: at(2)}
    assert board.alerts(ns(7)) == []


def test_the_end_of_one_alert_leaves_the_others():
    board = of(status(0, listed(), listed(TICKET)), status(1, listed(TICKET)))

    assert (list(firing(board, 2)), list(ended(board, 2))) == ([TICKET], [PAGE])


def test_what_fires_again_has_not_ended():
    board = of(status(0, listed()), status(1), status(2, listed(began_at=at(2))))

    assert ended(board, 3) == {}
    assert firing(board, 3)[PAGE].starts_at == at(2)


def test_a_resolution_is_explained():
    records = {
        "status": lambda board: board.take_status(KEY, status(1), ns(2)),
        "event": lambda board: board.take_burn_rate(burn_rate(1, "resolved", "It is well again."), ns(2)),
    }
    for order in permutations(records):
        board = of(status(0, listed()))
        board.take_burn_rate(burn_rate(0, "firing", "why"), ns(1))
        changed = [records[name](board) for name in order]

        assert any(changed)
        [alert] = board.alerts(ns(2))
        assert alert.ends_at == at(2)
        assert alert.annotations["description"] == "It is well again."


def test_an_objective_that_is_no_longer_configured_has_no_alerts():
    """Its last status lists the alert for ever; the event after it says that it ended."""
    board = of(status(0, listed()))

    assert board.take_burn_rate(burn_rate(5, "resolved", "Nobody watches it."), ns(6))

    assert firing(board, 6) == {}
    assert ended(board, 6) == {PAGE: at(6)}
    again = Board()  # after a restart, whichever topic is read first
    again.take_burn_rate(burn_rate(5, "resolved", "Nobody watches it."), ns(6))
    again.take_status(KEY, status(0, listed()), ns(1))
    assert again.alerts(ns(6)) == []


def test_a_status_that_lags_behind_the_event_does_not_bring_the_alert_back():
    board = of(status(0, listed()))
    board.take_burn_rate(burn_rate(5, "resolved", "over"), ns(6))

    for minute in (1, 2, 3, 4):
        board.take_status(KEY, status(minute, listed()), ns(minute + 1))
        assert firing(board, 6) == {}
    board.take_status(KEY, status(6, listed(began_at=at(6))), ns(7))
    assert firing(board, 7).keys() == {PAGE}


def test_a_deleted_status_ends_its_alerts():
    board = of(status(0, listed()), None)

    assert ended(board, 2) == {PAGE: at(2)}
    assert board.take_status(KEY, None, ns(3)) is False


def test_an_alert_never_ends_before_it_began():
    """Alertmanager refuses such an alert."""
    board = of(status(0, listed(began_at=at(9))), status(1))

    assert ended(board, 2) == {PAGE: at(9)}


def test_an_edited_objective_has_other_alerts_and_those_of_the_old_one_end():
    edited = listed(alert="f" * 32)
    board = of(status(0, listed()), status(1, edited))

    assert firing(board, 2)[PAGE].labels["qma_alert"] == "f" * 32
    assert ended(board, 2) == {PAGE: at(2)}


def test_after_a_restart_what_ended_long_ago_is_not_told_again():
    records = [(status(0, listed()), ns(1)), (status(1), ns(2)), (status(2), ns(3))]
    board = Board()
    for value, published_ns in records:
        board.take_status(KEY, value, published_ns)

    assert ended(board, 4) == {PAGE: at(2)}
    assert board.alerts(ns(60)) == []


def test_other_events_on_the_topics_are_left_alone():
    other = orjson.dumps({"type": "qma.certificate-status.v1"})

    assert Board().take_status(b"prod/shop/checkout/v1", other, 0) is False
    assert Board().take_burn_rate(other, 0) is False


def test_a_newer_version_of_an_event_is_refused_and_not_guessed():
    newer = status(0, listed()).replace(b"qma.status.v1", b"qma.status.v2")

    with pytest.raises(IncompatibleError, match=r"type qma\.status\.v2, this program reads qma\.status\.v1"):
        Board().take_status(KEY, newer, 0)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'"x"', b'{"type": 1}'])
def test_what_is_no_event_is_said(value: bytes):
    with pytest.raises(ValueError):
        Board().take_status(KEY, value, 0)


@pytest.mark.parametrize("began_at", ["soon", 5, None])
def test_an_alert_that_began_at_no_time_is_refused_and_changes_nothing(began_at: object):
    """How far back events are read at the start depends on it."""
    board = of(status(0, listed()))
    with pytest.raises((ValueError, TypeError)):
        board.take_status(KEY, status(1, {**listed(TICKET), "began_at": began_at}), ns(2))

    assert list(firing(board)) == [PAGE]
    assert board.fires_since() == listed()["began_at"]


def rendered() -> list[Rendered]:
    return [render(output) for output in run(rich_log())[1]]


def test_what_a_real_fold_writes_is_followed_through_firing_and_resolved():
    board = Board()
    seen: list[Alert] = []
    records = [record for record in rendered() if record.topic in ("status", "burn-rate")]
    for n, record in enumerate(records):
        if record.topic == "status":
            board.take_status(record.key, record.value or None, n * SECOND_NS)
        else:
            board.take_burn_rate(record.value, n * SECOND_NS)
        for alert in board.alerts(n * SECOND_NS):
            if not seen or alert != seen[-1]:
                seen.append(alert)

    pages = [alert for alert in seen if alert.labels["rule"] == PAGE]
    assert {alert.labels["service"] for alert in pages} == {BAD}
    assert any(alert.ends_at is None and "1h and 5m" in alert.annotations["description"] for alert in pages)
    assert (pages[0].ends_at, pages[-1].ends_at is None) == (None, False)
    told = [orjson.loads(record.value)["data"] for record in records if record.value and record.topic == "burn-rate"]
    never_told = {data["alert"] for data in told} - {data["alert"] for data in told if data["notify"]}
    assert never_told, "the scenario holds some back"
    assert not never_told & {alert.identity for alert in seen}
