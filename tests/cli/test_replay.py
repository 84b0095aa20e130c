"""`qma replay`: what is published is held against the log, and what cannot be compared is said."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import re
import signal
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import orjson
import pytest

from stream.cli import explain, replay
from stream.cli.replay import as_object, exit_code, lines
from stream.core.engine import Engine
from stream.core.rendering import Rendered, render
from stream.kafka.clients import TopicPartition, assigned_reader, ingest_producer, stop
from stream.kafka.local import LocalKafka
from stream.replay.comparison import Comparison, FieldDifference, Kind, Live, field_differences
from stream.replay.reading import OUTPUTS, Stretch
from stream.replay.replaying import MAX_OFFSET, PartitionReplay
from tests.core.engine.scenarios import rich_log
from tests.worker.pipeline import P, Pipeline


@lru_cache
def published() -> tuple[tuple[int, tuple[Rendered, ...]], ...]:
    """Returns what each record of a log that tells of everything puts out, with its offset."""
    engine = Engine(0)
    return tuple(
        (offset, tuple(o for output in engine.apply(offset, time_ns, value) if (o := render(output)).value))
        for offset, (time_ns, value) in enumerate(rich_log())
    )


Topics = dict[str, list[bytes]]


def topics() -> Topics:
    """Returns what the topics hold of it."""
    held: Topics = defaultdict(list)
    for _, outputs in published():
        for output in outputs:
            held[output.topic].append(output.value)
    return held


def compared(
    held: Topics, *, saved_offset: int = MAX_OFFSET, oldest: dict[str, int] | None = None, end: int | None = None
) -> PartitionReplay:
    """Returns how topics compare with a fold of the log, or of the part of it before `end`."""
    waiting = {name: [event for value in values if (event := Live.of(value))] for name, values in held.items()}
    comparison = Comparison(0, saved_offset=saved_offset, oldest=oldest)
    for offset, outputs in published()[:end]:
        live: dict[str, list[Live]] = {}
        for name, events in waiting.items():
            while events and events[0].offset <= offset:
                live.setdefault(name, []).append(events.pop(0))
        comparison.record(offset, outputs, live)
    comparison.finish({name: events for name, events in waiting.items() if events})
    records = len(published()[:end])
    found = {name: comparison.topics[name] for name in OUTPUTS}
    return PartitionReplay(partition=0, log=Stretch(first=0, end=records), saved_offset=saved_offset, topics=found)


def said(*replayed: PartitionReplay) -> str:
    return "\n".join(lines(replayed, "qma."))


def test_what_a_fold_publishes_is_equal_on_every_topic():
    held = topics()

    result = compared(held)

    assert {name: found.equal for name, found in result.topics.items()} == {
        name: len(held.get(name, [])) for name in OUTPUTS
    }
    assert all(held[name] for name in ("sli", "burn-rate", "budget", "certificate", "deadletter", "status"))
    assert exit_code([result]) == 0
    assert said(result).splitlines()[-1].startswith(f"equal: {sum(map(len, held.values())):,} events, ")


def test_one_field_that_was_changed_is_named_with_both_values():
    held = topics()
    event = orjson.loads(held["sli"][100])
    event["data"]["minute"]["n"] += 1
    held["sli"][100] = orjson.dumps(event)

    result = compared(held)

    assert exit_code([result]) == 1
    [difference] = result.topics["sli"].differences
    n = event["data"]["minute"]["n"]
    assert (difference.id, difference.kind) == (event["id"], Kind.DIFFERS)
    assert difference.fields == (FieldDifference(path="data.minute.n", live=n, folded=n - 1),)
    assert f"data.minute.n: published {n}, the log gives {n - 1}" in said(result)
    assert "DIFFERENT: 1 event not as this version gives it" in said(result)


def test_an_event_that_is_lost_and_one_that_is_repeated_are_differences():
    held = topics()
    lost = orjson.loads(held["certificate"].pop(3))["id"]
    held["burn-rate"].insert(1, held["burn-rate"][0])
    repeated = orjson.loads(held["burn-rate"][0])["id"]

    result = compared(held)

    assert exit_code([result]) == 1
    assert [(d.id, d.kind) for d in result.topics["certificate"].differences] == [(lost, Kind.MISSING)]
    assert [(d.id, d.kind) for d in result.topics["burn-rate"].differences] == [(repeated, Kind.EXTRA)]
    assert result.topics["burn-rate"].equal == len(held["burn-rate"]) - 1


def test_bytes_count_and_not_what_they_mean():
    held = topics()
    held["budget"][0] = orjson.dumps(orjson.loads(held["budget"][0]), option=orjson.OPT_INDENT_2)

    [difference] = compared(held).topics["budget"].differences

    assert [found.path for found in difference.fields] == ["(bytes)"]


def test_statuses_that_later_ones_replaced_are_not_missed_but_those_that_are_there_count():
    held = topics()
    latest = {orjson.loads(value)["subject"]: value for value in held["status"]}
    held["status"] = [value for value in held["status"] if value in latest.values()]

    result = compared(held)

    assert exit_code([result]) == 0
    assert result.topics["status"].equal == len(latest)
    assert result.topics["status"].compacted > 0

    held["status"][0] = held["status"][0].replace(b'"told":true', b'"told":false').replace(b'"n":', b'"n":1')
    assert exit_code([compared(held)]) == 1


def test_what_is_behind_the_last_checkpoint_need_not_be_published():
    saved = published()[50][0]
    held = {name: [value for value in values if _offset(value) <= saved] for name, values in topics().items()}

    result = compared(held, saved_offset=saved)

    assert exit_code([result]) == 0
    assert result.topics["sli"].unpublished > 0
    assert "not published yet" in said(result)

    held["sli"].pop()
    assert exit_code([compared(held, saved_offset=saved)]) == 1


def test_what_expired_from_a_topic_is_not_missed():
    held = topics()
    held["deadletter"] = held["deadletter"][1:]
    held["sli"] = held["sli"][40:]

    result = compared(held, oldest={"sli": _offset(held["sli"][0])})

    assert result.topics["sli"].expired == 40
    assert result.topics["sli"].different == 0
    assert result.topics["deadletter"].different == 1  # this one still holds its first record


def test_an_event_in_the_wrong_place_is_one_too_many():
    held = topics()
    held["sli"].append(held["sli"][0])

    [difference] = compared(held).topics["sli"].differences

    assert difference.kind is Kind.EXTRA


def test_events_from_behind_the_end_of_the_log_are_not_known():
    result = compared(topics(), end=50)

    assert exit_code([result]) == 2
    assert result.topics["sli"].beyond > 0
    assert result.topics["sli"].different == 0
    assert "behind the end of the log" in said(result)


def test_a_log_that_begins_later_cannot_be_folded_and_the_others_are_compared():
    other = PartitionReplay(
        partition=1, log=Stretch(first=7, end=9), saved_offset=8, why_not="qma.shuffle/1 begins at offset 7: …"
    )

    replayed = [compared(topics()), other]

    assert exit_code(replayed) == 2
    assert "of 1 of 2 partitions folded" in said(*replayed)
    assert "not compared: qma.shuffle/1 begins at offset 7" in said(*replayed)
    assert as_object(replayed)["verdict"] == "not known"
    assert as_object(replayed)["partitions"][1]["not_compared"] == other.why_not


def test_without_a_published_event_nothing_is_known():
    nothing = compared({}, saved_offset=-1)

    assert exit_code([nothing]) == 2
    assert said(nothing).splitlines()[-1] == "not known: nothing is published yet; is a `qma worker` running?"


def test_a_record_that_is_no_event_is_none():
    assert Live.of(b"not JSON") is None
    assert Live.of(b'{"id": "x", "data": {}}') is None


@pytest.mark.parametrize(
    ("live", "folded", "paths"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ["a[1].b"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a"]),
        ({"a": 1}, {"a": 1.0}, ["a"]),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, ["b", "c"]),
        ({"a": None}, {"a": {}}, ["a"]),
    ],
)
def test_every_field_that_differs_is_found(live: object, folded: object, paths: list[str]):
    found = field_differences(orjson.dumps(live), orjson.dumps(folded))

    assert [difference.path for difference in found] == paths


def test_results_of_partitions_add_up():
    one = compared(topics())

    both = as_object([one, replace(one, partition=1)])

    assert both["verdict"] == "equal"
    assert both["topics"]["sli"]["equal"] == 2 * one.topics["sli"].equal


def _offset(value: bytes) -> int:
    offset: int = orjson.loads(value)["data"]["log"]["offset"]
    return offset


@pytest.fixture
def pipeline(kafka: LocalKafka, topic_prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    """A pipeline of two partitions, whose worker has published what the first twenty records of each put out."""
    made = Pipeline(kafka.bootstrap, topic_prefix, tmp_path)
    worker = made.start()
    for partition in range(P):
        made.append(20, partition=partition)
    worker.until(lambda: worker.checkpointed(19, 19), "published")
    worker.signal(signal.SIGTERM)
    worker.exit_code()
    yield made
    made.close()


def run(pipeline: Pipeline, *line: str) -> tuple[int, str]:
    """Runs a command on the pipeline. Returns exit code and what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        parser = argparse.ArgumentParser()
        {"replay": replay, "explain": explain}[line[0]].configure(parser)
        options = ["--broker", pipeline.options.bootstrap, "--prefix", pipeline.options.prefix]
        arguments = parser.parse_args([*line[1:], *options])
        code = arguments.run(arguments)
    return code, out.getvalue()


