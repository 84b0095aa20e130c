"""Certificates of a partition: closed minutes in, transitions out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from stream.core.cells import Column
from stream.core.certificate.issuance import (
    Certificate,
    Evidence,
    assess,
    pending_reasons,
    watch,
)
from stream.core.certificate.lifecycle import CertificateState, Reason, Trigger
from stream.core.engine.expectations import shortfall
from stream.core.engine.services import Service
from stream.core.engine.state import VERSIONS, State
from stream.core.engine.windows import Closing, plausible
from stream.core.events import CertificateEvent, Output
from stream.core.slo.slices import judge_slice
from stream.core.slo.spec import EmptySlice, Objective
from stream.core.units import HOUR_MINUTES, MINUTE_NS, WEIGHT_ONE

Cell = list[int]


def change_certificate(
    state: State,
    service: Service,
    certificate: Certificate,
    trigger: Trigger,
    revoked_by: tuple[str, ...] = (),
) -> list[Output]:
    """Moves a certificate along the transition table and returns the event, if it moved."""
    before = certificate.state
    if not certificate.step(trigger):
        return []
    now_ns = state.clocks.now_ns
    if certificate.state is CertificateState.ISSUED:
        assert state.bundle is not None
        lifetime = state.bundle.settings.certificate_lifetime_minutes
        certificate.issued_ns, certificate.expires_ns = now_ns, now_ns + lifetime * MINUTE_NS
    else:
        certificate.ended_ns = now_ns
    return [certificate_event(state, service, certificate, before, trigger, revoked_by)]


def certificate_event(
    state: State,
    service: Service,
    certificate: Certificate,
    before: CertificateState | None,
    trigger: Trigger | None = None,
    revoked_by: tuple[str, ...] = (),
) -> CertificateEvent:
    """Returns the event that says where a certificate stands now."""
    objectives = [o for o in service.claimed if o.digest in certificate.evidence]
    return CertificateEvent(
        context=state.context(),
        service=service.key,
        version=certificate.version,
        began_minute=certificate.began_minute,
        evidence_minute=certificate.evidence_minute,
        policy=certificate.policy,
        state=certificate.state,
        before=before,
        trigger=trigger,
        minute=(state.next_minute or 0) - 1,
        reasons=certificate.reasons,
        assessments=tuple(assess(certificate.evidence[o.digest], o) for o in objectives),
        issued_ns=certificate.issued_ns,
        expires_ns=certificate.expires_ns,
        revoked_by=revoked_by,
    )


def certifications(state: State) -> Iterator[tuple[Certificate, float]]:
    """Yields each certificate that is issued or pending, and how many minutes it took, so far where it is pending.

    It began with the version's first minute with events. One of a version without an event within the last hour is
    left out: nobody waits for it.
    """
    if state.next_minute is None:
        return
    cells, wanted = state.cells[VERSIONS], (CertificateState.PENDING, CertificateState.ISSUED)
    recent = cells.rings[0].sum(state.next_minute - HOUR_MINUTES, state.next_minute)[Column.N] > 0
    for key, service in sorted(state.services.items()):
        for certificate in sorted(service.certificates.values(), key=lambda certificate: certificate.version):
            rows = [cells.index.get((key, digest, certificate.version)) for digest in certificate.evidence]
            if certificate.state in wanted and any(recent[row] for row in rows if row is not None):
                end = state.next_minute if certificate.issued_ns is None else certificate.issued_ns / MINUTE_NS
                yield certificate, end - certificate.began_minute


@dataclass(frozen=True, slots=True, kw_only=True)
class _Minute:
    """What a closed minute says of one version, by digest of the objective.

    `cells`: what counts as evidence.
    """

    closing: Closing
    cells: Mapping[str, Cell]


def advance_certificates(state: State, service: Service, closing: Closing, versions: Closing) -> list[Output]:
    """Feeds a closed minute to every certificate of a service. Returns the transitions, by version.

    Args:
        state: Of the partition.
        service: Whose certificates.
        closing: The minute of all versions together.
        versions: The minute of each version.
    """
    claimed = service.claimed
    starts = [service.states[objective.digest].start_minute for objective in claimed]
    if not claimed or any(start is None or closing.minute < start for start in starts):
        return []  # a certificate claims every objective of the service, so it waits for all of them
    outputs: list[Output] = []
    for version in sorted(service.versions):
        cells = {o.digest: _evidence_cell(state, service, o, version, versions) for o in claimed}
        outputs += _advance_version(state, service, version, _Minute(closing=closing, cells=cells))
    return outputs


def _evidence_cell(state: State, service: Service, objective: Objective, version: str, closing: Closing) -> Cell:
    """Returns what a closed minute adds to the evidence on a version: its events, or the slice that ended with it.

    A slice in which the version had too few events says nothing of it, whatever it counts for in the budget; nor does
    one of which some minute was not read whole. It is unknown, unsure or sampled where any of its events is.
    """
    row = state.cells[VERSIONS].index.get((service.key, objective.digest, version))
    if objective.slices is None or row is None:
        return plausible(objective, closing.cell(1, row))
    end, length = closing.minute + 1, objective.slices.minutes
    start_minute = service.states[objective.digest].start_minute
    assert start_minute is not None
    nothing = [0] * len(Column)
    if end % length or end - length < start_minute or state.clocks.gap_minutes(end - length, end):
        return nothing
    events = plausible(objective, closing.cell(length, row))
    judged = judge_slice(events, replace(objective.slices, empty=EmptySlice.IGNORE))
    if judged is None:
        return nothing
    for column in (Column.N_UNKNOWN, Column.N_UNSURE):
        judged[column] = int(events[column] > 0)
    judged[Column.WEIGHT] = WEIGHT_ONE if events[Column.WEIGHT] == events[Column.N] * WEIGHT_ONE else 0
    return judged


def _advance_version(state: State, service: Service, version: str, minute: _Minute) -> list[Output]:
    policy, closing = service.policy, minute.closing
    key = f"{policy}/{version}"
    certificate = service.certificates.get(key)
    if certificate is None or certificate.ended_by is Trigger.OBJECTIVES_CHANGED:  # these objectives came back
        if not any(cell[Column.N] for cell in minute.cells.values()):
            return []
        evidence = {digest: Evidence() for digest in minute.cells}
        certificate = Certificate(service.key, version, policy, closing.minute, closing.minute, evidence=evidence)
        service.certificates[key] = certificate
        _collect(service.claimed, certificate, minute)
        certificate.reasons = _reasons(state, service, certificate, closing)
        certificate.stated_events = certificate.events
        began = certificate_event(state, service, certificate, None)
        return [began, *_decide(state, service, certificate)]
    if certificate.state is CertificateState.PENDING:
        _collect(service.claimed, certificate, minute)
        before, certificate.reasons = certificate.reasons, _reasons(state, service, certificate, closing)
        if certificate.reasons and (certificate.reasons != before or _has_news(certificate, closing.minute)):
            return [certificate_event(state, service, certificate, certificate.state)]
        return _decide(state, service, certificate)
    if certificate.state is CertificateState.ISSUED:
        return _watch(state, service, certificate, minute.cells)
    return []


def _reasons(state: State, service: Service, certificate: Certificate, closing: Closing) -> tuple[Reason, ...]:
    minutes = certificate.evidence_minute, closing.minute + 1
    lacking = {o.digest: shortfall(state, service, o, certificate.version, minutes) for o in service.claimed}
    return pending_reasons(certificate, service.claimed, closing.catching_up, lacking)


def _has_news(certificate: Certificate, minute: int) -> bool:
    """Returns whether a pending certificate states anew where it stands: at a full hour, if it had traffic since."""
    if (minute + 1) % HOUR_MINUTES or certificate.events == certificate.stated_events:
        return False
    certificate.stated_events = certificate.events
    return True


def _collect(objectives: list[Objective], certificate: Certificate, minute: _Minute) -> None:
    """Adds a closed minute to the evidence; a minute that was not read whole starts it anew."""
    if minute.closing.gap:
        certificate.evidence_minute = minute.closing.minute + 1
    for objective in objectives:
        evidence, cell = certificate.evidence[objective.digest], minute.cells[objective.digest]
        if minute.closing.gap:
            evidence.restart(float(objective.bad_ratio_max))
            continue
        n = cell[Column.N]
        sampled = cell[Column.WEIGHT] != n * WEIGHT_ONE
        evidence.add(
            n,
            cell[Column.N_BAD],
            cell[Column.N_UNKNOWN],
            sampled,
            cell[Column.N_UNSURE],
        )


def _decide(state: State, service: Service, certificate: Certificate) -> list[Output]:
    if certificate.reasons:
        return []
    return change_certificate(state, service, certificate, Trigger.EVIDENCE_SUFFICES)


def _watch(state: State, service: Service, certificate: Certificate, cells: Mapping[str, Cell]) -> list[Output]:
    """Revocation goes on while catching up, and over gaps: what was read still speaks."""
    assert state.bundle is not None
    lifetime = state.bundle.settings.certificate_lifetime_minutes
    turned = [
        o.name
        for o in service.claimed
        if watch(certificate, o, cells[o.digest][Column.N], cells[o.digest][Column.N_BAD], lifetime)
    ]
    if not turned:
        return []
    return change_certificate(state, service, certificate, Trigger.EVIDENCE_TURNED, tuple(turned))
