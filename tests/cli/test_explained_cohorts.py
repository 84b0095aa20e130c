"""What `qma explain` says of cohorts that were found: they are in no configuration, and are recounted all the same."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from stream.cli.explain import _recount
from stream.cli.explained import lines
from stream.cli.explained_events import Explanation
from stream.core.engine import Engine
from stream.core.events import AlertEvent, SliEvent
from stream.core.log import decode_record
from stream.core.rendering import render
from stream.replay.evidence import Definition, count_differences, folded, minute_of_event
from stream.replay.recount import MinuteRecount
from tests.cli.test_explained_composites import published
from tests.core.engine.cohort_oracle import objectives
from tests.core.engine.log_writer import LogWriter, bundle, minute_by_minute
from tests.core.engine.test_cohorts import minute

OTHERS = ("a", 1_000, 10), ("", 50, 0)
WRITER = LogWriter(bundle(*objectives()))
minute_by_minute(WRITER, [minute(i, *OTHERS, *([("c", 100, 50)] if i >= 3 else [])) for i in range(20)])


def explained(wanted: Any) -> tuple[SliEvent | AlertEvent, Definition, str]:
    """Returns the first output that is wanted, and what is said of it."""
    engine = Engine(0)
    for offset, (time_ns, value) in enumerate(WRITER.log):
        outputs = engine.apply(offset, time_ns, value)
        for output in outputs:
            if wanted(output):
                assert isinstance(output, SliEvent | AlertEvent)
                event = published(output)
                fold = folded(event, engine, [render(one) for one in outputs])
                assert fold.definition is not None
                said = Explanation(prefix="qma.", event=event, fold=fold, definition=fold.definition)
                if output.objective.name.endswith("__other__"):  # nothing is read for it
                    said.rows = asyncio.run(_recount(cast(Any, None), event, fold.definition))
                return output, fold.definition, "\n".join(lines(said))
    raise AssertionError("there is none")


def is_sli_of(name: str) -> Any:
    return lambda output: isinstance(output, SliEvent) and output.objective.name == name


def test_the_alert_of_one_names_its_value():
    alert, definition, said = explained(lambda output: isinstance(output, AlertEvent))
    assert definition.objective == alert.objective
    assert "with k8s.pod.name=c succeed" in said
    assert "fold: equal, byte for byte" in said
    assert "the cohort is more than 10 % worse than everyone" in said


def test_rows_of_one_are_recounted():
    output, definition, _ = explained(is_sli_of("availability@c"))
    event = published(output)
    at = minute_of_event(event)
    assert at is not None
    recount = MinuteRecount(definition.objective, since=0, bundle=definition.bundle, minute=at)
    for time_ns, value in WRITER.log[: event.log[1] + 1]:
        recount.add(decode_record(value), time_ns)
    assert (recount.count.n, recount.count.n_bad) == (100, 50)
    assert count_differences(event.data["minute"], recount.count) == []


def test_what_is_in_none_is_not():
    _, _, said = explained(is_sli_of("availability@__other__"))
    assert "requests of no k8s.pod.name that has a cohort of its own succeed" in said
    assert "depends on which cohorts there were when it came" in said
