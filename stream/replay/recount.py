"""Counts a minute of one objective again, row by row, without the fold's cells: the plain way, to check the fast one.

Only what belongs to the minute is looked at, one row after the other, with the rules as they are written down: a row
whose offset was covered before is our own replay; a message whose fingerprint was applied before was sent twice; what
is late or from the future does not count; then the objective's definition decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.core.columns import Kind, RowFlag, Rows, Signal
from stream.core.engine.admission import FUTURE_AFTER_NS, LATE_AFTER_NS, UNKNOWN_FRONTIER_SPAN_NS
from stream.core.engine.clocks import Clocks
from stream.core.log import LogRecord
from stream.core.slo.selection import having, having_any, within_threshold
from stream.core.slo.spec import Bundle, Objective, SliSignal
from stream.core.units import MINUTE_NS

READ_FROM_BEFORE_NS = FUTURE_AFTER_NS + 5 * MINUTE_NS
"""Reading the log this long before a minute finds every row that counts in it: an earlier one was from the future. The
rest is for the frontier to become known."""


@dataclass(slots=True)
class MinuteCount:
    """What the rows of a minute add up to, and what did not count.

    Args:
        rows: Rows that count, in so many log `records`.
        n: Events.
        n_bad: Of these, bad.
        weight: Of the events, in 2^-16.
        weight_bad: Of the bad ones.
        n_unknown: Events of unknown sampling.
        n_excluded: Events that the objective leaves out.
        replayed: Events that our own replay repeats.
        duplicate: Events of messages that their producer sent twice.
        late: Events that came after their minute had left the rings.
        future: Events that were ahead of the log's now.
    """

    rows: int = 0
    records: int = 0
    n: int = 0
    n_bad: int = 0
    weight: int = 0
    weight_bad: int = 0
    n_unknown: int = 0
    n_excluded: int = 0
    replayed: int = 0
    duplicate: int = 0
    late: int = 0
    future: int = 0


class MinuteRecount:
    """Counts the rows of one minute that one objective selects. Give it the log records in order.

    Args:
        objective: On spans, events or logs.
        since: Rows decoded under an older configuration do not count.
        bundle: The configuration.
        minute: The minute.
    """

    def __init__(self, objective: Objective, *, since: int, bundle: Bundle, minute: int) -> None:
        self.count = MinuteCount()
        self._objective = objective
        self._since = since
        self._bundle = bundle
        self._minute = minute
        self._clocks = Clocks()
        self._progress_ns: dict[str, int] = {}
        self._applied: dict[str, int] = {}
        self._noted: dict[bytes, int] = {}
        self._fresh: list[tuple[tuple[int, int], bytes]] = []

    def add(self, record: LogRecord, time_ns: int) -> None:
        """Takes in the next log record and its append time."""
        self._clocks.tick(time_ns)
        rows_before = self.count.rows
        if record.rows is not None:
            self._add_rows(record, record.rows)
        self.count.records += self.count.rows > rows_before
        for source in record.sources:
            self._applied[source.id] = max(self._applied.get(source.id, 0), source.next_offset)
        if record.progress is not None:
            acknowledged_ns = self._progress_ns.get(record.incarnation)
            self._clocks.progress(record, acknowledged_ns)
            self._clocks.move_frontier(source.topic for source in self._bundle.sources if source.is_telemetry)
            self._progress_ns[record.incarnation] = self._clocks.now_ns

    def _add_rows(self, record: LogRecord, rows: Rows) -> None:
        in_minute = rows.end_ns // MINUTE_NS == self._minute
        wanted = [index for index, name in enumerate(rows.services) if name == self._objective.service]
        at = np.flatnonzero(in_minute & np.isin(rows.service, wanted)).tolist()
        if not at:
            return
        repeated = self._repeated(record, {(int(rows.source[i]), int(rows.offset[i])) for i in at})
        counted: set[tuple[int, int]] = set()
        for i in at:
            message = int(rows.source[i]), int(rows.offset[i])
            if self._is_open(record, rows, i, message in repeated):
                counted.add(message)
                self._add_row(record, rows, i)
        self._forget_uncounted(counted)

    def _is_open(self, record: LogRecord, rows: Rows, i: int, is_repeated: bool) -> bool:
        """Returns whether a row may count; what it is instead is noted."""
        source, items, end_ns = record.sources[rows.source[i]], int(rows.count[i]), int(rows.end_ns[i])
        if int(rows.offset[i]) < self._applied.get(source.id, 0):
            self.count.replayed += items
        elif is_repeated:
            self.count.duplicate += items
        elif end_ns > self._clocks.now_ns + FUTURE_AFTER_NS:
            self.count.future += items
        elif end_ns < self._late_before_ns():
            self.count.late += items
        else:
            return True
        return False

    def _late_before_ns(self) -> int:
        if self._clocks.frontier_ns is not None:
            return self._clocks.frontier_ns - LATE_AFTER_NS
        return self._clocks.now_ns - UNKNOWN_FRONTIER_SPAN_NS

    def _add_row(self, record: LogRecord, rows: Rows, i: int) -> None:
        if record.config_version < self._since or not selects(self._objective, rows, i):
            return
        count, weight = int(rows.count[i]), int(rows.weight[i])
        if having_any([rows.attribute_sets[rows.attributes[i]]], self._objective.without)[0]:
            self.count.n_excluded += count
            return
        self.count.rows += 1
        self.count.n += count
        self.count.weight += weight
        if not is_good(self._objective, rows, i):
            self.count.n_bad += count
            self.count.weight_bad += weight
        if int(rows.flags[i]) & RowFlag.SAMPLING_UNKNOWN and not self._objective.sampling_none:
            self.count.n_unknown += count

    def _words(self, record: LogRecord) -> dict[tuple[int, int], bytes]:
        """Returns the fingerprint of each message, of those that were not applied before."""
        prints = record.fingerprints
        if prints is None or not self._bundle.settings.duplicate_minutes:
            return {}
        words = prints.words([source.topic for source in record.sources])
        messages = zip(prints.source.tolist(), prints.offset.tolist(), words, strict=True)
        applied = [self._applied.get(source.id, 0) for source in record.sources]
        return {(source, offset): word for source, offset, word in messages if offset >= applied[source]}

    def _repeated(self, record: LogRecord, messages: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Returns which of the messages were sent before, and notes the fingerprints of the others."""
        now_minute = self._clocks.now_ns // MINUTE_NS
        oldest = now_minute - self._bundle.settings.duplicate_minutes
        self._noted = {word: minute for word, minute in self._noted.items() if minute >= oldest}
        repeated = set()
        for message, word in self._words(record).items():
            if message not in messages:
                continue
            if word in self._noted:
                repeated.add(message)
            else:
                self._noted[word] = now_minute
                self._fresh.append((message, word))
        return repeated

    def _forget_uncounted(self, counted: set[tuple[int, int]]) -> None:
        """A message of which nothing counted is not remembered: sent again, it shall count."""
        for message, word in self._fresh:
            if message not in counted:
                self._noted.pop(word, None)
        self._fresh.clear()


