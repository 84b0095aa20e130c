"""Alert policies, and the rules that they become."""

from __future__ import annotations

from fractions import Fraction

import pytest

from stream.core.slo.alerts import Alerting
from stream.core.slo.burn_rate import DEFAULT_RULES, BurnRule, RuleKind, Severity
from tests.config.reading import document, loaded, only, read, slo

BURN = "kind: burnrate, op: gte"


def condition(
    name: str = "fast",
    *,
    severity: str = "page",
    burn: str = f"{BURN}, threshold: 14.4, lookbackWindow: 1h",
    short: str = "",
) -> str:
    spec = f"{{severity: {severity}, condition: {{{burn}}}}}"
    return document("AlertCondition", name, spec, annotations=f"qma/short-window: {short}" if short else "")


def policy(name: str = "page", fields: str = "conditions: [{conditionRef: fast}]") -> str:
    return document("AlertPolicy", name, f"{{{fields}}}")


def named(*names: str) -> str:
    return ", ".join(f"{{alertPolicyRef: {name}}}" for name in names)


def rules_of(*documents: str, names: tuple[str, ...] = ("page",)) -> tuple[BurnRule, ...]:
    return only(slo(policies=named(*names)), *documents).alerting.rules


def test_without_policies_an_slo_has_the_default_rules() -> None:
    assert only(slo()).alerting == Alerting(rules=DEFAULT_RULES)


def test_a_policy_is_a_rule() -> None:
    assert rules_of(policy(), condition()) == (
        BurnRule(
            name="page",
            severity=Severity.PAGE,
            long_minutes=60,
            short_minutes=5,
            fixed_factor=Fraction("14.4"),
            never_muted=True,
        ),
    )


def test_everything_may_be_inline() -> None:
    by_name = only(
        slo(policies=named("page")),
        policy(fields="conditions: [{conditionRef: fast}], notificationTargets: [{targetRef: on-call}]"),
        condition(short="10m"),
        document("AlertNotificationTarget", "on-call", "{target: pagerduty}"),
    )
    inline_condition = (
        "{kind: AlertCondition, metadata: {name: fast, annotations: {qma/short-window: 10m}}, spec: {severity: page, "
        f"condition: {{{BURN}, threshold: 14.4, lookbackWindow: 1h}}}}}}"
    )
    target = "{kind: AlertNotificationTarget, metadata: {name: on-call}, spec: {target: pagerduty}}"
    spec = f"{{conditions: [{inline_condition}], notificationTargets: [{target}]}}"
    inline = only(slo(policies=f"{{kind: AlertPolicy, metadata: {{name: page}}, spec: {spec}}}"))
    assert inline == by_name
    assert inline.alerting.targets == ("on-call",)
    assert inline.alerting.rules[0].short_minutes == 10


@pytest.mark.parametrize(
    ("lookback", "short"),
    [
        ("5m", 1),
        ("1m", 1),
        ("1h", 5),
        ("6h", 30),
        ("1d", 120),
        ("3d", 360),
        ("30m", 2),
        ("42m", 4),
        ("43m", 4),
        ("90d", 10800),
    ],
)
def test_the_short_window_is_a_twelfth_of_the_long_one(lookback: str, short: int) -> None:
    # The Site Reliability Workbook, chapter 5: 1/12 of the long window.
    window = "{duration: 90d, isRolling: true}"
    documents = (policy(), condition(burn=f"{BURN}, threshold: 2, lookbackWindow: {lookback}"))
    (rule,) = only(slo(policies=named("page"), window=window), *documents).alerting.rules
    assert rule.short_minutes == short


@pytest.mark.parametrize(("written", "minutes"), [("", 0), (", alertAfter: 0m", 0), (", alertAfter: 15m", 15)])
def test_an_alert_may_wait(written: str, minutes: int) -> None:
    (rule,) = rules_of(policy(), condition(burn=f"{BURN}, threshold: 5, lookbackWindow: 6h{written}"))
    assert rule.for_minutes == minutes


@pytest.mark.parametrize(
    ("op", "at_least", "warned"),
    [
        ("", True, False),
        ("op: gte, ", True, False),
        ("op: gt, ", False, False),
        ("op: lte, ", True, True),
        ("op: lt, ", False, True),
    ],
)
def test_a_breach_is_a_high_burn_rate_however_it_is_written(op: str, at_least: bool, warned: bool) -> None:
    configuration, problems = read(
        slo(policies=named("page")), policy(), condition(burn=f"{op}threshold: 2, lookbackWindow: 1h")
    )
    assert configuration.objectives[0].alerting.at_least is at_least
    warnings = [problem.message for problem in problems if problem.path == "spec.condition.op"]
    meant = op.removeprefix("op: l").rstrip(", ")
    expected = f"a burn rate is a breach when it is high, so `l{meant}` is read as `g{meant}`; write `g{meant}`"
    assert warnings == ([expected] if warned else [])
    assert all(problem.is_warning for problem in problems)


