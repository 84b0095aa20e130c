"""`qma plan`: what an objective means before it is deployed. It needs neither a file nor a broker."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from stream.cli.findings import Finding, Level
from stream.config.durations import shorthand_minutes
from stream.config.time_windows import WINDOW_MINUTES_MAX, WINDOW_MINUTES_MIN
from stream.core.certificate.issuance import ALPHA
from stream.core.slo.burn_rate import DEFAULT_RULES, RULES, BurnRule, duration
from stream.core.slo.planning import (
    COMPARISON_ALPHA,
    COMPARISON_POWER,
    ERROR_RATIOS,
    PROBABILITIES,
    TOTAL_OUTAGE,
    AlertPlan,
    Plan,
    exhaustion_detect_minutes,
    exhausts_minutes,
    fixed_zero_failure_events,
    incident_burns,
)
from stream.core.slo.spec import Settings
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, MINUTE_NS

EVENTS_PER_HOUR_MAX = 10**12
DELTA_MAX = 10
DELAY_MINUTES_MAX = 1 + Settings().allowed_lateness_ns // MINUTE_NS
"""What happens is decided on when its minute has closed: it lasts up to one, and then the allowed lateness."""

_TARGET = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,10})?)%?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,13}(?:\.[0-9]{1,9})?", re.ASCII)

_SHOWN_INCIDENTS = {TOTAL_OUTAGE: "outage", "x10": "10×", "x2": "2×"}
_REMAINING = {"full": Fraction(1), "half": Fraction(1, 2), "tenth": Fraction(1, 10)}
_WIDTH_MIN = 120


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--target", required=True, type=_target, metavar="PERCENT", help="share of good events, for example 99.9"
    )
    parser.add_argument(
        "--period", default="30d", type=_period, metavar="TIME", help="rolling window, in m, h, d or w (default: 30d)"
    )
    parser.add_argument(
        "--events-per-hour", required=True, type=_events_per_hour, metavar="N", help="mean traffic of the service"
    )
    parser.add_argument(
        "--shares",
        type=_shares,
        metavar="PERCENT,…",
        help=f"share of the budget of each of {', '.join(rule.name for rule in RULES)} (default: "
        f"{','.join(f'{_percent_number(rule.budget_share)}' for rule in RULES if rule.budget_share)})",
    )
    parser.add_argument(
        "--delta",
        type=_delta,
        metavar="PERCENT",
        help="say how many requests show that a canary's error ratio is so much above what the target allows",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    plan = Plan(
        bad_ratio_max=1 - arguments.target,
        window_minutes=arguments.period,
        events_per_hour=arguments.events_per_hour,
        alpha=ALPHA,
        rules=with_shares(arguments.shares) if arguments.shares else DEFAULT_RULES,
        delta=arguments.delta,
    )
    if arguments.json:
        print(orjson.dumps(as_object(plan)).decode())
    else:
        show(plan, Console(width=max(Console().width, _WIDTH_MIN), highlight=False))
    return 0


def with_shares(shares: Sequence[Fraction]) -> tuple[BurnRule, ...]:
    """Returns the default rules, those of the workbook with other shares of the budget."""
    changed = {rule.name: replace(rule, budget_share=share) for rule, share in zip(RULES, shares, strict=True)}
    return tuple(changed.get(rule.name, rule) for rule in DEFAULT_RULES)


def as_object(plan: Plan) -> dict[str, Any]:
    """Returns everything as plain values."""
    finest = plan.finest_bad_ratio
    return {
        "target_ratio": float(1 - plan.bad_ratio_max),
        "period_minutes": plan.window_minutes,
        "events_per_hour": float(plan.events_per_hour),
        "budget_minutes": float(plan.budget_minutes),
        "budget_events": float(plan.budget_events),
        "exhausts_s": _seconds(plan.exhausts),
        "alerts": [_alert_object(alert) for alert in plan.alerts],
        "exhaustion_alerts": [_exhaustion_object(plan, rule) for rule in plan.exhaustion_rules],
        "decision_delay_s_max": DELAY_MINUTES_MAX * 60,
        "one_failure": {
            "budget_share_ratio": float(1 / plan.budget_events),
            "burn_rate_1h": float(plan.one_failure_burn),
            "exceeds": plan.one_failure_exceeds,
            "fires": plan.one_failure_fires,
        },
        "certify": _certify_object(plan),
        "compare": _compare_object(plan),
        "finest_target_ratio": None if finest is None else float(1 - finest),
        "findings": [asdict(finding) for finding in findings(plan)],
    }


def _alert_object(alert: AlertPlan) -> dict[str, Any]:
    rule = alert.rule
    return {
        "rule": rule.name,
        "severity": rule.severity.value,
        "long": duration(rule.long_minutes),
        "short": duration(rule.short_minutes),
        "factor": float(alert.factor),
        "nominal_factor": float(alert.nominal_factor),
        "budget_share_ratio": float(alert.budget_share),
        "reachable": alert.reachable,
        "sustainable": alert.sustainable,
        "availability_only": rule.availability_only,
        "for_s": float(rule.for_minutes * 60),
        "detect_s": _seconds(alert.detect),
        "reset_s": _seconds(alert.reset),
    }


def _exhaustion_object(plan: Plan, rule: BurnRule) -> dict[str, Any]:
    burns = incident_burns(plan.bad_ratio_max)
    detect = {name: burn and exhaustion_detect_minutes(rule, plan.window_minutes, burn) for name, burn in burns.items()}
    return {
        "rule": rule.name,
        "severity": rule.severity.value,
        "long": duration(rule.long_minutes),
        "short": duration(rule.short_minutes),
        "factor_by_budget_left": {left: float(factor) for left, factor in _exhaustion_factors(plan, rule).items()},
        "detect_s": _seconds(detect),
    }


def _exhaustion_factors(plan: Plan, rule: BurnRule) -> dict[str, Fraction]:
    """Returns the burn rate above which the rule burns with all, half and a tenth of the budget left."""
    factors = {name: rule.factor(plan.window_minutes, ratio) for name, ratio in _REMAINING.items()}
    return {name: factor for name, factor in factors.items() if factor is not None}


def _certify_object(plan: Plan) -> dict[str, Any]:
    def wait(events: int) -> dict[str, Any]:
        return {"events": events, "days": float(plan.days(events))}

    return {
        "confidence": 1 - ALPHA,
        "zero_failures": wait(plan.zero_failure_events),
        **{
            name: {
                "error_ratio": float(ERROR_RATIOS[name] * plan.bad_ratio_max),
                **{f"p{p * 100:.0f}": wait(n) for p, n in zip(PROBABILITIES, events, strict=True)},
            }
            for name, events in plan.certified_events.items()
        },
        "fixed_zero_failures": wait(fixed_zero_failure_events(plan.bad_ratio_max, ALPHA)),
    }


def _compare_object(plan: Plan) -> dict[str, Any] | None:
    events = plan.compared_events
    if events is None:
        return None
    return {
        "delta_ratio": float(plan.delta or 0),
        "alpha": COMPARISON_ALPHA,
        "power": COMPARISON_POWER,
        "events_of_each": events,
        "days": float(plan.days(2 * events)),
    }


def _seconds(minutes: Mapping[str, Fraction | None]) -> dict[str, float | None]:
    return {name: None if value is None else float(value * 60) for name, value in minutes.items()}


def findings(plan: Plan) -> list[Finding]:
    """Returns what somebody should know before deploying this objective."""
    return [*_rule_findings(plan), *_traffic_findings(plan)]


def _rule_findings(plan: Plan) -> Iterator[Finding]:
    for alert in plan.alerts:
        if not alert.reachable:
            yield _unreachable(plan, alert)
        if alert.sustainable:
            least = Fraction(alert.rule.long_minutes, plan.window_minutes)
            yield _advice(
                alert.rule.name,
                f"its share of the budget is gone within {duration(alert.rule.long_minutes)} at a burn rate of "
                f"{_number(alert.nominal_factor)}, which the budget allows for ever; it burns above 1 instead",
                "take a longer period" + f", or a share above {_percent_above(least)} %" * (least < 1),
            )
    for rule in plan.rules:
        if rule.long_minutes > plan.window_minutes:
            yield _advice(
                rule.name,
                f"left out: its window of {duration(rule.long_minutes)} is longer than the period",
                f"take a period of at least {duration(rule.long_minutes)}",
            )
    outage = exhausts_minutes(1 / plan.bad_ratio_max, plan.window_minutes)
    if outage <= DELAY_MINUTES_MAX:
        yield _advice(
            "budget",
            f"a total outage uses up all of it in {_time(outage)}, and whatever happens is known when its minute has "
            f"closed, up to {_time(Fraction(DELAY_MINUTES_MAX))} later",
            "no alert can save it: only releases that reach few users at first can, or a longer period",
        )


def _unreachable(plan: Plan, alert: AlertPlan) -> Finding:
    times = [(a.detect[TOTAL_OUTAGE], a.rule.name) for a in plan.alerts]
    first = min(((minutes, name) for minutes, name in times if minutes is not None), default=None)
    instead = "none of the others fires either"
    if first is not None:
        instead = f"or rely on {first[1]}: a total outage fires it after {_time(first[0])}"
    return _advice(
        alert.rule.name,
        f"never fires: a total outage burns {_number(1 / plan.bad_ratio_max)} times too fast, and it takes more than "
        f"{_number(alert.factor)} times",
        f"set a target above {_percent_above(1 - 1 / alert.factor)} %",
        instead,
    )


def _traffic_findings(plan: Plan) -> Iterator[Finding]:
    finest = plan.finest_bad_ratio
    lower = (
        "no target can be certified within it: choose a longer period"
        if finest is None
        else f"this traffic certifies at most {_percent(1 - finest)} within it: set --target to that or less"
    )
    if plan.budget_events < 1:
        yield _advice(
            "traffic",
            f"the budget is {_number(plan.budget_events)} events: one failure breaks the objective",
            "set a lower target or a longer period, so that the budget is several events",
        )
    if plan.one_failure_fires:
        yield _advice(
            "traffic",
            f"one failure fires {', '.join(plan.one_failure_fires)}: its hour burns {_number(plan.one_failure_burn)} "
            f"times too fast, and it is {_percent(1 / plan.budget_events)} of the budget",
            "count more events in one objective, for example several routes, or send synthetic requests",
            "or set a lower target",
        )
    if plan.zero_failure_events > plan.events:
        yield _advice(
            "traffic",
            f"the objective is finer than this traffic can show: {_events(plan.zero_failure_events)} without a failure "
            f"certify it, and a period has {_number(plan.events)}",
            lower,
        )


def _advice(about: str, says: str, *fix: str) -> Finding:
    return Finding(level=Level.ADVICE, about=about, says=says, fix=fix)


def show(plan: Plan, console: Console) -> None:
    """Prints the plan for people."""
    parts: list[Table | Iterator[str]] = [
        _summary(plan),
        alert_table(plan),
        _below_alerts(plan),
        certify_table(plan),
        _below_certify(plan),
        _finding_lines(plan),
    ]
    for part in parts:
        if isinstance(part, Table):
            console.print(part)
        for line in part if not isinstance(part, Table) else ():
            console.print(line, markup=False, soft_wrap=True)


def _summary(plan: Plan) -> Iterator[str]:
    yield (
        f"{_percent(1 - plan.bad_ratio_max)} of the events of every {duration(plan.window_minutes)} are good, "
        f"at {_number(plan.events_per_hour)} events an hour"
    )
    yield ""
    yield (
        f"error budget  {_time(plan.budget_minutes)} of total outage, or {_number(plan.budget_events)} of "
        f"{_number(plan.events)} events"
    )
    named = {TOTAL_OUTAGE: "a total outage", "x10": "10×", "x5": "5×", "x2": "2×"}
    lasts = [f"{named[name]} {_time(minutes)}" for name, minutes in plan.exhausts.items() if minutes is not None]
    yield f"is used up    by {', by '.join(lasts)}"
    yield (
        f"one failure   is {_percent(1 / plan.budget_events)} of the budget and burns "
        f"{_number(plan.one_failure_burn)}× in its hour; "
        f"it fires {', '.join(plan.one_failure_fires) or 'nothing'}"
    )
    yield ""


def alert_table(plan: Plan) -> Table:
    """Returns when each alert fires and stops."""
    shown = Table(box=None, pad_edge=False)
    for name in ("\nalert", "\nwindows"):
        shown.add_column(name, no_wrap=True)
    for name in ("burns\nabove", "\ncosts"):
        shown.add_column(name, justify="right", no_wrap=True)
    for incident in _SHOWN_INCIDENTS.values():
        for name in (f"{incident}\nfires", "\nstops"):
            shown.add_column(name, justify="right", no_wrap=True)
    for alert in plan.alerts:
        rule = alert.rule
        held = f" for {duration(rule.for_minutes)}" if rule.for_minutes else ""
        windows = f"{duration(rule.long_minutes)} and {duration(rule.short_minutes)}{held}"
        times = [minutes for name in _SHOWN_INCIDENTS for minutes in (alert.detect[name], alert.reset[name])]
        cells = ["never" if minutes is None else _time(minutes) for minutes in times]
        shown.add_row(rule.name, windows, f"{_number(alert.factor)}×", _percent(alert.budget_share), *cells)
    return shown


def _below_alerts(plan: Plan) -> Iterator[str]:
    for alert in plan.alerts:
        if alert.rule.availability_only:
            yield f"{alert.rule.name} is only for objectives that count failures, not slow events."
    for rule in plan.exhaustion_rules:
        full, half, tenth = (_number(factor) for factor in _exhaustion_factors(plan, rule).values())
        yield (
            f"{rule.name} fires when the rest of the budget would be gone within {rule.budget_hours} h: above {full}× "
            f"with all of it left, {half}× with half, {tenth}× with a tenth."
        )
    yield (
        "An alert needs both of its windows. Fires: after the first error, where there were none before; stops: after "
        "the last one.\nMinutes are decided on when they have closed: "
        f"add up to {_time(Fraction(DELAY_MINUTES_MAX))}.\n"
    )


def certify_table(plan: Plan) -> Table:
    """Returns how long it takes to certify versions that are better than the objective asks."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("a version that fails", no_wrap=True)
    for title in ("is certified after", "9 of 10 are after"):
        shown.add_column(title, justify="right", no_wrap=True)
    zero = _wait(plan, plan.zero_failure_events)
    shown.add_row("never", zero, zero)
    for name, label in (("fifth_budget", "a fifth"), ("half_budget", "half")):
        error_ratio = _percent(ERROR_RATIOS[name] * plan.bad_ratio_max)
        waits = [_wait(plan, events) for events in plan.certified_events[name]]
        shown.add_row(f"{error_ratio}, {label} of what is allowed", *waits)
    return shown


