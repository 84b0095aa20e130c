"""`qma apply FILE…`: validates objectives and publishes a new version of the configuration."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from stream.cli.connection import add_arguments, connected
from stream.config.bundle import make_bundle
from stream.config.openslo import load_objectives
from stream.core.errors import ConfigError
from stream.core.slo.burn_rate import duration
from stream.core.slo.spec import Bundle, Objective, Settings, Source
from stream.kafka.config_topic import publish_bundle, read_bundle
from stream.kafka.log_topic import log_partitions

SOURCES = ("otlp_spans=otlp_proto", "telemetry.events=flat")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    text = "validate OpenSLO files and publish them as the new configuration; it replaces the one before"
    parser = commands.add_parser("apply", help=text, description=text)
    add_arguments(parser)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="OpenSLO v1 YAML")
    parser.add_argument("--dry-run", action="store_true", help="validate only; no broker is needed")
    parser.add_argument("--pipeline", help="name of the pipeline (default: as before, else `default`)")
    parser.add_argument("--generation", help="generation of the pipeline (default: as before, else `1`)")
    parser.add_argument(
        "--source",
        action="append",
        metavar="TOPIC=ENCODING",
        help="a topic to read; ENCODING is otlp_proto or flat (as before, else otlp_spans and telemetry.events)",
    )
    parser.add_argument(
        "--publish-sketches", action="store_true", help="publish each service's t-digest of each minute on qma.sli"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    objectives = load_objectives(arguments.files)
    for objective in objectives:
        print(_line(objective))
    if arguments.dry_run:
        print(f"{len(objectives)} objectives are valid; nothing was published")
        return 0
    with connected(arguments) as connection:
        version = asyncio.run(_publish(arguments, objectives, connection.bootstrap, connection.prefix))
    print(f"{len(objectives)} objectives applied as version {version}")
    return 0


async def _publish(arguments: argparse.Namespace, objectives: list[Objective], bootstrap: str, prefix: str) -> int:
    previous = await read_bundle(bootstrap, prefix)
    before = previous[1] if previous is not None else None
    bundle = make_bundle(
        objectives,
        previous=previous,
        pipeline=arguments.pipeline or (before.pipeline if before else "default"),
        generation=arguments.generation or (before.generation if before else "1"),
        partitions=await log_partitions(bootstrap, prefix),
        sources=_sources(arguments.source, before),
        settings=Settings(publish_sketches=arguments.publish_sketches),
    )
    return await publish_bundle(bootstrap, prefix, bundle)


def _sources(named: list[str] | None, before: Bundle | None) -> list[Source]:
    if named is None and before is not None:
        return list(before.sources)
    sources = []
    for text in named or SOURCES:
        topic, _, encoding = text.partition("=")
        if not topic or not encoding:
            raise ConfigError(f"--source {text}: write TOPIC=ENCODING, for example otlp_spans=otlp_proto")
        sources.append(Source(topic=topic, encoding=encoding))
    return sources


def _line(objective: Objective) -> str:
    good = "not failed"
    if objective.duration_lte_ns is not None:
        good = f"at most {objective.duration_lte_ns / 1e6:g} ms"
    window = duration(objective.window_minutes)
    return f"{objective.service} {objective.name}: {objective.target} of requests {good} over {window}"
