"""Both halves of the product in one process, without Kafka between them: its own functions, each one timed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from stream.core.columns import Signal
from stream.core.engine import Engine
from stream.core.log import decode_record, encode_record
from stream.core.otlp.decoders import DECODERS, Decode, Encoding
from stream.core.slo.spec import Bundle
from stream.ingest.cycle import Cycle, Fetched, Session, decode_piece, pieces, progress_of
from stream.ingest.decoding import Decoders, Decoding
from stream.ingest.priming import Format, prime
from stream.ingest.routing import Configuration, Router
from tests.bench.counting import Counts, counts_of
from tests.bench.record_batches import as_one, fetched, fetches

FETCH, DECODE, COLLECT = "parse batches", "decode, fingerprint", "collect a cycle"
ROUTE, ENCODE, FOLD, DIGEST = "route", "encode record", "decode record and fold", "digest durations"
CHECKPOINT, RECORD = "checkpoint", "of the fold: decode record"

TOPIC = "otlp_spans"
_FORMAT = (Signal.SPAN, Encoding.OTLP_PROTO)
T = TypeVar("T")


class _Compiled(Decoders):
    """The decoders of a process in which all of them are compiled."""

    def __init__(self) -> None:
        super().__init__(compile=False)

    def __getitem__(self, format: Format) -> Decode:
        return DECODERS[format].load_compiled()


class Product:
    """The ingest of one source partition and the fold of all partitions.

    Args:
        bundle: The configuration.
        now_ns: Time of every record of the log.
    """

    def __init__(self, bundle: Bundle, now_ns: int) -> None:
        prime([_FORMAT])
        self.spans = 0
        self.spent_ns: Counter[str] = Counter()
        self._decoders = [Decoding(bundle, _Compiled()).of(TOPIC)]
        self._config = Configuration(version=0, body=bundle.encode())
        self._router = Router(generation="1", partitions=bundle.partitions, incarnation="bench")
        self._engines = [Engine(partition) for partition in range(bundle.partitions)]
        self._now_ns = now_ns
        self._encoded: list[bytes] = []
        self._cycle = Cycle(
            sessions=(
                Session(
                    topic=TOPIC,
                    topic_id="bench",
                    partition=0,
                    id="bench-1",
                    first_offset=0,
                    next_offset=0,
                    began_ns=None,
                    until_ns=None,
                ),
            )
        )

    @property
    def next_offset(self) -> int:
        """Offset that the next message must have."""
        return self._cycle.sessions[0].next_offset

    def forget_times(self) -> None:
        """Begins to count spans and times anew."""
        self.spans = 0
        self.spent_ns.clear()

    def take(self, batches: Iterable[bytes]) -> None:
        """Takes record batches all the way to counters and buffered durations."""
        for fetch in fetches(batches):
            self._take(as_one([self._timed(FETCH, partial(fetched, batch)) for batch in fetch]))
        self._finish()

    def digest(self) -> dict[tuple[str, int], int]:
        """Makes the digests of what is buffered, as the close of a minute does; returns their sizes."""
        return self._timed(DIGEST, self._digests)

    def checkpoint(self) -> None:
        """Takes a checkpoint of every partition."""
        self._timed(CHECKPOINT, lambda: [engine.checkpoint() for engine in self._engines])

    def counts(self, digested: dict[tuple[str, int], int]) -> Counts:
        """Returns everything counted so far, with what `digest` returned."""
        return Counts(
            cells={key: cell for engine in self._engines for key, cell in counts_of(engine).items()}, digested=digested
        )

    def _take(self, part: Fetched) -> None:
        for piece in pieces([part]):
            listed = partial(decode_piece, piece, self._decoders)
            for done, decoded in self._timed(DECODE, lambda listed=listed: list(listed())):  # type: ignore[misc]
                self.spans += int(decoded.receipts.items.sum())
                if not self._cycle.has_room_for(decoded):
                    self._finish()
                self._cycle = self._timed(COLLECT, partial(self._cycle.added, done, decoded))

    def _finish(self) -> None:
        cycle = self._cycle
        progress = progress_of(cycle.sessions, at_end=(), topic_partitions={TOPIC: 1})
        routed = self._timed(ROUTE, lambda: self._router.route(cycle, self._config, progress))
        encoded = self._timed(ENCODE, lambda: {to: encode_record(record) for to, record in routed.items()})
        for to, value in encoded.items():
            engine = self._engines[to]
            self._timed(FOLD, partial(engine.apply, engine.log_offset + 1, self._now_ns, value))
        self._cycle = Cycle(sessions=cycle.sessions)
        self._encoded = list(encoded.values())

    def decode_records(self) -> int:
        """Decodes the records of the last cycle once more, to see their part of the fold; returns their rows."""
        records = self._timed(RECORD, lambda: [decode_record(value) for value in self._encoded])
        return sum(len(record.rows) for record in records if record.rows is not None)

    def _digests(self) -> dict[tuple[str, int], int]:
        sizes = {}
        for engine in self._engines:
            engine.state.hand_over_durations()
            for service in engine.state.services.values():
                for minute in service.sketches.minutes():
                    digest, _ = service.sketches.close(minute)
                    assert digest is not None
                    sizes[service.key, minute] = digest.n_values
            engine.state.changes.sketches.clear()
        return sizes

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        began_ns = time.process_time_ns()
        result = work()
        self.spent_ns[name] += time.process_time_ns() - began_ns
        return result
