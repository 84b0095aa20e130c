"""Rows of a record: judged, admitted, counted in cells and sketches. A few vector passes over all of them at once."""

from __future__ import annotations

import numpy as np

from stream.core.columns import Array, Kind, RowFlag, Rows
from stream.core.engine.admission import Admitted, Repetitions, admit, judge
from stream.core.engine.counting import Countable, count
from stream.core.engine.state import State
from stream.core.engine.tally import Places, RowTally
from stream.core.engine.verdicts import Items
from stream.core.events import Output
from stream.core.exemplars import is_traced
from stream.core.log import LogRecord
from stream.core.slo.spec import SliSignal
from stream.core.units import SECOND_NS

SKETCHED_KINDS = (Kind.SERVER, Kind.CONSUMER)

_SIGNALS = frozenset((SliSignal.SPANS, SliSignal.LOGS))


def apply_rows(state: State, record: LogRecord, rows: Rows, repetitions: Repetitions) -> list[Output]:
    """Counts the rows that are new, neither late nor from the future, and within the caps.

    Returns a dead letter per source and reason of the rows that were refused.
    """
    items = Items.of_rows(rows)
    verdicts = judge(state, record, items, repetitions)
    admitted = admit(state, items, verdicts)
    if len(admitted):
        chosen = rows.take(admitted.index) if len(admitted) < len(rows) else rows
        places = Places.at(admitted.pair, admitted.minute)
        tally = RowTally(chosen, places, _may_be_exemplars(state, chosen, admitted))
        counted = Countable(
            signals=_SIGNALS, attributes=chosen.attributes, attribute_sets=chosen.attribute_sets, tally=tally.of
        )
        service = count(state, record, admitted, counted)
        _add_durations(state, chosen, admitted, service, tally.of_kinds(SKETCHED_KINDS))
    repetitions.counted(items, verdicts.open)
    verdicts.count()
    return [*admitted.outputs, *verdicts.dead_letters(state, record.sources)]


def _may_be_exemplars(state: State, rows: Rows, admitted: Admitted) -> Array | None:
    """Returns bool[n]: whether a row has a trace id and its minute is open; None where that is so of none."""
    traced = is_traced(rows)
    if state.next_minute is not None:
        traced &= admitted.minute >= state.next_minute
    return traced if traced.any() else None


def _add_durations(state: State, rows: Rows, admitted: Admitted, service: Array, requests: Array) -> None:
    """Takes in the durations of requests in minutes that are open, in the order of the log.

    Args:
        state: The partition's.
        rows: Those admitted.
        admitted: Where they belong.
        service: int64[pairs], the number of the service of each pair.
        requests: bool[n], which rows are such spans or events.
    """
    chosen = requests & ((rows.flags & RowFlag.NEGATIVE_DURATION) == 0)
    if state.next_minute is not None:
        chosen &= admitted.minute >= state.next_minute
    index = np.flatnonzero(chosen)
    if len(index):
        durations_s = rows.duration_ns[index] / SECOND_NS
        state.add_durations(service[admitted.pair[index]], admitted.minute[index], durations_s)
