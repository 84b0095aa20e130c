"""Topic ids on a real broker: a topic that was deleted and created again is another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stream.kafka import clients, topics
from stream.kafka.topic_ids import TopicInfo, describe
from stream.kafka.topics import TopicSpec


async def with_admin(bootstrap: str, work: Callable[[clients.Admin], Any]) -> Any:
    client = await clients.admin(bootstrap)
    try:
        return await work(client)
    finally:
        await clients.stop(client)


@pytest.mark.kafka
def test_a_recreated_topic_has_another_id(kafka: Any, topic_prefix: str) -> None:
    spec = TopicSpec(name=topic_prefix + "new", partitions=3, replication=1)

    async def ids(client: clients.Admin) -> dict[str, TopicInfo]:
        return await describe(client, [spec.name, topic_prefix + "absent"])

    async def recreate(client: clients.Admin) -> tuple[TopicInfo, TopicInfo]:
        await topics.apply(kafka.bootstrap, [spec])
        first = await ids(client)
        assert set(first) == {spec.name}
        await client.delete_topics([spec.name])
        while await ids(client):  # noqa: ASYNC110 - a broker hears of it a little later, and nothing says when
            await asyncio.sleep(0.05)
        await topics.apply(kafka.bootstrap, [spec])
        return first[spec.name], (await ids(client))[spec.name]

    first, second = asyncio.run(with_admin(kafka.bootstrap, recreate))
    assert first.partitions == second.partitions == 3
    assert first.topic_id != second.topic_id
