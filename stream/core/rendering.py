"""How outputs are written: as CloudEvents 1.0 in structured JSON.

Ids are functions of content, so a consumer that reads uncommitted records can drop repetitions by id.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from stream.core.certificate.issuance import ALPHA, Assessment
from stream.core.certificate.lifecycle import FIXES, Reason
from stream.core.events import (
    AlertEvent,
    BudgetEvent,
    CallCount,
    CertificateEvent,
    ComponentShare,
    Context,
    DeadLetter,
    Output,
    SketchEvent,
    SliEvent,
    StatusEvent,
    StatusGone,
)
from stream.core.exemplars import Exemplar, Exemplars
from stream.core.slo.alerts import AlertState
from stream.core.slo.budget_ledger import Entry
from stream.core.slo.burn_rate import BurnRule, duration
from stream.core.slo.explanation import beyond_chance
from stream.core.slo.sli import Budget, Sli, bound_to_add, budget_unit
from stream.core.slo.spec import Objective
from stream.core.statistics.forecast import Forecast
from stream.core.units import MINUTE_NS, SECOND_NS, WEIGHT_ONE

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
_MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A record for an output topic.

    Args:
        topic: The suffix after the pipeline's prefix.
        key: Of the record.
        value: The event; empty: what stands under the key of a compacted topic is taken back.
    """

    topic: str
    key: bytes
    value: bytes

    @property
    def id(self) -> str:
        """The id of the event; of what is taken back, the key."""
        return str(orjson.loads(self.value)["id"]) if self.value else self.key.decode()


def certificate_id(service: str, version: str, policy: str, began_minute: int) -> str:
    """Returns the id of a certificate: the same in every event of its life."""
    return _digest("certificate", service, version, policy, began_minute)


def render(output: Output) -> Rendered:
    """Returns the record of an output: a CloudEvent in structured JSON."""
    match output:
        case SliEvent():
            return _sli(output)
        case AlertEvent():
            return _alert(output)
        case BudgetEvent():
            return _budget_entry(output)
        case StatusEvent():
            return _status(output)
        case StatusGone():
            return Rendered(topic="status", key=_status_key(output.objective).encode(), value=b"")
        case CertificateEvent():
            return _certificate(output)
        case SketchEvent():
            return _sketch(output)
        case DeadLetter():
            return _dead_letter(output)


def _sli(event: SliEvent) -> Rendered:
    data, minute_end_ns = _sli_data(event), (event.minute + 1) * MINUTE_NS
    if event.bad_counted is not None:
        data["minute"]["bad_counted"] = event.bad_counted
    identity = f"{data['id']}.{event.revision}"
    return _cloud_event(event.context, "sli", "sli.v1", event.objective.service, identity, minute_end_ns, data)


def _sli_data(event: SliEvent) -> dict[str, Any]:
    o = event.objective
    data = {
        "id": _digest("sli", o.service, o.name, o.digest, event.minute),
        "revision": event.revision,
        **_objective(o),
        **_figures(event),
    }
    if event.exemplars is not None:
        data["exemplars"] = _exemplars(event.exemplars)
    if event.cohort_gap is not None:
        data["cohort_gap"] = event.cohort_gap
    if o.composite is not None:
        data["components"] = [_share(share) for share in event.components]
        data["calls"] = [_call_count(count) for count in event.calls]
    return data


def _figures(event: SliEvent) -> dict[str, Any]:
    """Returns what an indicator and the status of its objective both show."""
    return {
        "minute": _stretch(event.minute_sli, event.minute, 1),
        "window": _window(event),
        "latency": event.quantiles,
        "budget": _budget(event.budget),
        "burn_rates": {duration(minutes): rate for minutes, rate in event.burn_rates},
        "flags": {
            "no_data": event.minute_sli.ratio is None,
            "sampling_unknown": event.window_sli.n_unknown > 0 and not event.objective.sampling_none,
            "catching_up": event.catching_up,
            "gap": event.gap,
            "inexact": event.window_sli.n_unsure > 0,
        },
    }


def _share(share: ComponentShare) -> dict[str, Any]:
    component = share.component
    return {
        "service": component.service,
        "objective": component.objective,
        "weight": component.weight,
        "ratio": share.ratio,
        "consumed_ratio": share.consumed_ratio,
    }


def _call_count(count: CallCount) -> dict[str, Any]:
    return {"caller": count.call.caller, "callee": count.call.callee, "n": count.n, "bad": count.bad}