def selects(objective: Objective, rows: Rows, i: int) -> bool:
    """Returns whether an objective selects a row, without regard to what it leaves out."""
    signal = Signal(int(rows.signal[i]))
    if objective.versions and rows.versions[rows.version[i]] not in objective.versions:
        return False
    if objective.signal is SliSignal.SPANS:
        if signal not in (Signal.SPAN, Signal.EVENT) or Kind(int(rows.kind[i])) not in objective.kinds:
            return False
        if objective.duration_lte_ns is not None and int(rows.flags[i]) & RowFlag.NEGATIVE_DURATION:
            return False
    elif signal is not Signal.LOG:
        return False
    if objective.event is not None and rows.names[rows.name[i]] != objective.event:
        return False
    return bool(having([rows.attribute_sets[rows.attributes[i]]], objective.attributes)[0])


def is_good(objective: Objective, rows: Rows, i: int) -> bool:
    """Returns whether a row that an objective selects is good."""
    attributes = [rows.attribute_sets[rows.attributes[i]]]
    if objective.duration_lte_ns is not None:
        return int(rows.duration_ns[i]) <= objective.duration_lte_ns
    if objective.severity_lt is not None:
        return int(rows.severity[i]) < objective.severity_lt
    if objective.good_attributes:
        return bool(having(attributes, objective.good_attributes)[0])
    if objective.bad_attributes:
        return not having(attributes, objective.bad_attributes)[0]
    if objective.threshold is not None:
        return bool(within_threshold(attributes, objective.threshold)[0])
    return not int(rows.flags[i]) & RowFlag.FAILED
