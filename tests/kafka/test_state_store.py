"""The checkpoint on a real broker: atomic, fenced, and restored up to the claim whatever an end offset
says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from stream.core.errors import UnavailableError
from stream.kafka import clients, state_store, topics
from stream.kafka.clients import TopicPartition
from stream.kafka.state_store import CLAIM_KEY, CheckpointFailed, OutputRecord, StateStore
from stream.kafka.topics import TopicSpec, pipeline_topics

pytestmark = pytest.mark.kafka

PARTITION = 1
MANIFEST = b"manifest"


class Pipeline:
    """The two topics of one test and its stores, closed at the end."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.state = prefix + "state"
        self.output = prefix + "sli"
        self._stores: list[StateStore] = []

    async def create(self) -> None:
        specs = pipeline_topics(self.prefix, 2, 1, "LogAppendTime")
        await topics.apply(self.bootstrap, [spec for spec in specs if spec.name in (self.state, self.output)])

    def store(self, hook: state_store.Hook | None = None, **deadlines: float) -> StateStore:
        name = f"{self.prefix}1/{PARTITION}"
        store = StateStore(
            self.bootstrap,
            transactional_id=name,
            topic=self.state,
            partition=PARTITION,
            hook=hook,
            **deadlines,
        )
        self._stores.append(store)
        return store

    def out(self, value: bytes) -> OutputRecord:
        return OutputRecord(topic=self.output, key=b"service", value=value, headers=[("type", b"sli")])

    async def visible(self) -> tuple[dict[bytes, bytes | None], list[bytes]]:
        """What a read_committed reader sees: the state's latest value per key, claims left out, and all
        outputs."""
        state = {r.key: r.value for r in await self._read(self.state, [PARTITION]) if r.key != CLAIM_KEY}
        return state, [r.value for r in await self._read(self.output, [0, 1])]

    async def _read(self, topic: str, partitions: Iterable[int]) -> list[Any]:
        reader = await clients.assigned_reader(self.bootstrap)
        try:
            at = [TopicPartition(topic, partition) for partition in partitions]
            reader.assign(at)
            await reader.seek_to_beginning(*at)
            ends = await reader.end_offsets(at)
            records: list[Any] = []
            while any([await reader.position(tp) < ends[tp] for tp in at]):
                for batch in (await reader.getmany(*at, timeout_ms=100)).values():
                    records += batch
            return records
        finally:
            await clients.stop(reader)

    async def close(self) -> None:
        await asyncio.gather(*(store.close() for store in self._stores))


Scenario = Callable[[Pipeline], Awaitable[None]]


@pytest.fixture
def play(kafka: Any, topic_prefix: str) -> Callable[[Scenario], None]:
    async def run(scenario: Scenario) -> None:
        pipeline = Pipeline(kafka.bootstrap, topic_prefix)
        await pipeline.create()
        try:
            await scenario(pipeline)
        finally:
            await pipeline.close()

    return lambda scenario: asyncio.run(run(scenario))


def test_open_returns_what_was_committed(play: Callable[[Scenario], None]) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        first = pipeline.store()
        assert await first.open() == {}
        noise = random.Random(3)
        large = [(b"large%d" % i, noise.randbytes(1 << 20)) for i in range(12)]  # more than one request holds
        await first.commit([(b"a", b"1"), (b"b", b"1"), *large], [], (MANIFEST, b"10"))
        await first.commit([(b"a", b"2"), (b"b", None), (b"c", b"")], [pipeline.out(b"x")], (MANIFEST, b"20"))
        restored = await pipeline.store().open()
        assert all(restored.pop(key) == value for key, value in large)
        assert restored == {b"a": b"2", b"c": b"", MANIFEST: b"20"}

    play(scenario)