def _window(event: SliEvent) -> dict[str, Any]:
    length = min(event.minute + 1, event.end_minute) - event.start_minute
    return {
        **_stretch(event.window_sli, event.start_minute, length),
        "complete_at": _time(event.end_minute * MINUTE_NS),
        "coverage_ratio": event.coverage,
        "unit": event.objective.unit,
        **({"backfilled_minutes": event.backfilled_minutes} if event.backfilled_minutes else {}),
    }


def _exemplars(exemplars: Exemplars) -> dict[str, Any]:
    return {"worst": _exemplar(exemplars.worst), "newest": _exemplar(exemplars.newest)}


def _exemplar(exemplar: Exemplar) -> dict[str, Any]:
    return {
        "trace_id": exemplar.trace_id,
        "bad": exemplar.bad,
        "duration_ms": exemplar.duration_ns / _MILLISECOND_NS,
        "time": _time(exemplar.end_ns),
    }


def alert_id(objective: Objective, rule: BurnRule) -> str:
    """Returns the id of an alert: the same each time that it fires, so that receivers can group by it."""
    return _digest("alert", objective.service, objective.name, objective.digest, rule.name)


def _alert(event: AlertEvent) -> Rendered:
    o, alerting = event.objective, event.objective.alerting
    state = "resolved" if event.state is AlertState.INACTIVE else str(event.state)
    held_back = event.held_back
    data = {
        "alert": alert_id(o, event.rule),
        "group": o.service,
        "state": state,
        "severity": event.rule.severity,
        "rule": event.rule.name,
        "kind": event.rule.kind,
        **_objective(o),
        "notify": held_back is None,
        "held_back": None if held_back is None else {"by": held_back.by, "name": held_back.name},
        "began_at": _time(None if event.began_minute is None else event.began_minute * MINUTE_NS),
        "factor": event.factor,
        **_reading(event),
        "beyond_chance": None if event.reading is None else beyond_chance(o, event.rule, event.reading),
        "forecast": None if event.reading is None else _forecast(event.reading.forecast, event.reading.budget),
        "version": event.version or None if o.composite is None else None,
        "deployed_at": _time(None if event.deployed_minute is None else event.deployed_minute * MINUTE_NS),
        **({} if o.composite is None else _blame(event)),
        "explanation": event.explanation,
        "exemplars": None if event.exemplars is None else _exemplars(event.exemplars),
        "links": {"runbook": alerting.runbook, "dashboard": alerting.dashboard},
        "targets": alerting.targets,
    }
    identity = _digest("burn-rate", data["alert"], state, event.minute)
    time_ns = (event.minute + 1) * MINUTE_NS
    return _cloud_event(event.context, "burn-rate", "burn-rate.v1", o.service, identity, time_ns, data)


def _blame(event: AlertEvent) -> dict[str, Any]:
    """Returns what of a composite an alert is about, and what that in turn is about."""
    return {
        "component": event.version or None,
        "causes": [
            {
                "service": cause.service,
                "affects": cause.affects,
                "calls": cause.calls / WEIGHT_ONE,
                "failed_calls": cause.failed_calls / WEIGHT_ONE,
                "failed_calls_to_any": cause.failed_calls_to_any / WEIGHT_ONE,
            }
            for cause in event.causes
        ],
    }


def _reading(event: AlertEvent) -> dict[str, Any]:
    if event.reading is None:
        return {"long": None, "short": None, "budget": None}
    reading, rule, end = event.reading, event.rule, event.minute + 1
    return {
        "long": {
            "burn_rate": reading.long_burn_rate,
            **_stretch(reading.long_sli, end - rule.long_minutes, rule.long_minutes),
            "coverage_ratio": reading.long_coverage,
        },
        "short": {
            "burn_rate": reading.short_burn_rate,
            **_stretch(reading.short_sli, end - rule.short_minutes, rule.short_minutes),
        },
        "budget": {**_budget(reading.budget), "coverage_ratio": reading.coverage},
    }


def _budget_entry(event: BudgetEvent) -> Rendered:
    o, entry = event.objective, event.entry
    data = {
        **_objective(o),
        "window": {
            "start": _time(event.start_minute * MINUTE_NS),
            "complete_at": _time(event.end_minute * MINUTE_NS),
            "coverage_ratio": event.coverage,
        },
        "budget": _budget(event.budget),
        "entry": None if entry is None else _entry(entry, event),
        "forecast": _forecast(event.forecast, event.budget),
    }
    told = ("hour",) if entry is None else (entry.kind, entry.name, entry.start_minute, entry.end_minute)
    identity = _digest("budget", o.service, o.name, o.digest, event.minute, *told)
    time_ns = (event.minute + 1) * MINUTE_NS
    return _cloud_event(event.context, "budget", "budget.v1", o.service, identity, time_ns, data)


