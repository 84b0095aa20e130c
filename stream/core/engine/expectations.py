"""How many events there should have been: by a declared floor, by another objective that counts the same events, and by
those that tell what was lost on the way here.

All say how many there were, never how many there will be. What is missing of them may have been bad. They may speak of
the same events, so the one that says most holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from stream.core.cells import Column
from stream.core.certificate.issuance import Shortfall
from stream.core.engine.losses import TOLD_WITHIN_MINUTES, lost_weight, not_told_of, told_until
from stream.core.engine.services import Service
from stream.core.engine.spans import merged
from stream.core.engine.state import SERIES, VERSIONS, State
from stream.core.engine.windows import Reader, between, plausible, row_of, window_start
from stream.core.slo.sli import event_unit
from stream.core.slo.spec import Objective, SliSignal
from stream.core.units import HOUR_MINUTES

EXPORT_MINUTES = 2
"""What came so recently may not have been told by a metric yet: processes export theirs once a minute."""

Stretches = Sequence[tuple[int, int]]


def missing_of_window(state: State, reader: Reader) -> int:
    """Returns the weight of the events that must have been in the objective's own window, so far, and never came.

    Only minutes count that were read whole, in the history of both objectives, and that no budget adjustment leaves
    out: both sums are of the same minutes. Old ones are known by ten minutes or by the hour (see `windows.between`).
    """
    if not _expects(reader.objective):
        return 0
    if reader.missing is None:
        reader.missing = _missing_of_window(state, reader)
    return reader.missing


def _missing_of_window(state: State, reader: Reader) -> int:
    service, objective, end = reader.service, reader.objective, reader.closing.minute + 1
    first = reader.span()[0]
    if objective.calendar is None:
        first = window_start(end, end - first)
    compared = reader.observed_stretches(_both_began(service, objective, first, end), end)
    lost = lost_weight(state, service, objective, reader.observed_stretches(first, end)) if objective.lost_by else 0
    return max(_missing(state, service, objective, compared), lost)


def shortfall(
    state: State, service: Service, objective: Objective, version: str, minutes: tuple[int, int]
) -> Shortfall | None:
    """Returns what the evidence on a version lacks at most; nothing where nobody says how many events there were.

    What is missing may be of any version, so it counts for each. No budget adjustment changes it.

    Args:
        state: Of the partition.
        service: Of the version.
        objective: That it is to meet.
        version: Its name.
        minutes: The minutes [first, last) of the evidence, all of them read whole.

    Returns:
        The shortfall; None where another objective tells nothing of late: nobody knows then.
    """
    if not _expects(objective):
        return Shortfall()
    first, last = minutes
    compared = known = _known_from(state, _both_began(service, objective, first, last))
    missing, untold = _below_floor(state, service, objective, [(compared, last)]), list[tuple[int, int]]()
    if objective.lost_by:
        not_told = not_told_of(state, service, objective, (known, last))
        if not_told is None:
            return None
        missing = max(missing, lost_weight(state, service, objective, [(known, last)]))
        untold += not_told
    if objective.expected_from is not None:
        other = other_of(service, objective)
        until = None if other is None else _told_until(state, service, other, minutes)
        if other is None or until is None:
            return None
        # What came since then hides nothing of what was missing before.
        told = [(compared, min(last, until + EXPORT_MINUTES))]
        missing = max(missing, _never_came(state, service, objective, other, told))
        compared = _compared_from(state, service, objective, other, compared)
        if _lag(objective, other) > 0:
            untold.append((max(compared, last - EXPORT_MINUTES), last))
    untold.append((first, min(compared, last)))
    n_untold = sum(_events_of(state, service, objective, version, stretch) for stretch in merged(untold))
    return Shortfall(n_missing=-(-missing // event_unit(objective)), n_untold=n_untold)


def missing_at_least(state: State, service: Service, objective: Objective, minutes: tuple[int, int]) -> int:
    """Returns the weight of the events of minutes that must have been there and never came, whenever a metric told of
    them: so little that it is no matter of when they were told. What was lost may have been there, and counts.

    A process tells its counts once a minute, at an instant of its own: of the events of a minute it may tell all in the
    next one. By one of the delays from none to `EXPORT_MINUTES` no more is missing than never came.

    Args:
        state: Of the partition.
        service: Of the objective.
        objective: Any.
        minutes: The minutes [first, last), all of them read whole, as those before are that `told_late` names.
    """
    if not _expects(objective):
        return 0
    lost = lost_weight(state, service, objective, [minutes]) if objective.lost_by else 0
    missing, other = _below_floor(state, service, objective, [minutes]), other_of(service, objective)
    until = None if other is None else _told_until(state, service, other, minutes)
    if other is None or until is None:
        return max(missing, lost)
    told = minutes[0], min(minutes[1], until + EXPORT_MINUTES)
    least = min(
        ceil(_weight(state, service, other, [_before(told, by)]) * objective.expected_share)
        - _weight(state, service, objective, [_before(told, own_by)])
        for by, own_by in _delays(objective, other)
    )
    return max(missing, lost, least)


def told_late(service: Service, objective: Objective) -> int:
    """Returns how many minutes late the events of an objective, or what tells how many there were, may be told."""
    other = other_of(service, objective)
    return 0 if other is None else max(max(delays) for delays in _delays(objective, other))


def _told_until(state: State, service: Service, other: Objective, minutes: tuple[int, int]) -> int | None:
    """Returns the end of the newest minute of which the other objective told of late; None where it did not."""
    row, (first, last) = row_of(state, service.key, other, ""), minutes
    return None if row is None else told_until(state, row, (max(first, last - TOLD_WITHIN_MINUTES), last))


def _delays(objective: Objective, other: Objective) -> list[tuple[int, int]]:
    """Returns by how many minutes the other objective, and the objective itself, may be ahead of what is compared."""
    late = range(1, EXPORT_MINUTES + 1)
    behind = [(0, by) for by in late] if other.signal is SliSignal.METRICS else []
    ahead = [(by, 0) for by in late] if objective.signal is SliSignal.METRICS else []
    return [(0, 0), *behind, *ahead]


def _before(minutes: tuple[int, int], by: int) -> tuple[int, int]:
    return minutes[0] - by, minutes[1] - by


def other_of(service: Service, objective: Objective) -> Objective | None:
    """Returns the objective that tells how many events there must be; None where none does."""
    return next((o for o in service.objectives if o.name == objective.expected_from), None)


def _expects(objective: Objective) -> bool:
    """Returns whether anybody says how many events there must be. Slices of time are not counted so."""
    said = objective.floor_per_hour is not None or objective.expected_from is not None or objective.lost_by
    return bool(said) and objective.slices is None


def _both_began(service: Service, objective: Objective, first: int, last: int) -> int:
    other = other_of(service, objective)
    return first if other is None else service.states[other.digest].covered_minutes(last, last - first)[0]


def _known_from(state: State, first: int) -> int:
    """Returns the first minute of a stretch from which on it can be summed: single minutes are forgotten by the hour.

    What is missing before is forgotten as well, so nothing that came then speaks for anybody.
    """
    floor = state.cells[SERIES].rings[0].floor
    return first if floor is None or first >= floor else -(-first // HOUR_MINUTES) * HOUR_MINUTES


def _missing(state: State, service: Service, objective: Objective, stretches: Stretches) -> int:
    """Returns the weight that is missing by the floor or by the other objective, whichever says more."""
    missing, other = _below_floor(state, service, objective, stretches), other_of(service, objective)
    return missing if other is None else max(missing, _never_came(state, service, objective, other, stretches))


def _below_floor(state: State, service: Service, objective: Objective, stretches: Stretches) -> int:
    minutes = sum(last - first for first, last in stretches)
    least = (objective.floor_per_hour or 0) * minutes // HOUR_MINUTES * event_unit(objective)
    return max(0, least - _weight(state, service, objective, stretches))


def _never_came(state: State, service: Service, objective: Objective, other: Objective, stretches: Stretches) -> int:
    begun = [(_compared_from(state, service, objective, other, first), last) for first, last in stretches]
    stretches = [(first, last) for first, last in begun if first < last]
    told = ceil(_weight(state, service, other, stretches) * objective.expected_share)
    late = _told_late(state, service, objective, other, stretches)
    return max(0, told + late - _weight(state, service, objective, stretches))


def _compared_from(state: State, service: Service, objective: Objective, other: Objective, first: int) -> int:
    """Returns the first minute of a stretch that is compared: with a metric the one behind it, after a gap.

    There a metric may tell at once what it counted all the while; so it may where a history begins.
    """
    before = first - 1
    began = [service.states[o.digest].covered_minutes(first, 1)[0] <= before for o in (objective, other)]
    known = all(began) and not state.clocks.gap_minutes(before, first)
    return first if known or _lag(objective, other) == 0 else first + 1


def _events_of(state: State, service: Service, objective: Objective, version: str, minutes: tuple[int, int]) -> int:
    """Returns the events of a version in minutes, or, of old ones, in the hours that they lie in."""
    cells, (first, last) = state.cells[VERSIONS], minutes
    row = cells.index.get((service.key, objective.digest, version))
    if row is None or first >= last:
        return 0
    floor = cells.rings[0].floor
    if floor is not None and first < floor:
        first, last = first // HOUR_MINUTES * HOUR_MINUTES, -(-last // HOUR_MINUTES) * HOUR_MINUTES
    return between(cells, row, first, last)[Column.N]


def _told_late(state: State, service: Service, objective: Objective, other: Objective, stretches: Stretches) -> int:
    """Returns the weight that a metric tells after its stretches less what it tells in them of before.

    A process tells its counts once a minute, so on average half a minute late: half of the last minute's events are
    not told yet, and half of those of the minute before are told within. It matters where traffic changes; it does not
    where the stretch began so long ago that single minutes are no longer known.
    """
    lag = _lag(objective, other)
    floor = state.cells[SERIES].rings[0].floor
    if lag == 0:
        return 0
    prompt = objective if lag > 0 else other
    known = [(first, last) for first, last in stretches if floor is None or first - 1 >= floor]
    untold = _weight(state, service, prompt, [(last - 1, last) for _, last in known])
    before = _weight(state, service, prompt, [(first - 1, first) for first, _ in known])
    return lag * (untold - before) // 2


def _lag(objective: Objective, other: Objective) -> int:
    """Returns 1 where only the other objective counts by a metric, -1 where only the objective itself does."""
    return int(other.signal is SliSignal.METRICS) - int(objective.signal is SliSignal.METRICS)


def _weight(state: State, service: Service, objective: Objective, stretches: Stretches) -> int:
    row = row_of(state, service.key, objective, "")
    if row is None:
        return 0
    cells = state.cells[SERIES]
    return sum(plausible(objective, between(cells, row, first, last))[Column.WEIGHT] for first, last in stretches)
