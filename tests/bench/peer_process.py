"""A peer as a process of its own, on a real broker: `python -m tests.bench.peer_process faust …`.

It counts the requests of a topic's messages one at a time. It makes the file `ready` when it has counted the first
`--warm` messages, `counts.json` when it has counted `--count` more, and goes on until it is stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.bench.counting import Counting, Event, requests_of


@dataclass(slots=True)
class Work:
    """What is counted, and how far it is.

    Args:
        broker: `HOST:PORT`.
        topic: Where the messages are.
        directory: Where `ready` and `counts.json` are made.
        warm: Messages until ready.
        count: Messages after that.
    """

    broker: str
    topic: str
    directory: Path
    warm: int
    count: int
    counting: Counting = field(default_factory=Counting)
    _taken: int = 0

    def requests_of(self, value: bytes) -> Iterator[Event]:
        """Yields the requests of a message; all of them must be counted before the next one is asked for."""
        yield from requests_of(value)
        self._taken += 1
        if self._taken == self.warm:
            (self.directory / "ready").touch()
        if self._taken == self.warm + self.count:
            written = self.directory / "counts.json.part"
            written.write_text(json.dumps(self.counting.counts().dump()))
            written.rename(self.directory / "counts.json")


def faust(work: Work) -> None:
    """A plain agent: no table, no changelog, its counters in a dictionary."""
    library = import_module("faust")
    app = library.App(
        "bench-faust",
        broker=f"kafka://{work.broker}",
        store="memory://",
        datadir=str(work.directory / "faust"),
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        web_enabled=False,
    )
    topic = app.topic(work.topic, value_type=bytes, value_serializer="raw", key_serializer="raw")

    @app.agent(topic)
    async def count(stream: Any) -> None:
        values: AsyncIterator[bytes] = stream
        async for value in values:
            for event in work.requests_of(value):
                work.counting.add(event)

    library.Worker(app, loglevel="WARN", redirect_stdouts=False).execute_from_commandline()


def quixstreams(work: Work) -> None:
    """A StreamingDataFrame, its counters in a dictionary."""
    library = import_module("quixstreams")
    app = library.Application(
        broker_address=work.broker,
        consumer_group="bench-quixstreams",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        state_dir=str(work.directory / "quixstreams"),
        loglevel="WARNING",
    )
    frame = app.dataframe(app.topic(work.topic, value_deserializer="bytes"))
    frame.apply(work.requests_of, expand=True).update(work.counting.add)
    app.run()


PEERS = {"faust": faust, "quixstreams": quixstreams}
"""By the name of the package."""


def main() -> None:
    """Runs one peer until it is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("--broker", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--directory", required=True, type=Path)
    parser.add_argument("--warm", required=True, type=int)
    parser.add_argument("--count", required=True, type=int)
    given = vars(parser.parse_args())
    PEERS[given.pop("peer")](Work(**given))


if __name__ == "__main__":
    main()
