"""Our own indicators are read back exactly, go where composites ask for them, and are counted once each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config.sources import own_indicators
from stream.core.columns import RejectReason
from stream.core.engine import Engine
from stream.core.engine.ledger import balance
from stream.core.errors import DecodeError
from stream.core.events import Output, SliEvent
from stream.core.log import LogRecord, decode_record, encode_record
from stream.core.otlp import Messages
from stream.core.rendering import render
from stream.core.service_key import partition_of
from stream.core.slo.composite import Component, Composite
from stream.core.slo.sli import SLICE_ONE
from stream.core.slo.spec import Bundle, Objective, SliSignal, Source
from stream.core.units import MINUTE_NS, WEIGHT_ONE, minute_of
from stream.ingest.columns import Columns
from stream.ingest.cycle import Cycle, Fetched, Session, decode_piece, is_news, progress_of
from stream.ingest.decoding import Decoders, Decoding
from stream.ingest.indicators import EVENTS_MAX, decode_indicator_events, exact_weights
from stream.ingest.routing import Configuration, Router
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, minute_by_minute, objective, run, steady

T0 = minute_of(T0_NS)
PARTITIONS = 7
CHECKOUT, SEARCH, GHOST = "prod/shop/checkout", "prod/shop/search", "prod/shop/ghost"
TOPIC = "qma.sli"


def published(outputs: list[Output]) -> list[bytes]:
    """Returns what stands in `qma.sli`."""
    return [rendered.value for rendered in map(render, outputs) if rendered.topic == "sli"]


def some_events(**settings: Any) -> tuple[list[Output], list[bytes]]:
    """Returns the outputs of five minutes of two objectives, and what is published of them."""
    made = bundle(objective(), objective("slow", duration_lte_ns=500_000), **settings)
    writer = LogWriter(made)
    batches = steady(5, 6, bad_every=4)
    batches[2] = [replace(event, weight=WEIGHT_ONE * 7 // 2) for event in batches[2]]
    minute_by_minute(writer, batches)
    late = Event(T0_NS + MINUTE_NS, bad=True)
    writer.record([late], until_ns=T0_NS + 9 * MINUTE_NS)
    _, outputs = run(writer.log)
    return outputs, published(outputs)


def test_every_published_indicator_comes_back_as_it_was_counted() -> None:
    outputs, values = some_events()
    events = [output for output in outputs if isinstance(output, SliEvent)]
    decoded = decode_indicator_events(Messages.of(values, first_offset=40))
    found = decoded.indicators
    assert len(found) == len(events) > 10
    for at, event in enumerate(events):
        said = event.minute_sli
        assert (found.service[at], found.objective[at]) == (event.objective.service, event.objective.name)
        assert (found.minute[at], found.revision[at]) == (event.minute, event.revision)
        assert (found.events[at], found.gap[at]) == (said.n, event.gap)
        assert Fraction(int(found.weight[at]), WEIGHT_ONE) == Fraction(said.total)
        assert Fraction(int(found.weight[at] - found.weight_bad[at]), WEIGHT_ONE) == Fraction(said.good)
    assert max(found.revision) > 0, "no correction among them"
    assert {int(w) % WEIGHT_ONE for w in found.weight} == {0}
    # 6 events of 3.5 each, every fourth bad
    (weighed,) = {int(w) for w in found.weight} & {21 * WEIGHT_ONE}
    assert found.weight_bad[found.weight == weighed].max() == 21 * WEIGHT_ONE
    assert found.counts.all()
    assert (decoded.receipts.items.tolist(), decoded.receipts.rejected.tolist()) == ([len(values)], [0])


@given(st.data())
def test_weights_are_exact_in_the_unit_that_they_were_counted_in(data: st.DataObject) -> None:
    unit = data.draw(st.sampled_from([WEIGHT_ONE, SLICE_ONE]))
    weight = data.draw(st.integers(0, min(1 << 53, EVENTS_MAX * unit)))
    bad = data.draw(st.integers(0, weight))
    found, found_bad = exact_weights(weight / unit, (weight - bad) / unit)
    assert found * bad == found_bad * weight
    if unit == WEIGHT_ONE:
        assert (found, found_bad) == (weight, bad)


def test_a_counter_of_bad_ones_may_tell_more_of_them_than_there_were() -> None:
    assert exact_weights(2.0, 0.0, 5_000.0) == (2 * WEIGHT_ONE, 5_000 * WEIGHT_ONE)
    assert exact_weights(0.0, 0.0, 3.0) == (0, 3 * WEIGHT_ONE)
    for bad in (-1.0, EVENTS_MAX + 1.0, 0.1):
        with pytest.raises(DecodeError, match="`bad_counted` is"):
            exact_weights(2.0, 0.0, bad)


@pytest.mark.parametrize(
    ("total", "good"), [(1.0, 2.0), (-1.0, -1.0), (0.1, 0.1), (1e18, 1.0), (5.0, 1 / 3), (EVENTS_MAX + 1.0, 1.0)]
)
def test_what_no_minute_can_hold_is_refused(total: float, good: float) -> None:
    with pytest.raises(DecodeError, match="good at most total"):
        exact_weights(total, good)


def test_other_events_are_counted_and_are_indicators_of_nothing() -> None:
    _, values = some_events(publish_sketches=True)
    kinds = Counter(orjson.loads(value)["type"] for value in values)
    assert kinds["qma.sketch.v1"] > 0
    decoded = decode_indicator_events(Messages.of([*values, None]))
    assert decoded.receipts.items.sum() == len(values) == len(decoded.indicators)
    nothing = [at for at, name in enumerate(decoded.indicators.objective) if not name]
    assert len(nothing) == kinds["qma.sketch.v1"]
    assert {decoded.indicators.service[at] for at in nothing} == {CHECKOUT}
    assert {int(decoded.indicators.minute[at]) for at in nothing} <= set(range(T0, T0 + 5))


def test_what_another_generation_published_is_counted_and_is_an_indicator_of_nothing() -> None:
    values = some_events()[1][:3]
    foreign = [edited(values[0], "source", source) for source in ("/qma/test/2", "/qma/other/1")]
    decoding = Decoding(replace(bundle(objective()), sources=(own_indicators("qma."),)), Decoders(compile=False))
    decoded = decoding.of(TOPIC)(Messages.of([*values, *foreign]))
    assert isinstance(decoded, Columns)
    assert [bool(name) for name in decoded.indicators.objective] == [True, True, True, False, False]
    assert (decoded.receipts.items.sum(), decoded.receipts.rejected.sum()) == (5, 0)


def edited(value: bytes, path: str, new: Any = None) -> bytes:
    """Returns an event with one field changed, or removed."""
    body = section = orjson.loads(value)
    *sections, name = path.split(".")
    for one in sections:
        section = section[one]
    if new is None:
        del section[name]
    else:
        section[name] = new
    return orjson.dumps(body)


@pytest.mark.parametrize(
    ("path", "new", "reason"),
    [
        ("type", None, RejectReason.MISSING_FIELD),
        ("data", None, RejectReason.MISSING_FIELD),
        ("data.service", "", RejectReason.WRONG_TYPE),
        ("data.objective", 7, RejectReason.WRONG_TYPE),
        ("data.revision", -1, RejectReason.WRONG_TYPE),
        ("data.revision", True, RejectReason.WRONG_TYPE),
        ("data.minute", [], RejectReason.WRONG_TYPE),
        ("data.minute.start", "2026-11-22T10:00:30Z", RejectReason.WRONG_TYPE),
        ("data.minute.start", "2026-11-22T10:00:00", RejectReason.WRONG_TYPE),
        ("data.minute.start", "yesterday", RejectReason.WRONG_TYPE),
        ("data.minute.start", "2600-01-01T00:00:00Z", RejectReason.WRONG_TYPE),
        ("data.minute.n", 1.5, RejectReason.WRONG_TYPE),
        ("data.minute.n", EVENTS_MAX + 1, RejectReason.WRONG_TYPE),
        ("data.minute.total", "6", RejectReason.WRONG_TYPE),
        ("data.minute.good", 1e9, RejectReason.OUT_OF_RANGE),
        ("data.flags.gap", "no", RejectReason.WRONG_TYPE),
    ],
)
def test_an_event_that_is_none_of_ours_is_refused(path: str, new: Any, reason: RejectReason) -> None:
    value = some_events()[1][0]
    decoded = decode_indicator_events(Messages.of([value, edited(value, path, new), value]))
    receipts = decoded.receipts
    assert len(decoded.indicators) == 2
    assert [receipts.reasons[at] for at in receipts.reason] == ["", reason, ""]
    assert (receipts.items.tolist(), receipts.rejected.tolist()) == ([1, 1, 1], [0, 1, 0])
    assert path.rpartition(".")[2] in str(receipts.details[1]) or "time" in str(receipts.details[1])
    assert receipts.digests[1] is not None


DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b'{"type": "x", "subject": "s", "time": "now"}',
        b"\xff",
        pytest.param(DEEP, id="deep"),
        pytest.param(b'{"type": ' + DEEP + b"}", id="deep-type"),
    ],
)
def test_what_is_no_event_at_all_is_refused(value: bytes) -> None:
    decoded = decode_indicator_events(Messages.of([value]))
    assert (len(decoded.indicators), decoded.receipts.rejected.tolist()) == (0, [1])


def own_session(partition: int = 0) -> Session:
    return Session(
        topic=TOPIC,
        topic_id="00000000-0000-0000-0000-00000000000a",
        partition=partition,
        id=f"i-{partition}",
        first_offset=0,
        next_offset=0,
        is_telemetry=False,
    )


def fetched(source: int, first: int, values: list[bytes]) -> Fetched:
    offsets = range(first, first + len(values))
    return Fetched(
        source=source,
        offsets=offsets,
        times_ns=[T0_NS + at for at in offsets],
        values=values,
        next_offset=first + len(values),
    )


def test_our_own_indicators_have_no_time() -> None:
    session = own_session().advanced(fetched(0, 0, [b"{}"]))
    assert (session.next_offset, session.began_ns, session.until_ns) == (1, None, None)
    telemetry = replace(own_session(1), is_telemetry=True)
    reported = progress_of([session, telemetry], at_end=(0, 1), topic_partitions={})
    assert [(entry.source, entry.at_end) for entry in reported.sources] == [(1, True)]
    assert not is_news([session, telemetry], (0, 1), reported)


def over(service: str, *components: tuple[str, str], name: str = "all", **rest: Any) -> Objective:
    parts = tuple(Component(service=key, objective=part) for key, part in components)
    return Objective(
        service=service,
        name=name,
        target="0.9",
        window_minutes=43_200,
        kinds=(),
        signal=SliSignal.INDICATORS,
        certified=False,
        composite=Composite(components=parts, **rest),
    )


def composed_bundle(*objectives: Objective) -> Bundle:
    made = bundle(objective(), objective("search", service=SEARCH), *objectives)
    return replace(
        made, partitions=PARTITIONS, sources=(Source(topic="events", encoding="flat"), own_indicators("qma."))
    )


def routed(made: Bundle, values: list[bytes]) -> dict[int, LogRecord]:
    decoding = Decoding(made, Decoders(compile=False))
    cycle = Cycle(sessions=(own_session(),))
    for piece, decoded in decode_piece((fetched(0, 0, values),), [decoding.of(TOPIC)]):
        cycle = cycle.added(piece, decoded)
    router = Router(generation="1", partitions=PARTITIONS, incarnation="i")
    records = router.route(cycle, Configuration.of(3, made.encode(), made))
    return {at: decode_record(encode_record(record)) for at, record in records.items()}


def copies(records: dict[int, LogRecord]) -> dict[str, dict[int, list[bool]]]:
    """Returns of each objective the partitions that hear of it, and which copies count."""
    found: dict[str, dict[int, list[bool]]] = {}
    for at, record in records.items():
        indicators = record.indicators
        if indicators is not None:
            for name, counts in zip(indicators.objective, indicators.counts.tolist(), strict=True):
                found.setdefault(name, {}).setdefault(at, []).append(counts)
    return found


def test_an_indicator_goes_to_each_composite_that_asks_and_counts_at_home() -> None:
    values = some_events()[1]
    asked = (CHECKOUT, "availability")
    first, second = over("prod/-/shop", asked), over("prod/-/store", asked, (SEARCH, "search"))
    wanted = {partition_of(one.service, PARTITIONS) for one in (first, second)}
    home = own_session().home(PARTITIONS)
    found = copies(routed(composed_bundle(first, second), values))
    assert len(wanted) == 2
    assert set(found["availability"]) == {*wanted, home}
    assert set(found["slow"]) == {home}, "nobody asks for it"
    for by_partition in found.values():
        assert all(counts == [at == home] * len(counts) for at, counts in by_partition.items())


def test_where_an_indicator_counts_does_not_depend_on_the_configuration() -> None:
    values = some_events()[1]
    asked = (CHECKOUT, "availability")
    for made in (composed_bundle(), composed_bundle(over("prod/-/shop", asked)), composed_bundle(over(SEARCH, asked))):
        found = copies(routed(made, values))
        counting = {at for by_partition in found.values() for at, counts in by_partition.items() if any(counts)}
        assert counting == {own_session().home(PARTITIONS)}


@dataclass
class Whole:
    """The pipeline without Kafka: telemetry in, and what is published on `qma.sli` in again."""

    bundle: Bundle
    offset: int = 0

    def __post_init__(self) -> None:
        self.engines = [Engine(at) for at in range(self.bundle.partitions)]
        self.sessions: tuple[Session, ...] = tuple(
            replace(own_session(), topic=source.topic, topic_id=source.topic, is_telemetry=source.is_telemetry)
            for source in self.bundle.sources
        )
        self.router = Router(generation="1", partitions=self.bundle.partitions, incarnation="i")
        decoding = Decoding(self.bundle, Decoders(compile=False))
        self.decoders = [decoding.of(source.topic) for source in self.bundle.sources]
        self.configuration = Configuration.of(0, self.bundle.encode(), self.bundle)

    def feed(self, *values: list[bytes], until_ns: int) -> list[Output]:
        """Reads what there is in each source, in their order, up to a time."""
        cycle = Cycle(sessions=self.sessions)
        parts = [fetched(at, self.sessions[at].next_offset, some) for at, some in enumerate(values) if some]
        for piece, decoded in decode_piece(tuple(parts), self.decoders):
            cycle = cycle.added(piece, decoded)
        self.sessions = tuple(
            replace(session, began_ns=T0_NS, until_ns=until_ns) if session.is_telemetry else session
            for session in cycle.sessions
        )
        telemetry = tuple(at for at, session in enumerate(self.sessions) if session.is_telemetry)
        partitions = {session.topic: 1 for session in self.sessions}
        progress = progress_of(self.sessions, at_end=telemetry, topic_partitions=partitions)
        outputs: list[Output] = []
        for at, record in self.router.route(cycle, self.configuration, progress).items():
            outputs += self.engines[at].apply(self.offset, until_ns, encode_record(record))
        self.offset += 1
        return outputs


def flat(service: str, at_ns: int, status: str) -> bytes:
    return orjson.dumps(
        {"service": service, "environment": "prod", "namespace": "shop", "time": at_ns, "status": status}
    )


def test_spans_of_two_services_become_the_indicator_of_their_composite() -> None:
    made = composed_bundle(
        over("prod/-/shop", (CHECKOUT, "availability"), (SEARCH, "search")),
        objective("ghost", service=GHOST),
        over("prod/-/seen", (CHECKOUT, "availability"), (GHOST, "ghost"), name="seen", seen_minutes=2),
    )
    whole = Whole(made)
    found: dict[tuple[str, int], SliEvent] = {}
    heard: list[bytes] = []
    for minute in range(8):
        start_ns = T0_NS + minute * MINUTE_NS
        events = [flat("checkout", start_ns + at, "error" if at == 0 else "ok") for at in range(4)]
        events += [flat("search", start_ns + at, "ok") for at in range(2)]
        malformed = [b"no event"] if minute == 3 else []
        outputs = whole.feed(events if minute < 5 else [], [*heard, *malformed], until_ns=start_ns + MINUTE_NS)
        heard = published(outputs)
        found |= {(o.objective.name, o.minute - T0): o for o in outputs if isinstance(o, SliEvent)}
    # one of four requests to checkout failed, none of search: (3/4 + 1) ÷ 2
    assert {found["all", minute].minute_sli.ratio for minute in range(1, 4)} == {0.875}
    # checkout was seen within two minutes, the other service never
    assert {found["seen", minute].minute_sli.ratio for minute in range(1, 4)} == {0.5}
    by_topic = {b.topic: b for b in balance([engine.ledger for engine in whole.engines])}
    own = by_topic[TOPIC]
    assert own.is_equal
    assert (own.received, own.rejected) == (own.next_offset, {"malformed": 1})
    assert own.counted == own.received - 1
    assert all(b.is_equal and not b.in_flight for b in by_topic.values())


def test_what_was_read_of_our_own_indicators_never_moves_the_frontier() -> None:
    made = composed_bundle(over("prod/-/shop", (CHECKOUT, "availability")))
    whole = Whole(made)
    whole.feed([flat("checkout", T0_NS, "ok")], [], until_ns=T0_NS + 5 * MINUTE_NS)
    frontier = {engine.state.clocks.frontier_ns for engine in whole.engines}
    future = edited(some_events()[1][0], "data.revision", 3)
    whole.feed([], [future] * 3, until_ns=T0_NS + 5 * MINUTE_NS)
    assert {engine.state.clocks.frontier_ns for engine in whole.engines} == frontier
    assert np.all([TOPIC not in {topic for topic, _ in engine.state.clocks.until_ns} for engine in whole.engines])
