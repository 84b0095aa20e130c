"""The series that Sloth's recording rules make, so that its dashboards and alert rules work on ours.

Names and labels are Sloth's. What a series says is as there, with these differences:

* `slo:sli_error:ratio_rate<period>` (30d, 4w, …) is bad ÷ all events of the period. Sloth takes the mean of the ratios
  of 5 minutes, in which a quiet night weighs as much as a busy day. The two series that are made from it,
  `slo:period_burn_rate:ratio` and `slo:period_error_budget_remaining:ratio`, differ by the same.
* The period's figures are those of the budget: where it counts slices of time, of slices; where the window follows a
  calendar, to date.
* Windows end with the newest closed minute, not with the moment of the scrape.
* A series without data is absent, as there.
* `sloth_service` is the service key, `environment/namespace/name`.

Before its window is covered, the budget left is Sloth's figure: what was burned at the traffic seen so far.
`qma_error_budget_remaining_ratio` has its bounds.

Source: slok/sloth, pkg/common/conventions (names), internal/plugin/slo/core/{sli,metadata,alert}_rules_v1 (meanings).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache

from stream import __version__
from stream.core.engine import Engine
from stream.core.events import SliEvent
from stream.core.slo.spec import Objective
from stream.core.units import DAY_MINUTES, HOUR_MINUTES
from stream.metrics.exposition import Gauge, escape
from stream.metrics.rendering import EventSection, Samples, Section, declaration, latest, ratio

_CURRENT_MINUTES = 5
"""The short window of the quick page alert: what Sloth calls the current burn rate."""

_EXACT = Context(prec=100)

_Labelled = Sequence[tuple[str, SliEvent]]


def _objectives(found: _Labelled) -> Samples:
    for labels, event in found:
        yield labels, ratio(event.objective.target)


def _budgets(found: _Labelled) -> Samples:
    for labels, event in found:
        yield labels, bad_ratio_max(event.objective.target)


def _periods(found: _Labelled) -> Samples:
    for labels, event in found:
        yield labels, event.objective.window_minutes / DAY_MINUTES


def _infos(found: _Labelled) -> Samples:
    about = f'sloth_mode="qma-stream",sloth_spec="openslo/v1",sloth_version="{escape(__version__)}"'
    for labels, event in found:
        yield f'{labels},{about},sloth_objective="{percent(event.objective.target)}"', 1


_OF_OBJECTIVES: Mapping[Gauge, Callable[[_Labelled], Samples]] = {
    Gauge("slo:objective:ratio", "Sloth's: the target."): _objectives,
    Gauge("slo:error_budget:ratio", "Sloth's: 1 − target."): _budgets,
    Gauge("slo:time_period:days", "Sloth's: length of the objective's window."): _periods,
    Gauge("sloth_slo_info", "Sloth's: 1, with what made the series and the target in percent."): _infos,
}
_CURRENT_BURN_RATE = Gauge("slo:current_burn_rate:ratio", "Sloth's: burn rate of the last 5 minutes.")
_PERIOD_BURN_RATE = Gauge(
    "slo:period_burn_rate:ratio", "Sloth's: burn rate of the objective's window, by events, not by time."
)
_BUDGET_REMAINING = Gauge(
    "slo:period_error_budget_remaining:ratio", "Sloth's: 1 − burn rate of the objective's window."
)


def _of_objectives(engine: Engine) -> Mapping[Gauge, Samples]:
    found = _labelled(engine)
    return {gauge: read(found) for gauge, read in _OF_OBJECTIVES.items()}


def _families(events: Sequence[SliEvent]) -> Iterator[Gauge]:
    yield from map(_error_ratio, sorted({minutes for event in events for minutes in _windows(event)}))
    yield from (_CURRENT_BURN_RATE, _PERIOD_BURN_RATE, _BUDGET_REMAINING)


def _windows(event: SliEvent) -> list[int]:
    """Returns the lengths of the windows of an event in minutes, that of its objective last."""
    period = event.objective.window_minutes
    return [*(minutes for minutes, _ in event.burn_rates if minutes != period), period]


def _lines(event: SliEvent) -> Iterator[tuple[Gauge, str]]:
    labels = _labels(event.objective)
    for minutes in _windows(event):
        yield _error_ratio(minutes), labels + _window_label(minutes)
    yield from ((_CURRENT_BURN_RATE, labels), (_PERIOD_BURN_RATE, labels), (_BUDGET_REMAINING, labels))


def _values(event: SliEvent) -> list[float | None]:
    """Returns the values of `_lines`: of each window the share of its events that were bad, then the burn rates."""
    allowed, period, burned = bad_ratio_max(event.objective.target), event.objective.window_minutes, None
    values: list[float | None] = []
    for minutes, rate in event.burn_rates:
        if minutes != period:
            values.append(None if rate is None else rate * allowed)
        if minutes == _CURRENT_MINUTES:
            burned = rate
    consumed = event.budget.consumed_ratio
    if consumed is None:
        return [*values, None, burned, None, None]
    return [*values, consumed * allowed, burned, consumed, 1 - consumed]


@cache
def _error_ratio(minutes: int) -> Gauge:
    text = "Sloth's: bad ÷ all events of the window; absent without data."
    return Gauge(f"slo:sli_error:ratio_rate{prometheus_duration(minutes)}", text, named=False)


@cache
def _window_label(minutes: int) -> str:
    return f',sloth_window="{prometheus_duration(minutes)}"'


@cache
def bad_ratio_max(target: str) -> float:
    """Returns 1 − target, for readers."""
    return float(1 - Fraction(target))


def _labelled(engine: Engine) -> _Labelled:
    return [(_labels(event.objective), event) for event in latest(engine)]


def _labels(objective: Objective) -> str:
    service, slo = escape(objective.service), escape(objective.name)
    return f'sloth_id="{service}-{slo}",sloth_service="{service}",sloth_slo="{slo}"'


@cache
def percent(target: str) -> str:
    """Returns a target in percent, exactly: `99.95` for `0.9995`."""
    return f"{_EXACT.multiply(Decimal(target), 100).normalize(_EXACT):f}"


@cache
def prometheus_duration(minutes: int) -> str:
    """Returns a length of time as Prometheus writes it: `5m`, `1h30m`, `30d`, and whole weeks as `4w`.

    Source: prometheus/common, model.Duration.String, which names Sloth's series.
    """
    if minutes % (7 * DAY_MINUTES) == 0:
        return f"{minutes // (7 * DAY_MINUTES)}w"
    days, rest = divmod(minutes, DAY_MINUTES)
    parts = ((days, "d"), (rest // HOUR_MINUTES, "h"), (rest % HOUR_MINUTES, "m"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


SECTIONS = (
    Section(version=declaration, samples=_of_objectives),
    EventSection(families=_families, lines=_lines, values=_values),
)
