"""Alerts of composites: they name the component that burns and the service that others fail with, and they end."""

import json
from functools import lru_cache
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from stream.core.events import AlertEvent, StatusEvent
from stream.core.rendering import render
from stream.core.slo.alerts import AlertState
from stream.ingest.indicators import EVENTS_MAX
from tests.core.engine.indicator_writer import (
    CHECKOUT,
    ORDERS,
    PAYMENTS,
    T0,
    JourneyWriter,
    Said,
    call,
    component,
    composite,
    journey,
    of_journey,
)
from tests.core.engine.log_writer import run

SCHEMAS = Path(__file__).parents[3] / "schemas" / "topics"
MINUTES, BEGAN, ENDED = 160, 90, 130


def story_log(*, beside_payments: int) -> list[tuple[int, bytes]]:
    """Returns the log of an outage: payments fails for forty minutes, and checkout and orders with it, as often as
    they call it; beside it, orders fails by itself."""
    calls = (call(CHECKOUT, ORDERS), call(ORDERS, PAYMENTS), call(CHECKOUT, PAYMENTS))
    whole = composite(component(CHECKOUT), component(ORDERS, "2"), component(PAYMENTS, "5"), calls=calls)
    writer = JourneyWriter(journey(whole))
    for minute in range(MINUTES):
        burns = BEGAN <= minute < ENDED
        said = [
            Said(minute, CHECKOUT, 100, 60 * burns),
            Said(minute, ORDERS, 100, 50 * burns + beside_payments),
            Said(minute, PAYMENTS, 100, 100 * burns),
            Said(minute, CHECKOUT, 30, 10 * burns, objective="to-orders"),
            Said(minute, CHECKOUT, 100, 90 * burns, objective="to-payments"),
            Said(minute, ORDERS, 200, 100 * burns, objective="to-payments"),
        ]
        writer.record(said, read_until=minute + 2.1)
    return writer.log


def story(*, beside_payments: int):
    """Returns the engine and the outputs after it."""
    return run(story_log(beside_payments=beside_payments))


@lru_cache
def outputs():
    """Returns what comes of an outage of payments."""
    return tuple(story(beside_payments=0)[1])


def alerts(rule: str) -> list[AlertEvent]:
    """Returns the events of one rule."""
    return [o for o in outputs() if isinstance(o, AlertEvent) and o.rule.name == rule]


def data_of(event: AlertEvent) -> dict:
    return dict(json.loads(render(event).value)["data"])


def test_an_alert_names_the_component_and_who_fails_with_whom_and_ends():
    began, ended = alerts("page-1h-5m")
    assert [str(e.state) for e in (began, ended)] == ["firing", "inactive"]
    assert BEGAN <= began.minute - T0 < BEGAN + 15
    assert ended.minute - T0 >= ENDED
    said = data_of(began)
    assert said["component"] == f"{PAYMENTS}/availability"
    assert said["version"] is None
    (cause,) = said["causes"]
    assert (cause["service"], cause["affects"]) == (PAYMENTS, [CHECKOUT, ORDERS])
    minutes = began.minute - T0 - BEGAN + 1
    assert (cause["failed_calls"], cause["failed_calls_to_any"]) == (200 * minutes, 200 * minutes)
    assert "of what is bad is of the component prod/shop/payments/availability." in began.explanation
    assert (
        "checkout and orders fail with payments: 100% of their failed calls went to it or to one another."
        in began.explanation
    )
    assert data_of(ended)["causes"] == []
    assert "deploy" not in began.explanation


def test_calls_are_counted_up_to_the_most_that_an_indicator_can_say():
    writer = JourneyWriter(journey(composite(component(ORDERS), calls=(call(CHECKOUT, ORDERS),))))
    for minute in range(70):
        said = [Said(minute, ORDERS), Said(minute, CHECKOUT, EVENTS_MAX, EVENTS_MAX, objective="to-orders")]
        writer.record(said, read_until=minute + 2.1)
    (count,) = of_journey(run(writer.log)[1])[-1].calls
    assert (count.n, count.bad) == (60 * EVENTS_MAX, 60 * EVENTS_MAX)


def test_who_burns_for_reasons_of_its_own_is_no_cause_of_others():
    _, found = story(beside_payments=2)
    slow = [o for o in found if isinstance(o, AlertEvent) and o.state is AlertState.FIRING and o.minute - T0 < BEGAN]
    assert all(event.causes == () for event in slow)
    fast = [o for o in found if isinstance(o, AlertEvent) and o.rule.severity == "page" and o.causes]
    assert {cause.service for event in fast for cause in event.causes} == {PAYMENTS}


def test_what_a_composite_publishes_fulfils_its_schema_and_tells_parts_and_calls():
    for output in outputs():
        rendered = render(output)
        if rendered.value:
            event = json.loads(rendered.value)
            name = event["type"].removeprefix("qma.").removesuffix(".v1")
            schema = json.loads((SCHEMAS / f"{name}.v1.schema.json").read_text())
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(event)]
            assert not errors, (errors, rendered.value)
    event = of_journey(outputs())[ENDED - 1]
    assert [count.n for count in event.calls] == [60 * 30, 60 * 200, 60 * 100]
    assert [count.bad for count in event.calls] == [400, 4000, 3600]
    consumed = [share.consumed_ratio or 0 for share in event.components]
    assert sum(consumed) == pytest.approx(event.budget.consumed_ratio)
    assert max(consumed) == consumed[2]


def test_a_composite_has_a_status_and_stands_beside_the_other_objectives():
    engine, _ = story(beside_payments=0)
    assert [e.objective.name for e in engine.latest.values()] == ["journey"]
    (service,) = engine.services.values()
    assert [o.name for o in service.objectives] == ["journey"]
    assert not service.certificates
    statuses = [o for o in outputs() if isinstance(o, StatusEvent)]
    assert statuses[-1].sli == of_journey(outputs())[-1]
