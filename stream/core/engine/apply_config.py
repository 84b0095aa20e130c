"""A new configuration takes effect: objectives come, stay or go. An edited objective is another one."""

from __future__ import annotations

from stream.core.certificate.lifecycle import Trigger
from stream.core.engine.admission import FUTURE_AFTER_NS
from stream.core.engine.alerting import end_alerts, rules_of
from stream.core.engine.certificates import change_certificate
from stream.core.engine.losses import ask_for_losses
from stream.core.engine.services import ObjectiveState, Service
from stream.core.engine.state import State
from stream.core.engine.withdrawal import withdraw
from stream.core.errors import IncompatibleError
from stream.core.events import Output, StatusGone
from stream.core.slo.spec import Bundle, Objective, decode_bundle

_WITHDRAWN = "The objective is no longer configured, so nobody watches it."


def apply_config(state: State, second: State, version: int, body: bytes) -> list[Output]:
    """Applies a configuration, unless one of the same or a higher version is in force. Returns what follows from it.

    Raises:
        IncompatibleError: When the generation, the number of partitions or the pipeline differs.
    """
    if version <= state.config_version:
        return []
    bundle = decode_bundle(body)
    _check_unchanged(state.bundle, bundle)
    state.bundle, state.config_version = bundle, version
    state.changes.config = True
    second.follow(state)
    outputs = [*_take_over(state), *_take_over(second)]
    ask_for_losses(state)
    _forget_idle(second)
    named = {(objective.service, objective.name) for objective in bundle.objectives}
    return [o for o in outputs if not isinstance(o, StatusGone) or (o.objective.service, o.objective.name) not in named]


def _take_over(state: State) -> list[Output]:
    """Gives every service of a stage the objectives that are configured now."""
    state.renumber()
    wanted: dict[str, list[Objective]] = {}
    for objective in state.own_objectives():
        wanted.setdefault(objective.service, []).append(objective)
    outputs: list[Output] = []
    for key in sorted({*state.services, *wanted}):
        service = state.services.get(key)
        if service is None:
            service = state.services[key] = Service(key)
        outputs += _replace_objectives(state, service, wanted.get(key, []))
    return outputs


def _forget_idle(second: State) -> None:
    """In the second stage only what has composites is a service, and nothing is asked for that none is made of."""
    assert second.heard is not None
    for key in [key for key, service in second.services.items() if not service.objectives]:
        del second.services[key]
        second.changes.retire_service(key)
    second.heard.ask(o for service in second.services.values() for o in service.objectives)


def _check_unchanged(before: Bundle | None, after: Bundle) -> None:
    if before is None:
        return
    for name in ("pipeline", "generation", "partitions"):
        was, becomes = getattr(before, name), getattr(after, name)
        if was != becomes:
            raise IncompatibleError(
                f"the configuration changes {name} from {was!r} to {becomes!r}, which this state was not built for; "
                "apply it as it was, or start a new generation with an empty state"
            )


def _replace_objectives(state: State, service: Service, configured: list[Objective]) -> list[Output]:
    stay = {objective.digest for objective in configured}
    service.cohorts = {digest: values for digest, values in service.cohorts.items() if digest in stay}
    wanted = service.with_cohorts(configured)
    after = {objective.digest: objective for objective in wanted}
    outputs: list[Output] = []
    if {o.digest for o in service.claimed} != {o.digest for o in wanted if o.certified}:
        for certificate in sorted(service.certificates.values(), key=lambda c: c.version):
            outputs += change_certificate(state, service, certificate, Trigger.OBJECTIVES_CHANGED)
    for objective in service.objectives:
        stays = after.get(objective.digest)
        if stays is None:
            outputs += withdraw(state, service, objective, _WITHDRAWN)
        else:
            kept = {rule.name for rule in rules_of(stays)}
            alerts = service.states[objective.digest].alerts
            outputs += end_alerts(state, objective, alerts, kept, "The rule is no longer configured for the objective.")
    service.objectives = wanted
    for objective in wanted:
        if objective.digest not in service.states:
            service.states[objective.digest] = _new_state(state, service, objective)
    assert state.bundle is not None
    service.exclude(state.bundle.adjustments)
    state.changes.heads.add(service.key)
    return outputs


def _new_state(state: State, service: Service, objective: Objective) -> ObjectiveState:
    """Returns the state of an objective that is new.

    The history of a composite begins with those of its components (`composites.begin_histories`), at the latest where
    the last of these can begin.
    """
    since = objective.since if objective.since is not None else state.config_version
    read_until_ns = state.clocks.frontier_ns
    if read_until_ns is not None and state.heard is not None:
        read_until_ns = state.clocks.now_ns + FUTURE_AFTER_NS
    return service.new_state(since, read_until_ns)
