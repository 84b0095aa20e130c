"""The state of one partition: everything that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream.core.cells import SERIES_RINGS, VERSION_RINGS, Cells, Span
from stream.core.engine.clocks import Clocks
from stream.core.engine.duplicates import Duplicates
from stream.core.engine.ledger import Ledger
from stream.core.engine.series_index import SeriesIndex
from stream.core.engine.services import Service
from stream.core.events import Context, SliEvent
from stream.core.slo.spec import Bundle
from stream.core.streams import MetricStreams

SeriesKey = tuple[str, str, str]
"""Service key, objective digest, version. Series of an objective over all versions have the version ''."""

SERIES, VERSIONS = "series", "versions"


@dataclass(frozen=True, slots=True, order=True)
class StoredSpan:
    """A chunk of cells: one stretch of one ring of one service, of all versions together and of each."""

    service: str
    span: Span


@dataclass(frozen=True, slots=True)
class Incarnation:
    """What is remembered of an ingest process: its last record here, and the append time of its last progress."""

    sequence: int
    progress_ns: int | None


@dataclass(slots=True)
class Changes:
    """What changed since the last checkpoint."""

    config: bool = False
    heads: set[str] = field(default_factory=set)
    sketches: set[tuple[str, int]] = field(default_factory=set)
    spans: set[StoredSpan] = field(default_factory=set)
    hours: set[tuple[str, int]] = field(default_factory=set)
    """Services and hours of event time whose cells changed: no stored span is shorter."""
    closed_sketches: set[tuple[str, int]] = field(default_factory=set)
    retired_services: set[str] = field(default_factory=set)

    def retire_service(self, key: str) -> None:
        """Notes that a service without objectives is no longer kept; whatever else changed of it need not be saved."""
        self.retired_services.add(key)
        self.heads.discard(key)
        self.sketches = {(service, minute) for service, minute in self.sketches if service != key}
        self.hours = {(service, hour) for service, hour in self.hours if service != key}


class State:
    """The state of one partition. Mutated only by the fold.

    Args:
        partition: Number of the partition of the shuffle log.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.log_offset = -1
        self.bundle: Bundle | None = None
        self.config_version = -1
        self.next_minute: int | None = None
        self.retired_minute: int | None = (
            None  # what the rings forget is counted from here; None before a minute closed
        )
        self.clocks = Clocks()
        self.ledger = Ledger()
        self.incarnations: dict[str, Incarnation] = {}  # the longest silent first
        self.forgot_incarnations = False
        self.services: dict[str, Service] = {}
        self.overflowed = {"services": 0, "versions": 0}  # items that found no room of their own
        self.cells: dict[str, Cells[SeriesKey]] = {
            SERIES: Cells(SERIES_RINGS),
            VERSIONS: Cells(VERSION_RINGS),
        }
        self.index = SeriesIndex(self.cells[SERIES], self.cells[VERSIONS])  # not part of a checkpoint
        self.streams = MetricStreams()
        self.duplicates = Duplicates()
        self.latest: dict[str, SliEvent] = {}  # by objective digest; for display, not part of a checkpoint
        self.stored: set[bytes] = set()
        self.changes = Changes()

    @property
    def topics(self) -> list[str]:
        """The source topics that move the frontier."""
        return (
            [source.topic for source in self.bundle.sources if source.is_telemetry] if self.bundle is not None else []
        )

    def context(self) -> Context:
        """Returns where and when in the log the fold is."""
        assert self.bundle is not None
        return Context(
            pipeline=self.bundle.pipeline,
            generation=self.bundle.generation,
            partition=self.partition,
            offset=self.log_offset,
            now_ns=self.clocks.now_ns,
            frontier_ns=self.clocks.frontier_ns,
            config_version=self.config_version,
        )
