"""`qma slo import sloth FILE`: writes the SLOs of a Sloth specification as OpenSLO for `qma apply`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stream.config import exit_codes
from stream.config.durations import shorthand_minutes
from stream.config.problems import in_order, refuse_if_any, shown_lines
from stream.config.sloth import Places, SlothFile, read_sloth
from stream.config.sloth_openslo import openslo_text
from stream.config.time_windows import WINDOW_MINUTES_MAX, WINDOW_MINUTES_MIN
from stream.core.errors import ConfigError

PERIOD = "30d"
"""Sloth's own default of `--default-slo-period`."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    importing = parser.add_subparsers(required=True, metavar="ACTION").add_parser(
        "import", help="read SLOs of another tool", description="read SLOs of another tool and write OpenSLO"
    )
    tools = importing.add_subparsers(required=True, metavar="TOOL")
    text = (
        "read a Sloth specification (prometheus/v1, or the Kubernetes resource) and write OpenSLO for `qma apply`; an "
        "SLO that cannot be expressed exactly is an error that says why"
    )
    sloth = tools.add_parser("sloth", help=text, description=text)
    sloth.add_argument("file", type=Path, metavar="FILE", help="the specification, YAML")
    sloth.add_argument(
        "--environment",
        metavar="NAME",
        help="deployment.environment.name of the services (default: what the queries say, else a label `environment`, "
        "`env` or `deployment_environment` of the specification)",
    )
    sloth.add_argument(
        "--namespace",
        metavar="NAME",
        help="service.namespace of the services (default: what the queries say, else a label `service_namespace` of "
        "the specification, else none)",
    )
    sloth.add_argument(
        "--period",
        type=_period,
        default=PERIOD,
        metavar="DURATION",
        help="window of the SLOs, as given to Sloth with --default-slo-period (default: %(default)s, as there)",
    )
    sloth.add_argument(
        "--partial", action="store_true", help="write the SLOs that can be expressed, even where others cannot be"
    )
    sloth.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to standard output")
    sloth.set_defaults(run=_run_sloth)


def _run_sloth(arguments: argparse.Namespace) -> int:
    places = Places(environment=arguments.environment, namespace=arguments.namespace)
    found = read_sloth(arguments.file, places)
    if not arguments.partial:
        refuse_if_any(found.problems)
    text = "".join(openslo_text(slo, window=arguments.period) for slo in found.slos)
    if text:
        _write(arguments.output, text)
    _say(found)
    return exit_codes.CONFIG if found.problems else 0


def _say(found: SlothFile) -> None:
    """Says on standard error what is not in the files, or not as it was."""
    carried = sum(bool(slo.alerting) for slo in found.slos)
    if carried:
        name = "name" if carried > 1 else "names"
        kept = "they are kept as annotations, nothing is routed by them"
        print(f"qma: {carried} of the SLOs {name} alerts or labels of alerts; {kept}", file=sys.stderr)
    for line in shown_lines(in_order(found.problems)):
        print(f"qma: {line}", file=sys.stderr)
    if found.problems:
        count = len(found.slos)
        written = "1 SLO was" if count == 1 else f"{count} SLOs were"
        print(f"qma: {written} written, the rest was left out", file=sys.stderr)


def _write(output: Path | None, text: str) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output} cannot be written ({error.strerror}); name another file") from error


def _period(text: str) -> str:
    """Returns a length of time between the shortest and the longest window, in OpenSLO's shorthand."""
    minutes = shorthand_minutes(text)
    if minutes is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time; write for example 30d")
    if not WINDOW_MINUTES_MIN <= minutes <= WINDOW_MINUTES_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 1 hour and 90 days; write for example 30d")
    return text