def _entry(entry: Entry, event: BudgetEvent) -> dict[str, Any]:
    o = event.objective
    unit = budget_unit(o)
    return {
        "kind": entry.kind,
        "start": _time(entry.start_minute * MINUTE_NS),
        "end": _time(None if entry.end_minute is None else entry.end_minute * MINUTE_NS),
        "n": entry.n,
        "total": entry.weight / unit,
        "bad": entry.weight_bad / unit,
        "consumed_ratio": event.entry_consumed,
        "name": entry.name or None,
        "reason": entry.reason or None,
    }


def _forecast(forecast: Forecast | None, now: Budget) -> dict[str, Any] | None:
    if forecast is None:
        return None
    low, high = forecast.interval_80_hours
    calendar = forecast.calendar
    return {
        "exhausted": forecast.exhausted,
        "p_exhausted_within_24h": forecast.p_exhaust_24h,
        "p_never": forecast.p_never,
        "median_hours": forecast.median_hours,
        "interval_80_hours": [low, high],
        "at_period_end": None
        if calendar is None
        else {
            "remaining_ratio_10_50_90": calendar.at_end_ratio,
            "consumed_to_date_ratio": now.consumed_ratio,
            "consumed_of_total_ratio": 1 - calendar.forecast_total_ratio,
        },
    }


def _status_key(o: Objective) -> str:
    return f"{o.service}/{o.name}"


def _status(event: StatusEvent) -> Rendered:
    o = event.sli.objective
    data = {
        **_objective(o),
        "as_of": _time((event.sli.minute + 1) * MINUTE_NS),
        **_figures(event.sli),
        "alerts": [
            {
                "alert": alert_id(o, rule),
                "rule": rule.name,
                "severity": rule.severity,
                "state": state,
                "began_at": _time(began_minute * MINUTE_NS),
                "told": told,
            }
            for rule, state, began_minute, told in event.alerts
        ],
        "links": {"runbook": o.alerting.runbook, "dashboard": o.alerting.dashboard},
    }
    subject = _status_key(o)
    identity = _digest("status", subject, o.digest, event.sli.minute, event.sli.revision)
    time_ns = (event.sli.minute + 1) * MINUTE_NS
    return _cloud_event(event.sli.context, "status", "status.v1", subject, identity, time_ns, data)


def _certificate(event: CertificateEvent) -> Rendered:
    certificate = certificate_id(event.service, event.version, event.policy, event.began_minute)
    data = {
        "certificate": certificate,
        "service": event.service,
        "version": event.version,
        "state": event.state,
        "before": event.before,
        "trigger": event.trigger,
        "confidence": 1 - ALPHA,
        "policy": event.policy,
        "evidence_since": _time(event.evidence_minute * MINUTE_NS),
        "evidence_until": _time((event.minute + 1) * MINUTE_NS),
        "reasons": [{"reason": r, "explanation": _fix(r, event.assessments)} for r in event.reasons],
        "objectives": [_assessment(a) for a in event.assessments],
        "issued_at": _time(event.issued_ns),
        "valid_until": _time(event.expires_ns),
        "revoked_by": event.revoked_by,
        "assumptions": [
            "Requests fail independently with a constant probability.",
            "Every request of the version reached the source topics, labelled with its version.",
        ],
    }
    identity = _digest("certificate-event", certificate, event.state, event.minute, event.context.offset)
    return _cloud_event(
        event.context, "certificate", "certificate.v1", event.service, identity, event.context.now_ns, data
    )


def _fix(reason: Reason, assessments: tuple[Assessment, ...]) -> str:
    if reason is not Reason.INEXACT:
        return FIXES[reason]
    inexact = [a.objective for a in assessments if a.n_unsure and a.objective.duration_lte_ns]
    return " ".join([FIXES[reason], *(bound_to_add(objective) for objective in inexact)])


