"""The two repairs of aiokafka, driven through a real client against a stub broker that speaks the
protocol."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.commit import OffsetFetchResponse_v2, OffsetFetchResponse_v3
from aiokafka.protocol.coordination import FindCoordinatorResponse_v0
from aiokafka.protocol.metadata import MetadataResponse_v1
from aiokafka.protocol.offset import OffsetResponse_v1

from stream.core.errors import IncompatibleError
from stream.kafka import clients, repairs
from stream.kafka.clients import TopicPartition

TOPIC = "source"
AT = TopicPartition(TOPIC, 0)
LIST_OFFSETS, METADATA, OFFSET_FETCH, FIND_COORDINATOR, API_VERSIONS = 2, 3, 9, 10, 18
NONE, LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, OFFSET_NOT_AVAILABLE = 0, 14, 15, 16, 78


class StubBroker:
    """Answers a client's requests; OffsetFetch and ListOffsets give each of `errors` first, then the real
    offset."""

    def __init__(self, *, errors: list[int], offset: int, offset_fetch_version: int = 3) -> None:
        self.errors = deque(errors)
        self.offset = offset
        self.offset_fetch_version = offset_fetch_version
        self.seen: list[int] = []
        self.port = 0

    @asynccontextmanager
    async def running(self) -> Any:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"127.0.0.1:{self.port}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                key, _, correlation = struct.unpack_from(">hhi", await reader.readexactly(size))
                self.seen.append(key)
                body = struct.pack(">i", correlation) + self._answer(key).encode()
                writer.write(struct.pack(">i", len(body)) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, key: int) -> Any:
        if key == API_VERSIONS:
            fetch = (OFFSET_FETCH, 1, self.offset_fetch_version)
            versions = [
                (LIST_OFFSETS, 1, 1),
                (METADATA, 0, 1),
                fetch,
                (FIND_COORDINATOR, 0, 0),
                (API_VERSIONS, 0, 0),
            ]
            return ApiVersionResponse_v0(NONE, versions)
        if key == METADATA:
            topics = [(NONE, TOPIC, False, [(NONE, 0, 1, [1], [1])])]
            return MetadataResponse_v1([(1, "127.0.0.1", self.port, None)], 1, topics)
        if key == FIND_COORDINATOR:
            return FindCoordinatorResponse_v0(NONE, 1, "127.0.0.1", self.port)
        error = self.errors.popleft() if self.errors else NONE
        if key == LIST_OFFSETS:
            return OffsetResponse_v1([(TOPIC, [(0, error, -1, -1 if error else self.offset)])])
        assert key == OFFSET_FETCH, key
        found = [] if error else [(TOPIC, [(0, self.offset, "", NONE)])]
        if self.offset_fetch_version == 2:
            return OffsetFetchResponse_v2(found, error)
        return OffsetFetchResponse_v3(0, found, error)


async def committed(stub: StubBroker) -> int | None:
    async with stub.running() as bootstrap:
        consumer = await clients.ingest_consumer(bootstrap, "group")
        try:
            return await asyncio.wait_for(consumer.committed(AT), 20)
        finally:
            await clients.stop(consumer, wait_s=1)


@pytest.fixture
def unrepaired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GroupCoordinator, "_send_req", GroupCoordinator._send_req.__wrapped__)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("error", [LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, 999])
def test_a_lost_offset_fetch_error_is_asked_again_and_never_means_nothing_committed(error: int, version: int) -> None:
    stub = StubBroker(errors=[error, error], offset=42, offset_fetch_version=version)
    assert asyncio.run(committed(stub)) == 42
    assert stub.seen.count(OFFSET_FETCH) == 3


@pytest.mark.parametrize(
    ("error", "lookups"), [(NOT_COORDINATOR, 2), (COORDINATOR_NOT_AVAILABLE, 2), (LOAD_IN_PROGRESS, 1)]
)
def test_only_a_coordinator_that_is_gone_is_looked_up_anew(error: int, lookups: int) -> None:
    stub = StubBroker(errors=[error], offset=42)
    assert asyncio.run(committed(stub)) == 42
    assert stub.seen.count(FIND_COORDINATOR) == lookups


def test_a_group_that_committed_nothing_still_says_so() -> None:
    assert asyncio.run(committed(StubBroker(errors=[], offset=-1))) is None


@pytest.mark.usefixtures("unrepaired")
def test_without_the_repair_the_error_reads_as_nothing_committed() -> None:
    assert asyncio.run(committed(StubBroker(errors=[NOT_COORDINATOR], offset=42))) is None


def test_offset_not_available_after_a_leader_moved_is_asked_again() -> None:
    async def beginning(stub: StubBroker) -> int:
        async with stub.running() as bootstrap:
            reader = await clients.assigned_reader(bootstrap, isolation="read_uncommitted")
            try:
                reader.assign([AT])
                return (await asyncio.wait_for(reader.beginning_offsets([AT]), 20))[AT]
            finally:
                await clients.stop(reader, wait_s=1)

    assert asyncio.run(beginning(StubBroker(errors=[OFFSET_NOT_AVAILABLE], offset=7))) == 7


def test_applying_twice_wraps_once() -> None:
    repaired = GroupCoordinator._send_req
    repairs.apply()
    assert GroupCoordinator._send_req is repaired


@pytest.mark.usefixtures("unrepaired")
def test_an_aiokafka_that_reads_the_error_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fixed_upstream(self: Any, partitions: Any) -> Any:
        response = await self._send_req(partitions)
        return response.topics if response.error_code == 0 else None

    monkeypatch.setattr(GroupCoordinator, "_do_fetch_commit_offsets", fixed_upstream)
    with pytest.raises(IncompatibleError, match=r"error_code.*requirements\.lock"):
        repairs.apply()


def test_the_stub_encodes_what_aiokafka_decodes() -> None:
    response = StubBroker(errors=[NOT_COORDINATOR], offset=42)._answer(OFFSET_FETCH)
    decoded = OffsetFetchResponse_v3.decode(BytesIO(response.encode()))
    assert (decoded.topics, decoded.error_code) == ([], NOT_COORDINATOR)
