"""`qma worker`: one supervised process per role, or one role in the foreground with `--only`."""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from stream.cli.arguments import not_negative, positive
from stream.cli.connection import Connection, add_arguments, connected
from stream.cli.supervisor import SUPERVISOR_PID, Child, supervise
from stream.config.settings import LISTEN_DEFAULT
from stream.core.errors import ConfigError
from stream.core.slo.spec import Bundle
from stream.kafka.clients import BATCH_BYTES_MAX
from stream.kafka.config_topic import read_bundle
from stream.kafka.log_topic import log_has_create_time
from stream.kafka.logs import log_to_stderr
from stream.metrics.collectors import IngestCollector, StateCollector
from stream.metrics.server import Probe, serve

if TYPE_CHECKING:
    from stream.worker.status import StateStatus

ROLES = ("ingest", "state")
_CONFIG_POLL_S = 1.0
_STALE_CHECKPOINT_S = 60.0
_STALE_COMMIT_S = 60.0
LOG = logging.getLogger("stream.cli.worker")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument("--only", choices=ROLES, help="run one role in the foreground, unsupervised")
    parser.add_argument("--ingest", type=not_negative, default=1, metavar="N", help="ingest processes (1)")
    parser.add_argument("--state", type=not_negative, default=1, metavar="N", help="state processes (1)")
    parser.add_argument(
        "--start",
        choices=("earliest", "latest"),
        default="earliest",
        help="where to begin in a source that was never read (earliest)",
    )
    parser.add_argument(
        "--batch-bytes-max",
        type=positive,
        default=BATCH_BYTES_MAX,
        metavar="N",
        help=f"a record batch of a source that decompresses to more bytes is rejected as too_large ({BATCH_BYTES_MAX})",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help=f"where the first process serves /metrics, /healthz and /readyz; each further one takes the next port "
        f"(default: $QMA_LISTEN or {LISTEN_DEFAULT})",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        if arguments.only is None:
            return supervise(_children(arguments, connection))
        log_to_stderr()
        _end_with_supervisor()
        if arguments.only == "ingest":
            return _run_ingest(arguments, connection)
        return _run_state(connection)


def _children(arguments: argparse.Namespace, connection: Connection) -> list[Child]:
    host, _, port = connection.listen.rpartition(":")
    roles = ["state"] * arguments.state + ["ingest"] * arguments.ingest
    if not roles:
        raise ConfigError("--ingest 0 --state 0 leaves nothing to run; ask for at least one process")
    numbers: dict[str, int] = {}
    children = []
    for i, role in enumerate(roles):
        numbers[role] = numbers.get(role, 0) + 1
        listen = f"{host}:{int(port) + i}"
        command = [
            *(sys.executable, "-m", "stream", "worker", "--only", role, "--start", arguments.start),
            *("--broker", connection.bootstrap, "--prefix", connection.prefix, "--listen", listen),
            *("--batch-bytes-max", str(arguments.batch_bytes_max)),
        ]
        children.append(Child(name=f"{role}-{numbers[role]}", command=command, url=f"http://{listen}/metrics"))
    return children


def _run_ingest(arguments: argparse.Namespace, connection: Connection) -> int:
    from stream.ingest.process import IngestOptions
    from stream.ingest.process import serve as run
    from stream.ingest.shuffle import IngestStats

    options = IngestOptions(
        bootstrap=connection.bootstrap,
        prefix=connection.prefix,
        start=arguments.start,
        create_time=asyncio.run(log_has_create_time(connection.bootstrap, connection.prefix)),
        batch_bytes_max=arguments.batch_bytes_max,
    )

    def endpoint(stats: IngestStats) -> Coroutine[Any, Any, None]:
        registry = _registry()
        registry.register(IngestCollector(stats))
        not_yet = "nothing was read and committed yet"
        probe = Probe(
            health=lambda: _idle(stats.committed_at_s),
            readiness=lambda: None if stats.committed_at_s is not None else not_yet,
        )
        return serve(connection.listen, registry, probe)

    run(options, services=[endpoint])
    return 0


def _idle(committed_at_s: float | None) -> str | None:
    """Progress is committed every second, with or without messages."""
    if committed_at_s is None or (idle_s := time.monotonic() - committed_at_s) < _STALE_COMMIT_S:
        return None
    return f"nothing was committed for {idle_s:.0f} s"


def _run_state(connection: Connection) -> int:
    from stream.worker.options import StateOptions
    from stream.worker.process import run_state

    bundle = asyncio.run(_first_bundle(connection))
    options = StateOptions(
        bootstrap=connection.bootstrap,
        prefix=connection.prefix,
        pipeline=bundle.pipeline,
        generation=bundle.generation,
    )

    def endpoint(status: StateStatus) -> Coroutine[Any, Any, None]:
        registry = _registry()
        registry.register(StateCollector(status, sloth=connection.metrics_sloth))
        probe = Probe(
            health=functools.partial(stuck, status),
            readiness=lambda: None if status.ready else "its partitions are not restored yet",
        )
        return serve(connection.listen, registry, probe)

    run_state(options, services=[endpoint])


def stuck(status: StateStatus, now_s: float | None = None) -> str | None:
    """Returns which partition has records to apply and no checkpoint for a minute; None: all is well.

    Args:
        status: The worker's status.
        now_s: Monotonic time; None: now.
    """
    now_s = time.monotonic() if now_s is None else now_s
    for partition, at_s in sorted(status.checkpoint_at_s.items()):
        if status.log_lag.get(partition) and now_s - at_s > _STALE_CHECKPOINT_S:
            return f"partition {partition}: no checkpoint for {now_s - at_s:.0f} s, with a log to apply"
    return None


async def _first_bundle(connection: Connection) -> Bundle:
    """Returns the configuration; waits, and says so, while there is none."""
    reminded = False
    while (found := await read_bundle(connection.bootstrap, connection.prefix)) is None:
        if not reminded:
            LOG.warning("waiting for a configuration: publish one with `qma apply FILE…`")
            reminded = True
        await asyncio.sleep(_CONFIG_POLL_S)
    return found[1]


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def _end_with_supervisor() -> None:
    """Ends this process when its supervisor dies without a word, so that no worker runs unsupervised."""
    supervisor = os.environ.get(SUPERVISOR_PID)
    if supervisor is None:
        return

    def watch() -> None:
        while os.getppid() == int(supervisor):
            time.sleep(0.5)
        os._exit(70)

    threading.Thread(target=watch, daemon=True, name="supervisor-watch").start()
