"""The picture of the result: spans a CPU-second of ours and of the peers, as bars."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

Groups = Mapping[str, Mapping[str, float]]
"""Spans a CPU-second by name, by the way that was measured. Ours is the first of each group."""

_OURS = "#2f81f7"
_OTHERS = "#8b949e"
_TEXT = "#7d8590"
"""Between black and white: legible on either."""

_BAR, _GAP = 0.62, 1.0


def draw(groups: Groups, path: Path) -> None:
    """Writes the picture, on no background of its own; the suffix of the path says which format."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "bench", "font.size": 10, "font.family": "sans-serif"}
    pyplot = import_module("matplotlib.pyplot")
    rows = sum(len(rates) for rates in groups.values()) + _GAP * len(groups)
    figure, axes = pyplot.subplots(figsize=(8, 0.36 * rows + 0.7), layout="constrained")
    _bars(axes, groups)
    axes.set_title("spans per CPU-second, counted and digested", loc="left", color=_TEXT, fontsize=11, pad=8)
    figure.savefig(path, transparent=True, **({"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 120}))
    pyplot.close(figure)


def _bars(axes: Any, groups: Groups) -> None:
    most = max(rate for rates in groups.values() for rate in rates.values())
    at, ticks = 0.0, []
    for title, rates in groups.items():
        axes.text(0, at, title, color=_TEXT, va="center", fontweight="bold", fontsize=9)
        at += 1
        ours = next(iter(rates.values()))
        for number, (name, rate) in enumerate(rates.items()):
            axes.barh(at, rate, _BAR, color=_OTHERS if number else _OURS)
            times = f"  (1/{ours / rate:.0f})" if number else ""
            axes.text(rate + most * 0.01, at, f"{_thousands(rate)}{times}", color=_TEXT, va="center", fontsize=9)
            ticks.append((at, name))
            at += 1
        at += _GAP - 0.6
    axes.set_yticks([place for place, _ in ticks], [name for _, name in ticks])
    axes.tick_params(axis="y", length=0, colors=_TEXT)
    axes.set_xlim(0, most * 1.14)
    axes.xaxis.set_visible(False)
    axes.set_ylim(at - _GAP, -_GAP * 0.7)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _thousands(rate: float) -> str:
    return f"{rate / 1000:,.0f} k"
