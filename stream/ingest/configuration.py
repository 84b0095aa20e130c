"""Reads the configuration topic: to its end at the start, then whatever is applied while the ingest runs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from stream.core.errors import ConfigError, IncompatibleError
from stream.core.slo.spec import Bundle, decode_bundle
from stream.ingest.routing import Configuration
from stream.kafka.clients import Consumer, ConsumerRecord, TopicPartition
from stream.kafka.topic_ids import TopicInfo, describe

LOG = logging.getLogger(__name__)

POLL_S = 1.0
_REMIND_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One version of the configuration: as it is forwarded, and what it says."""

    configuration: Configuration
    bundle: Bundle


class ConfigurationReader:
    """Follows the one partition of the configuration topic; the newest bundle counts.

    Args:
        consumer: A started consumer outside any group; the caller stops it.
        topic: The configuration topic.
    """

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._partition = TopicPartition(topic, 0)
        self._newest: Applied | None = None

    @property
    def newest(self) -> Applied:
        """The newest bundle; there is one once `first` has returned."""
        assert self._newest is not None, "`first` comes first"
        return self._newest

    async def first(self) -> Applied:
        """Returns the newest bundle; waits, and says so, while there is none."""
        reminded_s = -_REMIND_S
        while (why := await self._none_because()) is not None:
            now_s = asyncio.get_running_loop().time()
            if now_s - reminded_s >= _REMIND_S:
                LOG.warning("waiting for a configuration: %s", why)
                reminded_s = now_s
            await asyncio.sleep(POLL_S)
        return self.newest

    async def follow(self) -> None:
        """Keeps `newest` up to date, for ever.

        Raises:
            IncompatibleError: A new bundle has another generation or number of partitions than the first.
        """
        while True:
            await self._poll()

    async def _none_because(self) -> str | None:
        if not self._consumer.assignment():
            if self._topic not in await describe(self._consumer, [self._topic]):
                return f"topic {self._topic} does not exist; create it with `qma topics apply`"
            self._consumer.assign([self._partition])
        beginning = await self._consumer.beginning_offsets([self._partition])
        end = await self._consumer.end_offsets([self._partition])
        self._consumer.seek(self._partition, beginning[self._partition])
        while await self._consumer.position(self._partition) < end[self._partition]:
            await self._poll()
        if self._newest is None:
            return f"topic {self._topic} is empty; publish one with `qma apply FILE…`"
        return None

    async def _poll(self) -> None:
        read = await self._consumer.getmany(timeout_ms=int(POLL_S * 1000))
        for record in read.get(self._partition, ()):
            self._adopt(record)

    def _adopt(self, record: ConsumerRecord) -> None:
        if record.value is None:
            return
        bundle = decode_bundle(record.value)
        if self._newest is not None:
            _refuse_another_log(self._newest.bundle, bundle)
        configuration = Configuration.of(record.offset, record.value, bundle)
        self._newest = Applied(configuration=configuration, bundle=bundle)
        LOG.info("configuration version %d of pipeline %s", record.offset, bundle.pipeline)


def _refuse_another_log(running: Bundle, bundle: Bundle) -> None:
    before = (running.generation, running.partitions)
    after = (bundle.generation, bundle.partitions)
    if before != after:
        raise IncompatibleError(
            f"the configuration changed from generation {before[0]} with {before[1]} partitions to "
            f"generation {after[0]} with {after[1]}: that is another log; stop and restart all workers"
        )


async def check_shuffle(client: Consumer, shuffle: str, wanted: int) -> None:
    """Refuses a shuffle topic that is not the log of the configuration.

    Args:
        wanted: P, as the configuration says it.

    Raises:
        ConfigError: There is no such topic.
        IncompatibleError: It has another number of partitions.
    """
    found = (await describe(client, [shuffle])).get(shuffle)
    if found is None:
        raise ConfigError(f"topic {shuffle} does not exist; create it with `qma topics apply`")
    if found.partitions != wanted:
        raise IncompatibleError(
            f"topic {shuffle} has {found.partitions} partitions, the configuration says {wanted}: rows "
            "would go astray; apply a configuration with that number, or begin a new generation on a new topic"
        )


async def existing_sources(client: Consumer, configurations: ConfigurationReader) -> dict[str, TopicInfo]:
    """Returns the source topics of the configuration that exist; waits, and says so, while there is none."""
    said = False
    while True:
        wanted = [source.topic for source in configurations.newest.bundle.sources]
        found = await describe(client, wanted)
        if found:
            return found
        if not said:
            LOG.warning("waiting for a source: none of %s exists", ", ".join(wanted) or "(no source configured)")
            said = True
        await configurations.first()
        await asyncio.sleep(POLL_S)
