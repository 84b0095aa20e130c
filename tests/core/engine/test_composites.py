"""Composites: what they publish of components' indicators that come late, twice, corrected, out of order or never."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.cells import Column
from stream.core.engine.state import SERIES
from stream.core.slo.composite import Missing
from stream.core.slo.sli import SLICE_ONE
from tests.core.engine.composite_oracle import Expected, Story, check, components, stories
from tests.core.engine.indicator_writer import T0, composite, of_journey
from tests.core.engine.log_writer import run
from tests.core.engine.slo_oracle import ALERTING
from tests.core.engine.test_chunks import fold

rules = st.one_of(
    st.sampled_from(Missing).map(lambda missing: {"missing": missing}),
    st.integers(1, 12).map(lambda minutes: {"seen_minutes": minutes}),
)


def made(rule: dict, **rest):
    """Returns a composite of three components with a short window."""
    return composite(*components(), target="0.9", window_minutes=25, alerting=ALERTING, **rule, **rest)


@settings(max_examples=25)
@given(stories(minutes=24), rules)
def test_every_figure_is_that_of_all_that_was_said_so_far(story, rule):
    objective = made(rule)
    expected = Expected(story, objective)
    outputs = run(story.log(objective))[1]

    events = of_journey(outputs)
    first = {e.minute - T0: e.context.offset for e in events if e.revision == 0}
    minutes = len(story.records) - 3
    wanted = [(m, at) for m, at in enumerate(expected.closing_records(minutes)) if at < len(story.records)]
    assert sorted(first.items())[: len(wanted)] == wanted
    for event in events:
        check(event, expected)
    for minute, revisions in Counter(e.minute for e in events).items():
        assert [e.revision for e in events if e.minute == minute] == list(range(revisions))


@settings(max_examples=20)
@given(stories(minutes=24), rules)
def test_what_was_published_last_of_a_minute_is_what_is_known_when_all_is_said(story, rule):
    objective = made(rule)
    story = Story((*story.records, ()))  # one more minute closes, and tells what changed
    expected = Expected(story, objective)
    engine, outputs = run(story.log(objective))

    last = {event.minute - T0: event for event in of_journey(outputs)}
    cells = engine.composites.cells[SERIES]
    row = cells.index.get((objective.service, objective.digest, ""))
    for minute, event in last.items():
        ratio, whole = expected.minute(minute, len(story.records) - 1)
        assert event.gap is not whole
        assert event.minute_sli.n == (ratio is not None)
        if row is not None:
            cell = cells.minute(T0 + minute)[:, row].tolist()
            bad = 0 if ratio is None else -(-ratio.numerator * SLICE_ONE // ratio.denominator)
            assert (cell[Column.N], cell[Column.WEIGHT_BAD]) == (int(ratio is not None), bad)


@settings(max_examples=15)
@given(stories(minutes=12), rules, st.sets(st.integers(0, 14), max_size=4))
def test_a_restore_at_any_record_changes_no_byte(story, rule, restored):
    log = story.log(made(rule))
    whole, _, engine = fold(log)
    outputs, _, resumed = fold(log, restores=frozenset(restored))
    assert outputs == whole
    assert resumed.snapshot() == engine.snapshot()
