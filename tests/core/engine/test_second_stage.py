"""Composites beside everything else: the ledger, other configurations, what is late, and who else is disturbed."""

import orjson
import pytest

from stream.core.engine import Engine, balance
from stream.core.engine.heard import HEARD_MINUTES
from stream.core.engine.state import SERIES, VERSIONS
from stream.core.events import AlertEvent, DeadLetter, SliEvent, StatusGone
from stream.core.rendering import render
from stream.core.slo.calendar import Calendar
from stream.core.slo.declared import Adjustment
from stream.core.slo.spec import BudgetingMethod, Slices
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, MINUTE_NS, SECOND_NS
from tests.core.engine.hash_seeds import printed
from tests.core.engine.indicator_writer import (
    CHECKOUT,
    JOURNEY,
    ORDERS,
    T0,
    JourneyWriter,
    Said,
    component,
    composite,
    journey,
    of_journey,
    said_of,
)
from tests.core.engine.log_writer import T0_NS, Event, objective, run
from tests.core.engine.slo_oracle import ALERTING
from tests.core.engine.test_chunks import fold

PAIR = (component(CHECKOUT), component(ORDERS))


def pair(minute: int, bad: int = 0, **rest) -> list[Said]:
    """Returns what both components say of a minute."""
    return [Said(minute, CHECKOUT, 10, bad, **rest), Said(minute, ORDERS, 10, 0, **rest)]


def writer(*objectives, minutes: int = 0, **settings) -> JourneyWriter:
    """Returns a writer after so many minutes of which all was said in time."""
    written = JourneyWriter(journey(*(objectives or (composite(*PAIR),)), **settings))
    for minute in range(minutes):
        written.record(pair(minute), read_until=minute + 2.1)
    return written


def minutes_of(outputs, name: str = "journey") -> list[tuple[int, int]]:
    return [(event.minute - T0, event.revision) for event in of_journey(outputs, name)]


# Closing


def test_a_minute_closes_as_soon_as_all_is_said_and_a_minute_later_without_what_is_lacking():
    written = writer()
    written.record(pair(0), read_until=1.5)
    assert minutes_of(run(written.log)[1]) == [], "never before the first stage has closed it"
    written.record(read_until=2.1)
    assert minutes_of(run(written.log)[1]) == [(0, 0)]
    written.record([Said(1, CHECKOUT)], read_until=3.5)
    assert minutes_of(run(written.log)[1]) == [(0, 0)]
    written.record(read_until=4.4)
    assert minutes_of(run(written.log)[1]) == [(0, 0)], "the first stage closed it a minute ago by the frontier only"
    written.record(read_until=4.6)
    events = of_journey(run(written.log)[1])
    assert [(e.minute - T0, e.gap, e.minute_sli.n) for e in events] == [(0, False, 1), (1, True, 1), (2, True, 0)][:2]


def test_what_is_on_its_way_is_waited_for_however_soon_decisions_may_lag():
    written = JourneyWriter(journey(composite(*PAIR), catching_up_after_ns=10 * SECOND_NS))
    for minute in range(10):
        written.record(read_until=minute + 2.1)
        written.record(read_until=minute + 2.6)
        written.record(pair(minute), read_until=minute + 2.7)
    events = of_journey(run(written.log)[1])
    assert [(e.minute - T0, e.revision, e.gap) for e in events] == [(minute, 0, False) for minute in range(10)]


def test_a_leap_of_the_frontier_does_not_outrun_what_is_still_to_be_published():
    written = writer(minutes=3)
    written.record(read_until=60)
    written.record([one for minute in range(3, 58) for one in pair(minute)], read_until=60.5)
    events = of_journey(run(written.log)[1])
    assert [e.minute - T0 for e in events] == list(range(58))
    assert not any(event.gap or event.revision for event in events)


def test_what_is_lacking_reduces_the_coverage_of_its_composite_alone_and_counts_when_it_comes():
    other = composite(component(ORDERS), name="other", window_minutes=100)
    written = writer(composite(*PAIR, window_minutes=100), other, minutes=40)
    for minute in range(40, 50):
        written.record([Said(minute, ORDERS)], read_until=minute + 2.1)
    for minute in range(50, 60):
        written.record(pair(minute), read_until=minute + 2.1)
    outputs = run(written.log)[1]
    last = {name: of_journey(outputs, name)[-1] for name in ("journey", "other")}
    assert {name: event.coverage for name, event in last.items()} == {"journey": 0.5, "other": 0.6}
    assert last["journey"].window_sli.n == 60
    gaps = [e.minute - T0 for e in of_journey(outputs) if e.gap]
    assert gaps == list(range(40, 50))

    written.record([Said(minute, CHECKOUT, 10, 5) for minute in range(40, 50)])
    written.record(pair(60), read_until=62.1)
    outputs = run(written.log)[1]
    corrected = [e for e in of_journey(outputs) if e.revision]
    assert [(e.minute - T0, e.gap, e.minute_sli.good) for e in corrected] == [(m, False, 0.75) for m in range(40, 50)]
    newest = [event for event in outputs if isinstance(event, SliEvent) and event.minute == T0 + 60]
    assert [event.coverage for event in newest] == [0.61, 0.61]


