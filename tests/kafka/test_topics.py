"""Topics on a real broker: created once, never altered, every difference named; ids tell a recreated topic
apart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from stream.core.errors import ConfigError
from stream.kafka import topics
from stream.kafka.topics import TopicSpec, pipeline_topics


def test_the_pipeline_has_the_topics_of_the_design() -> None:
    specs = {spec.name: spec for spec in pipeline_topics("qma.", 32, 3, "LogAppendTime", sources=["otlp_spans"])}
    assert set(specs) == {
        "otlp_spans",
        *("qma." + name for name in ("config", "shuffle", "state", "deadletter")),
        *("qma." + name for name in ("sli", "burn-rate", "budget", "certificate", "status")),
    }
    assert {name: spec.partitions for name, spec in specs.items() if spec.partitions != 32} == {"qma.config": 1}
    assert {spec.config["min.insync.replicas"] for spec in specs.values()} == {"2"}
    assert specs["qma.shuffle"].config["message.timestamp.type"] == "LogAppendTime"
    assert specs["qma.shuffle"].config["retention.ms"] == str(7 * 24 * 3600 * 1000)
    assert specs["qma.sli"].config["retention.ms"] == str(30 * 24 * 3600 * 1000)
    assert {name for name, spec in specs.items() if spec.config.get("cleanup.policy") == "compact"} == {
        "qma.config",
        "qma.state",
        "qma.status",
    }
    assert [name for name, spec in specs.items() if not spec.ours] == ["otlp_spans"]


def test_a_log_with_the_time_of_its_sources_never_expires() -> None:
    """The broker would delete what it holds of old input, and the records from before the first message, dated 1970."""
    specs = {spec.name: spec for spec in pipeline_topics("qma.", 1, 1, "CreateTime")}
    assert specs["qma.shuffle"].config["retention.ms"] == "-1"


def test_one_replica_asks_for_no_second_one() -> None:
    assert all("min.insync.replicas" not in spec.config for spec in pipeline_topics("qma.", 1, 1, "CreateTime"))


@pytest.mark.kafka
def test_apply_creates_once_and_names_every_difference(kafka: Any, topic_prefix: str) -> None:
    async def scenario() -> None:
        source = topic_prefix + "otlp_spans"
        specs = pipeline_topics(topic_prefix, 2, 1, "LogAppendTime", sources=[source])
        assert not any(status.exists for status in await topics.show(kafka.bootstrap, specs))

        created = await topics.apply(kafka.bootstrap, specs)
        assert {change.topic for change in created} == {spec.name for spec in specs}
        assert await topics.apply(kafka.bootstrap, specs) == []
        assert all(
            status.exists and status.partitions == status.spec.partitions and not status.differences
            for status in await topics.show(kafka.bootstrap, specs)
        )

        drifted = [replace(spec, partitions=spec.partitions + 1) if not spec.ours else spec for spec in specs]
        assert await topics.apply(kafka.bootstrap, drifted) == [], "a source topic is its owner's"

        shuffle = topic_prefix + "shuffle"
        wanted = [*pipeline_topics(topic_prefix, 3, 1, "CreateTime"), new_topic(topic_prefix)]
        with pytest.raises(ConfigError) as refused:
            await topics.apply(kafka.bootstrap, wanted)
        message = str(refused.value)
        assert f"{shuffle}: partitions is 2, wanted 3" in message
        assert f"{shuffle}: message.timestamp.type is LogAppendTime, wanted CreateTime" in message
        assert f"--entity-name {shuffle} --add-config message.timestamp.type=CreateTime" in message
        assert f"{topic_prefix}state: partitions is 2, wanted 3" in message
        assert f"{topic_prefix}config:" not in message, "one partition either way"
        (status,) = await topics.show(kafka.bootstrap, [new_topic(topic_prefix)])
        assert not status.exists, "nothing is created while something differs"

    asyncio.run(scenario())


def new_topic(prefix: str) -> TopicSpec:
    return TopicSpec(name=prefix + "new", partitions=1, replication=1)


@pytest.mark.kafka
def test_a_topic_the_broker_refuses_is_named(kafka: Any, topic_prefix: str) -> None:
    spec = TopicSpec(name=topic_prefix + "wide", partitions=1, replication=99)
    with pytest.raises(ConfigError, match=rf"{topic_prefix}wide: .*replication"):
        asyncio.run(topics.apply(kafka.bootstrap, [spec]))