def test_no_data_is_a_rule_only_where_a_policy_asks_for_it() -> None:
    fields = "conditions: [{conditionRef: fast}], alertWhenNoData: true"
    page, no_data = rules_of(policy(fields=fields), condition())
    assert (page.kind, no_data.kind) == (RuleKind.BURN_RATE, RuleKind.NO_DATA)
    assert (no_data.name, no_data.severity) == ("page-no-data", Severity.PAGE)
    assert [rule.kind for rule in rules_of(policy(), condition())] == [RuleKind.BURN_RATE]


def test_a_policy_about_missing_data_alone_has_no_burn_rate() -> None:
    fields = "conditions: [{conditionRef: fast}], alertWhenNoData: true, alertWhenBreaching: false"
    assert [rule.kind for rule in rules_of(policy(fields=fields), condition())] == [RuleKind.NO_DATA]


@pytest.mark.parametrize(
    ("written", "told"), [("", True), (", alertWhenResolved: true", True), (", alertWhenResolved: false", False)]
)
def test_resolutions_are_told_unless_the_policy_says_no(written: str, told: bool) -> None:
    fields = f"conditions: [{{conditionRef: fast}}]{written}"
    assert only(slo(policies=named("page")), policy(fields=fields), condition()).alerting.notify_resolved is told


def test_while_a_graver_alert_fires_the_lesser_ones_are_held_back() -> None:
    documents = [
        policy("fast"),
        policy("slow", "conditions: [{conditionRef: slow}]"),
        policy("creeping", "conditions: [{conditionRef: creeping}]"),
        condition(),
        condition("slow", burn=f"{BURN}, threshold: 6, lookbackWindow: 6h"),
        condition("creeping", severity="ticket", burn=f"{BURN}, threshold: 10, lookbackWindow: 1d"),
    ]
    rules = rules_of(*documents, names=("creeping", "fast", "slow"))
    assert {rule.name: rule.inhibited_by for rule in rules} == {
        "fast": (),
        "slow": ("fast",),  # a ticket says less than a page, however fast it burns
        "creeping": ("fast",),
    }
    assert {rule.name for rule in rules if rule.never_muted} == {"fast"}


def test_targets_of_all_policies_are_told() -> None:
    targets = [document("AlertNotificationTarget", name, "{target: slack}") for name in ("a", "b")]
    documents = [
        policy("one", "conditions: [{conditionRef: fast}], notificationTargets: [{targetRef: b}, {targetRef: a}]"),
        policy("two", "conditions: [{conditionRef: fast}], notificationTargets: [{targetRef: a}]"),
    ]
    assert only(slo(policies=named("one", "two")), *documents, *targets, condition()).alerting.targets == ("b", "a")


def test_annotations_of_the_slo_reach_its_alerts() -> None:
    annotations = (
        "qma/runbook: https://wiki.example.com/x, qma/dashboard: http://grafana.example.com/d/x, "
        "qma/deploy-mute: 30m, qma/cooldown: 10m"
    )
    told = {
        "runbook": "https://wiki.example.com/x",
        "dashboard": "http://grafana.example.com/d/x",
        "deploy_mute_minutes": 30,
        "cooldown_minutes": 10,
    }
    assert only(slo(annotations=annotations)).alerting == Alerting(**told)  # type: ignore[arg-type]
    own = only(slo(annotations=annotations, policies=named("page")), policy(), condition()).alerting
    assert {name: getattr(own, name) for name in told} == told


def test_policies_may_be_shared_and_are_checked_once() -> None:
    bad = condition(severity="sev1")
    _, problems = read(slo(name="a", policies=named("page")), slo(name="b", policies=named("page")), policy(), bad)
    assert [problem.path for problem in problems] == ["spec.severity"]


def test_alerts_are_no_part_of_what_an_objective_is() -> None:
    assert only(slo(policies=named("page")), policy(), condition()).digest == only(slo()).digest


def test_a_policy_that_no_slo_names_is_still_checked() -> None:
    _, problems = read(slo(), policy("unused", "conditions: []"))
    assert [problem.path for problem in problems] == ["spec.conditions"]
    assert loaded(slo(), policy(), condition()).objectives[0].alerting.rules == DEFAULT_RULES
