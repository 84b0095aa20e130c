"""CPU time of each stage in one process on one core: no broker, the product's own functions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from stream.core.engine import Engine
from stream.core.log import decode_record, encode_record
from stream.core.otlp import Message, protobuf
from stream.ingest.cycle import Configuration, Cycle, Fetched, Router, Session, decode_piece, pieces, progress_of
from tests.bench.workload import bundle, messages

PARTITIONS = 4
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Microseconds of CPU a span, median over the runs."""

    name: str
    us_per_span: float


def measure(runs: int, seed: int, message_count: int) -> tuple[int, list[Stage]]:
    """Returns the number of spans of a run and the cost of each stage. The first run warms up and is not counted."""
    pipeline = _Pipeline(messages(message_count, seed=seed, end_ns=time.time_ns()))
    for _ in range(runs + 1):
        pipeline.run()
    return pipeline.spans, [
        Stage(name=name, us_per_span=statistics.median(taken[1:]) / 1000 / pipeline.spans)
        for name, taken in pipeline.samples_ns.items()
    ]


class _Pipeline:
    """Both halves of the product without Kafka between them; every run takes the same messages at new offsets."""

    def __init__(self, values: list[bytes]) -> None:
        self.samples_ns: dict[str, list[int]] = {}
        self.spans = 0
        self._values = values
        self._config = Configuration(version=0, body=bundle(PARTITIONS).encode())
        self._router = Router(generation="1", partitions=PARTITIONS, incarnation="bench")
        self._engines = [Engine(partition) for partition in range(PARTITIONS)]
        self._session = Session(
            topic="otlp_spans",
            topic_id="bench",
            partition=0,
            id="bench-1",
            first_offset=0,
            next_offset=0,
            began_ns=None,
            until_ns=None,
        )

    def run(self) -> None:
        """Takes the messages through every stage."""
        now_ns, first = time.time_ns(), self._session.next_offset
        offsets = list(range(first, first + len(self._values)))
        listed = [Message(source=0, offset=i, value=value) for i, value in zip(offsets, self._values, strict=True)]
        decoded = self._timed("decode (plain, upb)", lambda: protobuf.decode(listed))
        cycle = self._cycle(offsets, now_ns)
        progress = progress_of(cycle.sessions, at_end=(), topic_partitions={"otlp_spans": 1})
        routed = self._timed("route", lambda: self._router.route(cycle, self._config, progress))
        encoded = self._timed("encode record", lambda: {p: encode_record(record) for p, record in routed.items()})
        self._timed("decode record", lambda: [decode_record(value) for value in encoded.values()])
        self._timed(
            "decode record and fold",
            lambda: [
                self._engines[p].apply(self._engines[p].log_offset + 1, now_ns, value) for p, value in encoded.items()
            ],
        )
        self._timed("checkpoint", lambda: [engine.checkpoint() for engine in self._engines])
        self._session = cycle.sessions[0]
        self.spans = len(decoded.rows)

    def _cycle(self, offsets: list[int], now_ns: int) -> Cycle:
        fetched = Fetched(
            source=0,
            offsets=offsets,
            times_ns=[now_ns] * len(offsets),
            values=list(self._values),
            next_offset=offsets[-1] + 1,
        )
        cycle = Cycle(sessions=(self._session,))
        for piece in pieces([fetched]):
            for part, decoded in decode_piece(piece, ["otlp_proto"]):
                cycle = cycle.added(part, decoded)
        return cycle

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        start_ns = time.process_time_ns()
        result = work()
        self.samples_ns.setdefault(name, []).append(time.process_time_ns() - start_ns)
        return result
