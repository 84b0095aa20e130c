"""The pure part of the ingest: nothing is lost or sent twice, whatever the cut of the cycles."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from stream.core.columns import Receipts, Rows
from stream.core.log import LogRecord, LostRange, decode_record, encode_record
from stream.core.otlp.reference import flat, traces
from stream.core.service_key import partition_of
from stream.ingest import routing as under_test
from stream.ingest.columns import concat_columns
from stream.ingest.cycle import (
    CYCLE_BYTES_MAX,
    Cycle,
    Fetched,
    Session,
    columns_bytes_max,
    decode_cycle,
    decode_piece,
    invalid_texts,
    is_news,
    pieces,
    progress_of,
    sources_at_end,
)
from stream.ingest.routing import Configuration, Router
from stream.kafka.clients import MAX_REQUEST_BYTES
from stream.kafka.config_topic import BUNDLE_BYTES_MAX

PARTITIONS = 5
DECODERS = (flat.decode,) * 3
NOON_NS = 1_790_000_000_000_000_000


def event(service: str, version: str = "v1", **fields: object) -> bytes:
    return orjson.dumps({"service": service, "version": version, "time": NOON_NS, **fields})


def spans(services: Sequence[str]) -> bytes:
    """Returns one OTLP message with three server spans of each service."""
    span = Span(
        trace_id=b"\1" * 16, span_id=b"\2" * 8, kind=Span.SPAN_KIND_SERVER, end_time_unix_nano=NOON_NS, name="op"
    )
    message = ExportTraceServiceRequest()
    for service in services:
        resource = message.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = service
        resource.scope_spans.add().spans.extend([span] * 3)
    body: bytes = message.SerializeToString()
    return body


def session(source: int, first_offset: int = 0) -> Session:
    return Session(
        topic="telemetry.events",
        topic_id="00000000-0000-0000-0000-000000000001",
        partition=source,
        id=f"i-{source}",
        first_offset=first_offset,
        next_offset=first_offset,
    )


def fetched(source: int, first_offset: int, values: Sequence[bytes | None]) -> Fetched:
    return Fetched(
        source=source,
        offsets=range(first_offset, first_offset + len(values)),
        times_ns=[NOON_NS + at for at in range(len(values))],
        values=values,
        next_offset=first_offset + len(values),
    )


@dataclass(frozen=True)
class Step:
    """One cycle: what is fetched of each source, under which configuration, and whether progress is due."""

    fetched: tuple[Fetched, ...]
    version: int
    progress: bool


values = st.one_of(
    st.builds(event, st.sampled_from([f"s{k}" for k in range(9)]), st.sampled_from(["v1", "v2"])),
    st.sampled_from([b"", b"no json", b"[]", event("late", time=-1), None]),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Step, ...]:
    """Cycles over three sources whose offsets rise, with gaps, while the configuration changes now and then."""
    positions = [draw(st.integers(0, 50)) for _ in DECODERS]
    steps, version = [], 1
    for _ in range(draw(st.integers(1, 5))):
        parts = []
        for source in draw(st.sets(st.sampled_from(range(len(DECODERS))))):
            offsets, at = [], positions[source]
            for gap in draw(st.lists(st.integers(0, 2), max_size=8)):
                offsets.append(at + gap)
                at += gap + 1
            positions[source] = at + draw(st.integers(0, 2))
            bodies = draw(st.lists(values, min_size=len(offsets), max_size=len(offsets)))
            times = [NOON_NS + draw(st.integers(0, 9)) for _ in offsets]
            parts.append(
                Fetched(source=source, offsets=offsets, times_ns=times, values=bodies, next_offset=positions[source])
            )
        version += draw(st.sampled_from([0, 0, 3]))
        steps.append(Step(fetched=tuple(parts), version=version, progress=draw(st.booleans())))
    return tuple(steps)


def run(steps: Sequence[Step], *, piece_messages: int = 3) -> dict[int, list[LogRecord]]:
    """Returns the records of each destination, as they come out of the log."""
    first: dict[int, int] = {}
    for part in (part for step in steps for part in step.fetched):
        first.setdefault(part.source, part.offsets[0] if part.offsets else part.next_offset)
    sessions = tuple(session(source, first.get(source, 0)) for source in range(len(DECODERS)))
    router = Router(generation="g1", partitions=PARTITIONS, incarnation="i")
    log: dict[int, list[LogRecord]] = defaultdict(list)
    for step in steps:
        cycle = Cycle(sessions=sessions)
        for piece in pieces(step.fetched, messages_max=piece_messages):
            for cut, decoded in decode_piece(piece, DECODERS):
                cycle = cycle.added(cut, decoded)
        sessions = cycle.sessions
        config = Configuration(version=step.version, body=b"bundle %d" % step.version)
        progress = progress_of(sessions, at_end=(), topic_partitions={}) if step.progress else None
        for destination, record in router.route(cycle, config, progress).items():
            log[destination].append(decode_record(encode_record(record)))
    return log


def row_keys(rows: Rows, source_of: Sequence[int]) -> Counter[tuple[object, ...]]:
    return Counter(
        (
            source_of[rows.source[at]],
            int(rows.offset[at]),
            rows.services[rows.service[at]],
            rows.versions[rows.version[at]],
            int(rows.end_ns[at]),
            int(rows.count[at]),
            int(rows.flags[at]),
        )
        for at in range(len(rows))
    )


def receipt_keys(receipts: Receipts, source_of: Sequence[int]) -> Counter[tuple[object, ...]]:
    return Counter(
        (
            source_of[receipts.source[at]],
            int(receipts.first_offset[at]),
            int(receipts.last_offset[at]),
            int(receipts.items[at]),
            int(receipts.rejected[at]),
            receipts.reasons[receipts.reason[at]],
            receipts.digests[at],
            receipts.details[at],
        )
        for at in range(len(receipts))
    )


def sources_of(record: LogRecord) -> list[int]:
    return [entry.partition for entry in record.sources]


@given(histories())
def test_rows_of_all_destinations_together_are_the_input(steps):
    log = run(steps)
    sent: Counter[tuple[object, ...]] = Counter()
    for destination, records in log.items():
        for record in records:
            if record.rows is not None:
                sent += row_keys(record.rows, sources_of(record))
                assert {partition_of(service, PARTITIONS) for service in record.rows.services} == {destination}
    everything = [part for step in steps for part in step.fetched]
    expected = row_keys(decode_cycle(everything, DECODERS).rows, range(len(DECODERS)))
    assert sent == expected


@given(histories())
def test_receipts_go_to_the_home_of_their_source(steps):
    log = run(steps)
    sent: Counter[tuple[object, ...]] = Counter()
    for destination, records in log.items():
        for record in records:
            if record.receipts is None:
                continue
            sent += receipt_keys(record.receipts, sources_of(record))
            for source in np.unique(record.receipts.source):
                assert partition_of(record.sources[source].id, PARTITIONS) == destination
    expected: Counter[tuple[object, ...]] = Counter()
    for step in steps:
        for piece in pieces(step.fetched, messages_max=3):
            expected += receipt_keys(decode_cycle(piece, DECODERS).receipts, range(len(DECODERS)))
    assert sent == expected


@given(histories())
def test_what_a_destination_has_is_downward_closed(steps):
    """The offsets of a record lie above all that earlier records of the session covered, and within its own range."""
    for records in run(steps).values():
        covered: dict[str, int] = {}
        for record in records:
            for index, entry in enumerate(record.sources):
                low = covered.get(entry.id, entry.first_offset)
                assert entry.first_offset <= low <= entry.next_offset
                offsets: list[int] = []
                if record.rows is not None:
                    offsets += record.rows.offset[record.rows.source == index].tolist()
                if record.receipts is not None:
                    mine = record.receipts.source == index
                    offsets += record.receipts.first_offset[mine].tolist()
                    offsets += record.receipts.last_offset[mine].tolist()
                assert all(low <= offset < entry.next_offset for offset in offsets)
                covered[entry.id] = entry.next_offset


@given(histories())
def test_sequences_have_no_gaps_and_configuration_precedes_rows(steps):
    for records in run(steps).values():
        assert [record.sequence for record in records] == list(range(len(records)))
        bodies = {}
        for record in records:
            if record.config is not None:
                assert record.config_version not in bodies, "a body is sent once"
                bodies[record.config_version] = record.config
            assert bodies[record.config_version] == b"bundle %d" % record.config_version


@given(histories())
def test_due_progress_reaches_every_partition_and_names_every_source(steps):
    log = run(steps)
    due = sum(step.progress for step in steps)
    for destination in range(PARTITIONS):
        reports = [record for record in log[destination] if record.progress is not None]
        assert len(reports) == due
        for record in reports:
            assert record.progress is not None
            assert [entry.source for entry in record.progress.sources] == list(range(len(DECODERS)))
            assert sources_of(record) == list(range(len(DECODERS)))


@given(histories(), st.integers(1, 4))
def test_the_cut_of_pieces_changes_nothing(steps, messages_max):
    rows = [row_keys(record.rows, sources_of(record)) for rs in run(steps).values() for record in rs if record.rows]
    again = run(steps, piece_messages=messages_max)
    assert rows == [row_keys(r.rows, sources_of(r)) for rs in again.values() for r in rs if r.rows]
    for step in steps:
        cut = list(pieces(step.fetched, messages_max=messages_max))
        assert all(sum(len(part.values) for part in piece) <= messages_max for piece in cut)
        for source in range(len(DECODERS)):
            whole = [part for part in step.fetched if part.source == source]
            parts = [part for piece in cut for part in piece if part.source == source]
            assert [o for part in parts for o in part.offsets] == [o for part in whole for o in part.offsets]
            assert [part.next_offset for part in parts[-1:]] == [part.next_offset for part in whole[-1:]]


def test_rows_of_one_message_for_one_destination_are_in_one_record():
    """However small the pieces and cycles: a message is never cut."""
    services = [f"s{at}" for at in range(12)]
    parts = (fetched(0, 0, [spans(services), spans(services[:5])]),)
    router = Router(generation="g1", partitions=PARTITIONS, incarnation="i")
    sessions: tuple[Session, ...] = (session(0),)
    records_of: Counter[tuple[int, int]] = Counter()
    for piece in pieces(parts, messages_max=1):
        for cut, decoded in decode_piece(piece, (traces.decode,), bytes_max=1):
            cycle = Cycle(sessions=sessions).added(cut, decoded)
            sessions = cycle.sessions
            for destination, record in router.route(cycle, Configuration(version=1, body=b"")).items():
                offsets = () if record.rows is None else np.unique(record.rows.offset).tolist()
                records_of.update((destination, offset) for offset in offsets)
    assert set(records_of.values()) == {1}
    for offset, names in enumerate((services, services[:5])):
        homes = {partition_of(f"unknown/-/{name}", PARTITIONS) for name in names}
        assert {destination for destination, at in records_of if at == offset} == homes


def test_the_log_carries_only_trace_ids_that_may_be_shown():
    """Twelve events, of which one is the newest and one the longest; without trace ids it carries no column of them."""

    def sent(trace_of: Callable[[int], str | None]) -> LogRecord:
        values = [
            event("checkout", trace_id=trace_of(at), time=NOON_NS + at, duration_ms=99 if at == 4 else 1)
            for at in range(12)
        ]
        steps = [Step(fetched=(fetched(0, 0, values),), version=1, progress=False)]
        (record,) = [
            one for records in run(steps, piece_messages=5).values() for one in records if one.rows is not None
        ]
        return record

    record = sent(lambda at: f"{at + 1:032x}")
    assert record.rows is not None
    assert record.rows.trace_lo.tolist() == [5 if at == 4 else 12 if at == 11 else 0 for at in range(12)]
    assert b"trace_lo" in encode_record(record)
    assert b"trace_lo" not in encode_record(sent(lambda at: None))


def test_a_cycle_without_progress_lists_only_the_sources_it_read():
    steps = [Step(fetched=(fetched(2, 0, [event("checkout")]),), version=1, progress=False)]
    for records in run(steps).values():
        assert [sources_of(record) for record in records] == [[2]]


def test_session_times_begin_with_the_first_message_and_end_with_the_largest():
    before = session(0, 5)
    assert (before.began_ns, before.until_ns) == (None, None)
    part = Fetched(source=0, offsets=[5, 6, 7], times_ns=[30, 90, 60], values=[b""] * 3, next_offset=9)
    after = before.advanced(part)
    assert (after.began_ns, after.until_ns, after.first_offset, after.next_offset) == (30, 90, 5, 9)
    idle = after.advanced(Fetched(source=0, offsets=[], times_ns=[], values=[], next_offset=12))
    assert (idle.began_ns, idle.until_ns, idle.next_offset) == (30, 90, 12)


def test_reading_on_behind_the_position_is_a_bug():
    with pytest.raises(AssertionError):
        session(0, 5).advanced(fetched(0, 4, [b""]))


def test_a_source_is_at_its_end_when_its_position_reached_what_was_asked_for():
    sessions = (session(0, 10), session(1, 10), session(2, 10))
    assert sources_at_end(sessions, {0: 10, 1: 11}) == {0}


def test_progress_is_news_on_first_messages_and_on_reaching_the_end_only():
    new = (session(0), session(1))
    nothing = progress_of(new, at_end=(), topic_partitions={"telemetry.events": 2})
    assert is_news(new, (), None)
    assert not is_news(new, (), nothing)
    read = (new[0].advanced(fetched(0, 0, [b""])), new[1])
    assert is_news(read, (), nothing)
    reported = progress_of(read, at_end={0}, topic_partitions={})
    assert not is_news(read, {0}, reported)
    assert is_news(read, {0, 1}, reported)
    assert not is_news(read, (), reported), "falling behind waits for its second"


def test_lost_offsets_are_covered_and_named():
    cycle = Cycle(sessions=(session(0, 3), session(1, 7))).skipped(1, 20)
    gap = LostRange(source=1, first_offset=7, next_offset=20)
    progress = progress_of(cycle.sessions, at_end=(), topic_partitions={}, lost=[gap])
    router = Router(generation="g1", partitions=PARTITIONS, incarnation="i")
    records = router.route(cycle, Configuration(version=1, body=b"{}"), progress)
    assert sorted(records) == list(range(PARTITIONS))
    for record in records.values():
        again = decode_record(encode_record(record))
        assert again.progress is not None
        assert again.progress.lost == (gap,)
        assert (again.sources[1].first_offset, again.sources[1].next_offset) == (7, 20)


def test_a_full_cycle_has_no_room_but_an_empty_one_takes_anything():
    piece = (fetched(0, 0, [event("a")] * 6),)
    decoded = decode_cycle(piece, DECODERS)
    bytes_max = 2 * decoded.bytes - 1
    empty = Cycle(sessions=(session(0),))
    assert empty.has_room_for(concat_columns([decoded] * 5), bytes_max)
    once = empty.added(piece, decoded)
    assert (once.items, once.messages) == (6, 6)
    assert not once.has_room_for(decoded, bytes_max)
    assert once.has_room_for(decoded)


def test_what_a_cycle_may_hold_leaves_room_for_the_configuration():
    assert columns_bytes_max(1 << 10) == columns_bytes_max(1 << 20) == CYCLE_BYTES_MAX
    assert columns_bytes_max(BUNDLE_BYTES_MAX) + BUNDLE_BYTES_MAX < MAX_REQUEST_BYTES


def test_a_piece_with_too_many_columns_is_halved_at_message_boundaries():
    piece = (fetched(0, 0, [event("a", version="x" * 200) for _ in range(9)]), fetched(1, 0, [event("b")] * 4))
    limit = decode_cycle(piece, DECODERS).bytes // 3
    parts = list(decode_piece(piece, DECODERS, bytes_max=limit))
    assert len(parts) > 2
    assert all(decoded.bytes <= limit for _, decoded in parts)
    rows = [row_keys(decoded.rows, range(3)) for _, decoded in parts]
    assert sum(rows, Counter()) == row_keys(decode_cycle(piece, DECODERS).rows, range(3))


def test_a_message_that_no_record_can_hold_is_refused_whole():
    piece = (fetched(0, 0, [event("a", version="x" * 200)]),)
    ((_, decoded),) = decode_piece(piece, DECODERS, bytes_max=100, message_bytes_max=100)
    assert len(decoded.rows) == 0
    receipts = decoded.receipts
    assert (receipts.items.tolist(), receipts.rejected.tolist()) == ([1], [1])
    assert receipts.reasons[receipts.reason[0]] == "too_large"
    assert "fewer items" in (receipts.details[0] or "")


def test_an_estimate_of_bytes_is_never_below_the_columns():
    many = [event(f"service-{k}", version=f"v{k}", error_type="timeout") for k in range(2000)]
    for bodies in (many, [b"no json %d" % k for k in range(2000)]):
        piece = (fetched(0, 0, bodies),)
        decoded = decode_cycle(piece, DECODERS)
        cycle = Cycle(sessions=(session(0),)).added(piece, decoded)
        router = Router(generation="g1", partitions=1, incarnation="i")
        (record,) = router.route(cycle, Configuration(version=1, body=b"")).values()
        headers = len(encode_record(replace(record, rows=None, receipts=None)))
        schemas = 8192
        assert len(encode_record(record)) <= decoded.bytes + headers + schemas


def test_service_names_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(under_test, "_SERVICES_REMEMBERED", 3)
    router = Router(generation="g1", partitions=PARTITIONS, incarnation="i")
    for start in range(0, 40, 4):
        piece = (fetched(0, start, [event(f"s{k}") for k in range(start, start + 4)]),)
        cycle = Cycle(sessions=(session(0, start),)).added(piece, decode_cycle(piece, DECODERS))
        for destination, record in router.route(cycle, Configuration(version=1, body=b"")).items():
            if record.rows is not None:
                keys = {record.rows.services[at] for at in record.rows.service}
                assert {partition_of(key, PARTITIONS) for key in keys} == {destination}
    assert len(router._partition_of) <= 7


@st.composite
def overlapping_sessions(draw: st.DrawFn) -> tuple[list[bytes], dict[int, list[LogRecord]]]:
    """Messages of one source, and the log after its first reader was replaced while it still wrote.

    The second begins at an offset that the first had committed, so behind everything acknowledged until then. From
    there on the records of both come in any order, those of each in its own; the first dies within a cycle.
    """
    names = draw(st.lists(st.sampled_from([f"s{at}" for at in range(9)]), min_size=1, max_size=30))
    bodies = [event(name) for name in names]

    def cuts(start: int) -> list[int]:
        inner = draw(st.sets(st.integers(start, len(bodies)), max_size=4))
        return sorted({start, len(bodies), *inner})

    def cycles(bounds: Sequence[int], incarnation: str) -> list[dict[int, LogRecord]]:
        router = Router(generation="g1", partitions=PARTITIONS, incarnation=incarnation)
        sessions: tuple[Session, ...] = (replace(session(0, bounds[0]), id=f"{incarnation}-1"),)
        sent = []
        for start, stop in pairwise(bounds):
            part = (fetched(0, start, bodies[start:stop]),)
            cycle = Cycle(sessions=sessions).added(part, decode_cycle(part, DECODERS))
            progress = progress_of(cycle.sessions, at_end=(), topic_partitions={}) if draw(st.booleans()) else None
            sent.append(router.route(cycle, Configuration(version=1, body=b""), progress))
            sessions = cycle.sessions
        return sent

    bounds = cuts(0)
    committed = draw(st.integers(0, len(bounds) - 1))
    first = cycles(bounds, "first")
    second = cycles(cuts(bounds[committed]), "second")
    died_in = draw(st.integers(committed, len(first)))
    log: dict[int, list[LogRecord]] = {}
    for destination in range(PARTITIONS):
        before = [cycle[destination] for cycle in first[:committed] if destination in cycle]
        zombie = [cycle[destination] for cycle in first[committed:died_in] if destination in cycle]
        if died_in < len(first) and destination in first[died_in] and draw(st.booleans()):
            zombie.append(first[died_in][destination])
        heir = [cycle[destination] for cycle in second if destination in cycle]
        order = draw(st.permutations([True] * len(zombie) + [False] * len(heir)))
        queues = {True: iter(zombie), False: iter(heir)}
        log[destination] = before + [next(queues[turn]) for turn in order]
    return bodies, log


@given(overlapping_sessions())
def test_the_applied_offset_alone_removes_what_two_sessions_sent_twice(history):
    bodies, log = history
    counted: Counter[int] = Counter()
    items: Counter[int] = Counter()
    for records in log.values():
        applied = -1
        for record in records:
            if record.rows is not None:
                counted.update(offset for offset in record.rows.offset.tolist() if offset > applied)
            if record.receipts is not None:
                runs = zip(record.receipts.first_offset.tolist(), record.receipts.last_offset.tolist(), strict=True)
                items.update(at for low, high in runs for at in range(max(low, applied + 1), high + 1))
            applied = max(applied, record.sources[0].next_offset - 1)
    once = Counter(range(len(bodies)))
    assert counted == once
    assert items == once


def test_items_with_texts_that_are_no_utf8_are_counted_by_topic():
    damaged = spans(["checkout", "shop"]).replace(b"checkout", b"chec\xffout")
    sessions = (replace(session(0), topic="a"), replace(session(1), topic="b"), replace(session(2), topic="a"))
    cycle = Cycle(sessions=sessions)
    for source, values in ((0, [damaged, spans(["shop"])]), (1, [spans(["shop"])]), (2, [damaged, damaged])):
        piece = (fetched(source, 0, values),)
        cycle = cycle.added(piece, decode_cycle(piece, (traces.decode,) * 3))

    assert cycle.items == 18 + 3 + 3
    assert invalid_texts(cycle) == {"a": 9}
    assert invalid_texts(Cycle(sessions=sessions)) == {}
