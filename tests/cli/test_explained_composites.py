"""What `qma explain` says of events of composites: components, causes, and what cannot be recounted."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson

from stream.cli.explain import _recount
from stream.cli.explained import lines
from stream.cli.explained_events import Explanation
from stream.core.engine import Engine
from stream.core.events import AlertEvent, Output
from stream.core.rendering import render
from stream.replay.evidence import Published, folded
from tests.core.engine.indicator_writer import of_journey
from tests.core.engine.test_composite_alerts import BEGAN, outputs, story_log


def published(output: Output) -> Published:
    value = render(output).value
    event = orjson.loads(value)
    return Published(topic=render(output).topic, partition=0, offset=0, time_ns=0, value=value, event=event)


def explained(output: Output) -> str:
    """Returns what is said, with the fold up to the event's record."""
    event = published(output)
    engine = Engine(0)
    for offset, (time_ns, value) in enumerate(story_log(beside_payments=0)[: event.log[1] + 1]):
        rendered = [render(one) for one in engine.apply(offset, time_ns, value)]
    fold = folded(event, engine, rendered)
    explanation = Explanation(prefix="qma.", event=event, fold=fold, definition=fold.definition)
    explanation.rows = asyncio.run(_recount(cast(Any, explanation), event, fold.definition))
    return "\n".join(lines(explanation))


def test_an_indicator_names_its_components_and_is_folded_but_not_recounted_from_rows():
    said = explained(of_journey(outputs())[BEGAN + 9])
    assert "minutes, each made of the indicators in qma.sli of its components" in said
    assert "prod/shop/payments, availability: 90 % good, weight 5, used 625 % of what is allowed" in said
    assert "a composite is made of its components' indicators in qma.sli, not of rows" in said
    assert "fold: equal, byte for byte" in said


def test_an_alert_names_the_component_and_the_cause():
    began = next(o for o in outputs() if isinstance(o, AlertEvent) and o.rule.name == "page-1h-5m")
    said = explained(began)
    assert "component prod/shop/payments/availability" in said
    assert "prod/shop/payments, which affects prod/shop/checkout, prod/shop/orders: " in said
    assert "share of bad minutes / the 0.01 that the objective allows" in said
    assert "% of 60 minutes good" in said
