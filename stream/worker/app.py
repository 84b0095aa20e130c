"""The Faust application: one agent over the shuffle log. The only module that imports Faust.

What Faust does here: join the group, assign partitions, fetch, and commit the group's offsets as a hint. What
it must not do: tables, exactly_once, sending. The settings and overrides are the ones that held under kills,
freezes and rebalances; each says what it prevents.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, cast

# Before Faust makes a client: its consumer runs on the aiokafka that this repairs.
import stream.kafka.clients  # noqa: F401  # isort: skip

import faust
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import CrashingSupervisor
from yarl import URL

from stream.worker.options import StateOptions
from stream.worker.partition import LogEntry
from stream.worker.partitions import Fatal, Partitions
from stream.worker.status import StateStatus

CLOSE_DEADLINE_S = 5.0
"""The last checkpoints and, after them, the group's offsets may each take this long when the worker stops."""

_BATCH = 64
_BATCH_WITHIN_S = 0.1
_YIELD_EVERY = 8
_LAG_EVERY_S = 0.5


class _Producer(driver.Producer):
    """Nothing is sent through Faust; should anything ever be, then not with Faust's defaults."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class _Consumer(driver.Consumer):
    """Starts each partition behind its restored checkpoint, not at the group's offset, which is only a hint."""

    async def perform_seek(self) -> None:
        # The last step before the flow resumes. Faust's own does nothing for a partition with no committed
        # offset, or with 0.
        await super().perform_seek()
        app = cast(StateApp, self.app)
        assignment = self.assignment()
        for number, offset in app.partitions.positions().items():
            at = TP(app.options.shuffle_topic, number)
            if at not in assignment:
                continue
            behind = (self._committed_offset[at] or 0) < offset
            await self.seek(at, offset)
            self._committed_offset[at] = offset or None
            if behind:  # else the group's lag stands still until the next record
                await self._commit({at: offset})


class _Recovery(Recovery):
    """Faust's loop that takes an assignment from `restore` to the resumed flow; it lives as long as the worker.

    Faust gives the seek before the flow resumes a timeout, and takes its passing for the end of the service: the loop
    ends without a word, and no later assignment is ever restored. A broker that is away for longer than that is
    nothing unusual. So a seek takes the time that it takes; the next rebalance interrupts it.
    """

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        await super()._wait(coro)


class _TableManager(TableManager):
    """Has no tables: Faust runs its rebalances through here all the same."""

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = _Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class _Transport(driver.Transport):
    Producer = _Producer
    Consumer = _Consumer


