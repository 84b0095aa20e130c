"""Checkpoints: whatever moment the state is saved at and taken back, the fold goes on as if nothing had happened."""

import functools
import struct

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.cells import Column
from stream.core.columns import encode_table
from stream.core.engine import Engine
from stream.core.errors import IncompatibleError
from stream.core.rendering import render
from stream.core.units import MINUTE_NS
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, minute_by_minute, objective, steady
from tests.core.engine.scenarios import rich_log
from tests.core.oracles import engine_cells, nonzero

Log = list[tuple[int, bytes]]
Bytes = list[tuple[str, bytes, bytes]]


def fold(
    log: Log, checkpoints: frozenset[int] = frozenset(), restores: frozenset[int] = frozenset()
) -> tuple[Bytes, dict[bytes, bytes], Engine]:
    """Folds a log with checkpoints after some records, and crashes after some of these.

    Returns the rendered outputs, the compacted topic after a last checkpoint, and the engine.
    """
    engine, outputs = Engine(0), []
    topic: dict[bytes, bytes] = {}
    for offset, (time_ns, value) in enumerate(log):
        for output in engine.apply(offset, time_ns, value):
            rendered = render(output)
            outputs.append((rendered.topic, rendered.key, rendered.value))
        if offset in checkpoints | restores:
            save(engine, topic)
        if offset in restores:
            engine = Engine.restore(0, topic)
    save(engine, topic)
    return outputs, topic, engine


def save(engine: Engine, topic: dict[bytes, bytes]) -> None:
    """Applies a checkpoint to a compacted topic: tombstones delete, the manifest goes last."""
    saved = engine.checkpoint()
    assert saved.log_offset == engine.log_offset
    for key, value in saved.chunks:
        if value is None:
            assert key in topic, f"a tombstone for {key!r}, which was never written"
            del topic[key]
        else:
            topic[key] = value
    topic[saved.manifest[0]] = saved.manifest[1]


def eight_hours() -> Log:
    """Traffic that stops and comes back, late rows, several versions: minute cells are retired on the way."""
    writer = LogWriter(bundle(objective(window_minutes=60, target="0.9")))
    minute_by_minute(writer, steady(20, 4, bad_every=3))
    for i, minute in enumerate((25, 90, 185, 320, 415, 432, 448, 460, 476, 490)):
        until_ns = T0_NS + minute * MINUTE_NS
        late = [Event(until_ns - 50 * MINUTE_NS, version="v0", bad=True)] if i % 2 else []
        writer.record([*late, Event(until_ns - 1, version=f"v{i % 3}")], until_ns=until_ns)
    return writer.log


def days() -> Log:
    """A little traffic every other hour: spans of every ring come and most of them go."""
    writer = LogWriter(bundle(objective(window_minutes=60)))
    minute_by_minute(writer, steady(3, 2))
    for hours in range(1, 91, 2):
        until_ns = T0_NS + hours * 60 * MINUTE_NS
        writer.record([Event(until_ns - 1)], until_ns=until_ns)
    return writer.log


LOGS = {"spans retire": eight_hours(), "much happens": rich_log()[:80], "days": days()}


@functools.cache
def uninterrupted(log: str) -> tuple[Bytes, Engine]:
    """Returns the outputs of a log that is folded at one go, and the engine."""
    outputs, _, engine = fold(LOGS[log])
    return outputs, engine


@settings(max_examples=6)
@given(st.data())
@pytest.mark.parametrize("log", ["spans retire", "much happens"])
def test_a_crash_after_any_checkpoint_changes_no_byte(log: str, data: st.DataObject):
    positions = st.frozensets(st.integers(0, len(LOGS[log]) - 1), max_size=6)
    restores, checkpoints = data.draw(positions), data.draw(positions)
    outputs, topic, engine = fold(LOGS[log], checkpoints, restores)
    whole_outputs, whole = uninterrupted(log)
    assert outputs == whole_outputs
    assert engine.snapshot() == whole.snapshot()
    assert Engine.restore(0, topic).snapshot() == whole.snapshot()


@pytest.mark.parametrize("log", ["spans retire", "much happens"])
def test_a_snapshot_can_be_restored_at_any_time(log: str):
    engine = Engine(0)
    for offset, (time_ns, value) in enumerate(LOGS[log]):
        engine.apply(offset, time_ns, value)
        engine.checkpoint()
        if offset % 5 == 0 or offset > len(LOGS[log]) - 8:
            snapshot = engine.snapshot()
            assert Engine.restore(0, snapshot).snapshot() == snapshot


def test_certificates_that_expire_together_do_so_in_the_same_order_after_a_restore():
    writer = LogWriter(bundle(objective(target="0.5"), certificate_lifetime_minutes=60))
    for version in ("b", "a"):
        minute_by_minute(writer, steady(4, 30, version=version, start=len(writer.log)), start=len(writer.log))
    minute_by_minute(writer, [[], [], []], start=8)
    writer.record(now_ns=T0_NS + 120 * MINUTE_NS)
    last = len(writer.log) - 1
    outputs, _, _ = fold(writer.log)
    assert sum(b'"validity_ended"' in value for _, _, value in outputs) == 2
    assert fold(writer.log, restores=frozenset({last - 1}))[0] == outputs