def test_nobody_else_is_disturbed():
    """Other objectives of the partition say the same, byte for byte, whatever composites do."""
    plain = objective(window_minutes=60)
    logs = []
    for extra in ((), (composite(*PAIR),)):
        written = writer(plain, *extra)
        for minute in range(30):
            events = [Event(T0_NS + minute * MINUTE_NS + i, bad=minute > 20) for i in range(3)]
            said = [Said(minute, CHECKOUT)] if minute % 3 else []
            written.record(said, read_until=minute + 1, events=events)
        logs.append(run(written.log)[1])
    told = [[render(o).value for o in outputs if getattr(o, "objective", None) == plain] for outputs in logs]
    assert told[0] == told[1]
    assert len(told[0]) > 29


def test_components_of_the_same_partition_are_heard_through_the_topic():
    """The whole way: events, indicators, and these read back."""
    parts = [objective(service=service, window_minutes=60) for service in (CHECKOUT, ORDERS)]
    written = writer(*parts, composite(*PAIR))
    engine, heard, events = Engine(0), list[Said](), list[SliEvent]()
    for minute in range(20):
        placed = [
            Event(T0_NS + minute * MINUTE_NS + i, bad=i < (minute % 4 if service == CHECKOUT else 0), service=service)
            for service in (CHECKOUT, ORDERS)
            for i in range(4)
        ]
        written.record(heard, read_until=minute + 1, events=placed)
        outputs = run(written.log, engine)[1]
        heard = [said for o in outputs if (said := said_of(o)) is not None and said.service in (CHECKOUT, ORDERS)]
        events += of_journey(outputs)
    assert len(events) >= 17
    for event in events:
        assert event.minute_sli.ratio == pytest.approx(1 - (event.minute - T0) % 4 / 8)


# The ledger


def test_every_indicator_is_counted_once_wherever_it_is_asked_for():
    written = writer(minutes=2)
    written.record([Said(2, CHECKOUT), Said(2, "prod/shop/nobody"), Said(2, ORDERS, counts=False)], read_until=4.1)
    written.record([Said(500, CHECKOUT), Said(501, CHECKOUT, counts=False)])
    written.record([Said(2, CHECKOUT), Said(2, "prod/shop/nobody")], said_offset=4)
    engine, outputs = run(written.log)
    (account,) = [a for a in balance([engine.ledger]) if a.topic == "qma.sli"]
    assert account.is_equal
    assert (account.received, account.counted, account.rejected, account.replayed) == (7, 6, {"future": 1}, 2)
    letters = [o for o in outputs if isinstance(o, DeadLetter)]
    assert [(letter.items, letter.reason) for letter in letters] == [(1, "future")]
    assert engine.composites.heard is not None
    assert engine.composites.heard.of((ORDERS, "availability"), T0 + 2) is not None, "a copy that is not counted"


def test_an_indicator_that_can_change_nothing_any_more_is_late():
    written = writer(composite(*PAIR, window_minutes=600), minutes=8 * HOUR_MINUTES)
    newest = 8 * HOUR_MINUTES - 1
    oldest = newest + 1 - HEARD_MINUTES
    written.record([Said(oldest - 1, CHECKOUT, 10, 10, revision=1), Said(oldest, CHECKOUT, 10, 10, revision=1)])
    written.record(pair(newest + 1), read_until=newest + 3.1)
    engine, outputs = run(written.log)
    (account,) = [a for a in balance([engine.ledger]) if a.topic == "qma.sli"]
    assert (account.late, account.is_equal) == (1, True)
    corrected = [event for event in of_journey(outputs) if event.revision]
    assert [(e.minute - T0, e.minute_sli.good) for e in corrected] == [(oldest, 0.5)]
    assert dict(corrected[0].burn_rates)[360] == pytest.approx(0.5 / min(360, oldest + 1) * 100)


