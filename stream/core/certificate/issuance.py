"""Evidence for and against a certificate: closed minute cells go in once, a decision comes out.

Issue: per objective an e-process against "the share of bad events is at least 1 − target", every objective at full
alpha, since all must pass. Revoke: an e-detector started at issue. Both stay valid however often one looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from stream.core.certificate.lifecycle import TRANSITIONS, CertificateState, Reason, Trigger
from stream.core.service_key import UNKNOWN_ENVIRONMENT, split_service_key
from stream.core.slo.spec import Objective
from stream.core.statistics.sequential import (
    events_until_decidable,
    log_e_value,
    log_threshold,
    revoke_log_threshold,
    revoke_update,
)

ALPHA = 0.05
"""A version that misses an objective earns a certificate with at most this probability."""


CARRIED_MIN = -600.0
"""Bounds the evidence carried from before a gap, so that its exponential is a number; e^-600 is beyond reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What evidence lacks.

    Args:
        n_missing: Events that must have been there and never came, or may have been lost; they may have been bad.
        n_untold: Events of the evidence, mostly the newest, of which nobody could yet tell whether they are all.
    """

    n_missing: int = 0
    n_untold: int = 0


COMPLETE = Shortfall()


@dataclass(slots=True)
class Evidence:
    """The evidence on one objective of one version.

    Args:
        n: Events in closed minutes since the evidence began.
        n_bad: Of these, bad.
        n_unknown: Of these, of unknown sampling.
        n_sampled: Events in minutes whose weights were not all 1.
        n_unsure: Of the bad events, those of which a histogram does not tell.
        minutes: Closed minutes since the evidence began.
        carried: Log of the evidence against the version from before a gap; never positive.
        log_revoke: Log of the e-detector since issue.
    """

    n: int = 0
    n_bad: int = 0
    n_unknown: int = 0
    n_sampled: int = 0
    minutes: int = 0
    carried: float = 0.0
    log_revoke: float = 0.0
    n_unsure: int = 0

    def add(self, n: int, n_bad: int, n_unknown: int, sampled: bool, n_unsure: int = 0) -> None:
        """Takes in one closed minute."""
        self.n += n
        self.n_bad += n_bad
        self.n_unknown += n_unknown
        self.n_sampled += n if sampled else 0
        self.n_unsure += n_unsure
        self.minutes += 1

    def log_e(self, bad_ratio_max: float, shortfall: Shortfall = COMPLETE) -> float:
        """Returns the log of the evidence for the version: carried plus gained since, at worst.

        At worst means that all missing events were bad, and that good ones of which nobody can tell yet do not count.
        With every bad event, and every good one fewer, the e-value falls: where it suffices so, it would with what
        really happened.
        """
        n_bad = self.n_bad + shortfall.n_missing
        n_good = max(0, self.n - self.n_bad - shortfall.n_untold)
        return self.carried + log_e_value(n_bad, n_bad + n_good, bad_ratio_max)

    def restart(self, bad_ratio_max: float) -> None:
        """Starts anew after minutes that were not read.

        What spoke for the version is thrown away, what spoke against it is carried: the product of e-values of
        disjoint stretches is an e-value, and lowering one keeps it valid.
        """
        self.carried = max(CARRIED_MIN, min(0.0, self.log_e(bad_ratio_max)))
        self.n = self.n_bad = self.n_unknown = self.n_sampled = self.n_unsure = self.minutes = 0

    @classmethod
    def load(cls, body: Mapping[str, Any]) -> Evidence:
        """Returns what was dumped; fields that an earlier version stored beside are passed over."""
        return cls(**{f.name: body[f.name] for f in fields(cls) if f.name in body})


@dataclass(slots=True)
class Certificate:
    """The certificate of one version of one service, and the evidence that it stands on.

    It began with `began_minute`, which is part of its id; `evidence_minute` is the first minute of what it stands on.
    `stated_events` is the evidence that the last hourly statement was made on.
    """

    service: str
    version: str
    policy: str
    began_minute: int
    evidence_minute: int
    state: CertificateState = CertificateState.PENDING
    evidence: dict[str, Evidence] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    issued_ns: int | None = None
    expires_ns: int | None = None
    ended_ns: int | None = None
    ended_by: Trigger | None = None
    stated_events: int = 0

    @property
    def events(self) -> int:
        """Events in the evidence, over all objectives."""
        return sum(evidence.n for evidence in self.evidence.values())

    def step(self, trigger: Trigger) -> bool:
        """Moves along the transition table. Returns whether the state changed."""
        after = TRANSITIONS[self.state].get(trigger)
        if after is None:
            return False
        self.state = after
        self.ended_by = None if TRANSITIONS[after] else trigger
        return True

    def dump(self) -> dict[str, Any]:
        """Returns the state as plain values; `load` gives back an equal one."""
        return asdict(self)

    @classmethod
    def load(cls, body: Mapping[str, Any]) -> Certificate:
        """Returns the certificate that `dump` wrote."""
        evidence = {digest: Evidence.load(e) for digest, e in body["evidence"].items()}
        reasons = tuple(Reason(r) for r in body["reasons"])
        state = CertificateState(body["state"])
        ended_by = Trigger(body["ended_by"]) if body["ended_by"] is not None else None
        return cls(**{**body, "evidence": evidence, "reasons": reasons, "state": state, "ended_by": ended_by})


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """Where the evidence on one objective stands.

    Args:
        log_e: Log of the e-value; the test rejects at `log_threshold`.
        needs_events: Further failure-free events until it rejects; 0 when it does.
        eta_minutes: Minutes until then at the mean rate since the evidence began; None without traffic.
    """

    objective: Objective
    n: int
    n_bad: int
    log_e: float
    log_threshold: float
    needs_events: int
    eta_minutes: int | None
    n_unsure: int = 0


def suffices(certificate: Certificate, objectives: list[Objective]) -> bool:
    """Returns whether every objective's test rejects at full alpha."""
    return all(certificate.evidence[o.digest].log_e(float(o.bad_ratio_max)) >= log_threshold(ALPHA) for o in objectives)