def test_days_later_old_spans_are_deleted_and_what_is_kept_is_bounded():
    log = LOGS["days"]
    outputs, topic, engine = fold(log, frozenset(range(len(log))), frozenset({5, 9, 15}))
    assert outputs == uninterrupted("days")[0]
    minute_spans = [key for key in topic if key.startswith(b"cells/0/")]
    ten_minute_spans = [key for key in topic if key.startswith(b"cells/1/")]
    assert 1 <= len(minute_spans) <= 9
    assert 10 <= len(ten_minute_spans) <= 16
    assert len(engine.state.cells["series"].rings[0].blocks) <= 9


def in_format_2(engine: Engine) -> dict[bytes, bytes]:
    """Returns the state as format 2 wrote it: a chunk for each store, ring, span and service, with whole weights."""
    chunks = {key: value for key, value in engine.snapshot().items() if not key.startswith(b"cells/")}
    spans: dict[tuple[str, int, int, str], dict[tuple[str, int], tuple[int, ...]]] = {}
    for store, cells in engine.state.cells.items():
        for ring, held in enumerate(cells.rings):
            for ((service, digest, version), period), values in sorted(nonzero(cells, ring).items()):
                span = spans.setdefault((store, ring, period // held.spec.span_periods, service), {})
                span[f"{digest}/{version}", period] = values
    for (store, ring, number, service), counted in spans.items():
        names, periods = zip(*counted, strict=True)
        columns = {column.name.lower(): [values[column] for values in counted.values()] for column in Column}
        for name in ("n_unsure", "n_excluded"):
            if not any(columns[name]):
                del columns[name]
        arrays = {"series": pa.array(names).dictionary_encode(), "period": periods, **columns}
        body = encode_table({name: pa.array(values) for name, values in arrays.items()})
        chunks[f"cells/{store}/{ring}/{number}/{service}".encode()] = b"QMAS\3\0" + body
    manifest = orjson.loads(chunks[b"manifest"][6:]) | {"chunks": len(chunks) - 1}
    chunks[b"manifest"] = b"QMAS\3\0" + orjson.dumps(manifest)
    return {key: struct.pack("<4sH", b"QMAS", 2) + value[6:] for key, value in chunks.items()}


@pytest.mark.parametrize(("name", "share"), [("spans retire", 0.4), ("much happens", 1), ("days", 0.4)])
def test_a_state_of_the_format_before_is_read_and_written_anew(name: str, share: float):
    log = LOGS[name]
    until = int(share * len(log))
    before, _, engine = fold(log[:until])
    topic = in_format_2(engine)
    upgraded = Engine.restore(0, topic)
    assert engine_cells(upgraded) == engine_cells(engine)
    outputs = [render(o) for i in range(until, len(log)) for o in upgraded.apply(i, *log[i])]
    whole_outputs, whole = uninterrupted(name)
    assert before + [(o.topic, o.key, o.value) for o in outputs] == whole_outputs
    save(upgraded, topic)
    assert not any(key.startswith((b"cells/series/", b"cells/versions/")) for key in topic)
    assert upgraded.snapshot() == whole.snapshot() == Engine.restore(0, topic).snapshot()


def test_an_idle_checkpoint_writes_the_manifest_alone():
    engine = Engine(0)
    engine.apply(0, *LOGS["much happens"][0])
    engine.checkpoint()
    assert engine.checkpoint().chunks == []


def test_no_state_is_a_new_engine():
    assert Engine.restore(3, {}).log_offset == -1


@pytest.fixture
def saved() -> dict[bytes, bytes]:
    _, topic, _ = fold(LOGS["spans retire"][:25])
    return topic


def test_a_state_of_another_partition_is_refused(saved: dict[bytes, bytes]):
    with pytest.raises(IncompatibleError, match="that of partition 0"):
        Engine.restore(1, saved)


def test_a_state_without_its_manifest_is_refused(saved: dict[bytes, bytes]):
    del saved[b"manifest"]
    with pytest.raises(IncompatibleError, match="no manifest"):
        Engine.restore(0, saved)


def test_a_state_with_a_missing_or_a_foreign_chunk_is_refused(saved: dict[bytes, bytes]):
    for key in sorted(saved.keys() - {b"manifest"}):
        with pytest.raises(IncompatibleError, match="its manifest says"):
            Engine.restore(0, {k: v for k, v in saved.items() if k != key})
    with pytest.raises(IncompatibleError, match="its manifest says"):
        Engine.restore(0, saved | {b"head/x/y/z": saved[b"config"]})


@pytest.mark.parametrize(
    "prefix",
    [struct.pack("<4sH", b"QMAS", 4), struct.pack("<4sH", b"QMAS", 1), struct.pack("<4sH", b"XXXX", 3), b"QM", b""],
)
def test_a_state_of_another_format_is_refused(saved: dict[bytes, bytes], prefix: bytes):
    for key in saved:
        body = saved[key][6:] if len(prefix) == 6 else b""
        with pytest.raises(IncompatibleError, match="this version reads"):
            Engine.restore(0, saved | {key: prefix + body})
