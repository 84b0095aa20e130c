"""Alert policies, conditions and notification targets of OpenSLO, and the rules that they become.

OpenSLO knows one window for each condition. Here a rule has two: the short one, which says that it still goes on, is a
twelfth of the long one, as in the workbook, or what the annotation `qma/short-window` of the condition says.

Source: OpenSLO v1, AlertPolicy and AlertCondition; The Site Reliability Workbook, chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Generic, TypeVar

from stream.config.annotations import SHORT_WINDOW, Annotations
from stream.config.durations import read_minutes
from stream.config.metadata import FIELDS as METADATA_FIELDS
from stream.config.metadata import check_description, read_metadata
from stream.config.problems import Position, either, nearest, quoted
from stream.config.sections import Section, not_among
from stream.config.yaml_positions import Node
from stream.core.slo.alerts import Alerting
from stream.core.slo.burn_rate import SUPPLEMENTS, BurnRule, RuleKind, Severity, duration
from stream.core.units import DAY_MINUTES

POLICY_FIELDS = (
    "description",
    "alertWhenBreaching",
    "alertWhenResolved",
    "alertWhenNoData",
    "conditions",
    "notificationTargets",
)
CONDITION_FIELDS = ("description", "severity", "condition")
TARGET_FIELDS = ("description", "target")
KINDS: Mapping[str, tuple[str, ...]] = {
    "AlertPolicy": POLICY_FIELDS,
    "AlertCondition": CONDITION_FIELDS,
    "AlertNotificationTarget": TARGET_FIELDS,
}

LOOKBACK_MINUTES_MAX = 90 * DAY_MINUTES
THRESHOLD_MAX = 1_000_000
NEVER_MUTED_FACTOR = Fraction(144, 10)
"""A page at this burn rate is told whatever is muted: it uses up 2 % of the budget of 30 days in an hour."""

_SHORT_WINDOWS = 12
_NO_DATA = next(rule for rule in SUPPLEMENTS if rule.kind is RuleKind.NO_DATA)
_BREACHING = {"gte": True, "gt": False, "lte": True, "lt": False}
"""Whether a burn rate that is equal to the threshold is a breach, by `op`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What has to burn.

    Args:
        severity: Who is called.
        factor: The burn rate.
        at_least: A burn rate that is equal to the factor is one.
        long_minutes: The window that says that it matters.
        short_minutes: The window that says that it still goes on.
        for_minutes: How long it has to burn.
    """

    severity: Severity
    factor: Fraction
    at_least: bool
    long_minutes: int
    short_minutes: int
    for_minutes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When people are told of what.

    Args:
        name: Of the policy.
        condition: What has to burn.
        when_breaching: Tell when it does.
        when_resolved: Tell when it no longer does.
        when_no_data: Tell when nothing is counted.
        targets: Names of the notification targets.
    """

    name: str
    condition: Condition
    when_breaching: bool
    when_resolved: bool
    when_no_data: bool
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Generic[T]):
    """The documents of one kind by name; None: it exists but was refused.

    Args:
        kind: Of the documents.
        by_name: What they say.
        complete: Every document could be read, so a name that is not there does not exist.
    """

    kind: str
    by_name: Mapping[str, T | None] = field(default_factory=dict)
    complete: bool = True

    def refer(self, section: Section, field_name: str) -> T | None:
        """Returns what the name in a field refers to, or None after a report."""
        name = section.text(field_name, missing=f"add `{field_name}:` with the name of an {self.kind}")
        if name is None or name in self.by_name:
            return None if name is None else self.by_name[name]
        # Where a document could not be read, this one may be in it: do not send the operator after a ghost.
        if self.complete:
            guess = nearest(name, self.by_name)
            fix = f"did you mean `{guess}`?" if guess else "pass the file that defines it as well"
            section.refuse(field_name, f"no {self.kind} {quoted(name)} in the given files; {fix}")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertDocuments:
    """What an SLO and its policies can refer to by name."""

    policies: Named[Policy] = field(default_factory=lambda: Named(kind="AlertPolicy"))
    conditions: Named[Condition] = field(default_factory=lambda: Named(kind="AlertCondition"))
    targets: Named[str] = field(default_factory=lambda: Named(kind="AlertNotificationTarget"))