def _below_certify(plan: Plan) -> Iterator[str]:
    yield (
        f"The first time is the median; the confidence is {100 * (1 - ALPHA):.0f} %, however often one looks. One look "
        f"at a number fixed beforehand needs {_events(fixed_zero_failure_events(plan.bad_ratio_max, ALPHA))} without a "
        "failure.\nA version that is replaced sooner is never certified."
    )
    finest = plan.finest_bad_ratio
    if finest is not None:
        within = duration(plan.window_minutes)
        yield f"The finest objective that {within} of this traffic can certify is {_percent(1 - finest)}."
    compared = plan.compared_events
    if compared is not None and plan.delta is not None:
        worse = _percent((1 + plan.delta) * plan.bad_ratio_max)
        yield (
            f"A canary that fails {worse} instead of {_percent(plan.bad_ratio_max)} takes {_events(compared)} of each "
            f"version to tell (power {COMPARISON_POWER:.0%}, false alarms {COMPARISON_ALPHA:.0%}): "
            f"{_time(plan.days(2 * compared) * DAY_MINUTES)} of all traffic, half of it to each."
        )


def _finding_lines(plan: Plan) -> Iterator[str]:
    for number, finding in enumerate(findings(plan), 1):
        if number == 1:
            yield "\nfindings"
        yield f"  {number}. {finding.about}: {finding.says}"
        yield from (f"       {line}" for line in finding.fix)