def test_chunks_outputs_and_manifest_are_seen_together(play: Callable[[Scenario], None]) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        seen: dict[str, Any] = {}

        async def look(step: str) -> None:
            if step in ("acked", "committed"):
                seen[step] = await pipeline.visible()

        store = pipeline.store(look)
        await store.open()
        await store.commit([(b"a", b"1")], [pipeline.out(b"x"), pipeline.out(b"y")], (MANIFEST, b"10"))
        assert seen["acked"] == ({}, [])
        assert seen["committed"] == ({b"a": b"1", MANIFEST: b"10"}, [b"x", b"y"])

    play(scenario)


def test_a_second_owner_fences_the_first_for_good(play: Callable[[Scenario], None]) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        first, second = pipeline.store(), pipeline.store()
        await first.open()
        await first.commit([(b"a", b"1")], [], (MANIFEST, b"10"))
        assert await second.open() == {b"a": b"1", MANIFEST: b"10"}
        for _ in range(2):
            with pytest.raises(CheckpointFailed):
                await first.commit([(b"a", b"zombie")], [pipeline.out(b"zombie")], (MANIFEST, b"11"))
        assert await pipeline.visible() == ({b"a": b"1", MANIFEST: b"10"}, [])
        await second.commit([(b"a", b"2")], [pipeline.out(b"x")], (MANIFEST, b"20"))
        assert await pipeline.visible() == ({b"a": b"2", MANIFEST: b"20"}, [b"x"])

    play(scenario)


@pytest.mark.parametrize("frozen_at", ["chunks-sent", "sent", "acked"])
def test_a_writer_that_froze_and_was_replaced_cannot_commit(play: Callable[[Scenario], None], frozen_at: str) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        successor = pipeline.store()

        async def replaced(step: str) -> None:
            if step == frozen_at and await successor.open() is not None:
                await successor.commit([(b"b", b"2")], [pipeline.out(b"new")], (MANIFEST, b"20"))

        zombie = pipeline.store(replaced)
        await zombie.open()
        with pytest.raises(CheckpointFailed, match="checkpoint failed"):
            await zombie.commit([(b"a", b"zombie")], [pipeline.out(b"zombie")], (MANIFEST, b"30"))
        assert await pipeline.visible() == ({b"b": b"2", MANIFEST: b"20"}, [b"new"])
        await successor.commit([(b"b", b"3")], [], (MANIFEST, b"40"))
        assert await pipeline.store().open() == {b"b": b"3", MANIFEST: b"40"}

    play(scenario)


def test_the_restore_waits_for_its_claim_when_the_end_offset_lies(play: Callable[[Scenario], None]) -> None:
    """A foreign open transaction holds the end that read_committed readers are told, as a stale leader
    would."""

    async def scenario(pipeline: Pipeline) -> None:
        old = pipeline.store()
        await old.open()
        await old.commit([(b"a", b"1")], [], (MANIFEST, b"10"))
        foreign = await clients.checkpoint_producer(pipeline.bootstrap, pipeline.prefix + "foreign")
        await foreign.begin_transaction()
        await (await foreign.send(pipeline.state, b"never", key=b"a", partition=PARTITION))
        await old.commit([(b"a", b"2")], [], (MANIFEST, b"20"))
        assert (await pipeline.visible())[0] == {b"a": b"1", MANIFEST: b"10"}, "the end offset must lie here"

        behind = 0

        async def release(step: str) -> None:
            nonlocal behind
            if step == "behind":
                behind += 1
                if behind == 2:
                    await foreign.abort_transaction()

        assert await pipeline.store(release).open() == {b"a": b"2", MANIFEST: b"20"}
        assert behind >= 2
        await clients.stop(foreign)

    play(scenario)


def test_a_restore_that_does_not_reach_its_claim_fails(play: Callable[[Scenario], None]) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        foreign = await clients.checkpoint_producer(pipeline.bootstrap, pipeline.prefix + "foreign")
        await foreign.begin_transaction()
        await (await foreign.send(pipeline.state, b"never", key=b"a", partition=PARTITION))
        store = pipeline.store(restore_deadline_s=1.5)
        with pytest.raises(CheckpointFailed, match=r"restore failed: not finished within 1.5 s"):
            await store.open()
        with pytest.raises(CheckpointFailed, match="refused"):
            await store.commit([], [], (MANIFEST, b"10"))
        await foreign.abort_transaction()
        await clients.stop(foreign)

    play(scenario)


