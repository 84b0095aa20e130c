"""Which version an alert began with: the one with the most failures, where versions differ at all.

Of a composite it is the component.
"""

from __future__ import annotations

from stream.core.cells import Column
from stream.core.engine.services import Service
from stream.core.engine.state import VERSIONS, State
from stream.core.engine.windows import Reader
from stream.core.slo.explanation import Suspect


def suspect_of(state: State, service: Service, reader: Reader, length_minutes: int) -> Suspect | None:
    """Returns the version or component that more than half of a window's bad events are of; None where none is."""
    cells, end = state.cells[VERSIONS], reader.closing.minute + 1
    digest, composite = reader.objective.digest, reader.objective.composite
    names = service.versions if composite is None else {component.name for component in composite.components}
    rows = {v: row for v in sorted(names) if (row := cells.index.get((service.key, digest, v))) is not None}
    if not rows:
        return None
    bad = cells.window(end, length_minutes)[Column.WEIGHT_BAD]
    of_version = {version: int(bad[row]) for version, row in rows.items()}
    total = sum(of_version.values())
    version = max(of_version, key=lambda name: (of_version[name], name))
    if total <= 0 or 2 * of_version[version] <= total:
        return None
    return Suspect(
        version=version,
        bad_share=of_version[version] / total,
        first_seen_minute=dict(service.deploys()).get(version),
        is_component=composite is not None,
    )
