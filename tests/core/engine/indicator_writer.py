"""Writes log records with indicators as an ingest would, for tests of composites: a source of telemetry, read up to a
time, and our own indicators, which do not move the frontier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson

from stream.core.events import Output, SliEvent
from stream.core.indicators import Indicators
from stream.core.log import LogRecord, LostRange, Progress, SourceProgress, SourceRange, encode_record
from stream.core.rendering import render
from stream.core.slo.composite import Call, Component, Composite
from stream.core.slo.spec import Bundle, Encoding, Objective, SliSignal, Source, SourceSignal
from stream.core.units import MINUTE_NS, WEIGHT_ONE, minute_of
from tests.core.engine.log_writer import T0_NS, Event, bundle, receipts_of, rows

T0 = minute_of(T0_NS)
JOURNEY = "prod/shop/journey"
CHECKOUT, ORDERS, PAYMENTS = (f"prod/shop/{name}" for name in ("checkout", "orders", "payments"))


def component(service: str, weight: str = "1", name: str = "availability") -> Component:
    """Returns a component."""
    return Component(service=service, objective=name, weight=weight)


def call(caller: str, callee: str) -> Call:
    """Returns an edge; its objective is named after the callee."""
    return Call(caller=caller, callee=callee, objective="to-" + callee.rpartition("/")[2])


def composite(*components: Component, name: str = "journey", target: str = "0.99", **rest) -> Objective:
    """Returns a composite on JOURNEY with a window of 30 days; what a `Composite` has is taken out of `rest`."""
    made = {key: rest.pop(key) for key in ("missing", "seen_minutes", "calls") if key in rest}
    return Objective(
        **{
            "service": JOURNEY,
            "name": name,
            "target": target,
            "window_minutes": 43_200,
            "kinds": (),
            "signal": SliSignal.INDICATORS,
            "certified": False,
            "composite": Composite(components=components, **made),
            **rest,
        }
    )


def journey(*objectives: Objective, **settings) -> Bundle:
    """Returns a configuration with one partition that reads events and our own indicators."""
    made = bundle(*objectives, **settings)
    own = Source(topic="qma.sli", encoding=Encoding.SLI, signal=SourceSignal.INDICATORS)
    return Bundle(
        **{name: getattr(made, name) for name in ("pipeline", "generation", "partitions", "settings")}
        | {
            "sources": (*made.sources, own),
            "objectives": objectives,
        }
    )


@dataclass(frozen=True)
class Said:
    """One indicator: minutes count from T0, events weigh 1 each."""

    minute: int
    service: str = CHECKOUT
    total: int = 10
    bad: int = 0
    revision: int = 0
    gap: bool = False
    objective: str = "availability"
    counts: bool = True

    def row(self, offset: int) -> dict:
        """Returns it as a row of indicators."""
        return {
            "source": 1,
            "offset": offset,
            "service": self.service,
            "objective": self.objective,
            "minute": T0 + self.minute,
            "revision": self.revision,
            "events": self.total,
            "weight": self.total * WEIGHT_ONE,
            "weight_bad": self.bad * WEIGHT_ONE,
            "gap": self.gap,
            "counts": self.counts,
        }


@dataclass
class JourneyWriter:
    """An ingest process with a session on one partition of each source."""

    bundle: Bundle
    config_version: int = 0
    sequence: int = 0
    events_offset: int = 0
    said_offset: int = 0
    log: list[tuple[int, bytes]] = field(default_factory=list)
    now_ns: int = T0_NS

    def record(
        self,
        said: Sequence[Said] = (),
        *,
        read_until: float | None = None,
        events: Sequence[Event] = (),
        configure: bool | None = None,
        said_offset: int | None = None,
        incarnation: str = "ingest-1",
        lost: int = 0,
    ) -> None:
        """Appends the next record: indicators at consecutive offsets, events, and progress.

        Args:
            said: The indicators.
            read_until: Minutes after T0 up to which the events have been read; None: no progress is reported.
            events: Events.
            configure: Whether the configuration travels with it; by default with the first.
            said_offset: Offset of the first indicator where that is not the next: a replay.
            incarnation: Of the process.
            lost: So many indicators before these expired unread.
        """
        first = (self.said_offset if said_offset is None else said_offset) + lost
        self.said_offset = max(self.said_offset, first + len(said))
        events_first, self.events_offset = self.events_offset, self.events_offset + len(events)
        entries = [(0, at, at, 1, 0) for at in range(events_first, self.events_offset)]
        entries += [(1, first + i, first + i, 1, 0) for i, one in enumerate(said) if one.counts]
        if read_until is not None:
            self.now_ns = max(self.now_ns, T0_NS + int(read_until * MINUTE_NS))
        until_ns = None if read_until is None else T0_NS + int(read_until * MINUTE_NS)
        value = encode_record(
            LogRecord(
                generation=self.bundle.generation,
                partitions=self.bundle.partitions,
                incarnation=incarnation,
                sequence=self.sequence,
                config_version=self.config_version,
                sources=(_range("events", self.events_offset), _range("qma.sli", first + len(said))),
                config=self.bundle.encode() if (self.sequence == 0 if configure is None else configure) else None,
                rows=rows(events, events_first) if events else None,
                indicators=Indicators.of([one.row(first + i) for i, one in enumerate(said)]) if said else None,
                receipts=receipts_of(entries) if entries else None,
                progress=None
                if until_ns is None
                else Progress(
                    sources=tuple(
                        SourceProgress(source=at, began_ns=T0_NS, until_ns=until_ns, at_end=False) for at in (0, 1)
                    ),
                    topic_partitions={"events": 1, "qma.sli": 1},
                    lost=(LostRange(source=1, first_offset=first - lost, next_offset=first),) if lost else (),
                ),
            )
        )
        self.sequence += 1
        self.log.append((self.now_ns, value))

    def configure(self, bundle: Bundle) -> None:
        """Appends a new configuration."""
        self.bundle, self.config_version = bundle, self.config_version + 1
        self.record(configure=True)


def _range(topic: str, next_offset: int) -> SourceRange:
    return SourceRange(
        topic=topic, topic_id=topic, partition=0, session="session", first_offset=0, next_offset=next_offset
    )


def said_of(output: Output) -> Said | None:
    """Returns what a published indicator says, from its bytes; None where the output is none."""
    if not isinstance(output, SliEvent):
        return None
    data = orjson.loads(render(output).value)["data"]
    minute = data["minute"]
    return Said(
        minute=output.minute - T0,
        service=data["service"],
        objective=data["objective"],
        total=round(minute["total"]),
        bad=round(minute["total"] - minute["good"]),
        revision=data["revision"],
        gap=data["flags"]["gap"],
    )


def of_journey(outputs: Iterable[Output], name: str = "journey") -> list[SliEvent]:
    """Returns the indicators of a composite."""
    return [o for o in outputs if isinstance(o, SliEvent) and o.objective.name == name]
