"""The topics of a pipeline: what they must be, creating what is missing, and naming every difference.

Nothing that exists is ever altered: a wrong partition count or timestamp type changes what the log means, and
only the operator knows whether the data may go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from stream.core.errors import ConfigError, UnavailableError
from stream.kafka.clients import MAX_REQUEST_BYTES, Admin, admin, stop
from stream.kafka.topic_ids import TopicInfo, describe

TimestampType = Literal["LogAppendTime", "CreateTime"]

_KNOWN_WITHIN_S = 15.0
_KNOWN_POLL_S = 0.05
_DAY_MS = 24 * 3600 * 1000
_MINUTE_MS = 60 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """One topic as it must be.

    Attributes:
        name: The topic's name.
        partitions: Exact number of partitions.
        replication: Replicas of each partition.
        config: Settings that must hold, whether set on the topic or the broker's default.
        ours: Whether the topic is the pipeline's own. Another's is created when it is missing, and never compared.
    """

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)
    ours: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing about a topic that is not as it must be."""

    topic: str
    setting: str
    wanted: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.found}, wanted {self.wanted}; {self.fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A topic that `apply` created."""

    topic: str
    partitions: int
    replication: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicStatus:
    """A topic as found: `partitions` and `replication` are 0 when it does not exist."""

    spec: TopicSpec
    exists: bool
    partitions: int
    replication: int
    differences: tuple[Difference, ...]


def pipeline_topics(
    prefix: str,
    partitions: int,
    replication: int,
    log_timestamp_type: TimestampType,
    *,
    sources: Sequence[str] = (),
) -> list[TopicSpec]:
    """Returns every topic of the pipeline.

    Args:
        prefix: What our topics' names begin with, `qma.` unless another pipeline shares the brokers.
        partitions: Partitions of the shuffle log; state and outputs have the same number.
        replication: Replicas of each; from 3 on a write needs two of them.
        log_timestamp_type: The clock of the shuffle log: `LogAppendTime`, or `CreateTime` for a demo or a backfill.
        sources: Topics of the producers (`otlp_spans`, `telemetry.events`) to create if they are missing, with as
            many partitions.
    """
    assert partitions > 0, partitions
    assert replication > 0, replication
    safe = {"min.insync.replicas": "2"} if replication >= 3 else {}

    def ours(name: str, count: int, config: Mapping[str, str]) -> TopicSpec:
        return TopicSpec(
            name=prefix + name,
            partitions=count,
            replication=replication,
            config={**safe, **config},
        )

    outputs = [ours(name, partitions, _kept(30)) for name in ("sli", "burn-rate", "budget", "certificate")]
    return [
        *(
            TopicSpec(
                name=name,
                partitions=partitions,
                replication=replication,
                config=safe,
                ours=False,
            )
            for name in sources
        ),
        ours("config", 1, _compacted(segment_ms=_DAY_MS)),
        ours(
            "shuffle",
            partitions,
            {**_log_kept(log_timestamp_type), "message.timestamp.type": log_timestamp_type, **_LARGE},
        ),
        ours("state", partitions, {**_compacted(segment_ms=10 * _MINUTE_MS), **_LARGE}),
        *outputs,
        ours("status", partitions, _compacted(segment_ms=60 * _MINUTE_MS)),
        ours("deadletter", partitions, _kept(7)),
    ]


_LARGE = {"max.message.bytes": str(MAX_REQUEST_BYTES)}


def _log_kept(timestamp_type: TimestampType) -> dict[str, str]:
    """A log whose clock is that of its sources holds old times, and 1970 before the first message is read: to a broker
    that looks at these, all of it has expired."""
    return _kept(7) if timestamp_type == "LogAppendTime" else {**_kept(7), "retention.ms": "-1"}


def _kept(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}


def _compacted(*, segment_ms: int) -> dict[str, str]:
    # The active segment is never compacted, so it is small and rolled often: a restore reads whatever
    # compaction has not removed yet. Half of the log may be superseded before the cleaner, which rewrites the
    # rest, starts. A tombstone stays a day for slow readers.
    return {
        "cleanup.policy": "compact",
        "segment.ms": str(segment_ms),
        "segment.bytes": str(64 << 20),
        "min.cleanable.dirty.ratio": "0.5",
        "delete.retention.ms": str(_DAY_MS),
    }


async def apply(bootstrap: str, specs: Sequence[TopicSpec]) -> list[Change]:
    """Creates the topics that are missing and returns them; a second call returns nothing.

    Existing topics are compared before anything is created, and never altered.

    Raises:
        ConfigError: Something differs; every difference is named, with its fix. Or the broker refuses to
        create a topic. UnavailableError: No broker answered.
    """
    client = await admin(bootstrap)
    try:
        statuses = await _statuses(client, specs)
        _refuse_differences(statuses)
        missing = [status.spec for status in statuses if not status.exists]
        if missing:
            await _create(client, missing)
    finally:
        await stop(client)
    return [Change(topic=spec.name, partitions=spec.partitions, replication=spec.replication) for spec in missing]


async def show(bootstrap: str, specs: Sequence[TopicSpec]) -> list[TopicStatus]:
    """Returns how each topic is found, in the order of `specs`; changes nothing.

    Raises:
        UnavailableError: No broker answered.
    """
    client = await admin(bootstrap)
    try:
        return await _statuses(client, specs)
    finally:
        await stop(client)


def _refuse_differences(statuses: Sequence[TopicStatus]) -> None:
    found = [str(difference) for status in statuses for difference in status.differences]
    if found:
        raise ConfigError("topics are not as they must be:\n  " + "\n  ".join(found))


async def _create(client: Admin, specs: Sequence[TopicSpec]) -> None:
    wanted = [
        NewTopic(
            spec.name,
            spec.partitions,
            spec.replication,
            topic_configs=dict(spec.config),
        )
        for spec in specs
    ]
    response = await client.create_topics(wanted)
    refused = []
    for name, code, *message in response.topic_errors:
        kind = for_code(code)
        if kind not in (NoError, TopicAlreadyExistsError):
            refused.append(f"{name}: {' '.join(filter(None, message)) or kind.__name__}")
    if refused:
        raise ConfigError("the broker refuses to create topics:\n  " + "\n  ".join(refused))
    await _wait_until_known(client, [spec.name for spec in specs])


async def _wait_until_known(client: Admin, names: Sequence[str]) -> None:
    """Returns when brokers describe the new topics; the controller creates them, brokers hear of it later."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _KNOWN_WITHIN_S
    while missing := set(names) - set(await describe(client, names)):
        if loop.time() > deadline:
            raise UnavailableError(
                f"topics {', '.join(sorted(missing))} were created, but brokers do not know them after "
                f"{_KNOWN_WITHIN_S:g} s: look at the brokers' logs"
            )
        await asyncio.sleep(_KNOWN_POLL_S)


async def _statuses(client: Admin, specs: Sequence[TopicSpec]) -> list[TopicStatus]:
    found = await describe(client, [spec.name for spec in specs])
    existing = [spec.name for spec in specs if spec.name in found]
    replicas = await _replication(client, existing)
    configs = await _configs(client, existing)
    return [
        _status(
            spec,
            found.get(spec.name),
            replicas.get(spec.name, 0),
            configs.get(spec.name, {}),
        )
        for spec in specs
    ]


async def _replication(client: Admin, names: Sequence[str]) -> dict[str, int]:
    if not names:
        return {}
    topics = await client.describe_topics(list(names))
    return {topic["topic"]: min((len(p["replicas"]) for p in topic["partitions"]), default=0) for topic in topics}


async def _configs(client: Admin, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    responses = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    configs: dict[str, dict[str, str]] = {}
    for response in responses:
        for error_code, message, _, name, entries in response.resources:
            if error_code:
                raise UnavailableError(
                    f"topic {name}: its settings cannot be read: {message or for_code(error_code).__name__}"
                )
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


def _status(spec: TopicSpec, info: TopicInfo | None, replication: int, config: Mapping[str, Any]) -> TopicStatus:
    differences = _differences(spec, info, replication, config) if info is not None and spec.ours else ()
    return TopicStatus(
        spec=spec,
        exists=info is not None,
        partitions=info.partitions if info is not None else 0,
        replication=replication,
        differences=tuple(differences),
    )


def _differences(spec: TopicSpec, info: TopicInfo, replication: int, config: Mapping[str, Any]) -> Sequence[Difference]:
    def difference(setting: str, wanted: object, found: object, fix: str) -> Difference:
        return Difference(
            topic=spec.name,
            setting=setting,
            wanted=str(wanted),
            found=str(found),
            fix=fix,
        )

    differences = []
    if info.partitions != spec.partitions:
        differences.append(
            difference(
                "partitions",
                spec.partitions,
                info.partitions,
                f"run with --partitions {info.partitions}, or delete the topic (its data is lost) and apply again",
            )
        )
    if replication != spec.replication:
        differences.append(
            difference(
                "replication",
                spec.replication,
                replication,
                f"run with --replication {replication}, or move it with kafka-reassign-partitions",
            )
        )
    for setting, wanted in sorted(spec.config.items()):
        if config.get(setting) != wanted:
            differences.append(
                difference(
                    setting,
                    wanted,
                    config.get(setting, "unknown to this broker"),
                    f"kafka-configs --alter --entity-type topics --entity-name {spec.name} "
                    f"--add-config {setting}={wanted}",
                )
            )
    return differences