def read_target(spec: Section, name: str) -> str | None:
    """Returns the name of a notification target, or None after a report."""
    return name if spec.text("target", missing="add `target: slack`, where notifications go") else None


def read_condition(spec: Section, annotations: Annotations) -> Condition | None:
    """Returns what a condition says, or None after reporting what is wrong.

    Args:
        spec: The `spec` of an AlertCondition.
        annotations: Those of its metadata.
    """
    severity = spec.text("severity", missing=f"add `severity:` with {either(Severity)}")
    if severity is not None and severity not in tuple(Severity):
        spec.refuse("severity", not_among(severity, tuple(Severity)))
        severity = None
    known = ("kind", "op", "threshold", "lookbackWindow", "alertAfter")
    example = "add `condition: {kind: burnrate, op: gte, threshold: 14.4, lookbackWindow: 1h}`"
    condition = spec.section("condition", known, missing=example)
    if condition is None:
        return None
    kind = condition.text("kind")
    if kind not in (None, "burnrate"):
        condition.refuse("kind", f"{quoted(str(kind))} is not known; write `burnrate`")
    factor = _factor(condition)
    at_least = _at_least(condition)
    missing = "add `lookbackWindow: 1h`"
    long_minutes = read_minutes(condition, "lookbackWindow", example="1h", missing=missing)
    if long_minutes is not None and long_minutes > LOOKBACK_MINUTES_MAX:
        condition.refuse("lookbackWindow", "is longer than 90 days, more than is kept; write `90d` or less")
        long_minutes = None
    for_minutes = _alert_after(condition)
    short_minutes = _short_minutes(condition, annotations, long_minutes)
    if severity is None or factor is None or long_minutes is None or short_minutes is None:
        return None
    return Condition(
        severity=Severity(severity),
        factor=factor,
        at_least=at_least,
        long_minutes=long_minutes,
        short_minutes=short_minutes,
        for_minutes=for_minutes,
    )


def _factor(condition: Section) -> Fraction | None:
    text = condition.number("threshold", example="14.4", missing="add `threshold: 14.4`, the burn rate")
    if text is None:
        return None
    factor = Fraction(text)
    if not 0 < factor <= THRESHOLD_MAX:
        message = f"{quoted(text)} is no burn rate; write a number above 0, for example `threshold: 14.4`"
        condition.refuse("threshold", message)
        return None
    return factor


def _at_least(condition: Section) -> bool:
    """Returns whether equal is a breach. OpenSLO's own examples write `lte` for a breach; others leave it out."""
    text = condition.text("op") if "op" in condition.entries else "gte"
    if text is not None and text not in _BREACHING:
        condition.refuse("op", not_among(text, tuple(_BREACHING)))
    if text in ("lte", "lt"):
        meant = text.replace("l", "g")
        why = "a burn rate is a breach when it is high"
        condition.warn("op", f"{why}, so `{text}` is read as `{meant}`; write `{meant}`")
    return _BREACHING.get(text or "", True)


def _alert_after(condition: Section) -> int:
    text = condition.text("alertAfter") if "alertAfter" in condition.entries else None
    if text in (None, "0m"):  # the default that OpenSLO names is no length in its own shorthand
        return 0
    return read_minutes(condition, "alertAfter", example="5m") or 0


def _short_minutes(condition: Section, annotations: Annotations, long_minutes: int | None) -> int | None:
    if long_minutes is None:
        return None
    short_minutes = annotations.short_window_minutes
    if short_minutes is None:
        return max(1, round(Fraction(long_minutes, _SHORT_WINDOWS)))
    if short_minutes > long_minutes:
        fix = "write a shorter one, or a longer `lookbackWindow`"
        message = f"is shorter than the annotation `{SHORT_WINDOW}`, {duration(short_minutes)}; {fix}"
        condition.refuse("lookbackWindow", message)
    return short_minutes


