"""Writes log records with metric points as an ingest would: one process, one source, one point per message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stream.core.log import LogRecord, Progress, SourceProgress, SourceRange, encode_record
from stream.core.points import Points
from stream.core.slo.spec import Bundle, Objective, SliSignal
from tests.core.engine.log_writer import SERVICE, T0_NS, objective, receipts
from tests.core.streams.rules import Sample, points

METRIC = "http.server.request.duration"


def metric_objective(name: str = "availability", **rest: Any) -> Objective:
    """Returns an objective on the points of METRIC."""
    return objective(name, **{"signal": SliSignal.METRICS, "metric": METRIC, "kinds": (), **rest})


def named(batch: Points, metric: str = METRIC, version: str = "v1") -> Points:
    """Returns the points with the name of a metric and a version."""
    return replace(batch, names=(metric,), versions=(version,))


@dataclass
class PointWriter:
    """An ingest process with one session on one source partition."""

    bundle: Bundle
    incarnation: str = "ingest-1"
    next_offset: int = 0
    first_offset: int = 0
    sequence: int = 0
    log: list[tuple[int, bytes]] = field(default_factory=list)

    def record(
        self, samples: Sequence[Sample] | Points = (), *, until_ns: int | None = None, now_ns: int | None = None
    ) -> None:
        """Appends the next record: points at consecutive offsets, their receipt, progress up to `until_ns`."""
        batch = samples if isinstance(samples, Points) else named(points(samples, self.next_offset))
        first, self.next_offset = self.next_offset, self.next_offset + len(batch)
        source = SourceRange(
            topic="events",
            topic_id="topic-id",
            partition=0,
            session=self.incarnation,
            first_offset=self.first_offset,
            next_offset=self.next_offset,
        )
        entry = SourceProgress(source=0, began_ns=T0_NS, until_ns=until_ns, at_end=False)
        record = LogRecord(
            generation=self.bundle.generation,
            partitions=self.bundle.partitions,
            incarnation=self.incarnation,
            sequence=self.sequence,
            config_version=0,
            sources=(source,),
            config=self.bundle.encode() if self.sequence == 0 else None,
            points=batch,
            receipts=receipts(first, len(batch)) if len(batch) else None,
            progress=None if until_ns is None else Progress(sources=(entry,), topic_partitions={"events": 1}),
        )
        self.sequence += 1
        self.log.append((now_ns if now_ns is not None else (until_ns or T0_NS), encode_record(record)))


__all__ = ("METRIC", "SERVICE", "PointWriter", "metric_objective", "named")
