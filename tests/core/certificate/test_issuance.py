"""Certificates: issued on enough evidence and nothing less, revoked when it turns, ended by time or configuration."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.certificate.issuance import ALPHA, COMPLETE, Certificate, Evidence, Shortfall, assess, pending_reasons
from stream.core.certificate.lifecycle import FIXES, TRANSITIONS, CertificateState, Reason, Trigger
from stream.core.columns import RowFlag
from stream.core.events import CertificateEvent
from stream.core.slo.spec import RawRatio, SliSignal
from stream.core.statistics.sequential import log_e_value
from stream.core.units import DAY_NS, MINUTE_NS, SECOND_NS, WEIGHT_ONE
from tests.core.engine.log_writer import (
    SERVICE,
    T0_NS,
    Event,
    LogWriter,
    bundle,
    minute_by_minute,
    objective,
    run,
)

PENDING, ISSUED, REVOKED, EXPIRED = CertificateState


def certificates(outputs) -> list[CertificateEvent]:
    return [output for output in outputs if isinstance(output, CertificateEvent)]


def changes(outputs) -> list[tuple[str, str, CertificateState]]:
    """Returns (version, trigger, state) of every transition."""
    return [(e.version, str(e.trigger), e.state) for e in certificates(outputs) if e.before is not e.state]


def weighty(minutes: int, per_minute: int, *, start: int = 0, bad: int = 0, **rest) -> list[list[Event]]:
    """Returns minutes of `per_minute` requests of which `bad` are bad, in two rows a minute."""
    batches = []
    for minute in range(start, start + minutes):
        at_ns = T0_NS + minute * MINUTE_NS + SECOND_NS
        good = per_minute - bad
        batch = [Event(at_ns, count=good, weight=good * WEIGHT_ONE, **rest)]
        if bad:
            batch.append(Event(at_ns, count=bad, weight=bad * WEIGHT_ONE, bad=True, **rest))
        batches.append(batch)
    return batches


def closed(writer: LogWriter, batches, *, idle: int = 2) -> list:
    """Folds the minutes, and `idle` further ones so that they close."""
    minute_by_minute(writer, [*batches, *[[]] * idle])
    return run(writer.log)[1]


# Issue


def test_a_certificate_is_issued_with_the_first_closed_minute_that_makes_3678_clean_requests():
    outputs = closed(LogWriter(bundle(objective(target="0.999"))), weighty(40, 100))
    (issued,) = [e for e in certificates(outputs) if e.state is ISSUED]
    assert issued.assessments[0].n == 3_700
    assert issued.minute * MINUTE_NS == T0_NS + 36 * MINUTE_NS
    assert issued.issued_ns == issued.context.now_ns
    assert issued.expires_ns == issued.issued_ns + 7 * DAY_NS
    assert changes(outputs) == [("v1", "None", PENDING), ("v1", "evidence_suffices", ISSUED)]


def test_one_request_fewer_does_not_do():
    for n, state in ((3_677, PENDING), (3_678, ISSUED)):
        outputs = closed(LogWriter(bundle(objective(target="0.999"))), weighty(1, n))
        assert certificates(outputs)[-1].state is state


def test_every_objective_has_to_pass():
    slow = objective("latency", "0.9", duration_lte_ns=5)
    outputs = closed(LogWriter(bundle(objective(target="0.9"), slow)), weighty(3, 500, duration_ns=6))
    assert {e.state for e in certificates(outputs)} == {PENDING}
    (good, bad) = certificates(outputs)[-1].assessments
    assert (good.needs_events, bad.needs_events > 0) == (0, True)


def test_a_pending_certificate_says_how_long_until_it_can_be_decided():
    evidence = Evidence(n=1_000, minutes=10)
    assessment = assess(evidence, objective(target="0.999"))
    assert assessment.needs_events == 2_678
    assert assessment.eta_minutes == 27
    assert assess(Evidence(), objective(target="0.999")).eta_minutes is None


def test_versions_earn_their_certificates_apart():
    both = [a + b for a, b in zip(weighty(2, 400, version="v1"), weighty(2, 400, version="v2", bad=200), strict=True)]
    outputs = closed(LogWriter(bundle(objective(target="0.9"))), both)
    assert ("v1", "evidence_suffices", ISSUED) in changes(outputs)
    assert all(version == "v1" for version, _, state in changes(outputs) if state is ISSUED)


# Reasons


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ({"version": ""}, Reason.VERSION_UNKNOWN),
        ({"flags": int(RowFlag.SAMPLING_UNKNOWN)}, Reason.SAMPLING_UNKNOWN),
        ({"weight": 2}, Reason.SAMPLED),
    ],
)
def test_what_stands_against_a_certificate_is_said_and_alone(rest, reason):
    writer = LogWriter(bundle(objective(target="0.9")))
    weight = rest.pop("weight", 1)
    at_ns = T0_NS + SECOND_NS
    outputs = closed(writer, [[Event(at_ns, count=900, weight=900 * weight * WEIGHT_ONE, **rest)]])
    last = certificates(outputs)[-1]
    assert (last.state, last.reasons) == (PENDING, (reason,))
    assert FIXES[reason]


def test_an_unknown_environment_is_never_certified():
    key = "unknown/shop/checkout"
    wanted = objective(target="0.9", service=key)
    outputs = closed(LogWriter(bundle(wanted)), weighty(3, 900, service=key))
    assert certificates(outputs)[-1].reasons == (Reason.ENVIRONMENT_UNKNOWN,)


def test_the_annotation_that_nothing_samples_makes_unknown_weights_count():
    writer = LogWriter(bundle(objective(target="0.9", sampling_none=True)))
    outputs = closed(writer, weighty(1, 900, flags=int(RowFlag.SAMPLING_UNKNOWN)))
    assert certificates(outputs)[-1].state is ISSUED


def test_every_reason_is_listed_in_order():
    wanted = objective(service="unknown/-/x", signal=SliSignal.METRICS, metric="ratio", raw=RawRatio.SUCCESS)
    evidence = Evidence(n=1, n_bad=1, n_unknown=1, n_sampled=1, n_unsure=1, minutes=60)
    certificate = Certificate("unknown/-/x", "", "p", 0, 0, evidence={wanted.digest: evidence})
    lacking = {wanted.digest: Shortfall(n_missing=1)}
    assert pending_reasons(certificate, [wanted], catching_up=True, shortfalls=lacking) == tuple(Reason)


@pytest.mark.parametrize(
    ("n", "lacks", "stands_against"),
    [
        (10_000, COMPLETE, False),
        (10_000, Shortfall(n_missing=100), True),  # up to 1.04 % may have been bad
        (1_000_000, Shortfall(n_missing=100), False),  # at most 105 in 1,000,100
        (1_000_000, None, True),  # nobody knows how many
        (1_000, None, False),
        (1_000_000, Shortfall(n_untold=900_000), False),
        (1_000_000, Shortfall(n_untold=999_000), True),
        (1_000, Shortfall(n_untold=2_000), False),  # it would not suffice in any case
    ],
)
def test_missing_events_count_as_bad_ones_and_those_that_nobody_could_tell_yet_not_at_all(n, lacks, stands_against):
    wanted = objective(target="0.999")
    certificate = Certificate(SERVICE, "v1", "p", 0, 0, evidence={wanted.digest: Evidence(n=n, n_bad=5)})
    reasons = pending_reasons(certificate, [wanted], catching_up=False, shortfalls={wanted.digest: lacks})
    assert (Reason.MISSING_EVENTS in reasons) is stands_against


@given(st.integers(0, 10**6), st.integers(0, 10**4), st.integers(0, 10**4), st.sampled_from((0.1, 0.001, 0.00001)))
def test_no_outcome_of_the_missing_events_speaks_more_against_a_version_than_all_bad(good, bad, missing, allowed):
    evidence = Evidence(n=good + bad, n_bad=bad)
    worst = evidence.log_e(allowed, Shortfall(n_missing=missing))
    for of_them_bad in (0, missing // 2, missing):
        happened = log_e_value(bad + of_them_bad, good + bad + missing, allowed)
        assert worst <= happened + 1e-6 * max(1.0, abs(happened))
    assert worst <= evidence.log_e(allowed) + 1e-6 * abs(worst)


def test_what_nobody_can_tell_is_a_reason_only_where_the_evidence_does_not_suffice_without_it():
    wanted = objective(target="0.9")
    enough = Evidence(n=10_000, n_bad=100, n_unsure=100)
    certificate = Certificate(SERVICE, "v1", "p", 0, 0, evidence={wanted.digest: enough})
    lacking = {wanted.digest: COMPLETE}
    assert pending_reasons(certificate, [wanted], catching_up=False, shortfalls=lacking) == ()
    enough.restart(0.1)
    assert enough.n_unsure == 0
    insufficient = (Reason.INSUFFICIENT_EVIDENCE,)
    assert pending_reasons(certificate, [wanted], catching_up=False, shortfalls=lacking) == insufficient


def test_evidence_that_the_first_release_stored_is_read():
    certificate = Certificate(SERVICE, "v1", "p", 0, 0, evidence={"d": Evidence(n=3, n_bad=1)})
    body = certificate.dump()
    del body["evidence"]["d"]["n_unsure"]
    body["evidence"]["d"]["n_of_all"] = 7  # a count that later versions do not keep
    assert Certificate.load(body) == certificate


# Gaps


def test_a_gap_throws_away_what_spoke_for_a_version_and_carries_what_spoke_against_it():
    for n_bad, carried in ((0, 0.0), (50, log_e_value(50, 1_000, 0.01))):
        evidence = Evidence(n=1_000, n_bad=n_bad, minutes=10)
        evidence.restart(0.01)
        assert (evidence.n, evidence.n_bad, evidence.minutes) == (0, 0, 0)
        assert evidence.carried == carried <= 0
        evidence.restart(0.01)
        assert evidence.carried == carried


def test_evidence_carried_against_a_version_has_to_be_outweighed():
    evidence = Evidence(n=1_000, n_bad=20, minutes=10)
    evidence.restart(0.01)
    needed = assess(evidence, objective()).needs_events
    assert needed > assess(Evidence(), objective()).needs_events
    evidence.add(needed - 1, 0, 0, False)
    assert evidence.log_e(0.01) < -math.log(ALPHA)
    evidence.add(1, 0, 0, False)
    assert evidence.log_e(0.01) >= -math.log(ALPHA) - 1e-9


def test_the_worst_evidence_still_has_a_time_until_it_can_be_decided():
    evidence = Evidence(n=10**6, n_bad=10**6, minutes=1)
    evidence.restart(0.01)
    assert math.isfinite(evidence.carried)
    assert assess(evidence, objective()).needs_events > 0


def test_after_a_gap_evidence_starts_anew():
    writer = LogWriter(bundle(objective(target="0.999")))
    minute_by_minute(writer, weighty(20, 100))
    until_ns = T0_NS + 22 * MINUTE_NS
    writer.record(until_ns=until_ns, lost=5)
    minute_by_minute(writer, [*weighty(36, 100, start=22), [], []], start=22)
    _, outputs = run(writer.log)
    assert ISSUED not in {e.state for e in certificates(outputs)}
    assert certificates(outputs)[-1].assessments[0].n <= 3_600


# Revocation and end


def issued(target: str = "0.999", **settings) -> tuple[LogWriter, int]:
    """Returns a writer whose v1 is certified, and the next minute."""
    writer = LogWriter(bundle(objective(target=target), **settings))
    minute_by_minute(writer, [*weighty(1, 3_700), [], []])
    assert changes(run(writer.log)[1])[-1][2] is ISSUED
    return writer, 3


def test_a_version_that_turns_ten_times_worse_is_revoked_after_about_1310_requests():
    writer, start = issued()
    minute_by_minute(writer, [*weighty(30, 100, start=start, bad=1), [], []], start=start)
    _, outputs = run(writer.log)
    (revoked,) = [e for e in certificates(outputs) if e.state is REVOKED]
    requests = (revoked.minute - T0_NS // MINUTE_NS - start + 1) * 100
    assert 1_200 <= requests <= 1_500
    assert revoked.revoked_by == ("availability",)
    assert changes(outputs)[-1] == ("v1", "evidence_turned", REVOKED)


def test_a_version_that_keeps_its_objective_is_not_revoked():
    writer, start = issued()
    minute_by_minute(writer, [*weighty(60, 1000, start=start, bad=1), [], []], start=start)
    assert changes(run(writer.log)[1])[-1][2] is ISSUED


def test_while_catching_up_nothing_is_issued_but_revocation_and_expiry_go_on():
    behind_s = 3_600
    writer = LogWriter(bundle(objective(target="0.999")))
    minute_by_minute(writer, [*weighty(2, 3_700), [], []], lag_s=behind_s)
    outputs = run(writer.log)[1]
    assert certificates(outputs)[-1].reasons == (Reason.CATCHING_UP,)

    writer, start = issued()
    minute_by_minute(writer, [*weighty(1, 1_000, start=start, bad=100), [], []], start=start, lag_s=behind_s)
    assert changes(run(writer.log)[1])[-1] == ("v1", "evidence_turned", REVOKED)

    writer, _ = issued()
    writer.record(now_ns=T0_NS + 8 * DAY_NS)
    assert changes(run(writer.log)[1])[-1] == ("v1", "validity_ended", EXPIRED)


def test_a_certificate_expires_by_now_at_the_end_of_its_validity():
    writer, _ = issued(certificate_lifetime_minutes=60)
    (event,) = [e for e in certificates(run(writer.log)[1]) if e.state is ISSUED]
    end_ns = event.expires_ns
    assert end_ns is not None
    writer.record(now_ns=end_ns - 1)
    writer.record(now_ns=end_ns)
    outputs = certificates(run(writer.log)[1])
    assert (outputs[-1].state, outputs[-1].context.offset) == (EXPIRED, len(writer.log) - 1)


def test_a_certificate_ends_when_its_objectives_change_and_the_version_starts_anew():
    writer, start = issued()
    writer.bundle = bundle(objective(target="0.99"))
    writer.config_version = 1
    writer.record(configure=True, now_ns=T0_NS)
    minute_by_minute(writer, [*weighty(2, 1_000, start=start + 1), [], []], start=start + 1)
    _, outputs = run(writer.log)
    found = changes(outputs)
    assert ("v1", "objectives_changed", EXPIRED) in found
    assert [state for _, _, state in found][-2:] == [PENDING, ISSUED]
    policies = {e.policy for e in certificates(outputs)}
    assert len(policies) == 2


def test_after_a_rolled_back_change_of_objectives_a_version_can_be_certified_again():
    writer, start = issued()
    for target in ("0.99", "0.999"):
        writer.bundle, writer.config_version = bundle(objective(target=target)), writer.config_version + 1
        writer.record(configure=True, now_ns=T0_NS)
    minute_by_minute(writer, [*weighty(3, 4_000, start=start + 1), [], []], start=start + 1)
    assert changes(run(writer.log)[1])[-1][2] is ISSUED


# The table


def test_only_pending_and_issued_certificates_move():
    assert set(TRANSITIONS) == set(CertificateState)
    assert TRANSITIONS[REVOKED] == TRANSITIONS[EXPIRED] == {}


@pytest.mark.parametrize("state", list(CertificateState))
@pytest.mark.parametrize("trigger", list(Trigger))
def test_each_step_follows_the_table(state, trigger):
    certificate = Certificate(SERVICE, "v1", "p", 0, 0, state=state)
    moved = certificate.step(trigger)
    assert moved == (trigger in TRANSITIONS[state])
    assert certificate.state is TRANSITIONS[state].get(trigger, state)
