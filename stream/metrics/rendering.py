"""Families that are rendered once for each state of a partition that they show, not once for each scrape."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from weakref import WeakKeyDictionary

from stream.core.engine import Engine
from stream.core.events import SliEvent
from stream.metrics.exposition import Gauge, Piece, RenderedFamily

Samples = Iterable[tuple[str, float]]
"""Labels as they are written, and the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Families of a partition that change together.

    Args:
        gauges: Families that are named even where no partition has a sample.
        version: Differs whenever `samples` may give something else.
        samples: All samples of a partition.
    """

    gauges: tuple[Gauge, ...] = ()
    version: Callable[[Engine], Hashable]
    samples: Callable[[Engine], Mapping[Gauge, Samples]]


class RenderedSection:
    """A section of several partitions. What a partition shows lives no longer than its fold here."""

    def __init__(self, section: Section) -> None:
        self._section = section
        self._kept: WeakKeyDictionary[Engine, tuple[Hashable, dict[Gauge, Piece]]] = WeakKeyDictionary()

    def families(self, engines: Iterable[Engine]) -> Iterator[RenderedFamily]:
        """Yields each family once, its lines by partition; renders only partitions that changed."""
        blocks = [self._block(engine) for engine in engines]
        gauges = dict.fromkeys([*self._section.gauges, *(gauge for block in blocks for gauge in block)])
        for gauge in gauges:
            yield RenderedFamily(gauge, [block[gauge] for block in blocks if gauge in block])

    def _block(self, engine: Engine) -> dict[Gauge, Piece]:
        version = self._section.version(engine)
        kept = self._kept.get(engine)
        if kept is None or kept[0] != version:
            block = {gauge: gauge.render(samples) for gauge, samples in self._section.samples(engine).items()}
            self._kept[engine] = kept = version, block
        return kept[1]


def evaluation(engine: Engine) -> Hashable:
    """Returns what changes when minutes close or the configuration does: nothing else changes what an event says."""
    return engine.state.next_minute, engine.state.config_version


def declaration(engine: Engine) -> Hashable:
    """Returns the digests of the objectives that were evaluated: what they declare changes with their digest only."""
    return tuple(engine.latest)


def latest(engine: Engine) -> list[SliEvent]:
    """Returns the newest event of each objective, ordered by service and name."""
    return sorted(engine.latest.values(), key=lambda event: (event.objective.service, event.objective.name))


@cache
def ratio(target: str) -> float:
    """Returns a target for readers; there are few different ones."""
    return float(Fraction(target))
