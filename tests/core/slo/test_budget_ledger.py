"""Incidents, entries and their exact shares of a budget."""

from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.slo.budget_ledger import ENTRIES_MAX, BudgetLedger, Entry, EntryKind
from tests.core.slo.test_burn_rate import cell

minutes = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40)


def run(ledger: BudgetLedger, story) -> list[Entry]:
    """Returns what was told of minutes 0, 1, …: (bad of 10, whether the last five minutes burn)."""
    told = [ledger.close_minute(i, cell(10, bad), burning) for i, (bad, burning) in enumerate(story)]
    return [entry for entry in told if entry is not None]


@given(minutes)
def test_incidents_are_the_stretches_of_burning_that_begin_with_a_failure(story):
    incidents, at = [], 0
    while at < len(story):
        bad, burning = story[at]
        if burning and bad:
            end = next((i for i in range(at, len(story)) if not story[i][1]), None)
            incidents.append((at, end))
            at = len(story) if end is None else end
        at += 1
    told = run(BudgetLedger(), story)
    assert [(e.start_minute, e.end_minute) for e in told if e.end_minute is None] == [(s, None) for s, _ in incidents]
    ended = [(s, e) for s, e in incidents if e is not None]
    assert [(e.start_minute, e.end_minute) for e in told if e.end_minute is not None] == ended
    for entry in told:
        stretch = story[entry.start_minute : entry.end_minute or entry.start_minute + 1]
        assert (entry.n, entry.weight_bad) == (10 * len(stretch), sum(bad for bad, _ in stretch) << 16)


@given(minutes, st.integers(0, 40))
def test_a_ledger_goes_on_where_it_was_written_down(story, at):
    whole, first = BudgetLedger(), BudgetLedger()
    run(whole, story)
    run(first, story[:at])
    restored = BudgetLedger.load(orjson.loads(orjson.dumps(first.dump())))
    for i, (bad, burning) in enumerate(story[at:], at):
        restored.close_minute(i, cell(10, bad), burning)
    assert restored == whole


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.fractions(Fraction(1, 100), 1))
def test_the_share_is_of_the_budget_of_the_whole_window(weight, bad, coverage):
    entry = Entry(kind=EntryKind.INCIDENT, start_minute=0, weight_bad=bad)
    events_of_the_window = weight / coverage
    assert entry.consumed(weight, coverage, Fraction(1, 1000)) == bad / (events_of_the_window / 1000)


@pytest.mark.parametrize(("weight", "coverage"), [(0, Fraction(1)), (10, Fraction(0))])
def test_without_data_there_is_no_share(weight, coverage):
    assert Entry(kind=EntryKind.INCIDENT, start_minute=0).consumed(weight, coverage, Fraction(1, 10)) is None


def test_the_newest_entries_are_remembered():
    ledger = BudgetLedger()
    for minute in range(ENTRIES_MAX + 5):
        ledger.add(Entry(kind=EntryKind.DEPLOY, start_minute=minute, end_minute=minute, name=f"v{minute}"))
    assert [entry.start_minute for entry in ledger.entries] == list(range(5, ENTRIES_MAX + 5))
