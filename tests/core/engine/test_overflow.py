"""More services and versions than may be kept: the longest idle makes room, and nothing is dropped."""

from stream.core.cells import Column
from stream.core.certificate.lifecycle import CertificateState, Trigger
from stream.core.engine import Engine, balance
from stream.core.engine.overflow import IDLE_MINUTES, OTHER_VERSION
from stream.core.engine.state import VERSIONS
from stream.core.events import CertificateEvent
from stream.core.units import MINUTE_NS, SECOND_NS
from tests.core.engine.log_writer import SERVICE, T0_NS, Event, LogWriter, bundle, minute_by_minute, objective, run

OTHERS = ("prod/shop/a", "prod/shop/b", "prod/shop/c")


def at(minute: int, **rest) -> Event:
    return Event(T0_NS + minute * MINUTE_NS + SECOND_NS, **rest)


def account(engine: Engine):
    (one,) = balance([engine.ledger])
    assert one.is_equal
    assert not one.rejected
    return one


def stored(engine: Engine) -> dict[bytes, bytes]:
    checkpoint = engine.checkpoint()
    return {key: value for key, value in [*checkpoint.chunks, checkpoint.manifest] if value is not None}


def test_items_of_a_service_without_room_are_counted_and_the_others_go_on():
    writer = LogWriter(bundle(objective(), services_max=2))
    writer.record([at(0, service=name) for name in (*OTHERS, SERVICE, *OTHERS)], until_ns=T0_NS)
    engine, _ = run(writer.log)
    assert account(engine).counted == 7
    assert set(engine.services) == {SERVICE, "prod/shop/a"}
    assert engine.state.overflowed == {"services": 4, "versions": 0, "cohorts": 0}
    assert Engine.restore(0, stored(engine)).state.overflowed == engine.state.overflowed


def test_a_service_with_an_objective_always_has_room():
    names = [f"prod/shop/{i}" for i in range(5)]
    writer = LogWriter(bundle(*(objective(name=name[-1], service=name) for name in names), services_max=1))
    writer.record([at(0, service=name) for name in names], until_ns=T0_NS)
    engine, _ = run(writer.log)
    assert set(engine.services) == set(names)
    assert engine.state.overflowed["services"] == 0


def idle_then_new(idle_minutes: int) -> LogWriter:
    """Services a, then b, then nothing of them for so long, then c, where there is room for one beside ours."""
    writer = LogWriter(bundle(objective(), services_max=3))
    batches = [[at(0, service=OTHERS[0]), at(0)], [at(1, service=OTHERS[1]), at(1)]]
    batches += [[at(minute)] for minute in range(2, 2 + idle_minutes)]
    batches += [[at(2 + idle_minutes, service=OTHERS[2])]]
    minute_by_minute(writer, batches)
    return writer


def test_the_longest_idle_service_makes_room():
    engine, _ = run(idle_then_new(IDLE_MINUTES + 2).log)
    assert set(engine.services) == {SERVICE, OTHERS[1], OTHERS[2]}
    assert engine.state.overflowed["services"] == 0


def test_a_service_that_had_items_within_the_hour_makes_none():
    engine, _ = run(idle_then_new(IDLE_MINUTES - 10).log)
    assert set(engine.services) == {SERVICE, OTHERS[0], OTHERS[1]}
    assert engine.state.overflowed["services"] == 1


def test_a_retired_service_leaves_nothing_in_the_state_and_may_come_back():
    writer = idle_then_new(IDLE_MINUTES + 2)
    whole, _ = run(writer.log)
    engine = Engine(0)
    topic: dict[bytes, bytes] = {}
    for offset, (time_ns, value) in enumerate(writer.log):
        engine.apply(offset, time_ns, value)
        if offset % 7 == 0 or offset == len(writer.log) - 1:
            checkpoint = engine.checkpoint()
            for key, body in [*checkpoint.chunks, checkpoint.manifest]:
                topic.pop(key, None) if body is None else topic.update({key: body})
            engine = Engine.restore(0, topic)
    assert not any(OTHERS[0].encode() in key for key in topic)
    whole.checkpoint()
    assert engine.snapshot() == whole.snapshot()


def test_versions_without_room_are_counted_together_whatever_order_they_come_in():
    for versions in (["a", "b", "c", "d"], ["d", "c", "b", "a"]):
        writer = LogWriter(bundle(objective(), versions_max=2))
        writer.record([at(0, version=version, bad=version == "d") for version in versions], until_ns=T0_NS)
        engine, _ = run(writer.log)
        assert engine.services[SERVICE].versions == {"a", "b", OTHER_VERSION}
        assert engine.state.overflowed == {"services": 0, "versions": 2, "cohorts": 0}
        cells = engine.state.cells[VERSIONS]
        row = cells.index[SERVICE, objective().digest, OTHER_VERSION]
        found = cells.minute(T0_NS // MINUTE_NS)[:, row]
        assert (found[Column.N], found[Column.N_BAD]) == (2, 1)
        assert account(engine).counted == 4


def test_the_longest_idle_version_makes_room_and_its_pending_certificate_ends():
    writer = LogWriter(bundle(objective(), versions_max=2))
    batches = [[at(0, version="v1"), at(0, version="v2")], [at(1, version="v2")]]
    batches += [[at(minute, version="v2")] for minute in range(2, IDLE_MINUTES + 70)]
    batches += [[at(IDLE_MINUTES + 70, version="v3")], [], []]
    minute_by_minute(writer, batches)
    engine, outputs = run(writer.log)
    assert engine.services[SERVICE].versions == {"v2", "v3"}
    ended = [o for o in outputs if isinstance(o, CertificateEvent) and o.version == "v1"][-1]
    assert (ended.state, ended.trigger) == (CertificateState.EXPIRED, Trigger.VERSION_RETIRED)
    assert not any(version == "v1" for _, _, version in engine.state.cells[VERSIONS].index)


def test_a_version_with_a_valid_certificate_makes_no_room():
    writer = LogWriter(bundle(objective(target="0.9"), versions_max=1))
    batches = [[at(0, version="v1", count=2000, weight=2000 << 16)]]
    batches += [[] for _ in range(IDLE_MINUTES + 70)]
    batches += [[at(IDLE_MINUTES + 71, version="v2")], [], []]
    minute_by_minute(writer, batches)
    engine, outputs = run(writer.log)
    states = [o.state for o in outputs if isinstance(o, CertificateEvent) and o.version == "v1"]
    assert states[-1] is CertificateState.ISSUED
    assert engine.services[SERVICE].versions == {"v1", OTHER_VERSION}
