"""What a checkpoint holds: chunks per service, and a manifest that is written last.

Keys: `manifest`, `config`, `head/SERVICE`, `sketch/MINUTE/SERVICE`, `cells/RING/NUMBER/SERVICE`,
`streams/NUMBER/SERVICE`, `fingerprints/MINUTE`; of composites `composites/head/SERVICE`, `composites/cells/…` and
`composites/heard/MINUTE`. Every value begins with the format. A manifest names the number of chunks, so a state that is
not whole is noticed.

Of a service's cells, an hour is one chunk of minute cells for as long as the minute ring holds it: the coarser cells
are their sums. When the ring forgets the hour, the chunk is deleted and the sums are written, in the same checkpoint.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from stream.core.engine.cell_chunks import (
    encode_span,
    forgotten_chunks,
    is_stored,
    parse_span_key,
    restore_span,
    span_key,
    spans_of_hours,
)
from stream.core.engine.clocks import Clocks
from stream.core.engine.heard import HEARD_MINUTES
from stream.core.engine.ledger import Ledger
from stream.core.engine.losses import ask_for_losses
from stream.core.engine.services import ObjectiveState, Service
from stream.core.engine.state import Changes, Incarnation, State, StoredSpan
from stream.core.engine.stream_chunks import encode_streams, restore_streams, stream_key
from stream.core.errors import IncompatibleError
from stream.core.slo.spec import decode_bundle
from stream.core.streams import StreamMemory

FORMAT = 3
"""Format 2 had a chunk for each ring and store of a service's hour; it is read, too, and written anew. A state of
format 3 from before there were composites has nothing of them, as one without any composite."""
MANIFEST = b"manifest"
CONFIG = b"config"
COMPOSITES = b"composites/"
_FINGERPRINTS, _HEARD = "fingerprints", "heard"
_PREFIX = struct.Struct("<4sH")
_MAGIC = b"QMAS"
_NOTHING_CLOSED: dict[str, Any] = {"next_minute": None, "retired_minute": None, "closed_at": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One checkpoint: chunks to write (None: delete) and the manifest, which goes last.

    All of it becomes visible at once or not at all: it is one transaction.
    """

    log_offset: int
    chunks: list[tuple[bytes, bytes | None]]
    manifest: tuple[bytes, bytes]


def checkpoint(state: State, composites: State) -> Checkpoint:
    """Returns what changed in both stages since the last checkpoint and marks it as saved."""
    changed: list[tuple[bytes, bytes | None]] = []
    for stage, prefix in ((state, b""), (composites, COMPOSITES)):
        chunks, gone = _changed(stage)
        changed += [(prefix + key, chunk) for key, chunk in chunks.items()]
        changed += [(prefix + key, None) for key in gone]
    manifest = _manifest(state, composites, len(state.stored) + len(composites.stored))
    return Checkpoint(log_offset=state.log_offset, chunks=changed, manifest=(MANIFEST, manifest))