def read_policy(spec: Section, name: str, documents: AlertDocuments) -> Policy | None:
    """Returns what a policy says, or None after reporting what is wrong.

    Args:
        spec: The `spec` of an AlertPolicy.
        name: Of the policy.
        documents: What it can refer to.
    """
    breaching = spec.boolean("alertWhenBreaching")
    resolved = spec.boolean("alertWhenResolved")
    no_data = spec.boolean("alertWhenNoData")
    if breaching is False and not no_data:
        fix = "write `alertWhenBreaching: true`, or remove the policy"
        spec.refuse("alertWhenBreaching", f"the policy would never tell of anything; {fix}")
    condition = _condition_of(spec, documents)
    targets = _targets_of(spec, documents)
    if condition is None:
        return None
    return Policy(
        name=name,
        condition=condition,
        when_breaching=breaching is not False,
        when_resolved=resolved is not False,
        when_no_data=bool(no_data),
        targets=targets,
    )


def _condition_of(spec: Section, documents: AlertDocuments) -> Condition | None:
    example = "[{conditionRef: fast-burn}]"
    items = spec.items("conditions", example=example, missing=f"add `conditions: {example}`")
    if items is None:
        return None
    if len(items) != 1:
        fix = f"write exactly one, for example `conditions: {example}`, and a policy for each further one"
        spec.refuse("conditions", f"has {len(items)} conditions; {fix}")
        return None
    return _inline_or_named(
        spec,
        items[0],
        f"{spec.path_of('conditions')}[0]",
        "conditionRef",
        documents.conditions,
        lambda section, _, annotations: read_condition(section, annotations),
    )


def _targets_of(spec: Section, documents: AlertDocuments) -> tuple[str, ...]:
    items = spec.items("notificationTargets", example="[{targetRef: on-call}]") or ()
    path = spec.path_of("notificationTargets")
    found = [
        _inline_or_named(
            spec,
            item,
            f"{path}[{i}]",
            "targetRef",
            documents.targets,
            lambda section, name, _: read_target(section, name),
        )
        for i, item in enumerate(items)
    ]
    return tuple(dict.fromkeys(name for name in found if name is not None))


def _inline_or_named(
    spec: Section,
    node: Node,
    path: str,
    reference: str,
    named: Named[T],
    read: Callable[[Section, str, Annotations], T | None],
) -> T | None:
    """Returns what a list's item says, which names a document or is one."""
    item = spec.section_of(node, path, (reference, "kind", "metadata", "spec"), node.position)
    if item is None:
        return None
    if reference in item.entries:
        for name in ("kind", "metadata", "spec"):
            if name in item.entries:
                item.refuse(name, f"stands beside {reference}; remove one of the two")
        return named.refer(item, reference)
    fix = f"write `{reference}:` with the name of an {named.kind}"
    kind = item.text("kind", missing=f"{fix}, or `kind: {named.kind}` with `metadata` and `spec`")
    if kind is None:
        return None
    if kind != named.kind:
        item.refuse("kind", f"{quoted(kind)} does not belong here; write `kind: {named.kind}`, or `{reference}:`")
        return None
    metadata = item.section("metadata", METADATA_FIELDS, missing="add `metadata: {name: my-name}`")
    found = None if metadata is None else read_metadata(metadata, kind)
    inner = item.section("spec", KINDS[kind], missing=f"add `spec:` with {', '.join(KINDS[kind])}")
    if found is None or found.name is None or inner is None:
        return None
    check_description(inner)
    return read(inner, found.name, found.annotations)


