"""SLOs of Sloth as OpenSLO documents, with comments that say where they come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stream.config.annotations import DASHBOARD, RUNBOOK, SHORT_WINDOW
from stream.config.documents import API_VERSION
from stream.config.durations import shorthand_minutes
from stream.config.selector import SOURCE_TYPE
from stream.config.sloth import SlothSlo
from stream.config.sloth_indicator import AtMost
from stream.config.yaml_text import Written, yaml_document
from stream.core.errors import ConfigError
from stream.core.slo.burn_rate import RULES, duration
from stream.core.slo.spec import SliSignal, Wanted

ALERTING_PREFIX = "sloth.slok.dev/alerting."
_UNITS = {0: " with the unit s", -3: " with the unit ms", None: ""}
_LINK = re.compile(r"https?://\S{1,2000}", re.ASCII)
_LINKS = {
    RUNBOOK: ("annotations.runbook", "annotations.runbook_url"),
    DASHBOARD: ("annotations.dashboard", "annotations.dashboard_url"),
}


def openslo_text(slo: SlothSlo, *, window: str) -> str:
    """Returns an SLO as an OpenSLO document of kind SLO.

    Args:
        slo: The SLO.
        window: Length of its rolling window in OpenSLO's shorthand; Sloth's files do not say it.

    Raises:
        ConfigError: The window is too short for the alerts that are not switched off.
    """
    return yaml_document(_document(slo, window), _comments(slo))


def _comments(slo: SlothSlo) -> Iterator[str]:
    yield f"From Sloth: {slo.name} of {slo.service} ({slo.file}:{slo.position.line})"
    yield f"errors: {slo.error_query}"
    yield f"total: {slo.total_query}"
    metric = slo.indicator.metric
    if metric.is_spanmetrics:
        yield "Taken for what the spanmetrics connector counts: never add it up with the spans."
    elif not metric.is_conventional:
        yield "Metrics and labels must arrive under the names that they have in Prometheus."
        if slo.indicator.is_histogram:
            unit = _UNITS[metric.unit_exponent] if isinstance(slo.indicator.rule, AtMost) else ""
            yield f"{metric.name} is taken for a histogram{unit}, as a Prometheus receiver makes it of its series."
    if slo.indicator.service is None:
        yield f"The queries name no service; what {slo.service} reports counts."


def _document(slo: SlothSlo, window: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": slo.document_name, "displayName": slo.name}
    if slo.labels:
        metadata["labels"] = dict(slo.labels)
    annotations = _annotations(slo.alerting)
    if annotations:
        metadata["annotations"] = annotations
    spec: dict[str, Any] = {} if slo.description is None else {"description": slo.description}
    rule = slo.indicator.rule
    objective: dict[str, Any] = {"targetPercent": Written(slo.objective_percent)}
    if isinstance(rule, AtMost):
        objective = {"op": "lte", "value": Written(rule.seconds), **objective}
    spec |= {
        "service": slo.service,
        "indicator": {"metadata": {"name": slo.document_name}, "spec": _indicator(slo)},
        "timeWindow": [{"duration": window, "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [objective],
    }
    if slo.silent:
        spec["alertPolicies"] = _alert_policies(slo, window)
    return {"apiVersion": API_VERSION, "kind": "SLO", "metadata": metadata, "spec": spec}


def _alert_policies(slo: SlothSlo, window: str) -> list[dict[str, Any]]:
    """Returns Sloth's own alerts but those that are switched off, which leaves out those that we would add."""
    window_minutes = shorthand_minutes(window) or 0
    policies = []
    for rule in RULES:
        if rule.severity in slo.silent or rule.long_minutes > window_minutes:
            continue
        factor = rule.nominal_factor(window_minutes)
        condition = {
            "kind": "burnrate",
            "op": "gt",
            "threshold": Written(f"{float(factor)}"),
            "lookbackWindow": duration(rule.long_minutes),
        }
        inner = {
            "kind": "AlertCondition",
            "metadata": {"name": rule.name, "annotations": {SHORT_WINDOW: duration(rule.short_minutes)}},
            "spec": {"severity": rule.severity.value, "condition": condition},
        }
        spec = {"alertWhenBreaching": True, "alertWhenResolved": True, "conditions": [inner]}
        policies.append({"kind": "AlertPolicy", "metadata": {"name": rule.name}, "spec": spec})
    if not policies:
        fix = "give a longer `--period`, or let the other alert fire"
        raise ConfigError(
            f"{slo.file}:{slo.position.line}: no alert that is left looks back as little as {window}; {fix}"
        )
    return policies


def _annotations(alerting: Mapping[str, str]) -> dict[str, str]:
    """Returns what alerts carry, under a name that says whose it is, and the links that we know as our own."""
    links = {
        ours: alerting[path]
        for ours, paths in _LINKS.items()
        for path in reversed(paths)
        if _LINK.fullmatch(alerting.get(path, ""))
    }
    return {**links, **{f"{ALERTING_PREFIX}{path}": text for path, text in alerting.items()}}


def _indicator(slo: SlothSlo) -> dict[str, Any]:
    selector = _selector(slo)
    total = {"metricSource": {"type": SOURCE_TYPE, "spec": selector}}
    if isinstance(slo.indicator.rule, AtMost):
        return {"thresholdMetric": total}
    rule = slo.indicator.rule
    which = {"metric": rule.metric} if rule.metric else {rule.name: {"attributes": _attributes(rule.attributes)}}
    part = {"metricSource": {"type": SOURCE_TYPE, "spec": {**selector, **which}}}
    return {"ratioMetric": {"counter": True, rule.name: part, "total": total}}


def _selector(slo: SlothSlo) -> dict[str, Any]:
    indicator = slo.indicator
    selector: dict[str, Any] = {"environment": slo.environment}
    if slo.namespace is not None:
        selector["namespace"] = slo.namespace
    if indicator.service not in (None, slo.service):
        selector["service"] = indicator.service
    selector |= {"signal": SliSignal.METRICS.value, "metric": indicator.metric.name}
    if indicator.kinds:
        selector["kinds"] = indicator.kinds
    for name, wanted in (("attributes", indicator.attributes), ("without", indicator.without)):
        if wanted:
            selector[name] = _attributes(wanted)
    return selector


def _attributes(wanted: Wanted) -> dict[str, Any]:
    return {name: _value(values[0]) if len(values) == 1 else tuple(map(_value, values)) for name, values in wanted}


def _value(text: str) -> str:
    """Returns a value that is compared as text: a whole number needs no quotes to be the same."""
    return Written(text) if text.isascii() and text.isdecimal() and text == str(int(text)) else text
