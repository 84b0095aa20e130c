"""Configurations: the highest version is in force, objectives come and go, and each counts from its own beginning."""

from dataclasses import replace

import pytest

from stream.core.engine import Engine
from stream.core.errors import IncompatibleError
from stream.core.events import AlertEvent, SliEvent
from stream.core.slo.alerts import AlertState
from stream.core.slo.spec import Bundle
from stream.core.units import MINUTE_NS, minute_of
from tests.core.engine.log_writer import (
    SERVICE,
    T0_NS,
    Event,
    LogWriter,
    bundle,
    minute_by_minute,
    objective,
    run,
    steady,
)
from tests.core.oracles import nonzero

T0 = minute_of(T0_NS)
OLD, NEW = objective("old", "0.99"), objective("new", "0.9")


def writers(*versions: tuple[int, Bundle]) -> list[LogWriter]:
    return [
        LogWriter(body, incarnation=f"i{version}", config_version=version, topic_id=f"t{version}")
        for version, body in versions
    ]


def counted(engine, wanted) -> int:
    return sum(cell[0] for (key, _), cell in nonzero(engine.state.cells["series"]).items() if key[1] == wanted.digest)


def slis(outputs, wanted) -> list[SliEvent]:
    return [o for o in outputs if isinstance(o, SliEvent) and o.objective.digest == wanted.digest]


def test_a_higher_version_replaces_a_lower_one_and_a_lower_one_is_ignored():
    first, second = writers((1, bundle(OLD)), (2, bundle(NEW)))
    for order in ((first, second), (second, first)):
        for writer in order:
            writer.sequence = 0
        engine, _ = run([(T0_NS, writer.record()) for writer in order])
        assert engine.bundle is not None
        assert engine.bundle.objectives == (NEW,)
        assert engine.state.config_version == 2


def test_an_objective_counts_only_rows_decoded_at_or_above_its_version():
    old, new = writers((1, bundle(OLD)), (2, bundle(OLD, NEW)))
    log = [
        (T0_NS, old.record([Event(T0_NS)] * 3)),
        (T0_NS, new.record([Event(T0_NS)] * 5)),
        (T0_NS, old.record([Event(T0_NS)] * 7)),
    ]
    engine, _ = run(log)
    assert counted(engine, OLD) == 15
    assert counted(engine, NEW) == 5


def test_the_history_of_a_new_objective_begins_after_everything_counted_without_it():
    writer = LogWriter(bundle(OLD))
    minute_by_minute(writer, steady(5, 2))
    writer.bundle, writer.config_version = bundle(OLD, NEW), 1
    writer.record([Event(T0_NS + 5 * MINUTE_NS)], until_ns=T0_NS + 6 * MINUTE_NS, configure=True)
    minute_by_minute(writer, [*steady(4, 2, start=6), [], []], start=6)
    _, outputs = run(writer.log)
    assert slis(outputs, NEW)[0].minute == T0 + 6
    assert slis(outputs, NEW)[0].coverage == 1 / 43_200
    assert slis(outputs, OLD)[0].minute == T0


def test_a_row_decoded_under_an_older_version_moves_the_beginning_on():
    old, new = writers((1, bundle(OLD)), (2, bundle(OLD, NEW)))
    log = [(T0_NS, new.record(until_ns=T0_NS)), (T0_NS, old.record([Event(T0_NS + 3 * MINUTE_NS)]))]
    for minute in range(1, 9):
        until_ns = T0_NS + minute * MINUTE_NS
        log.append((until_ns, new.record([Event(until_ns - 1)], until_ns=until_ns)))
    _, outputs = run(log)
    assert slis(outputs, NEW)[0].minute == T0 + 4


def test_an_objective_that_came_before_the_frontier_was_known_begins_with_the_history():
    """Its rows came early; a second source began later, so minutes before that were not read whole."""
    writer = LogWriter(bundle(OLD))
    writer.record([Event(T0_NS)], now_ns=T0_NS)
    writer.bundle, writer.config_version = bundle(OLD, NEW), 1
    writer.record(configure=True, now_ns=T0_NS)
    far_ns = T0_NS + 12 * 60 * MINUTE_NS
    writer.record(until_ns=far_ns, now_ns=far_ns)
    _engine, outputs = run(writer.log)
    assert slis(outputs, NEW)[0].minute == slis(outputs, OLD)[0].minute
    assert slis(outputs, NEW)[0].coverage == slis(outputs, OLD)[0].coverage == 1 / 43_200


def test_an_objective_that_stays_keeps_its_history():
    writer = LogWriter(bundle(OLD))
    minute_by_minute(writer, steady(5, 2))
    writer.bundle, writer.config_version = bundle(OLD, NEW), 1
    writer.record(configure=True, now_ns=T0_NS)
    minute_by_minute(writer, [[], [], []], start=5)
    _, outputs = run(writer.log)
    assert [event.minute for event in slis(outputs, OLD)] == [T0 + i for i in range(7)]
    assert slis(outputs, OLD)[-1].window_sli.n == 10


def test_an_edited_objective_is_another_one():
    edited = replace(OLD, target="0.95")
    writer = LogWriter(bundle(OLD))
    minute_by_minute(writer, steady(5, 2))
    writer.bundle, writer.config_version = bundle(edited), 1
    writer.record(configure=True, now_ns=T0_NS)
    minute_by_minute(writer, [*steady(3, 2, start=5), [], []], start=5)
    engine, outputs = run(writer.log)
    assert counted(engine, OLD) == 0
    first = slis(outputs, edited)[0]
    assert (first.minute, first.coverage) == (T0 + 6, 1 / 43_200)
    assert first.window_sli.n == 4  # rows decoded under it, also those of the minute before its history


def test_an_alert_of_a_withdrawn_objective_is_resolved():
    writer = LogWriter(bundle(OLD))
    minute_by_minute(writer, steady(8, 10, bad_every=1))
    writer.bundle, writer.config_version = bundle(), 1
    writer.record(configure=True, now_ns=T0_NS)
    minute_by_minute(writer, steady(3, 10, bad_every=1, start=8), start=8)
    engine, outputs = run(writer.log)
    alerts = [o for o in outputs if isinstance(o, AlertEvent) and o.rule.name == "page-1h-5m"]
    assert [alert.state for alert in alerts] == [AlertState.FIRING, AlertState.INACTIVE]
    assert alerts[-1].reading is None
    assert engine.services[SERVICE].states == {}


@pytest.mark.parametrize("change", [{"pipeline": "other"}, {"generation": "2"}, {"partitions": 7}])
def test_what_the_state_was_built_on_must_not_change(change):
    writer = LogWriter(bundle(OLD))
    writer.record()
    writer.bundle, writer.config_version = replace(writer.bundle, **change), 1
    writer.record(configure=True)
    with pytest.raises(IncompatibleError, match="start a new generation"):
        run(writer.log)


def test_services_of_other_partitions_are_left_to_them():
    elsewhere = replace(bundle(OLD), partitions=2)
    states = []
    for partition in (0, 1):
        engine = Engine(partition)
        engine.apply(0, T0_NS, LogWriter(elsewhere).record())
        states.append(len(engine.services))
    assert sorted(states) == [0, 1]
