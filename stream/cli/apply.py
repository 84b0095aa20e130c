"""`qma apply FILE…`: validates objectives and publishes a new version of the configuration."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

from stream.cli import described
from stream.cli.connection import add_arguments, connected
from stream.config import exit_codes
from stream.config.bundle import make_bundle
from stream.config.openslo import Configuration, read_configuration
from stream.config.problems import refuse_if_any, shown_lines
from stream.config.sources import ENCODINGS, TOPICS, WRITTEN, check_sources, read_source, telemetry
from stream.config.tuning import DEFAULT, RANGES, tuned
from stream.core.slo.spec import Bundle, Settings, Source
from stream.kafka.config_topic import publish_bundle, read_bundle
from stream.kafka.log_topic import log_partitions
from stream.kafka.source_ends import source_ends

SOURCES = ("otlp_spans=otlp_proto", "telemetry.events=flat")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="OpenSLO v1 YAML")
    parser.add_argument("--dry-run", action="store_true", help="validate only; no broker is needed")
    parser.add_argument("--strict", action="store_true", help="publish nothing where `qma validate` has a warning")
    parser.add_argument(
        "--pipeline",
        metavar="NAME",
        help="name of the pipeline, its own on this Kafka (default: as before, else from the prefix)",
    )
    parser.add_argument(
        "--generation",
        metavar="NAME",
        help="what log and state are bound to; a new one needs new topics (default: as before, else `1`)",
    )
    parser.add_argument(
        "--source",
        action="append",
        metavar="TOPIC=[SIGNAL:]ENCODING",
        help=f"a topic to read, with SIGNAL {', '.join(ENCODINGS)} and ENCODING {', '.join(WRITTEN)}; the names "
        f"{', '.join(TOPICS)} say their signal, others carry events where they are flat, else traces. Repeat it for "
        "several and list only topics that exist: one that does not holds every minute open "
        f"(default: as before, else {' and '.join(SOURCES)})",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help=f"a limit to change, or NAME={DEFAULT} to put it back; repeat it for several. Names: {', '.join(RANGES)} "
        "(default: as before)",
    )
    parser.add_argument(
        "--publish-sketches",
        action=argparse.BooleanOptionalAction,
        help="publish each service's t-digest of each minute on qma.sli (default: as before, else not)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    configuration, problems = read_configuration(arguments.files, now_ns=time.time_ns())
    refuse_if_any(problems)
    for text in shown_lines(problems):
        print(text, file=sys.stderr)
    if arguments.strict and problems:
        return exit_codes.CONFIG
    objectives = configuration.objectives
    count = described.counted_as(len(objectives), "objective")
    for objective in objectives:
        print(described.line(objective))
    for text in described.declared(configuration):
        print(text)
    if arguments.dry_run:
        check_sources(_sources(arguments.source, None))
        _settings(arguments, None)
        print(f"{count} valid, nothing was published")
        return 0
    with connected(arguments) as connection:
        version, missing = asyncio.run(_publish(arguments, configuration, connection.bootstrap, connection.prefix))
    print(f"{count} applied as version {version}")
    for topic in missing:
        print(
            f"qma: the source {topic} does not exist; no minute closes before it does. Create it with "
            f"`qma topics apply --source {topic}`, or name the sources that there are with `--source`",
            file=sys.stderr,
        )
    return 0


async def _publish(
    arguments: argparse.Namespace, configuration: Configuration, bootstrap: str, prefix: str
) -> tuple[int, list[str]]:
    """Returns the new version and the sources that do not exist."""
    previous = await read_bundle(bootstrap, prefix)
    before = previous[1] if previous is not None else None
    bundle = make_bundle(
        configuration.objectives,
        previous=previous,
        pipeline=arguments.pipeline or (before.pipeline if before else _name(prefix)),
        generation=arguments.generation or (before.generation if before else "1"),
        partitions=await log_partitions(bootstrap, prefix),
        prefix=prefix,
        sources=_sources(arguments.source, before),
        settings=_settings(arguments, before),
        calendars=configuration.calendars,
        adjustments=configuration.adjustments,
        mutes=configuration.mutes,
    )
    version = await publish_bundle(bootstrap, prefix, bundle)
    existing = {end.topic for end in await source_ends(bootstrap, [source.topic for source in bundle.sources])}
    return version, [source.topic for source in bundle.sources if source.topic not in existing]


def _name(prefix: str) -> str:
    """Returns a pipeline's name from its prefix: consumer group and transactional ids of two must never be the same."""
    return prefix.strip("._-") or "default"


def _settings(arguments: argparse.Namespace, before: Bundle | None) -> Settings:
    settings = tuned(before.settings if before is not None else Settings(), arguments.settings)
    wanted: bool | None = arguments.publish_sketches
    return settings if wanted is None else replace(settings, publish_sketches=wanted)


def _sources(named: list[str] | None, before: Bundle | None) -> list[Source]:
    if named is None and before is not None:
        return telemetry(before.sources)
    return [read_source(text) for text in named or SOURCES]
