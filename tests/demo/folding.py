"""The demo's workload through the product's own decoders and fold, in process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream.core.columns import Array, Kind, RowFlag, Rows, Signal
from stream.core.engine import Engine
from stream.core.events import Output
from stream.core.log import LogRecord, Progress, SourceProgress, SourceRange, encode_record
from stream.core.otlp import Messages
from stream.core.points import Points
from stream.core.slo.spec import Bundle
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from stream.demo import story
from stream.demo.messages import DISPATCHED
from stream.demo.objectives import demo_bundle, write_slo_files
from stream.demo.story import Carrier
from stream.demo.workload import Draw, Message, Topics, Workload
from stream.ingest.cycle import Cycle, Fetched, Session, decode_piece, progress_of
from stream.ingest.decoding import Decoders, Decoding
from stream.ingest.routing import Configuration, Router

BASE_NS = 1_767_225_600 * 1_000_000_000
DURATION_S = 60.0
SEVERITY_ERROR = 17
KINDS = {Carrier.SPANS: Kind.SERVER, Carrier.EVENTS: Kind.CONSUMER, Carrier.LOGS: Kind.UNSPECIFIED}
SIGNALS = {Carrier.SPANS: Signal.SPAN, Carrier.EVENTS: Signal.EVENT, Carrier.LOGS: Signal.LOG}


def bundle_in(directory: Path, topics: Topics, duration_s: float = DURATION_S) -> Bundle:
    files = write_slo_files(directory)
    speed = story.MINUTES * 60 / duration_s
    return demo_bundle(files, topics, prefix="qma.", pipeline="demo", generation="1", speed=speed)


@dataclass
class Pipeline:
    """One ingest session on every source partition, and an engine for every partition of the log."""

    bundle: Bundle
    topics: Topics

    def __post_init__(self) -> None:
        names = [(topic, p) for topic in self.topics.names for p in range(self.topics.partitions)]
        self.sessions = tuple(
            Session(topic=topic, topic_id=f"id-{topic}", partition=p, id="s", first_offset=0, next_offset=0)
            for topic, p in names
        )
        self.router = Router(generation="1", partitions=self.topics.partitions, incarnation="i")
        self.engines = [Engine(p) for p in range(self.topics.partitions)]
        self.decoding = Decoding(self.bundle, Decoders(compile=False))
        self.offset = 0

    def take(self, messages: list[Message]) -> list[Output]:
        """Returns what one cycle that holds these messages puts out."""
        cycle = Cycle(sessions=self.sessions)
        decoders = [self.decoding.of(session.topic) for session in self.sessions]
        for fetched in self._fetched(messages):
            for piece, decoded in decode_piece((fetched,), decoders):
                cycle = cycle.added(piece, decoded)
        self.sessions = cycle.sessions
        progress = progress_of(
            self.sessions,
            at_end=range(len(self.sessions)),
            topic_partitions=dict.fromkeys(self.topics.names, self.topics.partitions),
        )
        config = Configuration.of(0, self.bundle.encode(), self.bundle)
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
    """Folds what the services do, for a bundle of one partition: one record a minute.

    Metrics are encoded; the others need not be, what they say fits in rows.
    """
    engine, outputs = Engine(0), []
    decoding = Decoding(bundle, Decoders(compile=False))
    for minute in range(story.MINUTES):
        ticks = range(minute * story.TICKS_PER_MINUTE, (minute + 1) * story.TICKS_PER_MINUTE)
        draws = [(draw, tick) for tick in ticks for draw in workload.draws(tick)]
        measured = [(draw, tick) for draw, tick in draws if draw.service.carrier is Carrier.METRICS]
        exports = [message for draw, tick in measured for message in workload.exports(draw, tick)]
        others = [draw for draw, _ in draws if draw.service.carrier is not Carrier.METRICS]
        until_ns = workload.tick_end_ns(ticks[-1])
        record = _record(bundle, minute, _rows(others, until_ns), _points(exports, minute, bundle, decoding), until_ns)
        outputs += engine.apply(minute, until_ns, encode_record(record))
    return engine, outputs


def _points(messages: list[Message], number: int, bundle: Bundle, decoding: Decoding) -> Points:
    """Returns the points of messages of one topic; the offset of all of them is the record's number."""
    n, topic = len(messages), messages[0].topic
    source = [source.topic for source in bundle.sources].index(topic)
    values = [message.value for message in messages]
    columns = np.full(n, source, "int16"), np.full(n, number, "int64")
    return decoding.of(topic)(Messages(source=columns[0], offset=columns[1], values=values)).points


def _record(bundle: Bundle, number: int, rows: Rows, points: Points, until_ns: int) -> LogRecord:
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
        points=points,
        progress=Progress(
            sources=tuple(
                SourceProgress(source=i, began_ns=began_ns, until_ns=until_ns, at_end=True) for i in range(len(sources))
            ),
            topic_partitions={source.topic: 1 for source in bundle.sources},
        ),
    )


def _rows(draws: list[Draw], until_ns: int) -> Rows:
    """Returns the requests as rows of equal keys: the minute's draws, counted by service, version and quality."""
    keys: list[tuple[int, ...]] = []
    for draw in draws:
        limits = [i.duration_lte_ns for i in draw.service.indicators if i.duration_lte_ns]
        slow = draw.duration_ns > limits[0] if limits else np.zeros(len(draw.request), bool)
        kind, signal = KINDS[draw.service.carrier], SIGNALS[draw.service.carrier]
        flags = np.where(draw.failed, RowFlag.FAILED, 0)
        service = np.full(len(slow), story.SERVICES.index(draw.service))
        columns = np.stack([service, draw.v2, np.full(len(slow), kind), flags, slow, np.full(len(slow), signal)])
        keys += map(tuple, columns[:, draw.request].T.tolist())
    unique, counts = np.unique(np.array(keys), axis=0, return_counts=True)
    n = len(unique)

    def filled(value: int, dtype: str) -> Array:
        return np.full(n, value, dtype)

    return Rows.of(
        n,
        offset=filled(until_ns // MINUTE_NS - BASE_NS // MINUTE_NS - 1, "int64"),
        service=unique[:, 0].astype("int32"),
        version=unique[:, 1].astype("int32"),
        kind=unique[:, 2].astype("int8"),
        end_ns=filled(until_ns - 1, "int64"),
        duration_ns=np.where(unique[:, 4], 10_000_000_000, 1_000_000).astype("int64"),
        count=counts.astype("int64"),
        weight=counts.astype("int64") * WEIGHT_ONE,
        flags=unique[:, 3].astype("uint8"),
        signal=unique[:, 5].astype("int8"),
        severity=np.where(unique[:, 3] & RowFlag.FAILED, SEVERITY_ERROR, 0).astype("int8"),
        name=(unique[:, 5] == Signal.LOG).astype("int32"),
        names=("", DISPATCHED),
        services=tuple(service.key for service in story.SERVICES),
        versions=("v1", "v2"),
    )
