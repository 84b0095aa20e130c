"""`qma backfill`: what it refuses and why, and what it says."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from stream.cli import status
from stream.cli.backfill import Since, Standing, _since, chosen, prepare
from stream.cli.backfilled import Outcome, Stage, as_object, exit_code, lines
from stream.core.cells import COLUMNS, Column
from stream.core.engine.backfill import NO_CELLS, Backfill, CellColumns
from stream.core.engine.services import ObjectiveState
from stream.core.errors import ConfigError
from stream.core.slo.calendar import Calendar
from stream.core.slo.spec import BudgetingMethod, Bundle, Objective, Slices, SliSignal, Source
from stream.core.units import DAY_MINUTES, HOUR_MINUTES

SCHEMAS = Path(__file__).parents[2] / "schemas"
NOW = 29_500_020
"""The first minute that has not closed; a full hour and 0 min."""

PERIOD = Calendar(name="weeks", boundaries=tuple(NOW - 3 * DAY_MINUTES + i * 7 * DAY_MINUTES for i in range(-2, 3)))


def objective(name: str = "availability", **rest) -> Objective:
    return Objective(
        **{"service": "prod/shop/checkout", "name": name, "target": "0.99", "window_minutes": 43_200, **rest}
    )


def bundle(*objectives: Objective) -> Bundle:
    return Bundle(
        pipeline="test",
        generation="1",
        partitions=1,
        sources=(Source(topic="otlp_spans", encoding="otlp_proto"), Source(topic="events", encoding="flat")),
        objectives=objectives,
        calendars=(PERIOD,),
    )


def standing(about: Objective, *, version: int = 7, closed_until: int | None = NOW, **own) -> Standing:
    state = ObjectiveState(**{"since": 7, "start_minute": NOW - 100, **own})
    return Standing(version=version, closed_until=closed_until, states={about.digest: state})


def prepared(about: Objective, known: Standing, since: Since | None = None):
    return prepare(bundle(about), 7, 0, [about], known, since)


def why_not(about: Objective, known: Standing, since: Since | None = None) -> str:
    job, [refused] = prepared(about, known, since)
    assert not job.wanted
    assert refused.stage is Stage.NOTHING
    return str(refused.why_not)


@pytest.mark.parametrize(
    ("text", "closed", "minute"),
    [
        ("90m", NOW, NOW - 90),
        ("12h", NOW, NOW - 720),
        ("7d", NOW, NOW - 7 * DAY_MINUTES),
        ("2w", NOW, NOW - 14 * DAY_MINUTES),
        ("1970-01-02T00:30Z", NOW, DAY_MINUTES + 30),
        ("1970-01-02T00:30:40", NOW, DAY_MINUTES + 30),
        ("1970-01-02T02:30+02:00", NOW, DAY_MINUTES + 30),
    ],
)
def test_since_is_a_length_or_a_time(text: str, closed: int, minute: int):
    assert _since(text).before(closed) == minute


@pytest.mark.parametrize("text", ["", "7", "0d", "-7d", "7 days", "yesterday", "1.5h"])
def test_anything_else_is_refused_with_examples(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match="neither a length such as 12h, 7d or 2w nor a time such as"):
        _since(text)


def test_an_unknown_objective_is_named_with_what_was_probably_meant():
    configured = bundle(objective("checkout-latency"), objective("checkout-availability"))

    assert [o.name for o in chosen(configured, None)] == ["checkout-latency", "checkout-availability"]
    assert [o.name for o in chosen(configured, ["checkout-availability"])] == ["checkout-availability"]
    with pytest.raises(ConfigError, match="no objective 'checkout-latncy' is configured; did you mean `checkout-lat"):
        chosen(configured, ["checkout-latncy"])
    with pytest.raises(ConfigError, match="`qma status` shows those that there are"):
        chosen(configured, ["payments"])


def test_it_goes_back_to_where_the_window_begins_and_to_the_hour_before_its_old_edge():
    about, by_calendar = objective(), objective(calendar=PERIOD.name, window_minutes=7 * DAY_MINUTES)

    job, refused = prepared(about, standing(about))
    assert refused == []
    assert job.earliest == ((NOW - 43_200 - 8 * HOUR_MINUTES) // 60 * 60,)
    assert (job.wanted[0].since, job.wanted[0].begins_at, job.version) == (7, NOW - 100, 7)
    assert job.topics() == ["events", "otlp_spans"]
    assert prepared(about, standing(about), Since(500, True))[0].earliest == (NOW - 500,)
    assert prepared(about, standing(about), Since(0, False))[0].earliest == job.earliest
    of_period = (NOW - 3 * DAY_MINUTES - 8 * HOUR_MINUTES) // 60 * 60
    assert prepared(by_calendar, standing(by_calendar))[0].earliest == (of_period,)


def test_a_second_run_begins_where_the_first_one_ended():
    about = objective()
    filled = standing(about, backfilled=(NOW - 900, NOW - 100))

    assert prepared(about, filled)[0].wanted[0].begins_at == NOW - 900
    assert "already reaches back" in why_not(about, filled, Since(900, True))


def test_what_cannot_be_counted_says_why():
    about = objective()
    composite = objective(signal=SliSignal.INDICATORS)
    sliced = objective(method=BudgetingMethod.TIMESLICES, slices=Slices(minutes=5, target="0.9"))
    finder = objective(finds="k8s.pod.name", cohort="k8s.pod.name=__other__")

    assert "made of what other objectives have published" in why_not(composite, standing(composite))
    assert "which cohorts there were then is not known" in why_not(finder, standing(finder))
    assert "no checkpoint knows it yet" in why_not(about, Standing(states={}))
    assert "no checkpoint knows it yet" in why_not(about, standing(about, version=6))
    assert "no checkpoint knows it yet" in why_not(about, standing(objective("another")))
    for early in (
        standing(about, start_minute=None),
        standing(about, start_minute=NOW),
        standing(about, closed_until=None),
    ):
        assert "has not begun yet" in why_not(about, early)
    assert "has not begun yet" in why_not(sliced, standing(sliced, start_minute=NOW - 4))
    assert "older messages came behind" in why_not(about, standing(about, backfilled=(NOW - 900, NOW - 200)))


def outcome(stage: Stage, *, name: str = "availability", **rest) -> Outcome:
    values = np.zeros((COLUMNS, 2), np.int64)
    values[Column.N], values[Column.N_BAD] = [900, 100], [10, 15]
    events = CellColumns(minute=np.array([NOW - 3000, NOW - 101], np.int64), values=values)
    section = Backfill(
        service="prod/shop/checkout",
        digest="0" * 64,
        first_minute=NOW - 3100,
        end_minute=NOW - 100,
        events=events,
        slices=events if "slices" in rest else NO_CELLS,
    )
    sections = () if stage is Stage.NOTHING else (section,)
    return Outcome(objective=objective(name, **rest), stage=stage, sections=sections, messages=1234, why_not="because")


def test_what_was_counted_is_said_with_its_span_and_its_share():
    first, last = lines([outcome(Stage.BOOKED)])

    assert first == (
        "prod/shop/checkout availability: 2 d 2 h from 2026-01-30T23:20Z to 2026-02-02T01:20Z: 1,000 counted, 25 bad "
        "(2.5 %); 1,234 messages were read"
    )
    assert last.startswith("booked: it is in every window from the next minute on")
    found = as_object(outcome(Stage.DRY_RUN, slices=Slices(minutes=5, target="0.9")))
    assert (found["start"], found["n"], found["n_bad"], found["slices"], found["slices_bad"]) == (
        "2026-01-30T23:20Z",
        1000,
        25,
        1000,
        25,
    )
    assert as_object(outcome(Stage.NOTHING)) | {"objective_digest": ""} == {
        "service": "prod/shop/checkout",
        "objective": "availability",
        "objective_digest": "",
        "stage": "nothing",
        "why_not": "because",
    }


def test_what_counts_nowhere_is_said():
    told, _ = lines([replace(outcome(Stage.BOOKED), between=1234)])

    assert told.endswith("; 1,234 between the last points before the log and the first in it count nowhere")
    assert as_object(replace(outcome(Stage.BOOKED), between=1234))["uncounted_between"] == 1234


@pytest.mark.parametrize(
    ("stages", "named", "code", "says"),
    [
        ([Stage.BOOKED, Stage.NOTHING], False, 0, "booked"),
        ([Stage.BOOKED, Stage.NOTHING], True, 1, "booked"),
        ([Stage.NOTHING, Stage.NOTHING], False, 1, "nothing was written"),
        ([Stage.WRITTEN, Stage.BOOKED], False, 2, "written to the log"),
        ([Stage.DRY_RUN], True, 0, "a dry run"),
        ([Stage.IGNORED], False, 1, "run it again"),
    ],
)
def test_the_exit_code_and_the_last_sentence_say_how_far_it_came(
    stages: list[Stage], named: bool, code: int, says: str
):
    outcomes = [outcome(stage, name=f"o{number}") for number, stage in enumerate(stages)]

    assert exit_code(outcomes, named) == code
    assert says in list(lines(outcomes))[-1]


def test_the_status_says_how_much_of_the_window_is_backfilled():
    event = orjson.loads((SCHEMAS / "conformance" / "status.v1" / "valid" / "quiet.json").read_bytes())
    event["data"]["window"]["backfilled_minutes"] = 603

    [_, row] = status.lines(status.standings([orjson.dumps(event)], "*", 0))

    assert row.endswith("10 h backfilled")