class StateApp(faust.App):
    """One state worker.

    Args:
        options: The worker's options.
        brokers: The bootstrap servers that answer, `HOST:PORT[,HOST:PORT…]`: at a frozen one Faust's clients
            would wait.
        partitions: Told of rebalances, given the records.
        status: Its log lag is kept up to date.
        fatal: Ends the process at once and says why.
    """

    def __init__(
        self,
        options: StateOptions,
        *,
        brokers: str,
        partitions: Partitions,
        status: StateStatus,
        fatal: Fatal,
    ) -> None:
        self.options = options
        self.partitions = partitions
        self.closed_in_time = False
        self._status = status
        self._fatal = fatal
        loop = asyncio.get_running_loop()
        urls = [URL(f"kafka://{server}") for server in brokers.split(",")]
        super().__init__(options.group, broker=urls, loop=loop, **_settings(options))
        self.transport = self.producer_transport = _Transport(urls, self, loop=loop)
        self.on_partitions_revoked.connect(self._revoked)
        self.on_partitions_assigned.connect(self._assigned)
        self.on_rebalance_complete.connect(self._rebalanced)
        topic = self.topic(
            options.shuffle_topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        self.agent(topic, name="fold", concurrency=1)(self._fold)

    def watch(self) -> list[Awaitable[None]]:
        """Returns the work that goes on beside the agent; it ends only with the process."""
        return [self.partitions.checkpoint_when_due(), self._track_lag()]

    async def _fold(self, stream: Any) -> None:
        # noack + noack_take + explicit acknowledgements: in every other combination Faust acknowledges records
        # that failed or were never delivered. A failure ends the process here, before Faust can turn it into
        # anything else.
        try:
            async for events in cast(
                AsyncIterator[list[Any]], stream.noack().noack_take(_BATCH, within=_BATCH_WITHIN_S)
            ):
                for count, event in enumerate(events):
                    await self._apply(event.message)
                    if count % _YIELD_EVERY == 0:
                        await asyncio.sleep(0)  # checkpoints, rebalances and health checks share this loop
        except Exception as error:
            self._fatal(error)

    async def _apply(self, message: Any) -> None:
        await self.partitions.apply(
            LogEntry(
                partition=message.partition,
                offset=message.offset,
                time_ns=round(message.timestamp * 1000) * 1_000_000,  # Faust made seconds of the record's milliseconds
                value=message.value,
                assignment=message.generation_id,
                acknowledge=functools.partial(message.ack, self.consumer),
            )
        )
        message.value = None  # it is held until its checkpoint, its bytes need not be

    async def _revoked(self, *_: Any, **__: Any) -> None:
        await self._or_die(self.partitions.revoke())

    async def _assigned(self, *sent: Any, **_: Any) -> None:
        _sender, assigned = sent
        numbers = {at.partition for at in assigned if at.topic == self.options.shuffle_topic}
        self.partitions.assign(numbers, self.consumer_generation_id)

    async def _rebalanced(self, *_: Any, **__: Any) -> None:
        # Awaited before the flow resumes, and so before `perform_seek`.
        await self._or_die(self.partitions.restore())

    async def _or_die(self, work: Awaitable[None]) -> None:
        # Left to Faust, an exception becomes a slow and noisy crash in which it would still commit.
        try:
            await work
        except Exception as error:
            self._fatal(error)

    def _create_directories(self) -> None:
        """Faust's data directory is for tables; there are none."""

    async def _stop_consumer(self) -> None:
        # Faust's `on_before_shutdown` is too late: by then this worker has left the group.
        if not self.crashed:  # after a crash the state may be half applied: never save it
            self.closed_in_time = await self.partitions.close(CLOSE_DEADLINE_S)
            # The group's offsets are a hint, and this worker may not be a member yet.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.consumer.commit(), CLOSE_DEADLINE_S)
        await super()._stop_consumer()

    async def _track_lag(self) -> None:
        while True:
            await asyncio.sleep(_LAG_EVERY_S)
            if self._consumer is None or self.rebalancing:
                continue
            # The consumer lives in another thread and may be between two assignments: then the lag stays as it was.
            with contextlib.suppress(Exception):
                assignment = self.consumer.assignment()
                for number, offset in self.partitions.positions().items():
                    at = TP(self.options.shuffle_topic, number)
                    end = self.consumer.highwater(at) if at in assignment else None
                    if end is not None:
                        self._status.log_lag[number] = max(0, end - offset)


def _settings(options: StateOptions) -> dict[str, Any]:
    return {
        "store": "memory://",
        "TableManager": _TableManager,
        "autodiscover": False,
        "processing_guarantee": "at_least_once",
        "agent_supervisor": CrashingSupervisor,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,
        "web_in_thread": False,
        "table_standby_replicas": 0,
        "stream_wait_empty": False,  # a record that is never acknowledged would hang rebalances and the shutdown
        "stream_recovery_delay": 0.0,
        "stream_buffer_maxsize": 64,  # counts records, of up to 8 MiB
        "consumer_max_fetch_size": 1 << 20,  # compressed; a larger record still comes
        "consumer_auto_offset_reset": "earliest",  # a false reset is skipped over, a real one shows as a gap
        # The group's leader may assign while a broker that just started knows no topics yet: then nobody has a
        # partition until the metadata are asked for again, by default every five minutes.
        "consumer_metadata_max_age_ms": 5_000,
        "broker_session_timeout": options.session_timeout_s,
        "broker_heartbeat_interval": options.session_timeout_s / 4,
        "broker_rebalance_timeout": 8.0,
        "broker_request_timeout": max(10.0, options.session_timeout_s),
        "broker_max_poll_interval": 120.0,
        "broker_commit_interval": 1.0,
    }
