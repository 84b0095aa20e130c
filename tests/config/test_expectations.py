"""What tells how many events there must be: read exactly, and refused with its place where it cannot tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stream.config.bundle import make_bundle
from stream.config.sources import own_indicators
from stream.core.slo.spec import Objective, Settings, Source, decode_bundle
from tests.config.reading import ROLLING, document, loaded, only, ratio, raw, read, slo

METRIC = "signal: metrics, metric: http.server.request.duration"


def counted(**rest: str) -> str:
    """Returns an SLO on the metric that counts the same requests."""
    return slo(ratio(METRIC, "good: {duration_lte: 250ms}"), name="counted", **rest)


def refused(*documents: str) -> list[tuple[str, int, int, str]]:
    """Returns the path, line, column and message of every problem."""
    _, problems = read(*documents)
    return [(p.path, p.position.line, p.position.column, p.message) for p in problems if not p.is_warning]


def expecting(name: str, more: str = "", **rest: str) -> str:
    """Returns an SLO on spans that expects as many events as another objective counts."""
    return slo(annotations=f"qma/expected-from: {name}{more}", **rest)


def test_a_metric_of_the_same_requests_tells_how_many_there_must_be() -> None:
    first, second = loaded(expecting("counted", ', qma/expected-tolerance: "0.50%"'), counted()).objectives
    assert (first.expected_from, first.expected_tolerance) == ("counted", "0.005")
    assert float(first.expected_share) == 0.995
    assert second.expected_from is None
    assert second.expected_share == 1


def test_a_cohort_is_not_expected_to_have_all_events() -> None:
    indicator = ratio("cohorts: {tier: gold}")
    objectives = loaded(expecting("counted", indicator=indicator), counted()).objectives
    assert [(o.name, o.expected_from) for o in objectives] == [
        ("slo", "counted"),
        ("slo@gold", None),
        ("slo@__other__", None),
        ("counted", None),
    ]


def test_it_changes_what_is_claimed_and_an_objective_without_it_is_the_one_it_was() -> None:
    plain, paired = only(slo()), loaded(expecting("counted"), counted()).objectives[0]
    assert plain.digest != paired.digest
    assert "expected_from" not in plain.dump()


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (
            (expecting("countd"), counted()),
            "no SLO in the given files has the objective `countd`; did you mean `counted`?",
        ),
        ((expecting("traffic"),), "no SLO in the given files has the objective `traffic`; pass the file with its SLO"),
        ((expecting("slo"),), "names an objective of this SLO, which tells nothing new"),
        (
            (expecting("counted"), counted(service="cart")),
            "`counted` is about production/-/cart, and only objectives of",
        ),
        ((expecting("full"), slo(raw("success", METRIC), name="full")), "`full` is made of ratios, and only events"),
        (
            (expecting("counted"), counted(annotations="qma/expected-from: slo")),
            "goes round in a circle, slo → counted → slo; remove one of these annotations",
        ),
        (
            (
                expecting(
                    "counted",
                    objectives="{target: 0.99, timeSliceTarget: 0.9, timeSliceWindow: 5m}",
                    method="Timeslices",
                ),
                counted(),
            ),
            "is a number of events, and this budget is made of slices of time",
        ),
    ],
)
def test_what_cannot_tell_is_refused_at_the_annotation(documents: tuple[str, ...], message: str) -> None:
    path, line, column, found = refused(*documents)[0]
    assert (path, line) == ("metadata.annotations.qma/expected-from", 4)
    assert documents[0].splitlines()[line - 1][column - 1 :].startswith(documents[0].split("expected-from: ")[1][:3])
    assert found.startswith(message)


def test_a_composite_counts_no_events() -> None:
    spec = (
        "{service: checkout, environment: production, components: [{slo: slo}], target: 0.9, "
        f"timeWindow: [{ROLLING}]}}"
    )
    ((path, line, _, message),) = refused(expecting("all"), document("Composite", "all", spec, version="qma/v1"))
    assert (path, line) == ("metadata.annotations.qma/expected-from", 4)
    assert message.startswith("`all` is made of ratios, and only events compare")


def test_a_circle_of_three_is_one_for_each() -> None:
    third = slo(ratio("signal: logs"), name="third", annotations="qma/expected-from: slo")
    found = refused(expecting("counted"), counted(annotations="qma/expected-from: third"), third)
    assert [message.partition(";")[0] for *_, message in found] == [
        "goes round in a circle, slo → counted → third → slo",
        "goes round in a circle, counted → third → slo → counted",
        "goes round in a circle, third → slo → counted → third",
    ]


def test_who_only_leads_to_a_circle_is_not_refused() -> None:
    own = counted(annotations="qma/expected-from: third")
    third = slo(ratio("signal: logs"), name="third", annotations="qma/expected-from: counted")
    assert len(refused(expecting("counted"), own, third)) == 2


@pytest.mark.parametrize("text", ["0%", "100%", "0.5", "-1%", "0.0000000001%", "five%", "1e1%"])
def test_tolerances_that_are_none(text: str) -> None:
    ((path, _, _, message),) = refused(expecting("counted", f', qma/expected-tolerance: "{text}"'), counted())
    assert path == "metadata.annotations.qma/expected-tolerance"
    assert "is no share; write more than 0" in message


def test_a_tolerance_of_nothing_has_no_effect() -> None:
    ((path, _, _, message),) = refused(slo(annotations='qma/expected-tolerance: "1%"'))
    assert path == "metadata.annotations.qma/expected-tolerance"
    assert message.startswith("is a tolerance of what `qma/expected-from` tells")


def test_a_floor_is_a_number_of_events_as_well() -> None:
    sliced = "{target: 0.99, timeSliceTarget: 0.9, timeSliceWindow: 5m}"
    found = refused(slo(None, sliced, method="Timeslices", annotations='qma/floor-per-hour: "10"'))
    assert [path for path, *_ in found] == ["metadata.annotations.qma/floor-per-hour"]


def test_what_may_be_in_a_document_that_cannot_be_read_is_not_looked_for() -> None:
    broken = document("SLO", "counted", "{service: checkout")
    assert all("expected-from" not in path for path, *_ in refused(expecting("counted"), broken))


# qma/lost-by

COLLECTOR = "signal: metrics, metric: otelcol_receiver_accepted_spans"


def lost(name: str = "lost", part: str = "bad", **rest: str) -> str:
    """Returns an SLO of a Collector on what it could not send."""
    what = "failed" if part == "bad" else "sent"
    indicator = ratio(f"signal: metrics, metric: otelcol_exporter_{what}_spans", "", part=part, total=COLLECTOR)
    return slo(indicator, name=name, **{"service": "otelcol", **rest})


def losing(names: str, **rest: str) -> str:
    """Returns an SLO on spans of which others tell what was lost."""
    return slo(annotations=f'qma/lost-by: "{names}"', **rest)


def test_a_collector_tells_what_was_lost() -> None:
    objectives = loaded(losing("lost, also"), lost(), lost("also", service="gateway")).objectives
    assert objectives[0].lost_by == ("lost", "also")
    assert objectives[0].digest != loaded(slo()).objectives[0].digest
    assert "lost_by" not in objectives[1].dump()
    assert Objective.load(objectives[0].dump()) == objectives[0]


def test_what_is_lost_is_not_told_of_cohorts() -> None:
    objectives = loaded(losing("lost", indicator=ratio("cohorts: {tier: gold}")), lost()).objectives
    assert [o.lost_by for o in objectives] == [("lost",), (), (), ()]


def test_one_service_may_tell_what_another_or_itself_lost() -> None:
    assert loaded(losing("lost"), lost(service="checkout")).objectives[0].lost_by == ("lost",)
    both = losing("lost, slow"), lost(), slo(ratio("signal: logs"), name="slow", annotations="qma/lost-by: lost")
    assert [o.lost_by for o in loaded(*both).objectives] == [("lost", "slow"), (), ("lost",)]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ((losing("lots"), lost()), "no SLO in the given files has the objective `lots`; did you mean `lost`?"),
        ((losing("lost, collector"), lost()), "no SLO in the given files has the objective `collector`; pass the file"),
        ((losing("slo"),), "names an objective of this SLO, whose bad events came; name the one that counts"),
        ((losing("lost"), lost(part="good")), "`lost` counts what was sent, and what still waits is not lost; count"),
        (
            (losing("full"), slo(raw("success", METRIC), name="full")),
            "`full` is made of ratios, and losses are counted",
        ),
        (
            (losing("lost", indicator=ratio(METRIC, "good: {duration_lte: 250ms}")), lost()),
            "counts items that were lost, and a lost point of a metric may stand for any number of events;",
        ),
        (
            (losing("two"), slo(name="two", objectives="{target: 0.9, displayName: a}, {target: 0.8, displayName: b}")),
            "`two` has several objectives; name one of `two/a`, `two/b`",
        ),
        (
            (
                losing(
                    "lost",
                    objectives="{target: 0.99, timeSliceTarget: 0.9, timeSliceWindow: 5m}",
                    method="Timeslices",
                ),
                lost(),
            ),
            "is a number of events, and this budget is made of slices of time",
        ),
    ],
)
def test_who_cannot_tell_what_was_lost_is_refused_at_the_annotation(documents: tuple[str, ...], message: str) -> None:
    ((path, line, column, found),) = refused(*documents)
    assert (path, line) == ("metadata.annotations.qma/lost-by", 4)
    assert documents[0].splitlines()[3][column - 1 :].startswith('"')
    assert found.startswith(message)


def test_a_composite_tells_no_losses() -> None:
    spec = (
        f"{{service: all, environment: production, components: [{{slo: lost}}], target: 0.9, timeWindow: [{ROLLING}]}}"
    )
    whole = document("Composite", "all", spec, version="qma/v1")
    ((path, *_, message),) = refused(losing("all"), lost(), whole)
    assert path == "metadata.annotations.qma/lost-by"
    assert message.startswith("`all` is made of ratios, and losses are counted")


@pytest.mark.parametrize("text", [",", "a,", "a,,b", "a, a", ",".join(f"slo-{i}" for i in range(11))])
def test_lists_of_names_that_are_none(text: str) -> None:
    ((path, _, _, message),) = refused(losing(text), lost())
    assert path == "metadata.annotations.qma/lost-by"
    assert "is no list of names; write 1 to 10 names of objectives" in message


def test_losses_are_heard_through_our_own_indicators() -> None:
    arguments: dict[str, Any] = {
        "previous": None,
        "pipeline": "qma",
        "generation": "1",
        "partitions": 8,
        "prefix": "shop.",
        "sources": (
            Source(topic="otlp_spans", encoding="otlp_proto"),
            Source(topic="otlp_metrics", encoding="otlp_proto", signal="metrics"),
        ),
        "settings": Settings(),
    }
    asking = loaded(losing("lost"), lost()).objectives
    bundle = make_bundle(asking, **arguments)
    assert bundle.sources[-1] == own_indicators("shop.")
    assert decode_bundle(bundle.encode()) == bundle
    assert bundle.asked == {(asking[1].service, "lost"): [replace(asking[0], since=None)]}
    assert own_indicators("shop.") not in make_bundle(loaded(slo(), lost()).objectives, **arguments).sources
