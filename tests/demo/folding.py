"""The demo's workload through the product's own decoders and fold, in process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream.core.columns import NO_CODE, Array, Kind, RowFlag, Rows
from stream.core.engine import Engine
from stream.core.events import Output
from stream.core.log import LogRecord, Progress, SourceProgress, SourceRange, encode_record
from stream.core.slo.spec import Bundle
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from stream.demo import story
from stream.demo.objectives import demo_bundle, write_slo_files
from stream.demo.workload import Draw, Message, Topics, Workload
from stream.ingest.cycle import Configuration, Cycle, Fetched, Router, Session, decode_piece, progress_of

BASE_NS = 1_767_225_600 * 1_000_000_000
DURATION_S = 60.0


def bundle_in(directory: Path, topics: Topics, duration_s: float = DURATION_S) -> Bundle:
    files = write_slo_files(directory)
    speed = story.MINUTES * 60 / duration_s
    return demo_bundle(files, topics, pipeline="demo", generation="1", speed=speed)


@dataclass
class Pipeline:
    """One ingest session on every source partition, and an engine for every partition of the log."""

    bundle: Bundle
    topics: Topics

    def __post_init__(self) -> None:
        names = [(topic, p) for topic in (self.topics.spans, self.topics.events) for p in range(self.topics.partitions)]
        self.sessions = tuple(
            Session(topic=topic, topic_id=f"id-{topic}", partition=p, id="s", first_offset=0, next_offset=0)
            for topic, p in names
        )
        self.router = Router(generation="1", partitions=self.topics.partitions, incarnation="i")
        self.engines = [Engine(p) for p in range(self.topics.partitions)]
        self.encodings = {source.topic: source.encoding for source in self.bundle.sources}
        self.offset = 0

    def take(self, messages: list[Message]) -> list[Output]:
        """Returns what one cycle that holds these messages puts out."""
        cycle = Cycle(sessions=self.sessions)
        encodings = [self.encodings[session.topic] for session in self.sessions]
        for fetched in self._fetched(messages):
            for piece, decoded in decode_piece((fetched,), encodings):
                cycle = cycle.added(piece, decoded)
        self.sessions = cycle.sessions
        progress = progress_of(
            self.sessions,
            at_end=range(len(self.sessions)),
            topic_partitions=dict.fromkeys((self.topics.spans, self.topics.events), self.topics.partitions),
        )
        config = Configuration(version=0, body=self.bundle.encode())
        now_ns = max(session.until_ns or 0 for session in self.sessions)
        outputs: list[Output] = []
        for partition, record in self.router.route(cycle, config, progress).items():
            outputs += self.engines[partition].apply(self.offset, now_ns, encode_record(record))
        self.offset += 1
        return outputs

    def _fetched(self, messages: list[Message]) -> Iterator[Fetched]:
        for source, session in enumerate(self.sessions):
            own = [m for m in messages if (m.topic, m.partition) == (session.topic, session.partition)]
            if own:
                first, following = session.next_offset, session.next_offset + len(own)
                yield Fetched(
                    source=source,
                    offsets=range(first, following),
                    times_ns=[m.time_ms * 1_000_000 for m in own],
                    values=[m.value for m in own],
                    next_offset=following,
                )


def fold_draws(workload: Workload, bundle: Bundle) -> tuple[Engine, list[Output]]:
    """Folds what the services do, without encoding it: one record a minute, for a bundle of one partition."""
    engine, outputs = Engine(0), []
    for minute in range(story.MINUTES):
        ticks = range(minute * story.TICKS_PER_MINUTE, (minute + 1) * story.TICKS_PER_MINUTE)
        draws = [draw for tick in ticks for draw in workload.draws(tick)]
        until_ns = workload.tick_end_ns(ticks[-1])
        record = _record(bundle, minute, _rows(draws, until_ns), until_ns)
        outputs += engine.apply(minute, until_ns, encode_record(record))
    return engine, outputs


def _record(bundle: Bundle, number: int, rows: Rows, until_ns: int) -> LogRecord:
    sources = tuple(
        SourceRange(
            topic=source.topic, topic_id=source.topic, partition=0, session="s", first_offset=0, next_offset=number + 1
        )
        for source in bundle.sources
    )
    began_ns = BASE_NS + story.TICK_NS
    return LogRecord(
        generation=bundle.generation,
        partitions=1,
        incarnation="i",
        sequence=number,
        config_version=0,
        sources=sources,
        config=bundle.encode() if number == 0 else None,
        rows=rows,
        progress=Progress(
            sources=tuple(
                SourceProgress(source=i, began_ns=began_ns, until_ns=until_ns, at_end=True) for i in range(len(sources))
            ),
            topic_partitions={source.topic: 1 for source in bundle.sources},
        ),
    )


def _rows(draws: list[Draw], until_ns: int) -> Rows:
    """Returns the requests as rows of equal keys: the minute's draws, counted by service, version and quality."""
    keys: list[tuple[int, int, int, int, int]] = []
    for draw in draws:
        limits = [i.duration_lte_ns for i in draw.service.indicators if i.duration_lte_ns]
        slow = draw.duration_ns > limits[0] if limits else np.zeros(len(draw.request), bool)
        kind = Kind.CONSUMER if draw.service.flat else Kind.SERVER
        flags = np.where(draw.failed, RowFlag.FAILED, 0)
        service = np.full(len(slow), story.SERVICES.index(draw.service))
        columns = np.stack([service, draw.v2, np.full(len(slow), kind), flags, slow])
        keys += map(tuple, columns[:, draw.request].T.tolist())
    unique, counts = np.unique(np.array(keys), axis=0, return_counts=True)
    n = len(unique)

    def filled(value: int, dtype: str) -> Array:
        return np.full(n, value, dtype)

    return Rows(
        source=filled(0, "int16"),
        offset=filled(until_ns // MINUTE_NS - BASE_NS // MINUTE_NS - 1, "int64"),
        service=unique[:, 0].astype("int32"),
        version=unique[:, 1].astype("int32"),
        kind=unique[:, 2].astype("int8"),
        status=filled(0, "int8"),
        code=filled(NO_CODE, "int16"),
        error_type=filled(0, "int32"),
        end_ns=filled(until_ns - 1, "int64"),
        duration_ns=np.where(unique[:, 4], 10_000_000_000, 1_000_000).astype("int64"),
        count=counts.astype("int64"),
        weight=counts.astype("int64") * WEIGHT_ONE,
        flags=unique[:, 3].astype("uint8"),
        services=tuple(service.key for service in story.SERVICES),
        versions=("v1", "v2"),
        error_types=("",),
    )