def test_an_owner_replaced_during_its_restore_says_so(play: Callable[[Scenario], None]) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        async def replaced(step: str) -> None:
            if step == "claimed":
                await pipeline.store().open()

        with pytest.raises(CheckpointFailed, match="another worker took the partition over"):
            await pipeline.store(replaced).open()

    play(scenario)


def test_the_open_transaction_of_a_dead_owner_is_aborted_by_the_next(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        async def die(step: str) -> None:
            if step == "acked":
                raise RuntimeError("killed here")

        dead = pipeline.store(die)
        await dead.open()
        with pytest.raises(CheckpointFailed, match="killed here"):
            await dead.commit([(b"a", b"lost")], [pipeline.out(b"lost")], (MANIFEST, b"10"))
        assert await pipeline.store().open() == {}
        assert await pipeline.visible() == ({}, [])

    play(scenario)


def test_a_checkpoint_past_its_deadline_spends_the_store(play: Callable[[Scenario], None]) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        never = asyncio.Event()

        async def hang(step: str) -> None:
            if step == "sent":
                await never.wait()

        store = pipeline.store(hang, commit_deadline_s=0.5)
        await store.open()
        with pytest.raises(CheckpointFailed, match=r"not finished within 0.5 s"):
            await store.commit([(b"a", b"1")], [], (MANIFEST, b"10"))
        never.set()
        with pytest.raises(CheckpointFailed, match="refused"):
            await store.commit([(b"a", b"1")], [], (MANIFEST, b"10"))
        assert await pipeline.visible() == ({}, [])

    play(scenario)


def test_a_chunk_that_is_too_large_is_a_programmer_error(play: Callable[[Scenario], None]) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        store = pipeline.store()
        await store.open()
        with pytest.raises(AssertionError, match="split it"):
            await store.commit([(b"a", bytes(state_store.MAX_CHUNK_BYTES + 1))], [], (MANIFEST, b"10"))
        await store.commit([(b"a", bytes(state_store.MAX_CHUNK_BYTES))], [], (MANIFEST, b"10"))

    play(scenario)


def test_a_record_the_broker_refuses_for_good_is_never_committed_around(
    play: Callable[[Scenario], None], kafka: Any
) -> None:
    """aiokafka would commit the rest of the transaction: the acknowledgements are looked at first."""

    async def scenario(pipeline: Pipeline) -> None:
        narrow = pipeline.prefix + "narrow"
        spec = TopicSpec(name=narrow, partitions=1, replication=1, config={"max.message.bytes": "100"})
        await topics.apply(kafka.bootstrap, [spec])
        store = pipeline.store()
        await store.open()
        refused = OutputRecord(topic=narrow, key=b"k", value=bytes(range(256)) * 4)
        with pytest.raises(CheckpointFailed, match="MessageSizeTooLarge"):
            await store.commit([(b"a", b"1")], [refused], (MANIFEST, b"10"))
        assert await pipeline.store().open() == {}

    play(scenario)


def test_the_restore_waits_for_a_broker_that_restarts(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(pipeline: Pipeline) -> None:
        down = [UnavailableError("restarting"), UnavailableError("restarting")]

        async def after_a_while(*args: Any) -> Any:
            if down:
                raise down.pop()
            return await clients.checkpoint_producer(*args)

        monkeypatch.setattr(state_store, "checkpoint_producer", after_a_while)
        assert await pipeline.store().open() == {}

    play(scenario)


def test_a_broker_that_is_not_there_is_named() -> None:
    async def scenario() -> None:
        store = StateStore("127.0.0.1:1", transactional_id="t", topic="state", partition=0, restore_deadline_s=1.0)
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1.*--broker"):
            await store.open()

    asyncio.run(scenario())
