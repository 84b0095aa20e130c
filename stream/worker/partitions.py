"""The partitions of this worker, through rebalances: restored, folded, checkpointed, dropped. Nothing knows Faust here.

Folding goes on while a checkpoint is under way: a checkpoint takes what there is at one log offset, and only
what came before that offset is acknowledged when its transaction has committed. Partitions are independent of
each other, so that one whose broker hangs does not delay the rest. Whatever goes wrong ends the process,
because the next owner starts from the last committed checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

from stream.core.engine import Engine
from stream.core.errors import IncompatibleError, UnavailableError
from stream.kafka.clients import Consumer, assigned_reader, stop
from stream.kafka.state_store import StateStore
from stream.worker.hooks import hook_of
from stream.worker.log_bounds import expect_log
from stream.worker.options import StateOptions
from stream.worker.partition import FoldFailed, LogEntry, OwnedPartition
from stream.worker.status import StateStatus

log = logging.getLogger(__name__)

Fatal = Callable[[BaseException], NoReturn]
"""Ends the process at once and says why."""

REVOKE_DEADLINE_S = 5.0
"""A last checkpoint before the partitions go. The group waits for this member meanwhile, so it is short."""

_TICK_S = 0.1
_READY_GRACE_S = 10.0


class Partitions:
    """All partitions of this worker, through rebalances.

    The consumer group's steps, each awaited before the group goes on: `revoke`, `assign`, `restore`; then
    records come to `apply`.

    Args:
        options: The worker's options.
        status: Kept up to date here.
        fatal: Ends the process; called from background work, where nobody would see an exception.
    """

    def __init__(self, options: StateOptions, status: StateStatus, fatal: Fatal) -> None:
        self._options = options
        self._status = status
        self._fatal = fatal
        self._held: dict[int, OwnedPartition] = {}
        self._assignment = -1
        self._assigned_at_s: float | None = None  # until everything that was assigned is restored
        self._restoring: asyncio.Task[None] | None = None
        self._checkpoints: dict[asyncio.Task[None], OwnedPartition] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def positions(self) -> Mapping[int, int]:
        """Returns the log record that each restored partition needs next."""
        return {number: partition.next_offset for number, partition in self._held.items()}

    async def revoke(self) -> None:
        """Lets the partitions go: nothing is applied any more, what was applied is checkpointed if that is quick.

        A partition whose checkpoint does not end in time is forgotten; whoever gets it starts from the last
        committed one.
        """
        self._status.rebalancing = True
        self._status.owned = frozenset()
        self._assigned_at_s = None
        await self._stop_restoring()
        for partition in await self._checkpoint_all(REVOKE_DEADLINE_S):
            log.warning(
                "partition %d: no checkpoint within %g s before a rebalance; its next owner starts from the one before",
                partition.number,
                REVOKE_DEADLINE_S,
            )
            self._drop(partition)

    def assign(self, numbers: Collection[int], assignment: int) -> None:
        """Takes note of what the group assigned under its generation `assignment`.

        State is kept only where this worker was also the owner in the generation just before: after a missed
        one (this process was frozen, or the group had thrown it out) somebody else may have gone on.
        """
        keep = set(numbers) if assignment == self._assignment + 1 else set()
        for partition in [p for p in self._held.values() if p.number not in keep]:
            self._drop(partition)
        self._assignment = assignment
        self._status.owned = frozenset(numbers)
        self._status.assigned = True
        self._assigned_at_s = time.monotonic()
        log.info("assigned partitions %s, kept the state of %s", sorted(numbers), sorted(self._held))

    async def restore(self) -> None:
        """Restores every assigned partition that is not held yet, all at the same time; `revoke` ends this early."""
        await self._stop_restoring()
        task = self._restoring = asyncio.create_task(self._restore_all(self._status.owned - self._held.keys()))
        await asyncio.wait({task})
        if task.cancelled():
            return
        if error := task.exception():
            self._fatal(error)
        for number in sorted(self._status.owned):
            if hook := hook_of(number):
                await hook("restored")
        self._status.rebalancing = False
        self._assigned_at_s = None
        log.info("ready with partitions %s", sorted(self._status.owned))

    async def apply(self, entry: LogEntry) -> None:
        """Folds one record, unless it was fetched under an earlier assignment or its partition has gone.

        Raises:
            ConfigError: Records before this one are gone.
            FoldFailed: The record could not be applied.
            IncompatibleError: Another version, generation or partition count wrote it.
        """
        if entry.assignment != self._assignment or entry.partition not in self._status.owned:
            return
        partition = self._held.get(entry.partition)
        if partition is None:  # not restored yet: the consumer seeks after the restore, and it comes again
            return
        if entry.offset > partition.next_offset:
            await self._explain_hole(partition, entry)
        partition.apply(entry)
        if partition.crowded:
            await asyncio.wait({self._begin_checkpoint(partition)})

    async def checkpoint_when_due(self) -> None:
        """Begins each partition's checkpoint when it is due, for ever. A failed one ends the process.

        So does an assignment that is not restored in time: whatever hangs, in a client library or in the group's
        steps, the partitions would stand still with an owner that looks alive.
        """
        while True:
            await asyncio.sleep(_TICK_S)
            now_s = time.monotonic()
            if self._assigned_at_s is not None and now_s - self._assigned_at_s > self._ready_within_s:
                log.error("what waits where:\n%s", "\n".join(map(_place, asyncio.all_tasks())))
                self._fatal(self._not_ready())
            for partition in self._held.values():
                if partition.due(now_s):
                    self._begin_checkpoint(partition)

    async def close(self, deadline_s: float) -> bool:
        """Checkpoints everything before this worker leaves the group; nothing is applied afterwards.

        Returns:
            Whether every partition is checkpointed; False when the deadline passed.
        """
        self._status.owned = frozenset()
        self._status.rebalancing = True
        await self._stop_restoring()
        return not await self._checkpoint_all(deadline_s)

    @property
    def _ready_within_s(self) -> float:
        return self._options.restore_deadline_s + _READY_GRACE_S

    def _not_ready(self) -> UnavailableError:
        return UnavailableError(
            f"partitions {sorted(self._status.owned)} were assigned {self._ready_within_s:g} s ago and are not "
            f"restored yet: the next start tries again; look at the brokers at {self._options.bootstrap}"
        )

    async def _explain_hole(self, partition: OwnedPartition, entry: LogEntry) -> NoReturn:
        """Raises `ConfigError` when the log has lost the records that are due, otherwise `FoldFailed`."""
        topic, wanted = self._options.shuffle_topic, partition.next_offset
        reader = await assigned_reader(self._options.bootstrap, isolation="read_uncommitted")
        try:
            await expect_log(reader, topic, partition.number, wanted=wanted)
        finally:
            await stop(reader)
        raise FoldFailed(
            f"{topic}-{partition.number}: offset {entry.offset} was delivered where {wanted} is due, "
            "though the log still has it. A restart reads it again from there"
        )

    async def _checkpoint_all(self, deadline_s: float) -> set[OwnedPartition]:
        """Checkpoints all partitions at the same time; returns those that were not done by the deadline."""
        tasks = {
            self._begin_checkpoint(partition): partition
            for partition in self._held.values()
            if partition.changed or partition.writing
        }
        if not tasks:
            return set()
        _, late = await asyncio.wait(tasks, timeout=deadline_s)
        return {tasks[task] for task in late}

    def _begin_checkpoint(self, partition: OwnedPartition) -> asyncio.Task[None]:
        task = asyncio.create_task(self._checkpoint(partition))
        self._checkpoints[task] = partition
        task.add_done_callback(self._checkpoints.pop)
        return task

    async def _checkpoint(self, partition: OwnedPartition) -> None:
        try:
            await partition.checkpoint()
        except Exception as error:
            self._fatal(error)

    def _drop(self, partition: OwnedPartition) -> None:
        del self._held[partition.number]
        self._status.forget(partition.number)
        for task, owner in self._checkpoints.items():
            if owner is partition:
                task.cancel()
        closing = asyncio.create_task(partition.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _stop_restoring(self) -> None:
        if self._restoring is not None and not self._restoring.done():
            self._restoring.cancel()
            await asyncio.wait({self._restoring})

    async def _restore_all(self, numbers: Collection[int]) -> None:
        if not numbers:
            return
        reader = await assigned_reader(self._options.bootstrap, isolation="read_uncommitted")
        try:
            async with asyncio.timeout(self._options.restore_deadline_s):
                await asyncio.gather(*(self._restore_one(number, reader) for number in numbers))
        except TimeoutError as error:
            late = sorted(set(numbers) - self._held.keys())
            raise UnavailableError(
                f"partitions {late} of {self._options.state_topic} are not restored after "
                f"{self._options.restore_deadline_s:g} s: look at the brokers at {self._options.bootstrap}"
            ) from error
        finally:
            await stop(reader)

    async def _restore_one(self, number: int, log_reader: Consumer) -> None:
        began_s = time.monotonic()
        options = self._options
        store = StateStore(
            options.bootstrap,
            transactional_id=options.transactional_id(number),
            topic=options.state_topic,
            partition=number,
            hook=hook_of(number),
            restore_deadline_s=options.restore_deadline_s,
        )
        try:
            chunks = await store.open()
            engine = _restored_engine(number, chunks, options.state_topic)
            await expect_log(log_reader, options.shuffle_topic, number, wanted=engine.log_offset + 1)
        except BaseException:
            await store.close()
            raise
        self._held[number] = OwnedPartition(options=options, status=self._status, engine=engine, store=store)
        log.info(
            "restored partition %d at log offset %d: %d chunks, %d bytes, %.2f s",
            number,
            engine.log_offset,
            len(chunks),
            sum(map(len, chunks.values())),
            time.monotonic() - began_s,
        )


def _place(task: asyncio.Task[Any]) -> str:
    """Returns the lines that a task waits at, outermost first, for whoever has to find out what hangs."""
    lines: list[str] = []
    waiting: Any = task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        lines.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        waiting = getattr(waiting, "cr_await", None)
    return f"  {task.get_name()}: {' > '.join(lines)}"


def _restored_engine(number: int, chunks: Mapping[bytes, bytes], state_topic: str) -> Engine:
    where = f"the checkpoint of partition {number} in {state_topic} ({len(chunks)} chunks)"
    try:
        return Engine.restore(number, chunks)
    except IncompatibleError as error:
        raise IncompatibleError(f"{where} cannot be restored: {error}") from error
    except Exception as error:
        raise IncompatibleError(
            f"{where} cannot be read: {error!r}. Run the version that wrote it, or a version without this fault"
        ) from error
