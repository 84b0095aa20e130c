"""The story comes out for every seed, at the least traffic for which it is told."""

import os
from pathlib import Path

from stream.core.certificate.lifecycle import CertificateState, Reason
from stream.core.events import AlertEvent, CertificateEvent, Output
from stream.core.slo.alerts import AlertState
from stream.core.slo.burn_rate import Severity
from stream.core.units import MINUTE_NS
from stream.demo import story
from stream.demo.workload import Topics, Workload
from tests.demo.folding import BASE_NS, DURATION_S, bundle_in, fold_draws

SEEDS = int(os.environ.get("QMA_DEMO_SEEDS", "10"))
"""A second each; set the variable to try more."""

LEAST_RATE = story.STORY_SPANS_MIN / (story.SPANS_PER_S * DURATION_S)
ONE_PARTITION = Topics(partitions=1)


def changes(outputs: list[Output], service: story.Service, version: str) -> dict[CertificateState, float]:
    """Returns the minute in which the certificate of a version entered each state."""
    return {
        event.state: event.minute - BASE_NS // MINUTE_NS
        for event in outputs
        if isinstance(event, CertificateEvent)
        and (event.service, event.version) == (service.key, version)
        and event.before is not event.state
    }


def pages(outputs: list[Output]) -> list[tuple[AlertState, str, int]]:
    return [
        (event.state, event.objective.service, event.minute - BASE_NS // MINUTE_NS)
        for event in outputs
        if isinstance(event, AlertEvent) and event.rule.severity is Severity.PAGE
    ]


def test_story_comes_out_for_every_seed(tmp_path: Path) -> None:
    bundle = bundle_in(tmp_path, ONE_PARTITION)
    for seed in range(SEEDS):
        workload = Workload(seed=seed, base_ns=BASE_NS, duration_s=DURATION_S, rate=LEAST_RATE, topics=ONE_PARTITION)
        engine, outputs = fold_draws(workload, bundle)

        for service in (story.STOREFRONT, story.ORDERS, story.SEARCH, story.SHIPPING):
            assert changes(outputs, service, "v1")[CertificateState.ISSUED] < 70, (seed, service.name)
        v1, v2 = (changes(outputs, story.CHECKOUT, version) for version in ("v1", "v2"))
        assert v1[CertificateState.ISSUED] < story.ROLLOUT[1], seed
        assert v2[CertificateState.ISSUED] < story.DEGRADED[0] - 1, seed
        assert story.DEGRADED[0] <= v2[CertificateState.REVOKED] < story.DEGRADED[1], seed
        assert CertificateState.REVOKED not in v1, seed

        fired = [minute for state, _, minute in pages(outputs) if state is AlertState.FIRING]
        assert {service for _, service, _ in pages(outputs)} == {story.CHECKOUT.key}, seed
        assert story.DEGRADED[0] < min(fired) < story.DEGRADED[1] - 10, seed

        giftcards = engine.services[story.GIFTCARDS.key].certificates
        assert [(c.state, c.reasons) for c in giftcards.values()] == [
            (CertificateState.PENDING, (Reason.INSUFFICIENT_EVIDENCE,))
        ], seed


def test_pages_resolve_after_the_recovery(tmp_path: Path) -> None:
    bundle = bundle_in(tmp_path, ONE_PARTITION)
    workload = Workload(seed=1, base_ns=BASE_NS, duration_s=DURATION_S, rate=1.0, topics=ONE_PARTITION)
    _, outputs = fold_draws(workload, bundle)
    resolved = [minute for state, _, minute in pages(outputs) if state is AlertState.INACTIVE]
    assert resolved
    assert min(resolved) > story.DEGRADED[1]
