"""Versions of the configuration: what did not change keeps its history, what may not change is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stream.config.bundle import make_bundle
from stream.config.sources import source_text
from stream.core.errors import ConfigError
from stream.core.slo.calendar import Calendar
from stream.core.slo.declared import Adjustment, Mute
from stream.core.slo.spec import Bundle, Objective, Settings, SliSignal, Source, decode_bundle

SOURCES = (Source(topic="otlp_spans", encoding="otlp_proto"), Source(topic="telemetry.events", encoding="flat"))
LOGS = Source(topic="otlp_logs", encoding="otlp_json", signal="logs")
FAST = Objective(
    service="production/-/checkout", name="fast", target="0.95", window_minutes=43200, duration_lte_ns=200_000_000
)
GOOD = Objective(service="production/-/checkout", name="good", target="0.999", window_minutes=43200)


def bundle(*objectives: Objective, previous: tuple[int, Bundle] | None = None, **changes: Any) -> Bundle:
    arguments: dict[str, Any] = {
        "pipeline": "qma",
        "generation": "1",
        "partitions": 32,
        "prefix": "qma.",
        "sources": SOURCES,
        "settings": Settings(),
    }
    return make_bundle(objectives, previous=previous, **(arguments | changes))


def since(made: Bundle) -> dict[str, int | None]:
    return {objective.name: objective.since for objective in made.objectives}


def test_the_first_bundle_counts_from_its_own_version() -> None:
    assert since(bundle(GOOD, FAST)) == {"fast": None, "good": None}


def test_an_unchanged_objective_keeps_the_version_it_counts_from() -> None:
    first = bundle(GOOD)
    second = bundle(GOOD, FAST, previous=(7, first))
    third = bundle(GOOD, FAST, previous=(12, second))
    fourth = bundle(FAST, GOOD, previous=(13, third), settings=Settings(publish_sketches=True))
    assert since(second) == {"fast": None, "good": 7}
    assert since(third) == {"fast": 12, "good": 7}
    assert since(fourth) == {"fast": 12, "good": 7}


def test_version_0_is_a_version() -> None:
    second = bundle(GOOD, previous=(0, bundle(GOOD)))
    assert since(second) == {"good": 0}
    assert since(bundle(GOOD, previous=(5, second))) == {"good": 0}


@pytest.mark.parametrize(
    "change",
    [{"target": "0.99"}, {"window_minutes": 40320}, {"kinds": (2,)}, {"duration_lte_ns": 1}, {"sampling_none": True}],
)
def test_an_edited_objective_starts_anew_and_its_neighbours_do_not(change: dict[str, Any]) -> None:
    values: dict[str, Any] = {"service": GOOD.service, "name": "good", "target": "0.999", "window_minutes": 43200}
    edited = Objective(**(values | change))
    second = bundle(edited, FAST, previous=(7, bundle(GOOD, FAST)))
    assert since(second) == {"fast": 7, "good": None}


def test_an_objective_that_comes_back_starts_anew() -> None:
    without = bundle(FAST, previous=(7, bundle(GOOD, FAST)))
    assert since(bundle(GOOD, FAST, previous=(8, without))) == {"fast": 7, "good": None}


def test_the_order_of_objectives_does_not_change_the_bytes_and_they_survive_the_topic() -> None:
    made = bundle(GOOD, FAST)
    assert made.encode() == bundle(FAST, GOOD).encode()
    assert decode_bundle(made.encode()) == made
    assert since(bundle(GOOD, FAST, previous=(3, decode_bundle(made.encode())))) == {"fast": 3, "good": 3}


def test_calendars_adjustments_and_mutes_are_carried_and_survive_the_topic() -> None:
    month = Calendar(name="1M@2026-01-01T00:00:00 UTC", boundaries=(29453760, 29498400))
    declared: dict[str, Any] = {
        "calendars": (month,),
        "adjustments": (Adjustment(name="move", objectives=("good",), start_minute=5, end_minute=9, reason="x"),),
        "mutes": (Mute(name="move", services=(), start_minute=5, end_minute=9, reason="x"),),
    }
    made = bundle(replace(GOOD, calendar=month.name), **declared)
    assert (made.calendars, made.adjustments, made.mutes) == tuple(declared.values())
    assert decode_bundle(made.encode()) == made


def test_a_declaration_changes_no_history() -> None:
    declared = (Adjustment(name="move", objectives=("good",), start_minute=5, end_minute=9),)
    assert since(bundle(GOOD, previous=(7, bundle(GOOD)), adjustments=declared)) == {"good": 7}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"partitions": 64}, "the partition count from 32 to 64"),
        ({"generation": "2"}, "the generation from 1 to 2"),
        ({"pipeline": "eu"}, "the pipeline from qma to eu"),
        ({"pipeline": "eu", "partitions": 8}, "the pipeline from qma to eu and the partition count from 32 to 8"),
    ],
)
def test_what_state_is_bound_to_cannot_change(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bundle(GOOD, previous=(7, bundle(GOOD)), **change)
    assert words in str(caught.value)
    assert "Keep the old values; or start fresh" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sources": ()}, "no source topic"),
        ({"sources": (SOURCES[0], SOURCES[0])}, "the source `otlp_spans` is listed twice"),
        # A worker that asks a broker for such a topic is refused, and ends.
        ({"sources": (Source(topic="my topic", encoding="flat"),)}, "the source `my topic` is not the name of a topic"),
        ({"sources": (Source(topic="..", encoding="flat"),)}, "the source `..` is not the name of a topic"),
        ({"sources": (Source(topic="t", encoding="xml"),)}, "write `otlp_proto`, `otlp_json`, `flat` or `auto`"),
        ({"sources": (Source(topic="t", encoding="oltp_json"),)}, "did you mean `otlp_json`?"),
        ({"sources": (Source(topic="t", encoding="auto", signal="log"),)}, "did you mean `logs`?"),
        (
            {"sources": (Source(topic="t", encoding="flat", signal="logs"),)},
            "the source `t` carries logs, which are never flat; write `otlp_proto`, `otlp_json` or `auto`",
        ),
        (
            {"sources": (Source(topic="t", encoding="otlp_proto", signal="events"),)},
            "carries events, which are never otlp_proto; write `flat` or `auto`",
        ),
        ({"partitions": 0}, "0 partitions"),
        ({"pipeline": "a/b"}, "the pipeline `a/b`"),
        ({"generation": ""}, "the generation ``"),
    ],
)
def test_malformed_arguments_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bundle(GOOD, **change)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("objective", "sources", "topic"),
    [
        (replace(GOOD, signal=SliSignal.METRICS, metric="m"), SOURCES, "otlp_metrics"),
        (replace(GOOD, signal=SliSignal.LOGS), SOURCES[:1], "otlp_logs"),
        (GOOD, (LOGS,), "otlp_spans"),
    ],
)
def test_an_objective_that_no_source_feeds_is_refused_with_the_source_to_add(
    objective: Objective, sources: tuple[Source, ...], topic: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        bundle(objective, sources=sources)
    listed = " ".join(f"--source {source_text(source)}" for source in sources)
    assert str(caught.value).endswith(f"for example: {listed} --source {topic}=otlp_proto")
    assert f"`good` counts {objective.signal}, which no source carries" in str(caught.value)


@pytest.mark.parametrize("source", SOURCES)
def test_objectives_on_spans_take_traces_or_flat_events(source: Source) -> None:
    assert bundle(GOOD, sources=(source,)).sources == (source,)
