"""Whether what tells how many events there must be can tell: floors, objectives named by `qma/expected-from`, and those
named by `qma/lost-by`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stream.config.annotations import EXPECTED_FROM, EXPECTED_TOLERANCE, FLOOR_PER_HOUR, LOST_BY, Annotations
from stream.config.documents import Document
from stream.config.objectives import Declared
from stream.config.problems import nearest, quoted
from stream.core.slo.spec import Objective, SliSignal


def check_expectations(documents: Iterable[Document], declared: Sequence[Declared], *, complete: bool) -> None:
    """Reports what no number of events can be expected of, or from.

    Args:
        documents: The SLOs.
        declared: All objectives.
        complete: No objective is missing because a document could not be read.
    """
    by_name = {one.objective.name: one for one in declared}
    for document in documents:
        own = [one for one in declared if one.slo == document.name]
        annotations = document.annotations
        if not own or not _is_countable(own[0].objective, annotations):
            continue
        if annotations.lost_by:
            _check_losses(annotations, own, by_name, complete)
        if annotations.expected_from is not None:
            _check_other(annotations, own[0], by_name, complete)
        elif annotations.expected_tolerance:
            message = f"is a tolerance of what `{EXPECTED_FROM}` tells, which is not given; add that, or remove this"
            annotations.refuse(EXPECTED_TOLERANCE, message)


def _is_countable(objective: Objective, annotations: Annotations) -> bool:
    """Returns whether an objective's budget is made of single events, after reporting where it is not."""
    said = {
        FLOOR_PER_HOUR: annotations.floor_per_hour,
        EXPECTED_FROM: annotations.expected_from,
        LOST_BY: annotations.lost_by,
    }
    keys = [key for key, value in said.items() if value]
    if objective.slices is not None and keys:
        fix = "write `budgetingMethod: Occurrences`, or `qma/empty-slice: bad` with `qma/slice-events-min`"
        annotations.refuse(keys[0], f"is a number of events, and this budget is made of slices of time; {fix}")
        return False
    return True


def _check_other(annotations: Annotations, own: Declared, by_name: Mapping[str, Declared], complete: bool) -> None:
    name = str(annotations.expected_from)
    other = by_name.get(name)
    if other is not None:
        message = _what_is_wrong(own, other, by_name)
    else:
        message = _unknown(name, by_name, complete)
    if message is not None:
        annotations.refuse(EXPECTED_FROM, message)


def _unknown(name: str, by_name: Mapping[str, Declared], complete: bool) -> str | None:
    """Returns that no objective has a name; None where it may be in a document that could not be read."""
    if not complete:
        return None
    several = [one.objective.name for one in by_name.values() if one.slo == name and not one.objective.cohort_of]
    if several:
        return f"{quoted(name)} has several objectives; name one of {', '.join(map(quoted, several))}"
    guess = nearest(name, by_name)
    fix = f"did you mean `{guess}`?" if guess else "pass the file with its SLO as well"
    return f"no SLO in the given files has the objective {quoted(name)}; {fix}"


def _check_losses(
    annotations: Annotations, own: Sequence[Declared], by_name: Mapping[str, Declared], complete: bool
) -> None:
    if any(one.objective.signal is SliSignal.METRICS for one in own):
        fix = f"remove it, or write `{EXPECTED_FROM}` with an objective that counts the same events"
        found = "counts items that were lost, and a lost point of a metric may stand for any number of events"
        annotations.refuse(LOST_BY, f"{found}; {fix}")
    for name in annotations.lost_by:
        other = by_name.get(name)
        message = _unknown(name, by_name, complete) if other is None else _tells_no_losses(own[0], other)
        if message is not None:
            annotations.refuse(LOST_BY, message)


def _tells_no_losses(own: Declared, other: Declared) -> str | None:
    """Returns why the bad events of an objective are not what was lost on the way; None where they may be."""
    named = other.objective
    if other.slo == own.slo:
        fix = "name the one that counts what was lost on the way, for example by a Collector"
        return f"names an objective of this SLO, whose bad events came; {fix}"
    if named.composite is not None or named.raw is not None:
        return f"{quoted(named.name)} is made of ratios, and losses are counted; name an SLO that counts events"
    if named.good_metric is not None:
        fix = "count what was lost: `bad:` with a metric such as `otelcol_exporter_send_failed_spans`"
        return f"{quoted(named.name)} counts what was sent, and what still waits is not lost; {fix}"
    return None


def _what_is_wrong(own: Declared, other: Declared, by_name: Mapping[str, Declared]) -> str | None:
    """Returns why one objective cannot tell how many events there must be of another; None where it can."""
    objective, named = own.objective, other.objective
    if other.slo == own.slo:
        fix = "name one that counts the same events by another source, for example a metric"
        return f"names an objective of this SLO, which tells nothing new; {fix}"
    if named.service != objective.service:
        fix = f"name one of {objective.service}"
        return f"{quoted(named.name)} is about {named.service}, and only objectives of one service compare; {fix}"
    for one, what in ((objective, "this SLO"), (named, quoted(named.name))):
        if one.raw is not None or one.composite is not None:
            return f"{what} is made of ratios, and only events compare; use SLOs that count events"
    path = _circle(own, by_name)
    if path is not None:
        fix = "remove one of these annotations, or write another SLO for the other direction"
        return f"goes round in a circle, {' → '.join(path)}; {fix}"
    return None


def _circle(own: Declared, by_name: Mapping[str, Declared]) -> list[str] | None:
    """Returns the names of the objectives by which an objective expects of itself; None where it does not."""
    names, at = [own.objective.name], own
    while len(names) <= len(by_name):
        following = by_name.get(at.objective.expected_from or "")
        if following is None:
            return None
        names.append(following.objective.name)
        if following.slo == own.slo:
            return names
        at = following
    return None
