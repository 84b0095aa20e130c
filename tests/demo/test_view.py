"""What the demo tells of what it reads."""

from stream.core.rendering import render
from stream.demo.view import View
from tests.core.engine.indicator_writer import CHECKOUT, JourneyWriter, Said, component, composite, journey
from tests.core.engine.log_writer import run


def test_an_incident_takes_so_many_of_what_the_budget_is_made_of():
    written = JourneyWriter(journey(composite(component(CHECKOUT))))
    for minute in range(20):
        written.record([Said(minute, bad=10 if 5 <= minute < 8 else 0)], read_until=minute + 2.1)
    view = View()
    lines = [line for o in map(render, run(written.log)[1]) for line in view.take(o.topic, o.value)]
    (incident,) = [line for line in lines if line.startswith("budget")]
    assert "took 3 of 7 minutes" in incident
