"""What `qma explain` says: the facts behind one event in, sentences for people out. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from stream.cli.described import asked, window
from stream.cli.explained_events import Explanation, about
from stream.cli.findings import count
from stream.cli.replay import field_line
from stream.cli.wording import block, labelled, moment, moment_of
from stream.config.exit_codes import FAIL, INCONCLUSIVE
from stream.core.columns import Kind
from stream.core.slo.burn_rate import duration
from stream.core.slo.spec import SliSignal
from stream.core.units import MINUTE_NS
from stream.replay.comparison import FieldDifference
from stream.replay.evidence import Definition, Fold, LogStanding, RowsRecount, WindowCell, time_ns_from

_TITLES = {
    "sli": "indicator",
    "burn-rate": "alert",
    "deadletter": "dead letter",
}
_OTHERS_SHOWN = 10
_SOURCES_SHOWN = 20
_FIELDS_SHOWN = 10


def exit_code(explanation: Explanation) -> int:
    """Returns 1 where a recount differs, 2 where one cannot be told, else 0."""
    fold, rows = explanation.fold, explanation.rows
    if fold is not None and not fold.why_not and not fold.is_equal:
        return FAIL
    if rows is not None and rows.differences:
        return FAIL
    # Of metrics nothing can be counted row by row: the fold alone tells.
    return INCONCLUSIVE if fold is not None and fold.why_not else 0


def as_object(explanation: Explanation) -> dict[str, Any]:
    """Returns everything as plain values."""
    e = explanation
    return {
        "event": e.event.event,
        "topic": e.prefix + e.event.topic,
        "partition": e.event.partition,
        "offset": e.event.offset,
        "others": [other.event["id"] for other in e.others],
        "objective": None
        if e.definition is None
        else {**e.definition.objective.dump(), "found_in_config_version": e.definition.version},
        "log": asdict(e.log),
        "fold": None if e.fold is None else _fold_object(e.fold),
        "rows": None
        if e.rows is None
        else {**asdict(e.rows), "is_equal": bool(e.rows.count) and not e.rows.differences},
    }


def _fold_object(fold: Fold) -> dict[str, Any]:
    return {
        "is_equal": None if fold.why_not else fold.is_equal,
        "is_there": fold.is_there,
        "records": fold.records,
        "differences": [asdict(difference) for difference in fold.differences],
        "cells": [asdict(cell) for cell in fold.cells],
        "late": fold.late,
        "duplicate": fold.duplicate,
        "replayed": fold.replayed,
        "why_not": fold.why_not or None,
    }


def lines(explanation: Explanation) -> Iterator[str]:
    """Yields the explanation for people: what it says and why, what stands behind it, what a recount makes of it."""
    event = explanation.event
    yield f"{_TITLES.get(event.topic, event.topic)} {event.event['id']}"
    yield from about(explanation)
    yield from _objective(explanation)
    yield from _origin(explanation)
    yield from _others(explanation)
    if explanation.fold is not None:
        yield ""
        yield from _recounted(explanation, explanation.fold)


def _objective(e: Explanation) -> Iterator[str]:
    definition, digest = e.definition, e.event.data.get("objective_digest")
    if digest is None:
        return
    if definition is None:
        gone = "the configuration that held it is no longer kept, and an edited objective is another one"
        hint = "" if e.fold is not None else "; --recount finds it in the log, if that is still there"
        yield labelled("objective", f"definition {digest[:12]}…: {gone}{hint}")
        return
    objective = definition.objective
    yield labelled("objective", f"{objective.target} of {asked(objective)}, {window(objective)}")
    if objective.signal is SliSignal.SPANS:
        kinds = " or ".join(Kind(kind).name for kind in objective.kinds)
        yield labelled("counts", f"spans of kind {kinds} of {objective.service}, and flat events that say the same")
    elif objective.composite is None:
        yield labelled("counts", f"{objective.signal} of {objective.service}")
    else:
        yield labelled("counts", f"minutes, each made of the indicators in {e.prefix}sli of its components")
    if objective.without:
        keys = ", ".join(key for key, _ in objective.without)
        yield labelled("leaves out", f"what has one of {sum(len(v) for _, v in objective.without)} values of {keys}")
    yield labelled("", f"definition {digest[:12]}…, in configuration version {definition.version}")
    yield from block("excluded", _exclusions(e, definition))


def _exclusions(e: Explanation, definition: Definition) -> Iterator[str]:
    """The budget adjustments that touch the window of the event."""
    around = (e.beside or e.event).data.get("window")
    if around is None or "start" not in around:
        return
    start = time_ns_from(around["start"]) // MINUTE_NS
    end = time_ns_from(around.get("end") or around["complete_at"]) // MINUTE_NS
    for adjustment in definition.bundle.adjustments:
        touches = adjustment.start_minute < end and start < adjustment.end_minute
        if touches and definition.objective.name in adjustment.objectives:
            minutes = min(end, adjustment.end_minute) - max(start, adjustment.start_minute)
            because = f": {adjustment.reason}" if adjustment.reason else ""
            yield f"{minutes:,} min of the window do not count against the budget, by {adjustment.name}{because}"


def _origin(e: Explanation) -> Iterator[str]:
    event, at = e.event, e.event.data["log"]
    yield labelled(
        "decided",
        f"{e.prefix}shuffle/{at['partition']} offset {at['offset']:,}, at {moment(at['now'])} by the log's clock",
    )
    frontier = (
        f"every source was read up to {moment(at['frontier'])}" if at["frontier"] else "not every source was read yet"
    )
    yield labelled("", f"{frontier}; configuration version {at['config_version']}")
    yield from block("sources", _sources(e.log))
    yield labelled("published", f"{e.prefix}{event.topic}/{event.partition} offset {event.offset:,}")


def _sources(log: LogStanding) -> Iterator[str]:
    if log.why_not:
        yield f"not known: {log.why_not}"
        return
    for source in log.sources[:_SOURCES_SHOWN]:
        session = f", by a process that began at {source.first_offset:,}" if source.first_offset else ""
        yield f"{source.topic}/{source.partition}: all offsets before {source.next_offset:,}{session}"
    if len(log.sources) > _SOURCES_SHOWN:
        yield f"and {len(log.sources) - _SOURCES_SHOWN:,} more"
    if not log.sources:
        yield "none was heard of"
    if log.lost:
        yield f"{log.lost:,} offsets expired before they were read: what they held is unknown"


def _others(e: Explanation) -> Iterator[str]:
    def texts() -> Iterator[str]:
        for other in e.others[-_OTHERS_SHOWN:]:
            state = other.data.get("state") or f"revision {other.data.get('revision', 0)}"
            yield f"{other.event['id']}  {moment(other.event['time'])} {state}"
        if len(e.others) > _OTHERS_SHOWN:
            yield f"and {len(e.others) - _OTHERS_SHOWN:,} older ones"

    yield from block("others of it", texts())


def _recounted(e: Explanation, fold: Fold) -> Iterator[str]:
    if fold.why_not:
        yield f"fold: not known, {fold.why_not}"
    else:
        yield f"fold: {count(fold.records, 'log record')} folded again up to this one"
        yield from _cells(fold)
        yield labelled(
            "in all so far", f"{fold.late:,} items too late, {fold.duplicate:,} sent twice, {fold.replayed:,} replayed"
        )
        yield f"fold: {_fold_verdict(fold)}"
        yield from _difference_lines(fold.differences)
    if e.rows is not None:
        yield from _rows(e.rows)


def _fold_verdict(fold: Fold) -> str:
    if fold.is_equal:
        return "equal, byte for byte"
    if not fold.is_there:
        return "DIFFERENT: this event does not come out at that log record"
    found = count(len(fold.differences), "field")
    return f"DIFFERENT in {found}; what another version of qma published may rightly differ"


def _cells(fold: Fold) -> Iterator[str]:
    if not fold.cells:
        return
    heads = ("window", "from", "n", "bad", "weight", "of that bad", "unknown", "left out")
    rows = [heads, *(_cell(cell) for cell in fold.cells)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    for row in rows:
        cells = [
            text.ljust(width) if at < 2 else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'  '.join(cells)}"


def _cell(cell: WindowCell) -> tuple[str, ...]:
    return (
        duration(cell.length_minutes),
        moment_of(cell.start_minute),
        f"{cell.n:,}",
        f"{cell.n_bad:,}",
        f"{cell.weight / cell.unit:,g}",
        f"{cell.weight_bad / cell.unit:,g}",
        f"{cell.n_unknown:,}",
        f"{cell.n_excluded:,}",
    )


def _rows(rows: RowsRecount) -> Iterator[str]:
    if rows.count is None:
        yield f"rows of the minute: not counted, {rows.why_not}"
        return
    c = rows.count
    found = f"{count(c.rows, 'row')} in {count(c.records, 'log record')}"
    yield f"rows of the minute, counted one by one without the fold: {found}"
    yield labelled("n", f"{c.n:,}, of that bad {c.n_bad:,}; {c.n_unknown:,} of unknown sampling")
    yield labelled("weight", f"{c.weight:,} / 65,536, of that bad {c.weight_bad:,} / 65,536")
    yield labelled(
        "not counted",
        f"{c.n_excluded:,} left out, {c.replayed:,} replayed, {c.duplicate:,} sent twice, {c.late:,} late, "
        f"{c.future:,} from the future",
    )
    yield f"rows of the minute: {'DIFFERENT' if rows.differences else 'equal'}"
    yield from _difference_lines(rows.differences)


def _difference_lines(differences: list[FieldDifference]) -> Iterator[str]:
    yield from (f"    {field_line(found)}" for found in differences[:_FIELDS_SHOWN])
    if len(differences) > _FIELDS_SHOWN:
        yield f"    and {len(differences) - _FIELDS_SHOWN:,} more"
