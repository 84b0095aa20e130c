"""Times to detect and to reset an incident, from the fold's events, against the formulas.

Source: The Site Reliability Workbook, chapter 5: with burn rate b, factor f, long window w and short window s an
incident is detected after f·w/b and over s·(1 − f/b) after its last error. The fold sees closed minutes: the next one.
"""

import math
from fractions import Fraction

import pytest

from stream.core.events import AlertEvent
from stream.core.slo.alerts import AlertState
from stream.core.slo.burn_rate import RULES
from stream.core.slo.planning import detect_minutes, reset_minutes
from stream.core.units import MINUTE_NS, SECOND_NS, WEIGHT_ONE, minute_of
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, minute_by_minute, objective, run

PER_MINUTE = 10_000
HEALTHY, INCIDENT, AFTER = 6 * 60, 60, 40
WINDOW_MINUTES = 43_200
PAGES = RULES[:2]


def batch(minute: int, bad: int) -> list[Event]:
    at_ns = T0_NS + minute * MINUTE_NS + SECOND_NS
    good = PER_MINUTE - bad
    events = [Event(at_ns, count=good, weight=good * WEIGHT_ONE)] if good else []
    return [*events, Event(at_ns, count=bad, weight=bad * WEIGHT_ONE, bad=True)] if bad else events


def changes(target: str, error_ratio: Fraction) -> dict[tuple[str, AlertState], int]:
    """Returns the minute of the first change of each rule to each state; minute 0 is the incident's first."""
    bad = int(PER_MINUTE * error_ratio)
    ratios = [0] * HEALTHY + [bad] * INCIDENT + [0] * AFTER
    writer = LogWriter(bundle(objective(target=target)))
    minute_by_minute(writer, [*(batch(minute, n) for minute, n in enumerate(ratios)), []])
    _, outputs = run(writer.log)
    found: dict[tuple[str, AlertState], int] = {}
    for event in outputs:
        if isinstance(event, AlertEvent):
            found.setdefault((event.rule.name, event.state), event.minute - minute_of(T0_NS) - HEALTHY)
    return found


@pytest.mark.parametrize("error_ratio", ["1", "0.15", "0.01"])
@pytest.mark.parametrize("target", ["0.99", "0.999", "0.9999"])
def test_an_incident_is_detected_and_over_when_the_formulas_say(target: str, error_ratio: str):
    burn = Fraction(error_ratio) / (1 - Fraction(target))
    found = changes(target, Fraction(error_ratio))
    for rule in PAGES:
        factor = rule.factor(WINDOW_MINUTES)
        assert factor is not None
        detected, reset = detect_minutes(rule, factor, burn), reset_minutes(rule, factor, burn)
        if detected is None or detected >= INCIDENT:
            assert (rule.name, AlertState.FIRING) not in found
            continue
        assert reset is not None
        # Burning is more than the factor, so a time that is a full minute is over only with the next one.
        assert found[rule.name, AlertState.FIRING] + 1 == math.floor(detected) + 1
        assert found[rule.name, AlertState.INACTIVE] + 1 - INCIDENT == math.ceil(reset)
