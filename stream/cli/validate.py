"""`qma validate FILE…`: says everything that is wrong or doubtful in OpenSLO files, and what was understood."""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream.cli import described
from stream.cli.described import counted_as
from stream.config import exit_codes
from stream.config.openslo import Configuration, read_configuration
from stream.config.problems import Problem, shown_lines
from stream.core.engine.alerting import rules_of

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)

TABLE_COLUMNS_MIN = 160
"""Width where the output is no terminal: a table for a file or a pipe is not cut."""


_NAMES = {"objective": "name", "service": "service"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="OpenSLO v1 YAML")
    parser.add_argument("--strict", action="store_true", help="exit 78 on a warning, too")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines and a table")
    parser.add_argument(
        "--events-per-hour",
        type=_traffic,
        metavar="N",
        help="traffic of each objective: warns of targets that so few events cannot show",
    )
    parser.set_defaults(run=_run)


def _traffic(text: str) -> Fraction:
    value = Fraction(text) if _NUMBER.fullmatch(text) else Fraction(0)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of events above 0; write for example 1000 or 0.5")
    return value


def _run(arguments: argparse.Namespace) -> int:
    configuration, problems = read_configuration(
        arguments.files, now_ns=time.time_ns(), events_per_hour=arguments.events_per_hour
    )
    wrong = [problem for problem in problems if not problem.is_warning]
    if arguments.json:
        print(orjson.dumps(_json(configuration, problems), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(configuration, problems, wrong)
    return exit_codes.CONFIG if wrong or (arguments.strict and problems) else 0


def _print(configuration: Configuration, problems: Sequence[Problem], wrong: Sequence[Problem]) -> None:
    for text in shown_lines(problems):
        print(text)
    if problems:
        print()
    counts = f"{counted_as(len(wrong), 'problem')}, {counted_as(len(problems) - len(wrong), 'warning')}"
    if wrong:
        print(f"{counts}: not valid")
        return
    console = Console(soft_wrap=True)
    console.print(_table(configuration, console.width if console.is_terminal else TABLE_COLUMNS_MIN))
    print()
    for text in described.declared(configuration):
        print(text)
    print(f"{counted_as(len(configuration.objectives), 'objective')}, {counts}: valid")


def _table(configuration: Configuration, columns: int) -> Table:
    shown = Table(box=None, pad_edge=False, width=columns)
    for name in ("objective", "service"):
        longest = max((len(getattr(objective, _NAMES[name])) for objective in configuration.objectives), default=0)
        shown.add_column(name, overflow="fold", no_wrap=longest <= columns // 4)  # names are there to be copied
    shown.add_column("target", justify="right", no_wrap=True)
    for name in ("of what", "window", "alerts"):
        shown.add_column(name, overflow="fold")
    for objective in configuration.objectives:
        rules = rules_of(objective)
        severities = Counter(str(rule.severity) for rule in rules)
        alerts = ", ".join(counted_as(number, severity) for severity, number in severities.items()) or "none"
        row = (objective.name, objective.service, objective.target, described.asked(objective))
        shown.add_row(*map(escape, (*row, described.window(objective), alerts)))
    return shown


def _json(configuration: Configuration, problems: Sequence[Problem]) -> dict[str, Any]:
    def listed(is_warning: bool) -> list[dict[str, Any]]:
        return [
            {
                "file": problem.file,
                "line": problem.position.line,
                "column": problem.position.column,
                "path": problem.path,
                "message": problem.message,
            }
            for problem in problems
            if problem.is_warning is is_warning
        ]

    objectives = [
        {**objective.dump(), "says": described.line(objective), "digest": objective.digest}
        for objective in configuration.objectives
    ]
    return {
        "valid": not any(not problem.is_warning for problem in problems),
        "problems": listed(False),
        "warnings": listed(True),
        "objectives": objectives,
        "calendars": [calendar.dump() for calendar in configuration.calendars],
        "adjustments": [adjustment.dump() for adjustment in configuration.adjustments],
        "mutes": [mute.dump() for mute in configuration.mutes],
    }