def _changed(state: State) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Returns the chunks of a stage that changed, and the keys of those that are gone, and marks them as saved."""
    state.hand_over()
    changes, state.changes = state.changes, Changes()
    chunks: dict[bytes, bytes] = {}
    if changes.config:
        chunks[CONFIG] = _config(state)
    for service in sorted(changes.heads):
        chunks[head_key(service)] = _head(state.services[service])
    for service, minute in sorted(changes.sketches - changes.closed_sketches):
        chunks[_sketch_key(service, minute)] = _sketch(state.services[service], minute)
    forgotten = forgotten_chunks(state)
    left = {(stored.service, stored.span.number) for stored in forgotten.values() if stored and stored.span.ring == 0}
    spans = changes.spans | spans_of_hours(state, changes.hours | left)
    cells = _spans(state, spans)
    chunks |= cells
    without_cells = {span_key(span) for span in spans} - cells.keys()
    streams, emptied = _changed_streams(state)
    chunks |= streams
    fingerprints, expired = _changed_parts(_FINGERPRINTS, state.duplicates)
    heard, unheard = _changed_parts(_HEARD, state.heard)
    chunks |= fingerprints | heard
    closed = {_sketch_key(*closed) for closed in changes.closed_sketches}
    left_over = _chunks_of_retired(state, changes.retired_services)
    no_more = closed | emptied | expired | unheard | without_cells
    gone = sorted(forgotten.keys() | left_over | (no_more & state.stored))
    state.stored = (state.stored | set(chunks)) - set(gone)
    return chunks, gone


def _chunks_of_retired(state: State, services: set[str]) -> set[bytes]:
    """Returns the stored heads and sketches of retired services, but what they hold again where one came back."""
    gone: set[bytes] = set()
    for key in state.stored if services else ():
        kind, _, rest = key.partition(b"/")
        name = rest.partition(b"/")[2] if kind == b"sketch" else rest
        service = name.decode() if kind in (b"head", b"sketch") else ""
        if service not in services:
            continue
        held = state.services.get(service)
        if held is None or (kind == b"sketch" and int(rest.partition(b"/")[0]) not in held.sketches.minutes()):
            gone.add(key)
    return gone


def span_keys_of(state: State, service: str) -> set[StoredSpan]:
    """Returns the stored spans of a service."""
    end = service.encode()
    parsed = (parse_span_key(key) for key in state.stored if key.endswith(end))
    return {stored for stored in parsed if stored is not None and stored.service == service}


def snapshot(state: State, composites: State) -> dict[bytes, bytes]:
    """Returns every chunk and the manifest, in canonical bytes: equal states have equal snapshots.

    Only right after a checkpoint, when nothing has changed since.
    """
    chunks = _all_chunks(state) | {COMPOSITES + key: chunk for key, chunk in _all_chunks(composites).items()}
    return dict(sorted(chunks.items())) | {MANIFEST: _manifest(state, composites, len(chunks))}


def _all_chunks(state: State) -> dict[bytes, bytes]:
    assert state.changes == Changes()
    assert not state.streams.memory.dirty
    assert not state.duplicates.changed
    assert state.heard is None or not state.heard.changed
    chunks = {CONFIG: _config(state)} if state.bundle is not None and state.heard is None else {}
    for service in state.services.values():
        chunks[head_key(service.key)] = _head(service)
        for minute in service.sketches.minutes():
            chunks[_sketch_key(service.key, minute)] = _sketch(service, minute)
    chunks |= _spans(state, {stored for stored in map(parse_span_key, state.stored) if stored is not None})
    chunks |= _streams(state.streams.memory, state.streams.memory.services)
    chunks |= _parts(_FINGERPRINTS, state.duplicates, state.duplicates.names())
    return chunks if state.heard is None else chunks | _parts(_HEARD, state.heard, state.heard.names())


def restore(partition: int, chunks: Mapping[bytes, bytes]) -> tuple[State, State]:
    """Returns both stages from the chunks of the last checkpoint; empty ones where there is none.

    Raises:
        IncompatibleError: When the state is of another format, of another partition, or not whole.
    """
    state = State(partition)
    composites = State(partition, state)
    if MANIFEST not in chunks:
        if chunks:
            raise IncompatibleError(f"partition {partition}: the state has {len(chunks)} chunks and no manifest")
        return state, composites
    manifest = orjson.loads(_body(chunks[MANIFEST]))
    if manifest["partition"] != partition:
        raise IncompatibleError(f"partition {partition}: the state is that of partition {manifest['partition']}")
    if manifest["chunks"] != len(chunks) - 1:
        raise IncompatibleError(
            f"partition {partition}: the state has {len(chunks) - 1} chunks, its manifest says {manifest['chunks']}"
        )
    _restore_manifest(state, manifest)
    composites = State(partition, state)  # with the clocks as they are now
    _restore_closed(composites, manifest.get("composites", _NOTHING_CLOSED))
    if CONFIG in chunks:
        state.bundle = decode_bundle(bytes(_body(chunks[CONFIG])))
    composites.follow(state)
    for stage, prefix in ((state, b""), (composites, COMPOSITES)):
        _restore_stage(stage, {key[len(prefix) :]: chunks[key] for key in sorted(chunks) if _is_of(key, prefix)})
    return state, composites


def _is_of(key: bytes, prefix: bytes) -> bool:
    return key.startswith(prefix) if prefix else not key.startswith((MANIFEST, COMPOSITES))


def _restore_stage(state: State, chunks: Mapping[bytes, bytes]) -> None:
    for key, chunk in chunks.items():
        _restore_chunk(state, key, _body(chunk))
    for cells in state.cells.values():
        cells.sum_coarse()
    _attach_objectives(state)
    state.stored = set(chunks)


def ledger_of(manifest: bytes) -> Ledger:
    """Returns the accounts in a manifest, for whoever reads checkpoints without running the fold."""
    return Ledger.load(orjson.loads(_body(manifest))["ledger"])


def clocks_of(manifest: bytes) -> Clocks:
    """Returns the clocks in a manifest, likewise."""
    return Clocks.load(orjson.loads(_body(manifest))["clocks"])


def log_offset_of(manifest: bytes) -> int:
    """Returns the log offset of a checkpoint, likewise."""
    offset: int = orjson.loads(_body(manifest))["log_offset"]
    return offset


def closed_until_of(manifest: bytes) -> tuple[int, int | None]:
    """Returns the version of the configuration in a checkpoint, and the first minute that has not closed, likewise."""
    body = orjson.loads(_body(manifest))
    return body["config_version"], body["next_minute"]


def states_of(head: bytes) -> dict[str, ObjectiveState]:
    """Returns the states of a service's objectives in its head chunk, likewise."""
    service = Service("")
    service.load_head(orjson.loads(_body(head)))
    return service.states