def _assessment(a: Assessment) -> dict[str, Any]:
    return {
        "objective": a.objective.name,
        "target": a.objective.target,
        "objective_digest": a.objective.digest,
        "n": a.n,
        "n_bad": a.n_bad,
        "n_unsure": a.n_unsure,
        "log_e_value": _finite(a.log_e),
        "log_threshold": a.log_threshold,
        "decided": a.needs_events == 0,
        "needs_failure_free_events": a.needs_events,
        "minutes_until_decidable": a.eta_minutes,
    }


def _sketch(event: SketchEvent) -> Rendered:
    identity = _digest("sketch", event.service, event.minute)
    data = {
        "service": event.service,
        "start": _time(event.minute * MINUTE_NS),
        "end": _time((event.minute + 1) * MINUTE_NS),
        "unit": "s",
        "centroids": event.centroids,
    }
    time_ns = (event.minute + 1) * MINUTE_NS
    return _cloud_event(event.context, "sli", "sketch.v1", event.service, identity, time_ns, data)


def _dead_letter(event: DeadLetter) -> Rendered:
    position = f"{event.topic}/{event.partition}/{event.offset}"
    identity = _digest(
        "dead-letter", event.topic_id, event.partition, event.offset, event.reason, event.context.partition
    )
    data = {
        "position": position,
        "topic": event.topic,
        "topic_id": event.topic_id,
        "partition": event.partition,
        "offset": event.offset,
        "reason": event.reason,
        "items": event.items,
        "sha256": event.digest.hex() if event.digest is not None else None,
        "detail": event.detail,
    }
    return _cloud_event(event.context, "deadletter", "dead-letter.v1", position, identity, event.context.now_ns, data)


def event_source(pipeline: str, generation: str) -> str:
    """Returns the `source` of all events of one generation of a pipeline."""
    return f"/qma/{pipeline}/{generation}"


def _cloud_event(
    context: Context, topic: str, kind: str, subject: str, identity: str, time_ns: int, data: dict[str, Any]
) -> Rendered:
    """Source: CloudEvents 1.0, JSON event format; Kafka protocol binding, structured mode."""
    name, version = kind.rsplit(".", 1)
    event = {
        "specversion": "1.0",
        "id": identity,
        "source": event_source(context.pipeline, context.generation),
        "type": f"qma.{name}.{version}",
        "subject": subject,
        "time": _time(time_ns),
        "datacontenttype": "application/json",
        "data": {
            **data,
            "log": {
                "partition": context.partition,
                "offset": context.offset,
                "now": _time(context.now_ns),
                "frontier": _time(context.frontier_ns),
                "config_version": context.config_version,
            },
        },
    }
    return Rendered(topic=topic, key=subject.encode(), value=orjson.dumps(event))


def _objective(o: Objective) -> dict[str, Any]:
    return {
        "service": o.service,
        "objective": o.name,
        "objective_digest": o.digest,
        "target": o.target,
        **({"cohort": o.cohort, "cohort_of": o.cohort_of} if o.cohort_of else {}),
    }


def _stretch(s: Sli, start_minute: int, length_minutes: int) -> dict[str, Any]:
    return {
        "start": _time(start_minute * MINUTE_NS),
        "end": _time((start_minute + length_minutes) * MINUTE_NS),
        "n": s.n,
        "n_unknown": s.n_unknown,
        "good": s.good,
        "total": s.total,
        "ratio": s.ratio,
        "interval_95": s.interval,
        "n_unsure": s.n_unsure,
        "ratio_upper": s.ratio_upper,
        "ratio_lower": s.ratio_lower,
        "n_excluded": s.n_excluded,
        "n_missing": s.n_missing,
    }


def _budget(b: Budget) -> dict[str, Any]:
    return {
        "consumed_ratio": b.consumed_ratio,
        "remaining_min_ratio": b.remaining_min_ratio,
        "remaining_max_ratio": b.remaining_max_ratio,
    }


def _digest(*parts: object) -> str:
    """Returns 32 hex digits of a hash over the parts, separated so that no two lists of parts collide."""
    body = orjson.dumps([str(part) for part in parts])
    return hashlib.sha256(body).hexdigest()[:32]


def _finite(value: float) -> float | None:
    """JSON has no infinities: an e-value of zero has no logarithm and is written as null."""
    return value if abs(value) != float("inf") else None


def _time(time_ns: int | None) -> str | None:
    return None if time_ns is None else rfc3339(time_ns)


@lru_cache(maxsize=10_000)  # of a minute that closes all events tell the same few times
def rfc3339(time_ns: int) -> str:
    """Returns RFC 3339 in UTC with milliseconds: texts compare as times do."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"