def _wait(plan: Plan, events: int) -> str:
    return f"{_events(events)}, {_time(plan.days(events) * DAY_MINUTES)}"


def _events(number: int) -> str:
    return f"{number:,} event{'s' * (number != 1)}"


def _time(minutes: Fraction) -> str:
    """Returns a length of time to three digits, in the unit that reads best."""
    for unit, size in (("d", DAY_MINUTES), ("h", HOUR_MINUTES), ("min", 1)):
        if minutes >= 2 * size:
            return f"{_digits(minutes / size, 3)} {unit}"
    return f"{_digits(minutes * 60, 3)} s"


def _number(value: Fraction) -> str:
    return _digits(value, 4)


def _digits(value: Fraction, digits: int) -> str:
    """Returns a number for readers: so many digits, more where it is larger."""
    return f"{round(value):,}" if value >= 10 ** (digits - 1) else f"{Decimal(f'{float(value):.{digits}g}'):f}"


def _percent(ratio: Fraction) -> str:
    """Returns a ratio as a percentage: exact or three digits of what lacks to 0 or 1."""
    return f"{_percent_number(ratio)} %"


def _percent_above(ratio: Fraction) -> str:
    """Returns a ratio as a percentage with at most two decimals, not below it."""
    return f"{math.ceil(ratio * 10_000) / 100:g}"


