"""Other ways to do the same in one process, on the same record batches: each returns what it counted."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec

from tests.bench.counting import Counting, Counts, Event, requests_of
from tests.bench.record_batches import fetched

Peer = Callable[[Sequence[bytes]], Counts]

NAIVE = "plain loop: upb, dict, tdigest"


def naive(batches: Sequence[bytes]) -> Counts:
    """One span after the other: the loop that a first version of such a program has."""
    counting = Counting()
    for batch in batches:
        for value in fetched(batch).values:
            counting.take(value or b"")
    return counting.counts()


def bytewax(batches: Sequence[bytes]) -> Counts:
    """A bytewax dataflow in this process: decode, key by service and minute, fold."""
    flows, operators, testing = (import_module(f"bytewax.{name}") for name in ("dataflow", "operators", "testing"))
    flow = flows.Dataflow("bench")
    read = operators.input("read", flow, testing.TestingSource(batches))
    events = operators.flat_map("decode", read, _keyed_events)
    folded = operators.fold_final("count", events, Counting, _added)
    counted: list[tuple[str, Counting]] = []
    operators.output("write", folded, testing.TestingSink(counted))
    testing.run_main(flow)
    whole = Counting()
    for _, part in counted:
        whole.merge(part)
    return whole.counts()


def _keyed_events(batch: bytes) -> list[tuple[str, Event]]:
    return [(f"{event[0]} {event[2]}", event) for value in fetched(batch).values for event in requests_of(value or b"")]


def _added(counting: Counting, event: Event) -> Counting:
    counting.add(event)
    return counting


def quixstreams(batches: Sequence[bytes]) -> Counts:
    """A StreamingDataFrame of quixstreams without its consumer: `StreamingDataFrame.compose`, message by message."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it depends on
        library, context, models = (
            import_module(name) for name in ("quixstreams", "quixstreams.context", "quixstreams.models")
        )
    with tempfile.TemporaryDirectory() as state:
        app = library.Application(
            broker_address="127.0.0.1:9", consumer_group="bench", auto_create_topics=False, state_dir=state
        )
        topic = models.Topic("otlp_spans", value_deserializer="bytes")  # `app.topic` would ask a broker
        topic.broker_config = models.TopicConfig(num_partitions=1, replication_factor=1)
        counting = Counting()
        frame = app.dataframe(topic).apply(requests_of, expand=True).update(counting.add)
        context.set_message_context(None)
        execute = frame.compose(sink=_nowhere)[topic.name]
        for batch in batches:
            for value in fetched(batch).values:
                execute(value, None, 0, None)
    return counting.counts()


def _nowhere(value: object, key: object, timestamp: int, headers: object) -> None:
    """Takes what comes out at the end."""


PEERS: Mapping[str, Peer] = {"bytewax": bytewax, "quixstreams": quixstreams}
"""By the name of the package."""


def is_installed(package: str) -> bool:
    """Returns whether a peer can be measured here."""
    return find_spec(package) is not None