def assess(evidence: Evidence, objective: Objective) -> Assessment:
    """Returns where one objective stands and how long until it can be decided, failures aside."""
    bad_ratio_max = float(objective.bad_ratio_max)
    log_e = evidence.log_e(bad_ratio_max)
    decided, needs = log_e >= log_threshold(ALPHA), 0
    if not decided:
        # Evidence carried against the version has to be outweighed as well: the same test at a smaller alpha.
        alpha = ALPHA * math.exp(max(evidence.carried, CARRIED_MIN))
        needs = max(1, events_until_decidable(evidence.n_bad, evidence.n, bad_ratio_max, alpha))
    eta = math.ceil(needs * evidence.minutes / evidence.n) if evidence.n else None
    return Assessment(
        objective=objective,
        n=evidence.n,
        n_bad=evidence.n_bad,
        log_e=log_e,
        log_threshold=log_threshold(ALPHA),
        needs_events=needs,
        eta_minutes=eta,
        n_unsure=evidence.n_unsure,
    )


def pending_reasons(
    certificate: Certificate,
    objectives: list[Objective],
    catching_up: bool,
    shortfalls: Mapping[str, Shortfall | None],
) -> tuple[Reason, ...]:
    """Returns every reason why the certificate is not issued now, in the order of the enum; none: issue it.

    Args:
        certificate: What is pending.
        objectives: All that it claims.
        catching_up: Decisions wait.
        shortfalls: By digest, what the evidence lacks; None where nobody knows.
    """
    evidence = [certificate.evidence[o.digest] for o in objectives]
    insufficient = not suffices(certificate, objectives)
    holds = {
        Reason.INSUFFICIENT_EVIDENCE: insufficient,
        Reason.ENVIRONMENT_UNKNOWN: split_service_key(certificate.service)[0] == UNKNOWN_ENVIRONMENT,
        Reason.VERSION_UNKNOWN: certificate.version == "",
        Reason.SAMPLING_UNKNOWN: any(e.n_unknown for e in evidence),
        Reason.SAMPLED: any(e.n_sampled for e in evidence),
        # Bad until shown otherwise: where the evidence suffices even so, it stands against nothing.
        Reason.INEXACT: insufficient and any(e.n_unsure for e in evidence),
        Reason.CATCHING_UP: catching_up,
        Reason.MISSING_EVENTS: any(
            _lacks_too_many(certificate.evidence[o.digest], o, shortfalls[o.digest]) for o in objectives
        ),
        Reason.NOT_CERTIFIABLE: not all(o.is_certifiable for o in objectives),
    }
    return tuple(reason for reason in Reason if holds[reason])


def _lacks_too_many(evidence: Evidence, objective: Objective, shortfall: Shortfall | None) -> bool:
    """Returns whether what the evidence lacks holds it back: what is missing, or that nobody could tell yet."""
    bad_ratio_max, enough = float(objective.bad_ratio_max), log_threshold(ALPHA)
    would_suffice = evidence.log_e(bad_ratio_max) >= enough
    if shortfall is None:
        return would_suffice
    return evidence.log_e(bad_ratio_max, shortfall) < enough and (shortfall.n_missing > 0 or would_suffice)


def watch(certificate: Certificate, objective: Objective, n: int, n_bad: int, lifetime_minutes: int) -> bool:
    """Feeds one closed minute to the detector of an issued certificate. Returns whether it crossed its threshold.

    The threshold is lifetime ÷ 1e-4 minutes, so a version that keeps its objective is revoked by chance within the
    lifetime with probability at most 1e-4.
    """
    evidence = certificate.evidence[objective.digest]
    evidence.log_revoke = revoke_update(evidence.log_revoke, n_bad, n, float(objective.bad_ratio_max))
    return evidence.log_revoke >= revoke_log_threshold(lifetime_minutes)
