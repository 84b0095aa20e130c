"""The state of one partition: everything that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from stream.core.cells import MINUTE_RING, SERIES_RINGS, VERSION_RINGS, Cells, Span
from stream.core.columns import Array
from stream.core.engine.clocks import Clocks
from stream.core.engine.duplicates import Duplicates
from stream.core.engine.heard import Heard
from stream.core.engine.ledger import Ledger
from stream.core.engine.series_index import SeriesIndex
from stream.core.engine.services import ObjectiveState, Service
from stream.core.engine.spans import merged
from stream.core.events import Context, SliEvent
from stream.core.service_key import partition_of
from stream.core.sketch import WAITING_MAX, Durations
from stream.core.slo.spec import Bundle, Input, Objective
from stream.core.streams import MetricStreams
from stream.core.units import HOUR_MINUTES, HOUR_NS, MINUTE_NS

SeriesKey = tuple[str, str, str]
"""Service key, objective digest, version. Series of an objective over all versions have the version ''."""

SERIES, VERSIONS = "series", "versions"
"""Of a composite, the second has its components instead of versions."""

WAIT_MIN_NS, WAIT_MAX_NS = MINUTE_NS, HOUR_NS
"""Composites wait so long for indicators: these are on their way for seconds, and what they said of a minute is
remembered seven times as long as the most."""

COMPOSITE_RINGS = (
    replace(MINUTE_RING, retention_minutes=MINUTE_RING.retention_minutes + 2 * HOUR_MINUTES),
    *SERIES_RINGS[1:],
)
"""Indicators are later than rows; a correction still sums its windows from whole minutes."""


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

    There are two: one of what is counted from telemetry, and a second stage of the composites, which are made of what
    first stages have published. The second has the clocks of the first, and follows it.

    Args:
        partition: Number of the partition of the shuffle log.
        first: The first stage; None: this is it.
    """

    def __init__(self, partition: int, first: State | None = None) -> None:
        self.partition = partition
        self.heard = None if first is None else Heard()
        self.closed_at: list[tuple[int, int]] = []
        """Second stage: before each of these, yet to close here, all minutes of the first had closed at this `now`."""
        self.log_offset = -1
        self.bundle: Bundle | None = None
        self.config_version = -1
        self.next_minute: int | None = None
        self.retired_minute: int | None = (
            None  # what the rings forget is counted from here; None before a minute closed
        )
        self.clocks: Clocks = Clocks() if first is None else first.clocks
        self.ledger = Ledger()
        self.incarnations: dict[str, Incarnation] = {}  # the longest silent first
        self.forgot_incarnations = False
        self.services: dict[str, Service] = {}
        self.overflowed = {"services": 0, "versions": 0, "cohorts": 0}  # items that found no room of their own
        self.ignored_backfills = 0
        self.cells: dict[str, Cells[SeriesKey]] = {
            SERIES: Cells(SERIES_RINGS if first is None else COMPOSITE_RINGS),
            VERSIONS: Cells(VERSION_RINGS if first is None else COMPOSITE_RINGS),
        }
        self.index = SeriesIndex(self.cells[SERIES], self.cells[VERSIONS])  # not part of a checkpoint
        self.durations = Durations()  # not part of a checkpoint: before one they are handed over
        self.streams = MetricStreams()
        self.duplicates = Duplicates()
        self.losses_asked: dict[Input, list[Objective]] = {}  # by whom; travels with the configuration
        self.latest: dict[str, SliEvent] = {}  # by objective digest; for display, not part of a checkpoint
        self.stored: set[bytes] = set()
        self.changes = Changes()

    @property
    def lateness_ns(self) -> int:
        """A minute closes at the latest when the frontier is so far beyond its end."""
        assert self.bundle is not None
        return self.bundle.settings.allowed_lateness_ns + (0 if self.heard is None else self.wait_ns)

    @property
    def wait_ns(self) -> int:
        """A minute of composites that lacks an indicator closes so much later than minutes of the first stage do.

        Half of the time after which nothing may be decided on it any more, within bounds.
        """
        assert self.bundle is not None
        return max(WAIT_MIN_NS, min(self.bundle.settings.catching_up_after_ns // 2, WAIT_MAX_NS))

    def follow(self, first: State) -> None:
        """Takes over where the first stage is in the log, and under which configuration."""
        self.bundle, self.config_version, self.log_offset = first.bundle, first.config_version, first.log_offset

    def own_objectives(self) -> list[Objective]:
        """Returns the configured objectives of this partition and stage, ordered by name."""
        assert self.bundle is not None
        count, is_second = self.bundle.partitions, self.heard is not None
        own = [o for o in self.bundle.objectives if (o.composite is not None) == is_second]
        return sorted((o for o in own if partition_of(o.service, count) == self.partition), key=lambda o: o.name)

    def add_gap(self, first: int, last: int) -> None:
        """Marks the minutes [first, last) as not read whole."""
        if self.heard is None:
            self.clocks.add_gap(first, last)
        else:
            for own in self._objective_states():
                own.gaps = merged([*own.gaps, (first, last)])

    def forget_gaps(self, before_minute: int) -> None:
        """Forgets gaps that ended before a minute."""
        if self.heard is None:
            self.clocks.forget_gaps(before_minute)
        else:
            for own in self._objective_states():
                own.gaps = tuple((start, end) for start, end in own.gaps if end > before_minute)

    def _objective_states(self) -> Iterator[ObjectiveState]:
        for service in self.services.values():
            self.changes.heads.add(service.key)
            yield from service.states.values()

    def retire_cells(self) -> None:
        """Forgets the cells that are older than those of the newest closed minute are kept."""
        if self.retired_minute is not None:
            for cells in self.cells.values():
                cells.retire(self.retired_minute)

    def gaps_of(self, own: ObjectiveState) -> Sequence[tuple[int, int]]:
        """Returns the minutes of an objective that were not read whole: a composite has gaps of its own."""
        return self.clocks.gaps if self.heard is None else own.gaps

    @property
    def topics(self) -> list[str]:
        """The source topics that move the frontier."""
        return (
            [source.topic for source in self.bundle.sources if source.is_telemetry] if self.bundle is not None else []
        )

    def add_durations(self, service: Array, minute: Array, durations_s: Array) -> None:
        """Takes in durations in seconds of the services of these numbers in minutes that are open, all [n]."""
        self.durations.add(service, minute, durations_s)
        if len(self.durations) >= WAITING_MAX:
            self.hand_over_durations()

    def hand_over(self) -> None:
        """Hands the exemplars and durations of records to their services; before anybody looks at these."""
        self.index.hand_over_exemplars()
        self.hand_over_durations()

    def hand_over_durations(self) -> None:
        """Hands the durations of records to the sketches of their services."""
        for number, minute, durations_s in self.durations.take():
            service = self.index.services[number]
            service.sketches.add(minute, durations_s)
            self.changes.sketches.add((service.key, minute))

    def renumber(self) -> None:
        """Makes the index find everything anew: series were dropped, or objectives or services came or went."""
        self.hand_over()
        self.index.clear()

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
