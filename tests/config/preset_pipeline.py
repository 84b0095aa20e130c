"""An example at work: its file read by the loader, telemetry decoded, routed and folded, minutes closed. No broker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import orjson

from stream.config.bundle import make_bundle
from stream.config.openslo import load_configuration
from stream.config.sources import read_source
from stream.core.engine import Engine
from stream.core.events import Output, SliEvent
from stream.core.log import encode_record
from stream.core.rendering import render
from stream.core.slo.spec import Bundle, Objective, Settings
from stream.core.units import MINUTE_NS
from stream.ingest.cycle import Cycle, Fetched, Session, decode_piece, pieces, progress_of
from stream.ingest.decoding import Decoders, Decoding
from stream.ingest.routing import Configuration, Router
from tests.config.preset_messages import EVENTS, LOGS, METRICS, SPANS, T0_NS, Message
from tests.config.reading import NOW_NS

PREFIX = "qma."
INDICATORS = f"{PREFIX}sli"
MINUTES_TO_CLOSE = 3
"""A minute closes so many after it began: it ends, a minute is allowed for what is late, and the frontier lags one."""

Kind = TypeVar("Kind")


def bundle_of(file: Path) -> Bundle:
    """Returns what `qma apply` would publish of one file, for a log of one partition."""
    configuration = load_configuration([file], now_ns=NOW_NS)
    return make_bundle(
        configuration.objectives,
        previous=None,
        pipeline="qma",
        generation="1",
        partitions=1,
        prefix=PREFIX,
        sources=[read_source(f"{topic}=auto") for topic in (SPANS, METRICS, LOGS)] + [read_source(f"{EVENTS}=flat")],
        settings=Settings(),
        calendars=configuration.calendars,
        adjustments=configuration.adjustments,
        mutes=configuration.mutes,
    )


class Pipeline:
    """Sources, one ingest process and one partition of the log. A cycle a minute, each reads what there is."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.engine = Engine(0)
        self.outputs: list[Output] = []
        self._topics = [source.topic for source in bundle.sources]
        # Every source was read from the minute before T0 on: histories begin with T0.
        self._waiting: dict[str, list[tuple[int, bytes | None]]] = defaultdict(list)
        for source in bundle.sources:
            if source.is_telemetry:
                self._waiting[source.topic].append((T0_NS - MINUTE_NS + 1, None))
        self._router = Router(generation="1", partitions=1, incarnation="ingest-1")
        self._decoding = Decoding(bundle, Decoders(compile=False))
        self._sessions = tuple(
            Session(
                topic=source.topic,
                topic_id=f"id-of-{source.topic}",
                partition=0,
                id="ingest-1",
                first_offset=0,
                next_offset=0,
                is_telemetry=source.is_telemetry,
            )
            for source in bundle.sources
        )

    def run(self, messages: Iterable[Message]) -> Pipeline:
        """Reads messages minute by minute until all of their minutes are closed, those of composites included."""
        by_minute: dict[int, list[Message]] = defaultdict(list)
        for message in messages:
            by_minute[message.minute].append(message)
        for minute in range(-1, max(by_minute) + MINUTES_TO_CLOSE + 2):
            for message in by_minute[minute]:
                time_ns = T0_NS + minute * MINUTE_NS + MINUTE_NS // 2
                self._waiting[message.topic].append((time_ns, encoded(message)))
            self._read(T0_NS + (minute + 1) * MINUTE_NS)
        return self

    def said(self, kind: type[Kind]) -> list[Kind]:
        """Returns the outputs of a kind, in order."""
        return [output for output in self.outputs if isinstance(output, kind)]

    def found(self) -> list[Objective]:
        """Returns the cohorts that were found."""
        return [o for service in self.engine.services.values() for o in service.objectives if o.is_found]

    def indicators(self, objective: str) -> dict[int, SliEvent]:
        """Returns the newest indicator of each minute of an objective; minutes count from T0."""
        first = T0_NS // MINUTE_NS
        return {event.minute - first: event for event in self.said(SliEvent) if event.objective.name == objective}

    def _read(self, now_ns: int) -> None:
        """Reads everything that waits in one cycle, sends its record, and folds it."""
        cycle = Cycle(sessions=self._sessions)
        decoders = [self._decoding.of(topic) for topic in self._topics]
        for piece in pieces([fetched for fetched in map(self._fetched, range(len(self._topics))) if fetched.offsets]):
            for part, decoded in decode_piece(piece, decoders):
                cycle = cycle.added(part, decoded)
        self._sessions = cycle.sessions
        progress = progress_of(
            self._sessions, at_end=range(len(self._topics)), topic_partitions=dict.fromkeys(self._topics, 1)
        )
        configuration = Configuration.of(0, self.bundle.encode(), self.bundle)
        [record] = self._router.route(cycle, configuration, progress).values()
        outputs = self.engine.apply(self.engine.log_offset + 1, now_ns, encode_record(record))
        self.outputs += outputs
        if INDICATORS in self._topics:
            sent = [rendered.value for rendered in map(render, outputs) if rendered.topic == "sli"]
            self._waiting[INDICATORS] += [(now_ns, value) for value in sent]

    def _fetched(self, source: int) -> Fetched:
        session = self._sessions[source]
        waiting = self._waiting.pop(session.topic, [])
        end = session.next_offset + len(waiting)
        return Fetched(
            source=source,
            offsets=list(range(session.next_offset, end)),
            times_ns=[time_ns for time_ns, _ in waiting],
            values=[value for _, value in waiting],
            next_offset=end,
        )


def encoded(message: Message) -> bytes:
    """Returns a message as it lies in its topic."""
    if isinstance(message.body, dict):
        return orjson.dumps(message.body)
    body: bytes = message.body.SerializeToString(deterministic=True)
    return body
