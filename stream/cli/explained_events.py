"""What each kind of event says, and the arithmetic behind it, in plain words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from stream.cli.findings import reason_fix
from stream.cli.wording import Data, block, figure, labelled, moment, percent, ratio_text, span
from stream.core.events import HeldBackBy
from stream.core.slo.burn_rate import BurnRule, RuleKind, duration
from stream.core.units import MINUTE_NS
from stream.replay.evidence import Definition, Fold, LogStanding, Published, RowsRecount, time_ns_from

_COMPONENTS_SHOWN = 10

_HELD_BACK = {
    HeldBackBy.PENDING: "it has to burn for {name} without a break first",
    HeldBackBy.NOT_TOLD_BEFORE: "nobody was told that it began, or nobody wants to hear of its end",
    HeldBackBy.INHIBITED: "{name} fires as well, and says the same and more",
    HeldBackBy.MUTED: "the maintenance window {name} mutes it",
    HeldBackBy.DEPLOY: "version {name} appeared a moment ago",
    HeldBackBy.RATE_CAP: "people were told of {name} alerts of this service already",
}


@dataclass(slots=True, kw_only=True)
class Explanation:
    """Everything that was found out about an event.

    Args:
        prefix: Of the pipeline's topics.
        event: The event.
        others: Other events about the same, in the order in which they were decided.
        definition: Its objective; None where it is about none, or that is no longer kept.
        beside: Of a budget event: the indicator of the same minute.
        log: What the log says of the sources.
        fold: What the fold makes of it; None where nobody asked.
        rows: What counting row by row makes of it; None where nobody asked, or there is nothing to count.
    """

    prefix: str
    event: Published
    others: list[Published] = field(default_factory=list)
    definition: Definition | None = None
    beside: Published | None = None
    log: LogStanding = field(default_factory=LogStanding)
    fold: Fold | None = None
    rows: RowsRecount | None = None


def about(explanation: Explanation) -> Iterator[str]:
    """Yields what the event is about, what it says and how its figures come about."""
    event = explanation.event
    if event.event["type"] == "qma.sketch.v1":
        yield from _sketch(explanation)
        return
    match event.topic:
        case "sli" | "status":
            yield from _indicator(explanation)
        case "burn-rate":
            yield from _alert(explanation)
        case "budget":
            yield from _budget(explanation)
        case "certificate":
            yield from _certificate(explanation)
        case _:
            yield from _dead_letter(explanation)


def _indicator(e: Explanation) -> Iterator[str]:
    data = e.event.data
    yield labelled("about", f"{data['service']}, {data['objective']}")
    counted = "event" if "components" not in data else "minute"
    yield labelled("minute", f"{span(data['minute'])}: {ratio_text(data['minute'], counted)}")
    yield from _window_lines(data)
    yield from block("components", _components(data))
    yield from _budget_lines(data["budget"], data)
    rates = ", ".join(f"{length} {figure(rate)}" for length, rate in data["burn_rates"].items())
    yield labelled("burn rates", f"{rates or 'none'} (1 uses the budget up exactly at the window's end)")
    yield from block("to know", _flags(data))
    yield from block("look at", _places(data))
    if e.event.topic == "status":
        yield from block("alerts", _status_alerts(data))


def _components(data: Data) -> Iterator[str]:
    """The components of a composite that used up most of its budget."""
    components = sorted(data.get("components", ()), key=lambda one: -(one["consumed_ratio"] or 0))
    for one in components[:_COMPONENTS_SHOWN]:
        ratio = "no data" if one["ratio"] is None else f"{percent(one['ratio'])} good"
        used = "" if one["consumed_ratio"] is None else f", used {percent(one['consumed_ratio'])} of what is allowed"
        yield f"{one['service']}, {one['objective']}: {ratio}, weight {one['weight']}{used}"
    if len(components) > _COMPONENTS_SHOWN:
        yield f"and {len(components) - _COMPONENTS_SHOWN:,} more"


def _window_lines(data: Data) -> Iterator[str]:
    found = data["window"]
    target = Fraction(data["target"])
    yield labelled(
        "window",
        f"{span(found)}: {ratio_text(found, found['unit'].removesuffix('s'))}; the target is {percent(target)}",
    )
    if found["coverage_ratio"] < 1:
        whole = (time_ns_from(found["complete_at"]) - time_ns_from(found["start"])) // MINUTE_NS
        observed = round(found["coverage_ratio"] * whole)
        yield labelled("", f"{observed:,} of its {whole:,} min were observed: they are closed, and were read whole")
    if backfilled := found.get("backfilled_minutes"):
        yield labelled("", f"{backfilled:,} min of it are from before the objective was known, and were counted later")


def _budget_lines(budget: Data, data: Data) -> Iterator[str]:
    """The arithmetic of a budget: what of it is used up, and what is left."""
    allowed = 1 - Fraction(data["target"])
    consumed, low, high = (budget[n] for n in ("consumed_ratio", "remaining_min_ratio", "remaining_max_ratio"))
    if consumed is None:
        yield labelled("budget", "no data in the window: nothing is known of it, and no data is not good data")
        return
    found = data.get("window", {})
    if found.get("total"):
        bad = found["total"] - found["good"]
        sum_text = f"bad / (allowed share × total) = {bad:,g} / ({float(allowed):g} × {found['total']:,g}) = "
    else:
        sum_text = "bad / (allowed share × total) = "
    yield labelled("budget", f"used: {sum_text}{percent(consumed)} of what this traffic allows")
    if low is None or high is None:
        return
    if low == high:
        yield labelled("", f"left of the window's: {percent(high)}")
        return
    least = f"{percent(low)} to " if low >= 0 else "at most "
    why = "were all good" if low < 0 else "were all bad, or all good"
    yield labelled("", f"left of the window's: {least}{percent(high)}, as if whatever was not observed {why}")


def _flags(data: Data) -> Iterator[str]:
    flags = data["flags"]
    if data.get("revision"):
        what = "rows" if "components" not in data else "indicators of components"
        yield f"revision {data['revision']}: {what} that came after the minute had closed corrected it"
    if flags["no_data"]:
        yield "no data: nothing was counted in this minute, and that passes no check"
    if flags["gap"]:
        if "components" in data:
            yield "gap: not every component was heard of whole in time, so the minute is not covered; the others count"
        else:
            yield "gap: some source offsets of this minute expired unread, so the minute is not whole"
    if flags["catching_up"]:
        yield "catching up: the sources were not read up to now, so nothing fired, resolved or was certified on this"
    if flags["sampling_unknown"]:
        yield f"{data['window']['n_unknown']:,} events carry no sampling threshold: one may stand for many"
    if flags["inexact"]:
        unsure = data["window"]["n_unsure"]
        yield f"{unsure:,} events lie in a histogram bucket that holds the threshold; they count as bad"
    missing, low, high = (data["window"].get(name) for name in ("n_missing", "ratio_lower", "ratio_upper"))
    if missing:
        bounds = "" if low is None or high is None else f": if bad the ratio is {percent(low)}, if good {percent(high)}"
        yield f"{missing:,} events never came, or may have been lost on the way{bounds}"
    excluded = data["minute"].get("n_excluded"), data["window"].get("n_excluded")
    if any(excluded):
        yield f"left out by the definition: {excluded[0]:,} events of the minute, {excluded[1]:,} of the window"
    if not data.get("revision") and not any(flags.values()) and not any(excluded) and not missing:
        yield "nothing was left out, corrected or uncertain"


def _status_alerts(data: Data) -> Iterator[str]:
    for alert in data["alerts"]:
        told = "told to people" if alert["told"] else "told to nobody"
        yield f"{alert['rule']} {alert['state']} since {moment(alert['began_at'])}, {told}; explain {alert['alert']}"
    if not data["alerts"]:
        yield "none is pending or firing"


def _alert(e: Explanation) -> Iterator[str]:
    data = e.event.data
    began = f", burning since {moment(data['began_at'])}" if data["began_at"] else ""
    yield labelled(
        "about", f"{data['service']}, {data['objective']}: {data['severity']} {data['rule']} {data['state']}{began}"
    )
    yield from block("says", re.split(r"(?<=\.) (?=[A-Z0-9])", data["explanation"]))
    yield from block("rule", _rule(e))
    unit = "event" if e.definition is None else e.definition.objective.unit.removesuffix("s")
    for name in ("long", "short"):
        if data[name] is not None:
            rate = figure(data[name]["burn_rate"])
            found = f"{span(data[name])}: burn rate {rate}; {ratio_text(data[name], unit)}"
            yield labelled(f"{name} window", found)
    if data["long"] is not None:
        allowed = float(1 - Fraction(data["target"]))
        yield labelled("", f"burn rate = share of bad {unit}s / the {allowed:g} that the objective allows")
    if data["budget"] is not None:
        yield from _budget_lines(data["budget"], data)
    if data.get("forecast"):
        yield from block("forecast", _forecast(data["forecast"]))
    if data["version"]:
        deployed = f", which came at {moment(data['deployed_at'])}" if data.get("deployed_at") else ""
        yield labelled("suspect", f"version {data['version']}{deployed}")
    if data.get("component"):
        yield labelled("suspect", f"component {data['component']}")
    yield from block("causes", _causes(data))
    yield from block("look at", _places(data))
    yield labelled("told", "yes: people were to be told" if data["notify"] else f"no: {_held_back(data['held_back'])}")


def _causes(data: Data) -> Iterator[str]:
    """Services that others of a composite fail with."""
    for cause in data.get("causes", ()):
        failed = f"{cause['failed_calls']:,g} of {cause['calls']:,g} calls failed"
        yield f"{cause['service']}, which affects {', '.join(cause['affects'])}: {failed}"


def _places(data: Data) -> Iterator[str]:
    """Where to look next: links, and the trace of a bad event."""
    yield from (f"{name}: {link}" for name, link in data.get("links", {}).items() if link)
    worst = (data.get("exemplars") or {}).get("worst")
    if worst is not None and worst["bad"]:
        yield f"trace {worst['trace_id']}: the worst of the minute, {worst['duration_ms']:,g} ms"


def _held_back(held_back: Data) -> str:
    return _HELD_BACK[HeldBackBy(held_back["by"])].format(name=held_back["name"])


def _rule(e: Explanation) -> Iterator[str]:
    data = e.event.data
    rule = _rule_of(e.definition, data["rule"])
    if rule is None:
        return
    pair = f"{duration(rule.long_minutes)} and {duration(rule.short_minutes)}"
    match rule.kind:
        case RuleKind.NO_DATA:
            yield f"{rule.name}: nothing was counted for {duration(rule.long_minutes)}"
        case RuleKind.EVIDENCE_GAP:
            length = duration(rule.long_minutes)
            yield f"{rule.name}: some minute of the last {length} was not read whole, or many of its events never came"
        case RuleKind.COHORT_GAP if rule.gap_max is not None:
            yield f"{rule.name}: over both {pair} the cohort is more than {percent(rule.gap_max)} worse than everyone"
        case RuleKind.EXHAUSTION:
            yield f"{rule.name}: over {pair} the budget burns fast enough to be gone within {rule.budget_hours} h"
        case _:
            share = "" if rule.budget_share is None else f", {percent(rule.budget_share)} of the budget"
            yield f"{rule.name}: over both {pair} the budget burns faster than its factor{share}"
    assert e.definition is not None
    if data["factor"] is not None and rule.kind in (RuleKind.BURN_RATE, RuleKind.EXHAUSTION):
        sign = "at least" if e.definition.objective.alerting.at_least else "more than"
        yield f"both rates are to be {sign} the factor, here {data['factor']:g}"
    if rule.for_minutes:
        yield f"for {duration(rule.for_minutes)} without a break"


def _rule_of(definition: Definition | None, name: str) -> BurnRule | None:
    rules = definition.objective.alerting.rules if definition is not None else ()
    return next((rule for rule in rules if rule.name == name), None)


def _budget(e: Explanation) -> Iterator[str]:
    data, entry = e.event.data, e.event.data["entry"]
    yield labelled("about", f"{data['service']}, {data['objective']}")
    if entry is None:
        yield labelled("says", "where the budget stands at a full hour")
    else:
        end = f"to {moment(entry['end'])}" if entry["end"] else "and going on"
        named = f" {entry['name']}" if entry["name"] else ""
        because = f": {entry['reason']}" if entry["reason"] else ""
        yield labelled("entry", f"{entry['kind']}{named}, {moment(entry['start'])} {end}{because}")
        yield labelled("", f"{entry['n']:,} in it, weighing {entry['total']:,g}, of that bad {entry['bad']:,g}")
    around = e.beside.data if e.beside is not None else data
    if e.beside is not None:
        yield from _window_lines(around)
    if entry is not None and entry["consumed_ratio"] is not None:
        yield labelled("share", _entry_arithmetic(entry, around))
    yield from _budget_lines(data["budget"], around)
    if data["forecast"] is not None:
        yield from block("forecast", _forecast(data["forecast"]))


def _entry_arithmetic(entry: Data, around: Data) -> str:
    """Returns how the share of the whole budget that an entry took is reckoned."""
    found, allowed = around["window"], float(1 - Fraction(around["target"]))
    share = f"{percent(entry['consumed_ratio'])} of the whole window's budget"
    if not found.get("total"):
        return f"bad / (allowed share × total of the whole window, at its mean traffic) = {share}"
    return (
        f"bad / (allowed share × total / share of the window observed) = {entry['bad']:,g} / ({allowed:g} × "
        f"{found['total']:,g} / {found['coverage_ratio']:.6g}) = {share}"
    )


def _forecast(data: Data) -> Iterator[str]:
    if data["exhausted"]:
        yield "the budget is used up"
    low, high = data["interval_80_hours"]
    yield (
        f"used up within 24 h with probability {percent(data['p_exhausted_within_24h'])}, never within what was looked "
        f"at with {percent(data['p_never'])}"
    )
    if data["median_hours"] is not None:
        late = "never" if high is None else f"{high:.0f} h"
        early = "never" if low is None else f"{low:.0f} h"
        yield f"most likely in {data['median_hours']:.0f} h; with 80 % in {early} to {late}"
    at_end = data["at_period_end"]
    if at_end is not None:
        low, median, high = map(percent, at_end["remaining_ratio_10_50_90"])
        yield f"left at the period's end: {median}, with 80 % {low} to {high}; a freeze goes by the first"
        if "consumed_of_total_ratio" in at_end:
            used = percent(at_end["consumed_of_total_ratio"])
            yield f"used up now: {used} of the budget that the traffic expected by then allows"


def _certificate(e: Explanation) -> Iterator[str]:
    data = e.event.data
    moved = f", before that {data['before']}" if data["before"] and data["before"] != data["state"] else ""
    because = f" because of {data['trigger']}" if data["trigger"] else ""
    yield labelled(
        "about", f"{data['service']}, version {data['version'] or '(none)'}: {data['state']}{because}{moved}"
    )
    yield labelled(
        "evidence", f"closed minutes from {moment(data['evidence_since'])} to {moment(data['evidence_until'])}"
    )
    yield from block("objectives", (_assessment(found, data["confidence"]) for found in data["objectives"]))
    yield from block("pending since", (f"{r['reason']}: {r['explanation']}" for r in data["reasons"]))
    if data["issued_at"]:
        yield labelled("issued", f"{moment(data['issued_at'])}, valid until {moment(data['valid_until'])}")
    if data["revoked_by"]:
        yield labelled("revoked by", f"what came after it was issued, on {', '.join(data['revoked_by'])}")
    yield from block("it assumes", iter(data["assumptions"]))


def _assessment(found: Data, confidence: float) -> str:
    text = f"{found['objective']} (target {found['target']}): {found['n']:,} requests, {found['n_bad']:,} bad"
    if found["n_unsure"]:
        text += f" ({found['n_unsure']:,} of them uncertain)"
    e_value = "none is left" if found["log_e_value"] is None else f"log {found['log_e_value']:.3f}"
    text += f"; evidence {e_value}, decided at {found['log_threshold']:.3f} (confidence {confidence:.0%})"
    if found["decided"]:
        return f"{text}: met"
    minutes = found["minutes_until_decidable"]
    when = "no traffic" if minutes is None else f"about {minutes:,} min at this rate"
    return f"{text}: {found['needs_failure_free_events']:,} more good requests are needed, {when}"


def _dead_letter(e: Explanation) -> Iterator[str]:
    data = e.event.data
    where = f"{data['topic']}/{data['partition']} offset {data['offset']:,} (topic id {data['topic_id']})"
    yield labelled("about", f"a message at {where}")
    detail = f": {data['detail']}" if data["detail"] else ""
    yield labelled("says", f"{data['items']:,} of its items refused as {data['reason']}{detail}")
    yield labelled("what helps", reason_fix(data["reason"]))


def _sketch(e: Explanation) -> Iterator[str]:
    data = e.event.data
    yield labelled("about", f"{data['service']}, durations of its requests in the minute {span(data)}")
    yield labelled(
        "says", f"{sum(c['c'] for c in data['centroids']):,g} durations in {len(data['centroids'])} centroids"
    )