def read_alerting(
    spec: Section, annotations: Annotations, documents: AlertDocuments, window_minutes: int | None
) -> Alerting:
    """Returns the alerts of an SLO: those of its policies, or the default ones where it names none.

    Args:
        spec: The `spec` of the SLO.
        annotations: Those of its metadata.
        documents: What it can refer to.
        window_minutes: Length of the error budget's window; None where it was refused.
    """
    told = Alerting(
        deploy_mute_minutes=annotations.deploy_mute_minutes,
        cooldown_minutes=annotations.cooldown_minutes,
        runbook=annotations.runbook,
        dashboard=annotations.dashboard,
    )
    items = spec.items("alertPolicies", example="[{alertPolicyRef: fast-burn}]")
    if not items:
        return told
    policies: dict[str, Policy] = {}
    for i, item in enumerate(items):
        path = f"{spec.path_of('alertPolicies')}[{i}]"
        policy = _inline_or_named(
            spec,
            item,
            path,
            "alertPolicyRef",
            documents.policies,
            lambda section, name, _: read_policy(section, name, documents),
        )
        if policy is not None:
            _check_policy(spec, item.position, path, policy, list(policies.values()), window_minutes)
            policies.setdefault(policy.name, policy)
    if not policies:
        return told
    return replace(
        told,
        rules=_rules(list(policies.values())),
        at_least=next(iter(policies.values())).condition.at_least,
        notify_resolved=next(iter(policies.values())).when_resolved,
        targets=tuple(dict.fromkeys(target for policy in policies.values() for target in policy.targets)),
    )


def _check_policy(
    spec: Section, position: Position, path: str, policy: Policy, before: Sequence[Policy], window_minutes: int | None
) -> None:
    """Reports a policy that does not fit the SLO or the policies before it."""
    long_minutes = policy.condition.long_minutes
    if window_minutes is not None and long_minutes > window_minutes:
        window = f"{duration(long_minutes)}, longer than the budget's window of {duration(window_minutes)}"
        message = f"the policy {quoted(policy.name)} looks back {window}; use one that looks back less"
        spec.refuse_at(position, path, message)
    for other in before:
        if other.name == policy.name:
            spec.refuse_at(position, path, f"the policy {quoted(policy.name)} is named twice; remove one of the two")
            continue
        for what, here, there in (
            ("alertWhenResolved", policy.when_resolved, other.when_resolved),
            ("a breach at equality (`op`)", policy.condition.at_least, other.condition.at_least),
        ):
            if here != there:
                both = f"{quoted(policy.name)} says {str(here).lower()}, {quoted(other.name)} {str(there).lower()}"
                message = f"the policies of an SLO must agree on {what}: {both}; write the same in both"
                spec.refuse_at(position, path, message)


def _rules(policies: Sequence[Policy]) -> tuple[BurnRule, ...]:
    breaching = [policy for policy in policies if policy.when_breaching]
    burning = [
        BurnRule(
            name=policy.name,
            severity=policy.condition.severity,
            long_minutes=policy.condition.long_minutes,
            short_minutes=policy.condition.short_minutes,
            fixed_factor=policy.condition.factor,
            for_minutes=policy.condition.for_minutes,
            never_muted=_never_muted(policy.condition),
            inhibited_by=tuple(
                sorted(other.name for other in breaching if _says_more(other.condition, policy.condition))
            ),
        )
        for policy in breaching
    ]
    severities = {policy.condition.severity for policy in policies if policy.when_no_data}
    no_data = [replace(_NO_DATA, name=f"{one}-no-data", severity=one) for one in Severity if one in severities]
    return (*burning, *no_data)


def _never_muted(condition: Condition) -> bool:
    return condition.severity is Severity.PAGE and condition.factor >= NEVER_MUTED_FACTOR


def _says_more(other: Condition, condition: Condition) -> bool:
    """Returns whether, while `other` fires, nobody need be told of `condition`."""
    calls_as_many = other.severity is Severity.PAGE or condition.severity is Severity.TICKET
    return calls_as_many and other.factor > condition.factor