def _percent_number(ratio: Fraction) -> str:
    percent = ratio * 100
    gap = min(percent, abs(100 - percent)) or Fraction(1)
    places = max(0, 2 - Decimal(float(gap)).adjusted())
    shown = f"{Decimal(percent.numerator) / Decimal(percent.denominator):,.{places}f}"
    return shown.rstrip("0").rstrip(".") if places else shown


def _target(text: str) -> Fraction:
    match = _TARGET.fullmatch(text)
    percent = Fraction(match[1]) if match else Fraction(0)
    if 0 < percent < 1:
        as_percent = _percent_number(percent)
        raise argparse.ArgumentTypeError(f"{text!r} is less than 1 %; targets are percentages, write {as_percent}")
    if match is None or percent == 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a percentage from 1 to below 100 with at most 10 decimals; write for example 99.9"
        )
    return percent / 100


def _period(text: str) -> int:
    minutes = shorthand_minutes(text)
    if minutes is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number and one of m, h, d, w; write for example 30d")
    if not WINDOW_MINUTES_MIN <= minutes <= WINDOW_MINUTES_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 1 hour and 90 days; write for example 30d")
    return minutes


def _events_per_hour(text: str) -> Fraction:
    events = Fraction(text) if _NUMBER.fullmatch(text) else Fraction(0)
    if not 0 < events <= EVENTS_PER_HOUR_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of events above 0; write for example 36000 or 0.5")
    return events


def _delta(text: str) -> Fraction:
    delta = Fraction(text.removesuffix("%")) / 100 if _NUMBER.fullmatch(text.removesuffix("%")) else Fraction(0)
    if not 0 < delta <= DELTA_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage above 0 and up to 1000; write for example 5")
    return delta


def _shares(text: str) -> list[Fraction]:
    parts = text.split(",")
    shares = [Fraction(part) / 100 if _NUMBER.fullmatch(part) else Fraction(0) for part in parts]
    if len(shares) != len(RULES) or not all(0 < share <= 1 for share in shares):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not {len(RULES)} percentages above 0 and up to 100; write for example 2,5,10,10"
        )
    return shares
