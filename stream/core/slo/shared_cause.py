"""Whose fault is whose cause: services that fail together are grouped under the one that they all call in vain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from stream.core.service_key import split_service_key

CAUSES_MAX = 10
"""Causes that are told, those that most failed calls went to."""

_NAMED_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Calls from one service to another, and how many of them failed, both in one unit."""

    caller: str
    callee: str
    calls: int
    failed_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A service that others fail with.

    Args:
        service: It calls no other that fails, or only ones that call it, too.
        affects: The services that fail and call it in vain, or call others of these; in order.
        calls: Calls of these to it, and to one another.
        failed_calls: How many of them failed.
        failed_calls_to_any: Failed calls of these to any service.
    """

    service: str
    affects: tuple[str, ...]
    calls: int
    failed_calls: int
    failed_calls_to_any: int


def shared_causes(burning: Collection[str], edges: Sequence[Edge], bad_ratio_max: Fraction) -> tuple[Cause, ...]:
    """Returns the causes that explain why services burn, the one with most failed calls first.

    A burning service is followed along the calls of which more fail than may, to burning services, as deep as they go.
    Services that call each other in a circle are one: what most failed calls went to stands for them. Where the way
    parts, it goes to the deepest end, then to that with most failed calls. Who calls nobody in vain has no cause.

    Args:
        burning: Keys of the services.
        edges: Calls between any services; those of the same pair are summed.
        bad_ratio_max: The share of calls that may fail.
    """
    failing = _failing(set(burning), edges, bad_ratio_max)
    circles = _circles(sorted(burning), failing)
    ends = _Ends(circles, failing)
    groups: dict[str, list[str]] = defaultdict(list)
    for service in sorted(burning):
        end = ends.representative(ends.of(circles[service])[1])
        if end != service:
            groups[end].append(service)
    causes = [_cause(service, affected, edges) for service, affected in groups.items()]
    return tuple(sorted(causes, key=lambda cause: (-cause.failed_calls, cause.service))[:CAUSES_MAX])


Failing = Mapping[str, Mapping[str, int]]
"""Failed calls by caller and callee."""


def _failing(burning: set[str], edges: Sequence[Edge], bad_ratio_max: Fraction) -> Failing:
    sums: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for edge in edges:
        if edge.caller != edge.callee and {edge.caller, edge.callee} <= burning:
            calls, failed = sums[edge.caller, edge.callee]
            sums[edge.caller, edge.callee] = calls + edge.calls, failed + edge.failed_calls
    failing: dict[str, dict[str, int]] = defaultdict(dict)
    for (caller, callee), (calls, failed) in sorted(sums.items()):
        if failed > calls * bad_ratio_max:
            failing[caller][callee] = failed
    return failing


def _circles(services: Sequence[str], failing: Failing) -> dict[str, frozenset[str]]:
    """Returns of each service those that it reaches and that reach it, itself among them."""
    reached = {service: _reached(service, failing) for service in services}
    return {
        service: frozenset(other for other in reached[service] if service in reached[other]) for service in services
    }


def _reached(service: str, failing: Failing) -> set[str]:
    reached, waiting = {service}, [service]
    while waiting:
        new = [callee for callee in failing.get(waiting.pop(), ()) if callee not in reached]
        reached.update(new)
        waiting += new
    return reached


class _Ends:
    """Where failing calls end: the circles that call no other."""

    def __init__(self, circles: Mapping[str, frozenset[str]], failing: Failing) -> None:
        self._circles, self._failing = circles, failing
        self._known: dict[frozenset[str], tuple[int, frozenset[str]]] = {}

    def of(self, circle: frozenset[str]) -> tuple[int, frozenset[str]]:
        """Returns how deep the calls of a circle go, and the circle that they end in."""
        waiting = [circle]
        while waiting:
            at = waiting[-1]
            called = self._called(at)
            unknown = [other for other in called if other not in self._known]
            if unknown:
                waiting += unknown
                continue
            waiting.pop()
            ends = [(self._known[other][0] + 1, failed, sorted(other), other) for other, failed in called.items()]
            best = min(ends, key=lambda end: (-end[0], -end[1], end[2]), default=None)
            self._known[at] = (0, at) if best is None else (best[0], self._known[best[3]][1])
        return self._known[circle]

    def _called(self, circle: frozenset[str]) -> dict[frozenset[str], int]:
        """Returns the other circles that one calls in vain, and how many of the calls failed."""
        failed: dict[frozenset[str], int] = defaultdict(int)
        for caller in sorted(circle):
            for callee, count in self._failing.get(caller, {}).items():
                if callee not in circle:
                    failed[self._circles[callee]] += count
        return failed

    def representative(self, circle: frozenset[str]) -> str:
        """Returns the service of a circle that most failed calls went to."""
        failed = dict.fromkeys(sorted(circle), 0)
        for called in self._failing.values():
            for callee, count in called.items():
                if callee in failed:
                    failed[callee] += count
        return min(failed, key=lambda service: (-failed[service], service))


def _cause(service: str, affected: list[str], edges: Sequence[Edge]) -> Cause:
    own = [edge for edge in edges if edge.caller in affected]
    inside = [edge for edge in own if edge.callee == service or edge.callee in affected]
    return Cause(
        service=service,
        affects=tuple(affected),
        calls=sum(edge.calls for edge in inside),
        failed_calls=sum(edge.failed_calls for edge in inside),
        failed_calls_to_any=sum(edge.failed_calls for edge in own),
    )


def told(causes: Sequence[Cause]) -> str:
    """Returns one plain sentence for each cause; nothing where there is none."""
    return " ".join(map(_sentence, causes))


def _sentence(cause: Cause) -> str:
    keys = [cause.service, *cause.affects]
    names = [split_service_key(key)[2] for key in keys]
    shown = [name if names.count(name) == 1 else key for key, name in zip(keys, names, strict=True)]
    service, affected = shown[0], shown[1:]
    verb = "fails" if len(affected) == 1 else "fail"
    whose = "its" if len(affected) == 1 else "their"
    to = "it" if len(affected) == 1 else "it or to one another"
    share = Fraction(cause.failed_calls, cause.failed_calls_to_any)
    return f"{_listed(affected)} {verb} with {service}: {float(share):.0%} of {whose} failed calls went to {to}."


def _listed(names: Sequence[str]) -> str:
    if len(names) > _NAMED_MAX:
        return f"{', '.join(names[:_NAMED_MAX])} and {len(names) - _NAMED_MAX} others"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