def _restore_manifest(state: State, manifest: dict[str, Any]) -> None:
    state.log_offset = manifest["log_offset"]
    state.config_version = manifest["config_version"]
    _restore_closed(state, manifest)
    state.clocks = Clocks.load(manifest["clocks"])
    state.ledger = Ledger.load(manifest["ledger"])
    state.incarnations = {name: Incarnation(*seen) for name, *seen in manifest["incarnations"]}
    state.forgot_incarnations = manifest["forgot_incarnations"]
    state.streams.memory.load_rest(manifest["streams"])
    state.overflowed |= manifest.get("overflowed", {})
    state.ignored_backfills = manifest.get("ignored_backfills", 0)


def _restore_closed(state: State, body: dict[str, Any]) -> None:
    state.next_minute, state.retired_minute = body["next_minute"], body["retired_minute"]
    state.retire_cells()
    state.closed_at = [(minute, now_ns) for minute, now_ns in body.get("closed_at", ())]
    if state.heard is not None and state.next_minute is not None:
        state.heard.floor = state.next_minute - HEARD_MINUTES


def _restore_chunk(state: State, key: bytes, body: memoryview) -> None:
    kind, _, rest = key.partition(b"/")
    if kind == b"head":
        service = state.services.setdefault(rest.decode(), Service(rest.decode()))
        service.load_head(orjson.loads(body))
    elif kind == b"sketch":
        minute, _, name = rest.decode().partition("/")
        service = state.services.setdefault(name, Service(name))
        service.sketches.load(int(minute), bytes(body))
    elif kind == b"cells":
        restore_span(state, key, body)
    elif kind == _FINGERPRINTS.encode():
        state.duplicates.load(int(rest), bytes(body))
    elif kind == b"streams":
        restore_streams(state.streams.memory, key, body)
    elif kind == _HEARD.encode():
        assert state.heard is not None
        state.heard.load(rest.decode(), bytes(body))


def _attach_objectives(state: State) -> None:
    """The configured objectives travel with the configuration; a service's head holds only their states."""
    if state.bundle is None:
        return
    for objective in state.own_objectives():
        state.services[objective.service].objectives.append(objective)
    for service in state.services.values():
        service.objectives = service.with_cohorts(service.objectives)
        service.exclude(state.bundle.adjustments)
    if state.heard is None:
        ask_for_losses(state)
    else:
        state.heard.ask(o for service in state.services.values() for o in service.objectives)


