"""Objectives on spans, logs and metrics side by side: each counts its own, and a threshold between bounds is said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stream.core.certificate.lifecycle import CertificateState, Reason
from stream.core.columns import Kind, RowFlag, Rows, Signal
from stream.core.engine import Engine
from stream.core.events import AlertEvent, CertificateEvent, Output, SketchEvent, SliEvent
from stream.core.log import LogRecord, Progress, SourceProgress, SourceRange, encode_record
from stream.core.points import MetricType, PointFlag, Points, Temporality
from stream.core.rendering import render
from stream.core.slo.alerts import AlertState
from stream.core.slo.spec import Bundle, SliSignal
from stream.core.units import MINUTE_NS, SECOND_NS, WEIGHT_ONE
from tests.core.engine.log_writer import SERVICE, T0_NS, bundle, objective
from tests.core.test_events import validator

SPANS = objective("spans")
LOGS = objective("logs", signal=SliSignal.LOGS, kinds=(), severity_lt=17)
FLAGS = objective("flags", signal=SliSignal.LOGS, kinds=(), event="feature_flag.evaluation")
FAST = objective(
    "fast", target="0.9", signal=SliSignal.METRICS, kinds=(), metric="duration", duration_lte_ns=200_000_000
)


def rows(offset: int, end_ns: int, found: list[dict[str, Any]]) -> Rows:
    """Returns rows of one message, each given by the columns that are not the default."""
    names = tuple(dict.fromkeys(["", *(row.get("name", "") for row in found)]))
    columns: dict[str, Any] = {
        name: np.array([row.get(name, default) for row in found])
        for name, default in {
            "signal": int(Signal.SPAN),
            "kind": int(Kind.SERVER),
            "severity": 0,
            "flags": 0,
            "duration_ns": SECOND_NS,
        }.items()
    }
    return Rows.of(
        len(found),
        **{name: values.astype(Rows.DTYPES[name]) for name, values in columns.items()},
        offset=np.full(len(found), offset, "int64"),
        name=np.array([names.index(row.get("name", "")) for row in found], "int32"),
        end_ns=np.full(len(found), end_ns, "int64"),
        count=np.ones(len(found), "int64"),
        weight=np.full(len(found), WEIGHT_ONE, "int64"),
        names=names,
        services=(SERVICE,),
        versions=("v1",),
    )


def histogram(offset: int, end_ns: int, counts: tuple[int, ...], bounds: tuple[float, ...]) -> Points:
    """Returns one delta histogram point of the minute that ends at `end_ns`."""

    def one(value: int, dtype: str = "int64") -> Any:
        return np.array([value], dtype)

    return Points.of(
        1,
        offset=one(offset),
        type=one(MetricType.HISTOGRAM, "int8"),
        temporality=one(Temporality.DELTA, "int8"),
        flags=one(PointFlag.MONOTONIC, "uint8"),
        start_ns=one(end_ns - MINUTE_NS),
        time_ns=one(end_ns),
        stream_lo=one(1),
        count=one(sum(counts)),
        buckets=np.array(counts, "int64"),
        bucket_first=np.array([0, len(counts)], "int64"),
        bounds_sets=(bounds,),
        services=(SERVICE,),
        versions=("v1",),
        names=("duration",),
        units=("s",),
    )


def fold(configured: Bundle, minutes: list[dict[str, Any]]) -> tuple[Engine, list[Output]]:
    """Folds one record a minute, with the given rows or points, and two more so that all of them close."""
    engine, outputs = Engine(0), []
    for number, found in enumerate([*minutes, {}, {}]):
        until_ns = T0_NS + (number + 1) * MINUTE_NS
        at_ns = until_ns - SECOND_NS
        value = encode_record(
            LogRecord(
                generation="1",
                partitions=1,
                incarnation="i",
                sequence=number,
                config_version=0,
                sources=(
                    SourceRange(
                        topic="events",
                        topic_id="id",
                        partition=0,
                        session="i",
                        first_offset=0,
                        next_offset=number + 1,
                    ),
                ),
                config=configured.encode() if number == 0 else None,
                rows=rows(number, at_ns, found["rows"]) if "rows" in found else None,
                points=histogram(number, at_ns, *found["histogram"]) if "histogram" in found else None,
                progress=Progress(
                    sources=(SourceProgress(source=0, began_ns=T0_NS, until_ns=until_ns, at_end=False),),
                    topic_partitions={"events": 1},
                ),
            )
        )
        outputs += engine.apply(number, until_ns, value)
    return engine, outputs


def indicators(outputs: list[Output], name: str) -> list[SliEvent]:
    return [o for o in outputs if isinstance(o, SliEvent) and o.objective.name == name]


def test_each_objective_counts_its_own_signal_and_says_no_data_without_it() -> None:
    found: list[dict[str, Any]] = [
        {"signal": Signal.SPAN},
        {"signal": Signal.EVENT, "flags": RowFlag.FAILED},
        {"signal": Signal.LOG, "kind": 0, "severity": 17, "flags": RowFlag.FAILED},
        {"signal": Signal.LOG, "kind": 0, "severity": 9, "name": "feature_flag.evaluation"},
    ]
    _, outputs = fold(bundle(SPANS, LOGS, FLAGS, FAST), [{"rows": found}])

    first = {name: indicators(outputs, name)[0].minute_sli for name in ("spans", "logs", "flags", "fast")}
    assert {name: (sli.n, sli.good) for name, sli in first.items()} == {
        "spans": (2, 1.0),
        "logs": (2, 1.0),
        "flags": (1, 1.0),
        "fast": (0, 0.0),
    }
    flags = json.loads(render(indicators(outputs, "fast")[0]).value)["data"]["flags"]
    assert (flags["no_data"], flags["inexact"]) == (True, False)


def test_durations_of_spans_alone_are_published() -> None:
    found = [{"signal": Signal.LOG, "kind": Kind.SERVER, "duration_ns": 9 * SECOND_NS}, {"signal": Signal.SPAN}]
    _, outputs = fold(bundle(SPANS, LOGS, publish_sketches=True), [{"rows": found}])

    (digest,) = [o for o in outputs if isinstance(o, SketchEvent)]
    assert digest.centroids == [{"m": 1.0, "c": 1.0}]


@pytest.mark.parametrize(
    ("bounds", "counts", "ratio", "unsure", "upper"),
    [
        ((0.1, 0.2, 0.5), (70, 10, 15, 5), 0.8, 0, 0.8),
        ((0.1, 0.5), (70, 25, 5), 0.7, 25, 0.95),
        ((0.5,), (95, 5), 0.0, 95, 0.95),
    ],
)
def test_a_threshold_between_two_bounds_gives_bounds_of_the_ratio(
    bounds: tuple[float, ...], counts: tuple[int, ...], ratio: float, unsure: int, upper: float
) -> None:
    _, outputs = fold(bundle(FAST), [{"histogram": (counts, bounds)}])

    event = indicators(outputs, "fast")[0]
    rendered = json.loads(render(event).value)
    minute = rendered["data"]["minute"]
    assert (minute["n"], minute["ratio"], minute["n_unsure"], minute["ratio_upper"]) == (100, ratio, unsure, upper)
    assert rendered["data"]["flags"]["inexact"] is (unsure > 0)
    assert not list(validator("sli").iter_errors(rendered))


def test_an_alert_goes_by_the_worse_ratio_and_says_so() -> None:
    quiet = {"histogram": ((100, 0, 0), (0.1, 0.5))}
    loud = {"histogram": ((5, 80, 15), (0.1, 0.5))}
    _, outputs = fold(bundle(replace(FAST, target="0.99")), [quiet] * 20 + [loud] * 20)

    alert = next(o for o in outputs if isinstance(o, AlertEvent) and o.state is AlertState.FIRING)
    assert alert.reading is not None
    assert alert.reading.long_sli.n_unsure > 0
    assert "lie in a bucket that holds the threshold and count as bad; if all of them were good" in alert.explanation
    assert not list(validator("burn-rate").iter_errors(json.loads(render(alert).value)))


def test_a_certificate_that_waits_for_evidence_names_the_bound_to_add() -> None:
    _, outputs = fold(bundle(FAST), [{"histogram": ((700, 250, 50), (0.1, 0.5))}] * 3)

    pending = [o for o in outputs if isinstance(o, CertificateEvent)][-1]
    assert pending.state is CertificateState.PENDING
    assert pending.reasons == (Reason.INSUFFICIENT_EVIDENCE, Reason.INEXACT)
    rendered = json.loads(render(pending).value)
    said = {reason["reason"]: reason["explanation"] for reason in rendered["data"]["reasons"]}
    assert "fast: make 0.2 (200 where the unit is ms) a bucket bound of duration" in said["inexact"]
    assert rendered["data"]["objectives"][0]["n_unsure"] == 250
    assert not list(validator("certificate").iter_errors(rendered))


def test_a_version_is_certified_where_the_worse_ratio_suffices() -> None:
    _, outputs = fold(bundle(FAST), [{"histogram": ((990, 5, 5), (0.1, 0.5))}] * 3)

    issued = [o for o in outputs if isinstance(o, CertificateEvent)][-1]
    assert (issued.state, issued.reasons) == (CertificateState.ISSUED, ())
    assert issued.assessments[0].n_unsure > 0
