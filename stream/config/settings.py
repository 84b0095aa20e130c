"""The only reader of the environment: where a process runs. What decisions depend on travels in the log."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from stream.config.problems import nearest, quoted
from stream.core.errors import ConfigError

LOCAL_BROKER = "local"
"""A real Kafka that the command starts itself."""

PREFIX_DEFAULT = "qma."
LISTEN_DEFAULT = "127.0.0.1:9464"

_VARIABLES = ("QMA_BROKER", "QMA_PREFIX", "QMA_LISTEN", "QMA_METRICS_SLOTH")
_MISSPELT_RATIO_MIN = 0.8
_SWITCH = {"1": True, "0": False}
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", re.ASCII)
# Source: org.apache.kafka.common.internals.Topic: legal characters, 249 at most; our names need up to 20.
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where a process finds its broker and where it serves.

    Args:
        broker: `local`, or `HOST:PORT[,HOST:PORT…]`.
        prefix: Start of the name of every topic that is ours: one pipeline per tenant or region.
        listen: `HOST:PORT` of `/metrics`, `/healthz` and `/readyz`; loopback unless said otherwise.
        metrics_sloth: `/metrics` shows the series that Sloth's recording rules would make, too.
    """

    broker: str
    prefix: str = PREFIX_DEFAULT
    listen: str = LISTEN_DEFAULT
    metrics_sloth: bool = False

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: When one is malformed.
        """
        brokers = self.broker.split(",")
        if self.broker != LOCAL_BROKER and not all(_is_host_port(broker) for broker in brokers):
            raise ConfigError(
                f"the broker {quoted(self.broker)} is not an address; "
                f"write HOST:PORT[,HOST:PORT…] or `{LOCAL_BROKER}` (QMA_BROKER, --broker)"
            )
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(
                f"the topic prefix {quoted(self.prefix)} cannot start a Kafka topic's name; "
                "write 1 to 200 letters, digits, `.`, `_` or `-` (QMA_PREFIX)"
            )
        if not _is_host_port(self.listen):
            raise ConfigError(
                f"the address to listen on {quoted(self.listen)} is not HOST:PORT; "
                f"write for example {LISTEN_DEFAULT} (QMA_LISTEN)"
            )


def read_deployment(environ: Mapping[str, str] | None = None, *, broker: str | None = None) -> Deployment:
    """Returns the deployment that the environment describes. An empty variable counts as unset.

    Args:
        environ: The environment; None: that of this process.
        broker: What the command line says; it wins over QMA_BROKER.

    Raises:
        ConfigError: When no broker is named, a value is malformed, or a variable looks like a misspelt one.
    """
    environ = os.environ if environ is None else environ
    for name in environ:
        guess = nearest(name, _VARIABLES, ratio_min=_MISSPELT_RATIO_MIN) if name.startswith("QMA_") else None
        if guess is not None and name not in _VARIABLES:
            raise ConfigError(f"the environment variable {name} is not known; did you mean {guess}?")
    values = {name: environ[name] for name in _VARIABLES if environ.get(name)}
    named = broker or values.get("QMA_BROKER")
    if named is None:
        raise ConfigError(
            f"no broker is named; pass --broker HOST:PORT (or --broker {LOCAL_BROKER}), or set QMA_BROKER"
        )
    sloth = values.get("QMA_METRICS_SLOTH", "0")
    if sloth not in _SWITCH:
        raise ConfigError(f"QMA_METRICS_SLOTH is {quoted(sloth)}; write 1 for Sloth's series on /metrics, or 0")
    return Deployment(
        broker=named,
        prefix=values.get("QMA_PREFIX", PREFIX_DEFAULT),
        listen=values.get("QMA_LISTEN", LISTEN_DEFAULT),
        metrics_sloth=_SWITCH[sloth],
    )


def _is_host_port(text: str) -> bool:
    match = _HOST_PORT.fullmatch(text)
    return match is not None and 0 < int(match[1]) <= 65535
