"""Cohorts that must not be much worse than everyone."""

from __future__ import annotations

from fractions import Fraction

import pytest

from stream.core.slo.burn_rate import RuleKind
from stream.core.slo.spec import Bundle, Settings, decode_bundle
from tests.config.reading import loaded, ratio, read, slo

COHORTS = ratio("cohorts: {tier: gold}")


def test_each_cohort_has_an_alert_and_everyone_has_none() -> None:
    configuration = loaded(slo(COHORTS, annotations='qma/cohort-gap-max: "0.5%"'))
    gaps = {
        objective.name: [rule.gap_max for rule in objective.alerting.rules if rule.kind is RuleKind.COHORT_GAP]
        for objective in configuration.objectives
    }
    assert gaps == {"slo": [], "slo@gold": [Fraction(1, 200)], "slo@__other__": [Fraction(1, 200)]}
    bundle = Bundle(
        pipeline="p",
        generation="1",
        partitions=1,
        sources=(),
        objectives=configuration.objectives,
        settings=Settings(),
    )
    assert decode_bundle(bundle.encode()) == bundle


def test_it_keeps_the_history_of_the_cohorts() -> None:
    (_, *before), (_, *after) = (
        loaded(slo(COHORTS, annotations=annotations)).objectives for annotations in ("", 'qma/cohort-gap-max: "1%"')
    )
    assert [one.digest for one in before] == [one.digest for one in after]


@pytest.mark.parametrize(
    ("indicator", "value", "message"),
    [
        (ratio(), "1%", "is about cohorts, and this SLO has none; add"),
        (COHORTS, "1", "`1` is no share; write more than 0 and less than 100 percent"),
    ],
)
def test_what_is_refused_has_its_place(indicator: str, value: str, message: str) -> None:
    _, problems = read(slo(indicator, annotations=f'qma/cohort-gap-max: "{value}"'))
    (found,) = [problem for problem in problems if not problem.is_warning]
    assert (found.path, found.position.line) == ("metadata.annotations.qma/cohort-gap-max", 4)
    assert found.message.startswith(message)
