"""`--broker` and `--prefix`, for every command that talks to Kafka."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stream.config.settings import LOCAL_BROKER, Deployment, read_deployment
from stream.core.errors import StreamError
from stream.kafka.clients import reachable
from stream.kafka.local import LocalKafka


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the pipeline is: bootstrap servers and topic prefix."""

    bootstrap: str
    prefix: str
    listen: str
    metrics_sloth: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where the pipeline is."""
    parser.add_argument(
        "--broker",
        metavar="HOST:PORT",
        help=f"Kafka bootstrap servers, separated by commas; `{LOCAL_BROKER}` uses one that qma starts, for as long as "
        "a command runs, and whose data stays (default: $QMA_BROKER)",
    )
    parser.add_argument(
        "--prefix",
        metavar="TEXT",
        help="start of the names of the pipeline's topics (default: $QMA_PREFIX or `qma.`)",
    )


@contextlib.contextmanager
def connected(arguments: argparse.Namespace) -> Iterator[Connection]:
    """Yields the connection; with `--broker local` a real Kafka runs for as long, and keeps its data.

    Raises:
        ConfigError: When no broker is named or an option is malformed.
        UnavailableError: When the local one cannot be started.
    """
    deployment = read_deployment(broker=arguments.broker)
    prefix, listen = arguments.prefix or deployment.prefix, getattr(arguments, "listen", None) or deployment.listen
    deployment = replace(deployment, prefix=prefix, listen=listen)
    if deployment.broker != LOCAL_BROKER:
        yield _connection(deployment, deployment.broker)
        return
    with _local(_data_dir()) as bootstrap:
        yield _connection(deployment, bootstrap)


def _connection(deployment: Deployment, bootstrap: str) -> Connection:
    return Connection(
        bootstrap=bootstrap,
        prefix=deployment.prefix,
        listen=deployment.listen,
        metrics_sloth=deployment.metrics_sloth,
    )


@contextlib.contextmanager
def _local(data_dir: Path) -> Iterator[str]:
    """Uses the broker that another command runs on the same data, or starts one."""
    address = data_dir / "address"
    if running := _running(address):
        yield running
        return
    with LocalKafka(data_dir) as kafka:
        address.write_text(f"{os.getpid()} {kafka.bootstrap}\n")
        try:
            yield kafka.bootstrap
        finally:
            address.unlink(missing_ok=True)


def _running(address: Path) -> str | None:
    try:
        pid, bootstrap = address.read_text().split()
        os.kill(int(pid), 0)
        asyncio.run(reachable(bootstrap))  # the number may belong to another process by now
    except (OSError, ValueError, StreamError):
        return None
    return bootstrap


def _data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "qma-stream" / "kafka"
