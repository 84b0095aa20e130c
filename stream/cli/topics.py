"""`qma topics apply|show`: creates and checks the pipeline's topics."""

from __future__ import annotations

import argparse
import asyncio

from stream.cli.connection import Connection, add_arguments, connected
from stream.kafka.topics import TopicSpec, TopicStatus, apply, pipeline_topics, show

SOURCES = ("otlp_spans", "telemetry.events")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser("topics", help="create and check the pipeline's topics")
    actions = parser.add_subparsers(dest="action", required=True, metavar="apply|show")
    for name, text, run in (
        ("apply", "create what is missing; a difference is an error that names it", _apply),
        ("show", "print every topic and how it differs", _show),
    ):
        action = actions.add_parser(name, help=text, description=text)
        add_arguments(action)
        action.add_argument(
            "--partitions", type=_positive, default=32, help="of the log, the state and the outputs (32)"
        )
        action.add_argument("--replication", type=_positive, default=1, help="replicas of each partition (1)")
        action.add_argument(
            "--clock",
            choices=("broker", "source"),
            default="broker",
            help="the log's clock: the broker's, or for a backfill the sources' timestamps (broker)",
        )
        action.add_argument(
            "--source",
            action="append",
            metavar="TOPIC",
            help="a topic that producers write to, created if it is missing (otlp_spans, telemetry.events)",
        )
        action.set_defaults(run=run)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _specs(arguments: argparse.Namespace, connection: Connection) -> list[TopicSpec]:
    return pipeline_topics(
        connection.prefix,
        arguments.partitions,
        arguments.replication,
        "LogAppendTime" if arguments.clock == "broker" else "CreateTime",
        sources=arguments.source or SOURCES,
    )


def _apply(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        specs = _specs(arguments, connection)
        changes = asyncio.run(apply(connection.bootstrap, specs))
    for change in changes:
        print(f"created {change.topic}: {change.partitions} partitions, replication {change.replication}")
    print(f"{len(specs)} topics, {len(changes)} created, the others are as they must be")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        statuses = asyncio.run(show(connection.bootstrap, _specs(arguments, connection)))
    for status in statuses:
        print(_line(status))
        for difference in status.differences:
            print(f"  {difference}")
    return 0 if all(status.exists and not status.differences for status in statuses) else 1


def _line(status: TopicStatus) -> str:
    if not status.exists:
        return f"{status.spec.name}: missing; create it with `qma topics apply`"
    owner = "" if status.spec.ours else " (a source: only its existence is checked)"
    return f"{status.spec.name}: {status.partitions} partitions, replication {status.replication}{owner}"
