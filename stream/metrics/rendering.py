"""Families that are rendered once for each state of a partition that they show, not once for each scrape."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from weakref import WeakKeyDictionary

from stream.core.engine import Engine
from stream.core.events import SliEvent
from stream.metrics.exposition import NOTHING, Gauge, Piece, RenderedFamily, lines, numbers

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSection:
    """Families of the newest event of each objective, which change with each evaluation.

    Which lines there may be depends on the objectives alone: all of them but their numbers is written once.

    Args:
        gauges: Families that are named even where no partition has a sample.
        families: All families of some objectives, in order.
        lines: Family and labels of each value that the events of an objective have, in order.
        values: These values of an event; None where it has no such sample.
    """

    gauges: tuple[Gauge, ...] = ()
    families: Callable[[Sequence[SliEvent]], Iterable[Gauge]]
    lines: Callable[[SliEvent], Iterable[tuple[Gauge, str]]]
    values: Callable[[SliEvent], Iterable[float | None]]

    @property
    def version(self) -> Callable[[Engine], Hashable]:
        """What differs whenever there may be other values."""
        return evaluation


class RenderedSection:
    """A section of several partitions. What a partition shows lives no longer than its fold here."""

    def __init__(self, section: Section | EventSection) -> None:
        self._section = section
        self._kept: WeakKeyDictionary[Engine, tuple[Hashable, dict[Gauge, Piece]]] = WeakKeyDictionary()
        self._layouts: WeakKeyDictionary[Engine, _Layout] = WeakKeyDictionary()

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
            self._kept[engine] = kept = version, self._rendered(engine)
        return kept[1]

    def _rendered(self, engine: Engine) -> dict[Gauge, Piece]:
        section = self._section
        if isinstance(section, Section):
            return {gauge: gauge.render(samples) for gauge, samples in section.samples(engine).items()}
        layout = self._layouts.get(engine)
        if layout is None or not layout.fits(engine):
            self._layouts[engine] = layout = _Layout(section, engine)
        return layout.rendered(engine)


class _Layout:
    """The lines of a partition without their numbers, as long as it has the same objectives."""

    def __init__(self, section: EventSection, engine: Engine) -> None:
        self._objectives = [event.objective for event in engine.latest.values()]
        events = latest(engine)
        self._digests = [event.objective.digest for event in events]
        self._values = section.values
        self._heads: dict[Gauge, list[bytes]] = {gauge: [] for gauge in section.families(events)}
        self._places: dict[Gauge, list[int]] = {gauge: [] for gauge in self._heads}
        for place, (gauge, labels) in enumerate(line for event in events for line in section.lines(event)):
            self._heads[gauge].append(gauge.head(labels))
            self._places[gauge].append(place)

    def fits(self, engine: Engine) -> bool:
        """Returns whether these are the lines of what was evaluated last."""
        newest = engine.latest.values()
        return len(newest) == len(self._objectives) and all(
            event.objective is objective for event, objective in zip(newest, self._objectives, strict=True)
        )

    def rendered(self, engine: Engine) -> dict[Gauge, Piece]:
        """Returns the lines of each family; a line without a value is left out."""
        events, read = engine.latest, self._values
        values = [value for digest in self._digests for value in read(events[digest])]
        written = numbers(values, "an evaluation") if values else []
        block = {gauge: _lines(heads, written, self._places[gauge]) for gauge, heads in self._heads.items()}
        return {gauge: piece for gauge, piece in block.items() if piece.text or gauge.named}


def _lines(heads: Sequence[bytes], written: Sequence[bytes], places: Iterable[int]) -> Piece:
    own = [written[place] for place in places]
    if NOTHING in own:
        heads = [head for head, number in zip(heads, own, strict=True) if number != NOTHING]
        own = [number for number in own if number != NOTHING]
    return lines(heads, own)


def evaluation(engine: Engine) -> Hashable:
    """Returns what changes when minutes close or the configuration does: nothing else changes what an event says."""
    return engine.state.next_minute, engine.composites.next_minute, engine.state.config_version


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
