"""The simulator with the ingest's own decoding, cycles and routing."""

from __future__ import annotations

from dataclasses import fields

from stream.core.log import encode_record
from stream.ingest.cycle import Cycle, Fetched, Session, decode_piece, pieces, progress_of
from stream.ingest.decoding import Decoders, Decoding
from stream.ingest.routing import Configuration, Router
from stream.testing import Outcome, simulate
from stream.testing.routing import Reading, ReadSession, Routed


class RealRouting:
    """The ingest's own pieces, cycle and router, between the simulator's fetches and sends."""

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self._router: Router | None = None

    def route(self, reading: Reading) -> Routed:
        bundle = reading.bundle
        router = self._router = self._router or Router(
            generation=bundle.generation, partitions=bundle.partitions, incarnation=self._incarnation
        )
        decoding = Decoding(bundle, Decoders(compile=False))
        own = {source.topic for source in bundle.sources if not source.is_telemetry}
        cycle = Cycle(sessions=tuple(Session(**_values(s), is_telemetry=s.topic not in own) for s in reading.sessions))
        decoders = [decoding.of(session.topic) for session in cycle.sessions]
        for piece in pieces([Fetched(**_values(batch)) for batch in reading.batches], messages_max=3):
            for part, decoded in decode_piece(piece, decoders):
                cycle = cycle.added(part, decoded)
        progress = progress_of(
            cycle.sessions, at_end=reading.at_end, topic_partitions=reading.topic_partitions, lost=reading.lost
        )
        configuration = Configuration.of(reading.config_version, bundle.encode(), bundle)
        records = router.route(cycle, configuration, progress if reading.progress else None)
        return Routed(
            records={destination: encode_record(record) for destination, record in records.items()},
            sessions=tuple(ReadSession(**_values(session, but="is_telemetry")) for session in cycle.sessions),
        )


def _values(value, *, but: str = "") -> dict:
    return {field.name: getattr(value, field.name) for field in fields(value) if field.name != but}


def simulate_real(seed: int) -> Outcome:
    """Returns the outcome of a seed under the real routing."""
    return simulate(seed, routing_of=RealRouting)
