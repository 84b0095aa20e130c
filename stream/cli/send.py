"""`qma send TOPIC`: writes each line of standard input as one message, for trying things out."""

from __future__ import annotations

import argparse
import asyncio
import sys

from stream.cli.connection import Connection, add_arguments, connected
from stream.core.errors import ConfigError
from stream.kafka.clients import MAX_REQUEST_BYTES, ingest_producer, stop
from stream.kafka.topic_ids import describe

LINE_BYTES_MAX = MAX_REQUEST_BYTES - 1024
"""A message with its batch around it must fit into one request."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument("topic", metavar="TOPIC", help="the whole name of the topic, for example telemetry.events")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        sent = asyncio.run(_send(connection, arguments.topic))
    print(f"{sent} message{'s' * (sent != 1)} acknowledged on {arguments.topic}")
    return 0


async def _send(connection: Connection, topic: str) -> int:
    producer = await ingest_producer(connection.bootstrap)
    try:
        if topic not in await describe(producer, [topic]):
            raise ConfigError(
                f"no topic {topic} at {connection.bootstrap}; create it with `qma topics apply --source {topic}`"
            )
        if sys.stdin.isatty():
            print("one message a line; end with Ctrl-D on a line of its own", file=sys.stderr)
        lines = [line.rstrip(b"\r\n") for line in sys.stdin.buffer]
        _check_size(lines)
        pending = [await producer.send(topic, line) for line in lines if line]
        await asyncio.gather(*pending)
        return len(pending)
    finally:
        await stop(producer)


def _check_size(lines: list[bytes]) -> None:
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_BYTES_MAX:
            raise ConfigError(
                f"line {number} has {len(line):,} bytes, a message at most {LINE_BYTES_MAX:,}; shorten it"
            )