def test_losing_indicators_is_a_gap_of_the_composite_alone():
    written = writer(objective(), composite(*PAIR), minutes=3)
    written.record(pair(5), read_until=7.1, lost=4)
    written.record(pair(6), read_until=8.1)
    written.record(pair(7), read_until=9.1)
    engine, outputs = run(written.log)
    assert [a.lost_offsets for a in balance([engine.ledger])] == [0, 4]
    assert engine.state.clocks.gaps == []
    assert not [e for e in outputs if isinstance(e, SliEvent) and e.objective.name == "availability" and e.gap]
    assert [(e.minute - T0, e.gap) for e in of_journey(outputs)] == [
        *((minute, False) for minute in range(3)),
        *((minute, True) for minute in (3, 4)),
        *((minute, False) for minute in range(5, 8)),
    ]


# Configuration


def test_a_composite_comes_goes_and_comes_back():
    written = writer(objective(), minutes=5)
    written.configure(journey(objective(), composite(*PAIR)))
    for minute in range(5, 15):
        written.record(pair(minute), read_until=minute + 2.1)
    written.configure(journey(objective()))
    for minute in range(15, 20):
        written.record(pair(minute), read_until=minute + 2.1)
    written.configure(journey(objective(), composite(*PAIR)))
    for minute in range(20, 30):
        written.record(pair(minute), read_until=minute + 2.1)
    engine, outputs = run(written.log)
    assert [minute for minute, _ in minutes_of(outputs)] == [*range(5, 15), *range(20, 30)]
    assert [event.window_sli.n for event in of_journey(outputs)] == [*range(1, 11), *range(1, 11)]
    assert [o.objective.name for o in outputs if isinstance(o, StatusGone)] == ["journey"]
    for last in (16, 19, 23, 28):
        whole, topic, resumed = fold(written.log, restores=frozenset({last}))
        assert whole == fold(written.log)[0]
        engine.checkpoint()
        assert resumed.snapshot() == engine.snapshot()
        assert Engine.restore(0, topic).snapshot() == engine.snapshot()


def test_the_history_of_a_composite_begins_with_those_of_its_components():
    written = writer(objective(), minutes=5)
    written.configure(journey(objective(), composite(*PAIR)))
    for minute in range(5, 20):  # orders was applied together with it, and has been counted from minute 9 on
        written.record(pair(minute) if minute >= 9 else [Said(minute, CHECKOUT)], read_until=minute + 2.1)
    outputs = run(written.log)[1]
    assert [(e.minute - T0, e.gap, e.coverage > 0) for e in of_journey(outputs)] == [
        (minute, False, True) for minute in range(9, 20)
    ]
    assert not [o for o in outputs if isinstance(o, AlertEvent)]


def test_a_component_that_is_never_heard_of_does_not_hold_a_history_back_for_long():
    written = writer(objective(), minutes=5)
    written.configure(journey(objective(), composite(*PAIR)))
    for minute in range(5, 20):
        written.record([Said(minute, CHECKOUT)], read_until=minute + 2.1)
    outputs = run(written.log)[1]
    # It was applied when it was 6.1; what is of minute 12 is not counted yet, so any component begins there.
    assert [(e.minute - T0, e.gap) for e in of_journey(outputs)] == [(minute, True) for minute in range(12, 19)]
    assert [o.rule.name for o in outputs if isinstance(o, AlertEvent)] == ["ticket-evidence-gap"]


def test_a_service_whose_composites_are_withdrawn_leaves_nothing_behind():
    written = writer(objective(), composite(*PAIR), minutes=5)
    stored_at = len(written.log) - 1
    written.configure(journey(objective()))
    written.record(read_until=9)
    _, topic, _ = fold(written.log, checkpoints=frozenset({stored_at}))
    assert not [key for key in topic if key.startswith(b"composites/")]


def test_one_with_other_components_is_another_and_forgets_what_it_no_longer_asks_for():
    written = writer(minutes=10)
    written.configure(journey(composite(component(ORDERS))))
    for minute in range(10, 20):
        written.record(pair(minute, bad=10), read_until=minute + 2.1)
    engine, outputs = run(written.log)
    assert engine.composites.heard is not None
    assert list(engine.composites.heard.asking) == [(ORDERS, "availability")]
    assert {key[2] for key in engine.composites.cells[VERSIONS].index} == {f"{ORDERS}/availability"}
    assert of_journey(outputs)[-1].window_sli.ratio == 1
    assert not [o for o in outputs if isinstance(o, StatusGone)]


def test_an_objective_that_becomes_a_composite_keeps_its_status_key():
    written = writer(objective(service=JOURNEY, name="journey"), minutes=3)
    for after in (composite(*PAIR), objective(service=JOURNEY, name="journey")):
        written.configure(journey(after))
        written.record(read_until=8)
    assert not [o for o in run(written.log)[1] if isinstance(o, StatusGone)]