def publish_again(pipeline: Pipeline, topic: str, text: bytes, instead: bytes) -> None:
    """Writes the first event of a topic to its end once more, with another text in it."""

    async def publish() -> None:
        at = TopicPartition(f"{pipeline.options.prefix}{topic}", 0)
        reader = await assigned_reader(pipeline.options.bootstrap)
        producer = await ingest_producer(pipeline.options.bootstrap)
        try:
            reader.assign([at])
            reader.seek(at, 0)
            value = (await reader.getmany(at, timeout_ms=10_000))[at][0].value
            assert value is not None
            assert text in value
            await (await producer.send(at.topic, value.replace(text, instead, 1), partition=0))
        finally:
            await stop(reader)
            await stop(producer)

    asyncio.run(publish())


@pytest.mark.kafka
def test_what_a_worker_published_is_what_the_log_gives_and_what_is_not_is_found(pipeline: Pipeline):
    prefix, ids = pipeline.options.prefix, pipeline.published(0)

    code, text = run(pipeline, "replay")
    assert code == 0, text
    assert f"{prefix}shuffle: 40 log records of 2 of 2 partitions folded from the first one on" in text
    result = orjson.loads(run(pipeline, "replay", "--partition", "0", "--json")[1])
    assert {name: result["topics"][name]["equal"] for name in ids} == {name: len(of) for name, of in ids.items()}
    assert result["topics"]["status"]["equal"] > 0

    event = ids["sli"][-1]
    code, text = run(pipeline, "explain", event, "--recount")
    assert code == 0, text
    assert "fold: equal, byte for byte" in text
    assert "rows of the minute: equal" in text
    assert re.search(rf"published +{prefix}sli/0 offset \d+", text)
    assert re.search(r"sources +otlp_spans/0: all offsets before \d+", text)
    window = event.partition(".")[0]
    assert orjson.loads(run(pipeline, "explain", window, "--json")[1])["event"]["id"] == event
    assert run(pipeline, "explain", "0" * 32)[0] == 2

    publish_again(pipeline, "sli", b'"n":', b'"n":1')
    code, text = run(pipeline, "replay")
    assert code == 1
    assert "the topic has it, the log does not give it" in text

    pipeline.delete_log_before(3, partition=0)
    code, text = run(pipeline, "replay")
    assert code == 2
    assert f"not compared: {prefix}shuffle/0 begins at offset 3" in text
    assert run(pipeline, "explain", event, "--recount")[0] == 2
