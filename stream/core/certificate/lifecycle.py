"""The life of a certificate as one table. Everything that affects its transitions lives in this file."""

from __future__ import annotations

from enum import StrEnum


class CertificateState(StrEnum):
    """States of a certificate."""

    PENDING = "pending"
    ISSUED = "issued"
    REVOKED = "revoked"
    EXPIRED = "expired"


class Trigger(StrEnum):
    """What moves a certificate."""

    EVIDENCE_SUFFICES = "evidence_suffices"
    """Every objective's test rejected "the objective is missed" at full alpha, and nothing stands against it."""
    EVIDENCE_TURNED = "evidence_turned"
    """The detector that started at issue crossed its threshold for an objective."""
    VALIDITY_ENDED = "validity_ended"
    """`now` reached the end of the validity."""
    VERSION_RETIRED = "version_retired"
    """Its version was idle the longest of more versions than may be kept."""
    OBJECTIVES_CHANGED = "objectives_changed"
    """The configuration no longer holds the objectives that it names, so nobody watches them."""


TRANSITIONS: dict[CertificateState, dict[Trigger, CertificateState]] = {
    CertificateState.PENDING: {
        Trigger.EVIDENCE_SUFFICES: CertificateState.ISSUED,
        Trigger.VERSION_RETIRED: CertificateState.EXPIRED,
        Trigger.OBJECTIVES_CHANGED: CertificateState.EXPIRED,
    },
    CertificateState.ISSUED: {
        Trigger.EVIDENCE_TURNED: CertificateState.REVOKED,
        Trigger.VALIDITY_ENDED: CertificateState.EXPIRED,
        Trigger.OBJECTIVES_CHANGED: CertificateState.EXPIRED,
    },
    CertificateState.REVOKED: {},
    CertificateState.EXPIRED: {},
}


class Reason(StrEnum):
    """Why a certificate is pending. Every reason that holds is stated."""

    INSUFFICIENT_EVIDENCE = "insufficient_evidence"
    ENVIRONMENT_UNKNOWN = "environment_unknown"
    VERSION_UNKNOWN = "version_unknown"
    SAMPLING_UNKNOWN = "sampling_unknown"
    SAMPLED = "sampled"
    INEXACT = "inexact"
    CATCHING_UP = "catching_up"
    NOT_CERTIFIABLE = "not_certifiable"
    MISSING_EVENTS = "missing_events"


FIXES: dict[Reason, str] = {
    Reason.INSUFFICIENT_EVIDENCE: "More requests are needed before the claim can be made with this confidence.",
    Reason.ENVIRONMENT_UNKNOWN: "Set the resource attribute deployment.environment.name.",
    Reason.VERSION_UNKNOWN: "Set the resource attribute service.version.",
    Reason.SAMPLING_UNKNOWN: (
        "Spans carry no sampling threshold. If nothing samples them, declare it in the SLO: "
        "metadata.annotations: {qma/sampling: none}"
    ),
    Reason.SAMPLED: "Certificates are issued on unsampled traffic only; the indicators do weigh sampled spans.",
    Reason.INEXACT: (
        "The threshold is no bucket bound of the metric, so requests of which nobody can tell count as bad."
    ),
    Reason.CATCHING_UP: "Decisions wait until the sources have been read up to now.",
    Reason.NOT_CERTIFIABLE: (
        "An objective counts no single events or slices, each of them good or bad: ratios, ratio slices and the "
        "difference of two metrics can be watched, not certified. Leave it out of the certificate: "
        "metadata.annotations: {qma/certificate: none}"
    ),
    Reason.MISSING_EVENTS: (
        "Fewer events came than the objective's floor, or the objective named by qma/expected-from, says there were, "
        "or those named by qma/lost-by say that some were lost, and the evidence would not suffice if all these were "
        "bad; or nobody has told yet how many there were, or were lost. "
        "See that spans reach the Collector and the Collector's exporters do not fail."
    ),
}