def test_alerts_of_a_composite_that_is_withdrawn_end():
    written = writer()
    for minute in range(70):
        written.record(pair(minute, bad=10 if minute > 30 else 0), read_until=minute + 2.1)
    written.configure(journey(objective()))
    changes = [o for o in run(written.log)[1] if isinstance(o, AlertEvent) and o.rule.name == "page-1h-5m"]
    assert [str(o.state) for o in changes] == ["firing", "inactive"]
    assert changes[1].reading is None
    assert all(render(change).value for change in changes)


# Windows


def test_an_inventory_is_as_good_as_what_is_seen_and_says_so_only_when_it_can():
    whole = composite(*PAIR, seen_minutes=10, target="0.9", window_minutes=100)
    written = writer(whole)
    for minute in range(40):
        said = [Said(minute, CHECKOUT, int(minute < 20)), Said(minute, ORDERS, 0)]
        written.record(said, read_until=minute + 2.1)
    events = of_journey(run(written.log)[1])
    ratios = [event.minute_sli.ratio for event in events]
    assert ratios[:9] == [1] * 9, "nobody knows yet whether orders is there"
    assert [event.gap for event in events] == [True] * 9 + [False] * 31
    assert ratios[9:29] == [0.5] * 20
    assert ratios[29:] == [0] * 11, "checkout was last seen ten minutes ago"


def test_slices_calendars_and_adjustments_work_on_minutes_of_composites():
    sliced = composite(
        *PAIR,
        name="sliced",
        method=BudgetingMethod.TIMESLICES,
        slices=Slices(minutes=5, target="0.9"),
        window_minutes=60,
    )
    day = Calendar(name="days", boundaries=tuple(T0 + day * DAY_MINUTES for day in range(-1, 9)))
    monthly = composite(*PAIR, name="daily", calendar="days", window_minutes=DAY_MINUTES)
    written = writer(sliced, monthly)
    left_out = Adjustment(name="move", objectives=("daily",), start_minute=T0 + 10, end_minute=T0 + 20)
    bundle = written.bundle
    written.bundle = type(bundle)(
        **{name: getattr(bundle, name) for name in ("pipeline", "generation", "partitions", "sources", "objectives")},
        calendars=(day,),
        adjustments=(left_out,),
    )
    for minute in range(40):
        written.record(pair(minute, bad=10 if 10 <= minute < 25 else 0), read_until=minute + 2.1)
    outputs = run(written.log)[1]
    slices, daily = (of_journey(outputs, name)[-1] for name in ("sliced", "daily"))
    assert (slices.window_sli.n, slices.window_sli.good) == (8, 5)
    assert (daily.window_sli.n, daily.window_sli.good) == (30, 27.5)
    assert [share.ratio for share in daily.components] == [pytest.approx(25 / 30), 1]
    assert [share.consumed_ratio for share in daily.components] == [daily.budget.consumed_ratio, 0]


def test_cells_of_days_retire_and_a_restore_in_between_changes_no_byte():
    inventory = composite(*PAIR, seen_minutes=9 * HOUR_MINUTES, window_minutes=60, alerting=ALERTING)
    written = writer(inventory, composite(*PAIR, name="other", window_minutes=60, alerting=ALERTING), minutes=3)
    for hours in range(1, 20, 3):
        minute = hours * HOUR_MINUTES
        written.record(pair(minute), read_until=minute + 2.1)
        written.record(pair(minute, revision=1), read_until=minute + 3.2)
    log = written.log
    whole, _, engine = fold(log)
    outputs, topic, resumed = fold(log, restores=frozenset({6, len(log) - 3}))
    assert outputs == whole
    assert resumed.snapshot() == engine.snapshot()
    assert Engine.restore(0, topic).snapshot() == engine.snapshot()
    heard = [key for key in topic if key.startswith(b"composites/heard/")]
    assert len(heard) <= 1 + 2 * 4, "what can no longer change is forgotten"
    assert engine.composites.cells[SERIES].rings[0].floor is not None


def test_the_hash_seed_changes_no_byte():
    assert len(printed("composite_digest.py", ("0", "1"))) == 1


def test_a_state_from_before_composites_is_taken_over():
    written = writer(objective(), minutes=5)
    _, topic, _ = fold(written.log)
    body = orjson.loads(topic[b"manifest"][6:])
    del body["composites"]
    before = {**topic, b"manifest": topic[b"manifest"][:6] + orjson.dumps(body)}
    engine = Engine.restore(0, before)
    written.configure(journey(objective(), composite(*PAIR)))
    for minute in range(5, 15):
        written.record(pair(minute), read_until=minute + 2.1)
    outputs = run(written.log, engine)[1]
    assert [minute for minute, _ in minutes_of(outputs)] == list(range(5, 15))
