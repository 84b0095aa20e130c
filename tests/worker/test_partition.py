"""One partition on its own: what is applied, when a checkpoint is due, and what it acknowledges."""

import asyncio
import functools

import pytest

from stream.core.engine import Engine
from stream.kafka.state_store import StateStore
from stream.worker.options import StateOptions
from stream.worker.partition import FoldFailed, LogEntry, OwnedPartition
from stream.worker.status import StateStatus
from tests.worker.pipeline import Pipeline, record_bytes

OPTIONS = StateOptions(bootstrap="127.0.0.1:1", pipeline="p", generation="1", checkpoint_records=3)


class Log:
    """Entries of a log, and the offsets that were acknowledged, in order."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    def entry(self, offset: int, value: bytes | None = None) -> LogEntry:
        return LogEntry(
            partition=0,
            offset=offset,
            time_ns=1_800_000_000_000_000_000 + offset,
            value=record_bytes(offset) if value is None else value,
            assignment=1,
            acknowledge=functools.partial(self.acknowledged.append, offset),
        )


def owned(options: StateOptions = OPTIONS, store: StateStore | None = None) -> OwnedPartition:
    store = store or StateStore(options.bootstrap, transactional_id="t", topic=options.state_topic, partition=0)
    return OwnedPartition(options=options, status=StateStatus(), engine=Engine(0), store=store)


def test_a_record_that_cannot_be_applied_is_named() -> None:
    partition, log = owned(), Log()
    partition.apply(log.entry(0))
    with pytest.raises(FoldFailed, match=r"qma\.shuffle-0@1 cannot be applied: .*corrupt_record"):
        partition.apply(log.entry(1, b"no log record"))
    assert log.acknowledged == []


def test_a_record_that_comes_again_is_not_applied_again() -> None:
    log = Log()
    entries = [log.entry(0), log.entry(1)]
    twice, once = owned(), owned()
    for entry in entries + entries:
        twice.apply(entry)
    for entry in entries:
        once.apply(entry)
    assert twice.engine.checkpoint() == once.engine.checkpoint()


def test_a_checkpoint_is_due_by_time_and_by_records_and_only_after_a_change() -> None:
    partition, log = owned(), Log()
    began_s = partition._status.checkpoint_at_s[0]
    assert not partition.due(began_s + 100)
    partition.apply(log.entry(0))
    assert not partition.due(began_s + OPTIONS.checkpoint_interval_s - 0.01)
    assert partition.due(began_s + OPTIONS.checkpoint_interval_s)
    partition.apply(log.entry(1))
    partition.apply(log.entry(2))
    assert partition.due(began_s)


@pytest.mark.kafka
def test_folding_goes_on_during_a_checkpoint_which_acknowledges_only_what_it_holds(pipeline: Pipeline) -> None:
    async def scenario() -> None:
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def wait_there(step: str) -> None:
            if step == "acked":
                reached.set()
                await go_on.wait()

        options = pipeline.options
        store = StateStore(
            options.bootstrap,
            transactional_id=options.transactional_id(0),
            topic=options.state_topic,
            partition=0,
            hook=wait_there,
        )
        await store.open()
        partition, log = owned(options, store), Log()
        for offset in range(3):
            partition.apply(log.entry(offset))
        writing = asyncio.create_task(partition.checkpoint())
        await reached.wait()
        for offset in range(3, 6):
            partition.apply(log.entry(offset))
        assert (partition.engine.log_offset, partition.saved_offset, log.acknowledged) == (5, -1, [])
        go_on.set()
        await writing
        assert (partition.saved_offset, log.acknowledged) == (2, [0, 1, 2])
        await partition.close()

    asyncio.run(scenario())
    assert pipeline.restored(0).log_offset == 2