def _manifest(state: State, composites: State, chunks: int) -> bytes:
    return _framed(
        orjson.dumps(
            {
                "partition": state.partition,
                "log_offset": state.log_offset,
                "config_version": state.config_version,
                "next_minute": state.next_minute,
                "retired_minute": state.retired_minute,
                "composites": {name: getattr(composites, name) for name in _NOTHING_CLOSED},
                "clocks": state.clocks.dump(),
                "ledger": state.ledger.dump(),
                "incarnations": [(name, i.sequence, i.progress_ns) for name, i in state.incarnations.items()],
                "forgot_incarnations": state.forgot_incarnations,
                "streams": state.streams.memory.dump(),
                "overflowed": state.overflowed,
                "ignored_backfills": state.ignored_backfills,
                "chunks": chunks,
            }
        )
    )


def _config(state: State) -> bytes:
    assert state.bundle is not None
    return _framed(state.bundle.encode())


def _head(service: Service) -> bytes:
    return _framed(orjson.dumps(service.dump_head()))


def _sketch(service: Service, minute: int) -> bytes:
    return _framed(service.sketches.dump(minute))


def _spans(state: State, spans: set[StoredSpan]) -> dict[bytes, bytes]:
    """Returns the chunks of those spans that are stored and hold any cells."""
    encoded = {span: encode_span(state, span) for span in sorted(spans) if is_stored(state, span)}
    return {span_key(span): _framed(body) for span, body in encoded.items() if body}


def _changed_streams(state: State) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Returns the chunks of streams that changed, and the keys of those that hold nothing more."""
    memory = state.streams.memory
    dirty, memory.dirty = memory.dirty, {}
    held = {number: service for number, service in dirty.items() if number in memory.services}
    return _streams(memory, held), {stream_key(n, service) for n, service in dirty.items() if n not in held}


class _Parts(Protocol):
    """What is kept in chunks of its own, and knows which of these changed since the last checkpoint."""

    changed: set[Any]

    def names(self) -> list[Any]: ...
    def dump(self, name: Any, /) -> bytes: ...


def _changed_parts(kind: str, parts: _Parts | None) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Returns the chunks of those that changed, and the keys of those that hold nothing any more."""
    if parts is None:
        return {}, set()
    changed, parts.changed = parts.changed, set()
    held = changed & set(parts.names())
    return _parts(kind, parts, held), {_part_key(kind, name) for name in changed - held}


def _parts(kind: str, parts: _Parts, names: Iterable[Any]) -> dict[bytes, bytes]:
    return {_part_key(kind, name): _framed(parts.dump(name)) for name in sorted(names)}


def _part_key(kind: str, name: object) -> bytes:
    return f"{kind}/{name}".encode()


def _streams(memory: StreamMemory, services: Mapping[int, str]) -> dict[bytes, bytes]:
    return {key: _framed(body) for key, body in encode_streams(memory, services).items()}


def head_key(service: str) -> bytes:
    """Returns the key of the chunk with everything of a service but its cells, streams and sketches."""
    return b"head/" + service.encode()


def _sketch_key(service: str, minute: int) -> bytes:
    return f"sketch/{minute}/{service}".encode()


def _framed(body: bytes) -> bytes:
    return _PREFIX.pack(_MAGIC, FORMAT) + body


def _body(value: bytes) -> memoryview:
    magic, version = _PREFIX.unpack_from(value) if len(value) >= _PREFIX.size else (value, 0)
    if magic != _MAGIC or version not in (FORMAT - 1, FORMAT):
        raise IncompatibleError(
            f"the state has format {magic!r} {version}, this version reads {_MAGIC!r} {FORMAT - 1} and {FORMAT}; "
            "run the version that wrote it, or start a new generation"
        )
    return memoryview(value)[_PREFIX.size :]
