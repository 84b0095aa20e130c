"""`qma topics apply|show`: creates and checks the pipeline's topics."""

from __future__ import annotations

import argparse
import asyncio

from stream.cli.arguments import positive
from stream.cli.connection import Connection, add_arguments, connected
from stream.config.sources import read_source
from stream.core.errors import ConfigError
from stream.kafka.log_topic import log_has_create_time
from stream.kafka.topics import Change, TopicSpec, TopicStatus, apply, pipeline_topics, show

SOURCES = ("otlp_spans", "telemetry.events")
PARTITIONS = 32
REPLICATION = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="apply|show")
    for name, text, run in (
        (
            "apply",
            "create what is missing; a topic that differs is never altered but named, with the fix",
            _apply,
        ),
        ("show", "print every topic and how it differs; exit 1 when one is missing or differs", _show),
    ):
        action = actions.add_parser(name, help=text, description=text)
        add_arguments(action)
        _add_shape(action)
        action.set_defaults(run=run)


def _add_shape(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--partitions",
        type=positive,
        metavar="N",
        help=f"of the log, the state, the outputs and new sources (default: as the log has, else {PARTITIONS}); "
        "it bounds how many state processes can share the work and cannot be changed later",
    )
    action.add_argument(
        "--replication",
        type=positive,
        metavar="N",
        help=f"copies of each partition, at most the number of brokers (default: as the log has, else {REPLICATION})",
    )
    action.add_argument(
        "--clock",
        choices=("broker", "source"),
        help="the log's clock: the broker's, or for a backfill the sources' timestamps "
        "(default: as the log has, else broker)",
    )
    action.add_argument(
        "--source",
        action="append",
        type=_topic,
        metavar="TOPIC",
        help="a topic that producers write to, created if it is missing; repeat it for several "
        f"(default: {', '.join(SOURCES)}); TOPIC=ENCODING, as `qma apply` takes it, is understood",
    )


def _topic(text: str) -> str:
    """Returns the topic of a source, which may be written as for `qma apply`."""
    try:
        return read_source(text).topic if "=" in text else text
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


async def _specs(arguments: argparse.Namespace, connection: Connection) -> list[TopicSpec]:
    """Returns the topics as they must be; what was not asked for is taken from the log, if it is there already."""
    partitions, replication, clock = PARTITIONS, REPLICATION, "broker"
    log = next(
        spec
        for spec in pipeline_topics(connection.prefix, PARTITIONS, REPLICATION, "LogAppendTime")
        if spec.name == f"{connection.prefix}shuffle"
    )
    [found] = await show(connection.bootstrap, [log])
    if found.exists:
        partitions, replication = found.partitions, found.replication
        clock = "source" if await log_has_create_time(connection.bootstrap, connection.prefix) else "broker"
    return pipeline_topics(
        connection.prefix,
        arguments.partitions or partitions,
        arguments.replication or replication,
        "LogAppendTime" if (arguments.clock or clock) == "broker" else "CreateTime",
        sources=arguments.source or SOURCES,
    )


def _apply(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        specs, changes = asyncio.run(_create(arguments, connection))
    for change in changes:
        print(f"created {change.topic}: {change.partitions} partitions, replication {change.replication}")
    others = "; the others are as they must be" if len(changes) < len(specs) else ""
    print(f"{len(specs)} topics, {len(changes)} created{others}")
    return 0


async def _create(arguments: argparse.Namespace, connection: Connection) -> tuple[list[TopicSpec], list[Change]]:
    specs = await _specs(arguments, connection)
    return specs, await apply(connection.bootstrap, specs)


def _show(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        statuses = asyncio.run(_look(arguments, connection))
    for status in statuses:
        print(_line(status))
        for difference in status.differences:
            print(f"  {difference}")
    return 0 if all(status.exists and not status.differences for status in statuses) else 1


async def _look(arguments: argparse.Namespace, connection: Connection) -> list[TopicStatus]:
    return await show(connection.bootstrap, await _specs(arguments, connection))


def _line(status: TopicStatus) -> str:
    if not status.exists:
        source = "" if status.spec.ours else f" --source {status.spec.name}"
        return f"{status.spec.name}: missing; create it with `qma topics apply{source}`"
    owner = "" if status.spec.ours else " (a source: only its existence is checked)"
    return f"{status.spec.name}: {status.partitions} partitions, replication {status.replication}{owner}"
