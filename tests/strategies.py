"""Hypothesis strategies: rows, receipts, log records, messages, and histories of several ingest processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from stream.core.columns import Kind, Receipts, RowFlag, Rows
from stream.core.log import LogRecord, LostRange, Progress, SourceProgress, SourceRange
from stream.core.slo.spec import Bundle
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from tests.core.engine.log_writer import SERVICE, T0_NS, Event, Message, Reader

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
int64 = st.integers(0, (1 << 63) - 1)


def dictionary(size: int = 4) -> st.SearchStrategy[tuple[str, ...]]:
    """Different words, at least one."""
    return st.lists(words, min_size=1, max_size=size, unique=True).map(tuple)


@st.composite
def row_batches(draw: st.DrawFn, min_size: int = 0, max_size: int = 12) -> Rows:
    """Rows of any values that the types allow."""
    n = draw(st.integers(min_size, max_size))
    dictionaries: dict[str, Any] = {name: draw(dictionary()) for name in Rows.DICTIONARIES.values()}

    def column(name: str, dtype: str) -> np.ndarray:
        if name in Rows.DICTIONARIES:
            values = st.integers(0, len(dictionaries[Rows.DICTIONARIES[name]]) - 1)
        else:
            info = np.iinfo(dtype)
            values = st.integers(int(info.min), int(info.max))
        return np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype)

    arrays: dict[str, Any] = {name: column(name, dtype) for name, dtype in Rows.DTYPES.items()}
    return Rows(**arrays, **dictionaries)


@st.composite
def receipt_batches(draw: st.DrawFn, min_size: int = 0, max_size: int = 8) -> Receipts:
    """Receipts of any values that the types allow."""
    n = draw(st.integers(min_size, max_size))
    reasons = ("", *draw(dictionary()))
    arrays: dict[str, Any] = {}
    for name, dtype in Receipts.DTYPES.items():
        top = len(reasons) - 1 if name == "reason" else int(np.iinfo(dtype).max)
        arrays[name] = np.array(draw(st.lists(st.integers(0, top), min_size=n, max_size=n)), dtype)
    digests = st.none() | st.binary(min_size=32, max_size=32)
    return Receipts(
        **arrays,
        reasons=reasons,
        digests=tuple(draw(st.lists(digests, min_size=n, max_size=n))),
        details=tuple(draw(st.lists(st.none() | words, min_size=n, max_size=n))),
    )


source_ranges = st.builds(
    SourceRange,
    topic=words,
    topic_id=words,
    partition=st.integers(0, 1000),
    session=words,
    first_offset=int64,
    next_offset=int64,
)
progress_sections = st.builds(
    Progress,
    sources=st.lists(
        st.builds(
            SourceProgress,
            source=st.integers(0, 9),
            began_ns=st.none() | int64,
            until_ns=st.none() | int64,
            at_end=st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
    topic_partitions=st.dictionaries(words, st.integers(1, 64), max_size=3),
    lost=st.lists(
        st.builds(LostRange, source=st.integers(0, 9), first_offset=int64, next_offset=int64), max_size=2
    ).map(tuple),
)
log_records = st.builds(
    LogRecord,
    generation=words,
    partitions=st.integers(1, 1 << 15),
    incarnation=words,
    sequence=int64,
    config_version=int64,
    sources=st.lists(source_ranges, max_size=3).map(tuple),
    config=st.none() | st.binary(max_size=20),
    rows=st.none() | row_batches(min_size=1),
    receipts=st.none() | receipt_batches(min_size=1),
    progress=st.none() | progress_sections,
)


def events(
    *, minutes: int = 5, versions: tuple[str, ...] = ("", "v1", "v2"), services: tuple[str, ...] = (SERVICE,)
) -> st.SearchStrategy[Event]:
    """Events that end in the first `minutes` minutes after T0."""

    def event(second: int, weight: int, flags: int, count: int, **rest: Any) -> Event:
        return Event(
            end_ns=T0_NS + second * 1_000_000_000, weight=weight * count * WEIGHT_ONE, flags=flags, count=count, **rest
        )

    return st.builds(
        event,
        second=st.integers(0, 60 * minutes - 1),
        weight=st.sampled_from((1, 1, 1, 2, 16, 65_536)),
        flags=st.sampled_from((0, 0, RowFlag.SAMPLING_UNKNOWN, RowFlag.NEGATIVE_DURATION)).map(int),
        count=st.sampled_from((1, 1, 1, 3)),
        bad=st.booleans(),
        version=st.sampled_from(versions),
        service=st.sampled_from(services),
        duration_ns=st.integers(0, 2_000_000_000),
        kind=st.sampled_from((Kind.SERVER, Kind.SERVER, Kind.CLIENT)).map(int),
    )


@st.composite
def source_topics(draw: st.DrawFn, max_size: int = 25, minutes: int = 5) -> list[Message]:
    """The messages of one source, in order of time; mostly of one clean event, so that receipts are runs."""
    size = draw(st.integers(1, max_size))
    kinds = draw(st.lists(st.sampled_from((1, 1, 1, 1, 0, 2, 3, -1, -2)), min_size=size, max_size=size))
    made = []
    for i, kind in enumerate(kinds):
        listed = draw(st.lists(events(minutes=minutes), min_size=max(kind, 0), max_size=max(kind, 0)))
        malformed = 1 if kind == -1 else 0
        if kind == -2:  # partly refused
            listed, malformed = [draw(events(minutes=minutes))], 2
        time_ns = T0_NS + i * minutes * MINUTE_NS // size
        made.append(Message(time_ns=time_ns, events=tuple(listed), malformed=malformed))
    return made


@dataclass(frozen=True)
class History:
    """What several ingest processes wrote of one source: the log of one partition, and what the source holds."""

    messages: list[Message]
    log: list[tuple[int, bytes]]
    sessions: int


@st.composite
def histories(draw: st.DrawFn, bundle: Bundle, minutes: int = 5) -> History:
    """Several sessions, each begun at a committed offset; those replaced go on as zombies for a while."""
    messages = draw(source_topics(minutes=minutes))
    now_ns = T0_NS + (minutes + 1) * MINUTE_NS
    committed = 0
    readers = [Reader(bundle, messages, "ingest-0")]
    log: list[tuple[int, bytes]] = []
    for _ in range(draw(st.integers(0, 15))):
        action = draw(st.sampled_from(("read", "read", "commit", "replace", "zombie")))
        owner = readers[-1]
        if action == "read":
            log.append((now_ns, owner.read(draw(st.integers(0, 6)))))
        elif action == "commit":
            committed = owner.position
        elif action == "zombie":
            zombie = readers[draw(st.integers(0, len(readers) - 1))]
            log.append((now_ns, zombie.read(draw(st.integers(0, 6)))))
        else:
            readers.append(Reader(bundle, messages, f"ingest-{len(readers)}", first_offset=committed))
    log.append((now_ns, readers[-1].read(len(messages))))
    return History(messages=messages, log=log, sessions=len(readers))
