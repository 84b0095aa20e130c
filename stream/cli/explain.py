"""`qma explain ID`: what a published number is and where it comes from, in plain words; with `--recount`, whether it
is right."""

from __future__ import annotations

import argparse
import asyncio
import time

import orjson

from stream.cli.arguments import positive
from stream.cli.connection import Connection, add_arguments, connected
from stream.cli.explained import as_object, exit_code, lines
from stream.cli.explained_events import Explanation
from stream.config.exit_codes import INCONCLUSIVE
from stream.config.problems import printable
from stream.core.slo.spec import SliSignal
from stream.core.units import HOUR_NS
from stream.replay.evidence import (
    Definition,
    Published,
    RowsRecount,
    definition_of,
    find,
    fold,
    indicator_beside,
    log_standing,
    recount_rows,
)
from stream.replay.reading import Topics

_SINCE_HOURS = 24


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument(
        "id",
        metavar="ID",
        help="the `id` of an event on an output topic, or of a window, an alert or a certificate in it: then its "
        "newest event",
    )
    parser.add_argument(
        "--recount",
        action="store_true",
        help="fold the log up to the event and compare it byte for byte; count an indicator's minute row by row, too",
    )
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument(
        "--since",
        type=positive,
        default=_SINCE_HOURS,
        metavar="HOURS",
        help=f"look at the events published within so many hours ({_SINCE_HOURS})",
    )
    kept.add_argument("--from-beginning", action="store_true", help="look at every event that is kept")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        explanation = asyncio.run(_explain(connection, arguments))
    if explanation is None:
        where = "on any output topic" if arguments.from_beginning else f"in the last {arguments.since} h"
        more = "" if arguments.from_beginning else "; try --since HOURS or --from-beginning"
        why_not = f"no event {printable(arguments.id)} {where} of {connection.prefix}*{more}"
        print(orjson.dumps({"event": None, "why_not": why_not}).decode() if arguments.json else why_not)
        return INCONCLUSIVE
    if arguments.json:
        print(orjson.dumps(as_object(explanation)).decode())
    else:
        for line in lines(explanation):
            print(printable(line))
    return exit_code(explanation)


async def _explain(connection: Connection, arguments: argparse.Namespace) -> Explanation | None:
    since_ns = None if arguments.from_beginning else time.time_ns() - arguments.since * HOUR_NS
    async with Topics(connection.bootstrap, connection.prefix) as topics:
        found = await find(topics, arguments.id, since_ns)
        if not found:
            return None
        event = _chosen(found, arguments.id)
        explanation = Explanation(
            prefix=connection.prefix, event=event, others=[other for other in found if other is not event]
        )
        if event.data.get("objective_digest") is not None:
            explanation.definition = await definition_of(topics, event.data, event.data["log"]["config_version"])
        if event.topic == "budget":
            explanation.beside = await indicator_beside(topics, event)
        explanation.log = await log_standing(topics, event)
        if arguments.recount:
            explanation.fold = await fold(topics, event)
            if explanation.fold.definition is not None:
                explanation.definition = explanation.fold.definition
            explanation.rows = await _recount(topics, event, explanation.definition)
        return explanation


def _chosen(found: list[Published], wanted: str) -> Published:
    """Returns the event with this id; where the id is that of something else, the newest event about it."""
    return next((event for event in reversed(found) if event.event["id"] == wanted), found[-1])


async def _recount(topics: Topics, event: Published, definition: Definition | None) -> RowsRecount | None:
    """Returns the recount of an indicator's minute; None for any other event."""
    if event.event["type"] != "qma.sli.v1":
        return None
    if definition is None:
        return RowsRecount(why_not="the definition of the objective is no longer kept")
    if definition.objective.signal is SliSignal.METRICS:
        return RowsRecount(
            why_not="metric points count by how they differ from those before them, which only the fold follows"
        )
    if definition.objective.finds and not definition.objective.is_found:
        return RowsRecount(
            why_not="what is in no cohort depends on which cohorts there were when it came, which only the fold follows"
        )
    if definition.objective.composite is not None:
        return RowsRecount(
            why_not=f"a composite is made of its components' indicators in {topics.prefix}sli, not of rows; explain "
            "the event of a component to recount its minute"
        )
    return await recount_rows(topics, event, definition)
