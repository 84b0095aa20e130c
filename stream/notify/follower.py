"""Follows `qma.status` and `qma.burn-rate`: what is committed, outside any consumer group.

The status of every objective is read first. It says how far back the events must be read: those of alerts that fire.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from stream.core.errors import ConfigError, UnavailableError
from stream.core.units import HOUR_NS, SECOND_NS
from stream.kafka.clients import ConsumerRecord, KafkaError, TopicPartition, assigned_reader, stop
from stream.kafka.read_to_end import read_to_end
from stream.kafka.topic_ids import describe
from stream.notify.board import Board
from stream.notify.stats import NotifyStats

LOG = logging.getLogger(__name__)

_POLL_MS = 500
_AGAIN_S = 5.0
_MS = 1_000_000


class Follower:
    """Keeps a board up to date.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        prefix: Start of the topics' names.
        stats: Kept up to date.
        show: Given the board when it holds everything that the topics did, and after each change of its alerts.
    """

    def __init__(self, bootstrap: str, prefix: str, stats: NotifyStats, show: Callable[[Board], None]) -> None:
        self._bootstrap, self._stats, self._show = bootstrap, stats, show
        self._status, self._burn_rate = f"{prefix}status", f"{prefix}burn-rate"

    async def run(self) -> None:
        """Follows until cancelled. Once a board was shown it outlives an outage of the brokers; then it is read anew.

        Raises:
            ConfigError: When a topic does not exist.
            IncompatibleError: When another version wrote a record.
            UnavailableError: When no broker answers at the start.
        """
        while True:
            try:
                await self._follow()
            except (KafkaError, UnavailableError) as error:
                if not self._stats.is_ready:
                    raise
                LOG.warning("the topics cannot be read; alerts stay as they are, the next try is in 5 s: %s", error)
            await asyncio.sleep(_AGAIN_S)

    async def _follow(self) -> None:
        reader = await assigned_reader(self._bootstrap)
        try:
            found = await describe(reader, [self._status, self._burn_rate])
            missing = sorted({self._status, self._burn_rate} - set(found))
            if missing:
                raise ConfigError(
                    f"no topic {', '.join(missing)} at {self._bootstrap}; create the pipeline's topics with "
                    "`qma topics apply`"
                )
            statuses, events = (
                [TopicPartition(name, n) for n in range(found[name].partitions)]
                for name in (self._status, self._burn_rate)
            )
            board = Board()
            async for record in read_to_end(reader, statuses):
                self._take(board, [record])
            positions = [(at, await reader.position(at)) for at in statuses]
            async for record in read_to_end(reader, events, since_ms=self._since_ms(board)):
                self._take(board, [record])
            positions += [(at, await reader.position(at)) for at in events]
            reader.assign([*statuses, *events])
            for partition, position in positions:
                reader.seek(partition, position)
            self._stats.is_ready = True
            self._show(board)
            while True:
                for records in (await reader.getmany(timeout_ms=_POLL_MS)).values():
                    if self._take(board, records):
                        self._show(board)
        finally:
            await stop(reader)

    def _since_ms(self, board: Board) -> int | None:
        """Returns when the first event was published that the statuses leave room for: of an alert that fires, or of
        one that they do not speak of yet."""
        newest_ns, oldest = self._stats.status_ns, board.fires_since()
        if newest_ns is None:
            return None
        began_ns = [] if oldest is None else [round(datetime.fromisoformat(oldest).timestamp()) * SECOND_NS]
        return max(0, min([newest_ns - HOUR_NS, *began_ns])) // _MS

    def _take(self, board: Board, records: Iterable[ConsumerRecord]) -> bool:
        """Returns whether alerts changed."""
        changed = False
        for record in records:
            try:
                changed |= self._take_one(board, record)
            except (ValueError, KeyError, TypeError) as error:
                # One that somebody else wrote must not keep everybody from being told of everything else.
                at = f"{record.topic}/{record.partition}/{record.offset}"
                LOG.warning("%s is not an event of this pipeline, it is left out: %r", at, error)
        return changed

    def _take_one(self, board: Board, record: ConsumerRecord) -> bool:
        time_ns = record.timestamp * _MS
        if record.topic == self._status:
            self._stats.status_ns = max(self._stats.status_ns or 0, time_ns)
            return record.key is not None and board.take_status(record.key, record.value, time_ns)
        return record.value is not None and board.take_burn_rate(record.value, time_ns)
