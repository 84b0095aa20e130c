"""One partition of this worker: its fold, what waits for the next checkpoint, and the store that takes it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from stream.core.engine import Engine
from stream.core.errors import IncompatibleError, StreamError
from stream.core.events import Output, is_urgent
from stream.core.rendering import CONTENT_TYPE, render
from stream.kafka.state_store import OutputRecord, StateStore
from stream.worker.options import StateOptions
from stream.worker.status import StateStatus

log = logging.getLogger(__name__)

HEADERS = (("content-type", CONTENT_TYPE.encode()),)

_GOLDEN_RATIO = 0.618034
_CROWDED = 4
"""Times `checkpoint_records` or `checkpoint_bytes` that may wait for a checkpoint before the fold waits too."""


class FoldFailed(StreamError):
    """A log record could not be applied. Nothing is known of the state after it: the process ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One record of the shuffle log as the consumer delivered it.

    Args:
        partition: Of the shuffle log.
        offset: In that partition.
        time_ns: Its append time.
        value: Its bytes.
        assignment: The group's generation under which it was fetched.
        acknowledge: Called, in order of offsets, when the record is part of a committed checkpoint.
    """

    partition: int
    offset: int
    time_ns: int
    value: bytes
    assignment: int
    acknowledge: Callable[[], object]


class OwnedPartition:
    """One restored partition: its fold, what waits for the next checkpoint, and the store that takes it."""

    def __init__(self, *, options: StateOptions, status: StateStatus, engine: Engine, store: StateStore) -> None:
        self.engine = engine
        self.saved_offset = engine.log_offset
        self._options = options
        self._status = status
        self._store = store
        self._outputs: list[Output] = []
        self._unacknowledged: list[Callable[[], object]] = []
        self._records = 0
        self._bytes = 0
        self._urgent = False
        self._writing = asyncio.Lock()
        status.engines[self.number] = engine
        now_s = status.checkpoint_at_s[self.number] = time.monotonic()
        # Partitions restored together would checkpoint together for ever: each begins at a phase of its own.
        self._checkpointed_at_s = now_s - options.checkpoint_interval_s * (self.number * _GOLDEN_RATIO % 1)

    @property
    def number(self) -> int:
        """The partition's number."""
        return self.engine.partition

    @property
    def next_offset(self) -> int:
        """The log record that comes next."""
        return self.engine.log_offset + 1

    @property
    def changed(self) -> bool:
        """Something was applied since the last checkpoint began."""
        return self._records > 0

    @property
    def writing(self) -> bool:
        """A checkpoint is under way."""
        return self._writing.locked()

    @property
    def crowded(self) -> bool:
        """So much waits for a checkpoint that the fold must wait for it too."""
        return (
            self._records >= _CROWDED * self._options.checkpoint_records
            or self._bytes >= _CROWDED * self._options.checkpoint_bytes
        )

    def due(self, now_s: float) -> bool:
        """Returns whether a checkpoint should begin at monotonic time `now_s`."""
        if not self.changed or self.writing:
            return False
        waited_s = now_s - self._checkpointed_at_s
        return (
            waited_s >= self._options.checkpoint_interval_s
            or (self._urgent and waited_s >= self._options.urgent_interval_s)
            or self._records >= self._options.checkpoint_records
            or self._bytes >= self._options.checkpoint_bytes
        )

    def apply(self, entry: LogEntry) -> None:
        """Folds the next log record; one that was applied before is only acknowledged.

        Raises:
            FoldFailed: The record could not be applied.
            IncompatibleError: Another version, generation or partition count wrote it.
        """
        if entry.offset < self.next_offset:
            self._acknowledge_later(entry)
            return
        assert entry.offset == self.next_offset, f"record {self.number}@{entry.offset} where {self.next_offset} was due"
        where = f"{self._options.shuffle_topic}-{self.number}@{entry.offset}"
        try:
            outputs = self.engine.apply(entry.offset, entry.time_ns, entry.value)
        except IncompatibleError as error:
            raise IncompatibleError(f"log record {where}: {error}") from error
        except Exception as error:
            raise FoldFailed(f"log record {where} cannot be applied: {error!r}") from error
        assert self.engine.log_offset == entry.offset, (
            f"{where} was applied, the engine stands at {self.engine.log_offset}"
        )
        self._outputs += outputs
        self._urgent = self._urgent or any(map(is_urgent, outputs))
        self._unacknowledged.append(entry.acknowledge)
        self._records += 1
        self._bytes += len(entry.value)

    def _acknowledge_later(self, entry: LogEntry) -> None:
        # In order: an acknowledgement that jumped over one still held back would move the group's offset past both.
        if entry.offset <= self.saved_offset:
            entry.acknowledge()
        else:
            self._unacknowledged.append(entry.acknowledge)

    async def checkpoint(self) -> None:
        """Commits everything applied so far in one transaction, then acknowledges it. Waits for one under way.

        Raises:
            CheckpointFailed: Fenced, timed out or otherwise not known to be written: end the process.
        """
        async with self._writing:
            if not self.changed:
                return
            began_s = self._checkpointed_at_s = time.monotonic()
            offset, outputs, acknowledge = self.engine.log_offset, self._outputs, self._unacknowledged
            self._outputs, self._unacknowledged = [], []
            self._records = self._bytes = 0
            self._urgent = False
            state = self.engine.checkpoint()
            await self._store.commit(state.chunks, [self._record(output) for output in outputs], state.manifest)
            self.saved_offset = offset
            for done in acknowledge:
                done()
            now_s = time.monotonic()
            self._status.checkpoint_at_s[self.number] = now_s
            self._status.checkpoint_duration_s[self.number] = now_s - began_s
            log.debug(
                "partition %d: checkpoint at log offset %d, %d chunks, %d outputs, %.0f ms",
                self.number,
                offset,
                len(state.chunks),
                len(outputs),
                1000 * (now_s - began_s),
            )

    def _record(self, output: Output) -> OutputRecord:
        rendered = render(output)
        return OutputRecord(
            topic=self._options.prefix + rendered.topic,
            key=rendered.key,
            value=rendered.value or None,
            partition=self.number,  # our topics have as many partitions as the log: a service's events stay in order
            headers=HEADERS,
        )

    async def close(self) -> None:
        """Closes the connections; nothing is written."""
        await self._store.close()
