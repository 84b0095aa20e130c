"""The ledger of an error budget: incidents, deploys, adjustments, and where it stands every hour."""

from fractions import Fraction
from typing import Any

import pytest

from stream.core.events import BudgetEvent
from stream.core.rendering import render
from stream.core.slo.budget_ledger import EntryKind
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from tests.core.engine.log_writer import T0_NS, LogWriter, bundle, minute_by_minute, objective, run, steady
from tests.core.engine.slo_oracle import T0, Burst, Declared, Story, fold
from tests.core.engine.test_adjustments import outage

SLO = objective(window_minutes=60, target="0.9")


def entries(outputs, kind: EntryKind | None = None) -> list[Any]:
    """Returns the events with an entry, of one kind or any."""
    told = [o for o in outputs if isinstance(o, BudgetEvent)]
    return [o for o in told if o.entry is not None and kind in (None, o.entry.kind)]


def test_an_incident_is_told_when_it_begins_and_when_the_errors_have_stopped_for_five_minutes():
    began, ended = entries(fold(outage(40).log(SLO, None))[0])
    assert (began.minute - T0, began.entry.end_minute, began.entry.weight_bad) == (10, None, 4 * WEIGHT_ONE)
    assert (ended.minute - T0, ended.entry.start_minute - T0, ended.entry.end_minute - T0) == (24, 10, 24)
    assert (ended.entry.n, ended.entry.weight_bad) == (14 * 4, 10 * 4 * WEIGHT_ONE)


def test_what_an_incident_took_is_a_share_of_the_whole_budget_at_mean_traffic():
    """40 bad of 4 a minute, of which 24 of 240 may be bad in the hour."""
    _, ended = entries(fold(outage(40).log(SLO, None))[0])
    assert ended.entry_consumed == pytest.approx(40 / 24)
    assert ended.entry_consumed == pytest.approx(1 - ended.budget.remaining_max_ratio)


def test_failures_that_the_budget_allows_are_no_incident():
    story = Story(60, tuple(Burst(i, i, 99, 1) for i in range(60)))
    assert not entries(fold(story.log(SLO, None))[0])


@pytest.mark.parametrize(("applied", "told_at"), [(1, 19), (30, 29)], ids=["planned", "after the fact"])
def test_an_adjustment_is_entered_once_it_is_over_with_what_it_gives_back(applied, told_at):
    story = outage(60, Declared(10, 20, applied, 99))
    (entered,) = entries(fold(story.log(SLO, None))[0], EntryKind.EXCLUSION)
    entry = entered.entry
    assert (entered.minute - T0, entry.name) == (told_at, "adjustment-0")
    assert (entry.start_minute - T0, entry.end_minute - T0, entry.n, entry.weight_bad) == (10, 20, 40, 40 * WEIGHT_ONE)
    assert b'"kind":"exclusion"' in render(entered).value


def test_an_adjustment_is_not_entered_again_after_a_restore_or_another_configuration():
    story = outage(60, Declared(10, 20, 1, 99), Declared(40, 45, 30, 99))
    log = story.log(SLO, None)
    for restored_after in (None, 20, 25, 50):
        outputs, _ = fold(log, restored_after)
        assert [e.entry.name for e in entries(outputs, EntryKind.EXCLUSION)] == ["adjustment-0", "adjustment-1"]


def given_back(*declared: Declared) -> list[tuple[str, str, int, int]]:
    """Returns kind, name, minute and bad events of the entries of adjustments; 4 in each of the minutes 10 to 19."""
    outputs, _ = fold(outage(60, *declared).log(SLO, None))
    kinds = (EntryKind.EXCLUSION, EntryKind.INCLUSION)
    told = [event for event in entries(outputs) if event.entry.kind in kinds]
    assert len({render(event).value for event in told}) == len(told)
    return [(e.entry.kind, e.entry.name, e.minute - T0, e.entry.weight_bad // WEIGHT_ONE) for e in told]


def test_an_adjustment_that_is_removed_is_entered_with_what_it_takes_again():
    assert given_back(Declared(10, 20, 1, 40)) == [
        (EntryKind.EXCLUSION, "adjustment-0", 19, 40),
        (EntryKind.INCLUSION, "adjustment-0", 39, 40),
    ]


def test_adjustments_that_overlap_give_back_what_no_other_did():
    assert given_back(Declared(10, 20, 1, 99), Declared(15, 25, 1, 40), Declared(12, 18, 1, 99)) == [
        (EntryKind.EXCLUSION, "adjustment-2", 17, 24),
        (EntryKind.EXCLUSION, "adjustment-0", 19, 16),
        (EntryKind.EXCLUSION, "adjustment-1", 24, 0),
        (EntryKind.INCLUSION, "adjustment-1", 39, 0),
    ]
    first_goes = given_back(Declared(10, 20, 1, 40), Declared(15, 25, 1, 99))
    assert [bad for *_, bad in first_goes] == [40, 0, 20]


def test_an_adjustment_that_is_removed_before_it_is_over_is_no_entry():
    assert given_back(Declared(10, 20, 1, 15)) == []


def test_an_adjustment_from_before_the_history_is_no_entry():
    assert not entries(fold(outage(30, Declared(-9, 0, 1, 99)).log(SLO, None))[0], EntryKind.EXCLUSION)


def test_a_version_that_appears_later_is_entered_as_a_deploy():
    writer = LogWriter(bundle(SLO))
    minute_by_minute(writer, [*steady(10, 2, version="v1"), *steady(10, 2, start=10, version="v2")])
    (deploy,) = entries(run(writer.log)[1], EntryKind.DEPLOY)
    assert deploy.entry.name == "v2"
    assert deploy.minute - T0 in (9, 10)  # the rows of the open minute are known


def test_where_the_budget_stands_is_told_each_full_hour_but_not_while_catching_up():
    def hours(lag_s: int) -> list[int]:
        writer = LogWriter(bundle(SLO))
        minute_by_minute(writer, steady(125, 1), lag_s=lag_s)
        return [o.minute - T0 for o in run(writer.log)[1] if isinstance(o, BudgetEvent) and o.entry is None]

    assert hours(0) == [59, 119]
    assert hours(600) == []


def test_every_budget_event_has_an_id_of_its_own():
    story = outage(130, Declared(10, 20, 1, 999), Declared(10, 20, 1, 999), bad=range(5, 60, 9))
    rendered = [render(o) for o in fold(story.log(SLO, None))[0] if isinstance(o, BudgetEvent)]
    ids = [body.value.split(b'"id":"', 1)[1][:32] for body in rendered]
    assert len(set(ids)) == len(ids) > 4


def test_consumption_does_not_depend_on_where_an_incident_lies_in_the_log():
    """Late rows change the budget and no entry: what was published stays."""
    story = outage(40)
    late = Story(40, (*story.bursts, Burst(35, 12, 0, 100)))
    without, with_ = (entries(fold(one.log(SLO, None))[0]) for one in (story, late))
    assert [e.entry for e in without] == [e.entry for e in with_]


def test_shares_of_the_budget_are_exact_before_they_are_rounded():
    _, ended = entries(fold(outage(40).log(SLO, None))[0])
    weight = 25 * 4 * WEIGHT_ONE  # of the 25 minutes that are over
    assert ended.entry.consumed(weight, Fraction(25, 60), Fraction(1, 10)) == Fraction(40, 24)
    assert T0_NS % MINUTE_NS == 0
