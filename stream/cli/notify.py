"""`qma notify`: keeps an Alertmanager told of the alerts that fire."""

from __future__ import annotations

import argparse
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector

from stream.cli.arguments import positive
from stream.cli.connection import add_arguments, connected
from stream.config.settings import LISTEN_DEFAULT
from stream.kafka.logs import log_to_stderr
from stream.metrics.server import Probe, serve
from stream.notify.endpoint import endpoint, tls_context
from stream.notify.process import NotifyOptions
from stream.notify.process import serve as run
from stream.notify.stats import NotifyCollector, NotifyStats

_INTERVAL_S = 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument(
        "--alertmanager",
        action="append",
        required=True,
        metavar="URL",
        help="for example http://localhost:9093, https://USER@HOST/PREFIX; repeat it for every member of a cluster",
    )
    parser.add_argument(
        "--interval",
        type=positive,
        default=_INTERVAL_S,
        metavar="SECONDS",
        help=f"what fires is sent again once in this time, and ends by itself after three of them ({_INTERVAL_S})",
    )
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="holds the password of the URL's user")
    parser.add_argument("--bearer-token-file", type=Path, metavar="FILE", help="holds a bearer token")
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="certificates to trust, in PEM (default: the system's)"
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help=f"where it serves /metrics, /healthz and /readyz (default: $QMA_LISTEN or {LISTEN_DEFAULT})",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    secrets = {"password_file": arguments.password_file, "bearer_token_file": arguments.bearer_token_file}
    endpoints = [endpoint(text, **secrets) for text in dict.fromkeys(arguments.alertmanager)]
    tls = tls_context(arguments.ca_file)
    with connected(arguments) as connection:
        log_to_stderr()
        options = NotifyOptions(
            bootstrap=connection.bootstrap,
            prefix=connection.prefix,
            endpoints=endpoints,
            tls=tls,
            interval_s=arguments.interval,
        )

        def service(stats: NotifyStats) -> Coroutine[Any, Any, None]:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            registry.register(NotifyCollector(stats))
            not_yet = "the alerts that fire are not read yet"
            probe = Probe(health=lambda: None, readiness=lambda: None if stats.is_ready else not_yet)
            return serve(connection.listen, registry, probe)

        run(options, service)
    return 0
