"""What the demo shows while it runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stream.demo.view import CertificateView, ObjectiveView, View, left, percent, short, span

PROGRESS_EVERY_S = 5.0
REFRESHES_PER_S = 4
_STYLES = {"issued": "green", "revoked": "bold red", "expired": "yellow", "pending": "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where the run is.

    Args:
        phase: What is being done, in two or three words.
        done_ratio: Part of the workload that was produced, 0 to 1.
        event_time: Event time reached, `HH:MM`.
        produced: Items produced so far.
        counted: Items that are counted in the product's checkpoints.
        duplicate: Items that their producer sent twice.
        late: Items that were late.
        rejected: Items that were refused.
        replayed: Items that a replay repeated.
        kills: Workers killed.
        restarts: Workers that run again.
    """

    phase: str
    done_ratio: float
    event_time: str
    produced: int
    counted: int
    duplicate: int
    late: int
    rejected: int
    replayed: int
    kills: int
    restarts: int

    def line(self) -> str:
        """Returns it as one line."""
        parts = [
            f"{self.phase} {self.done_ratio:.0%}, event time {self.event_time} UTC: produced {self.produced:,}",
            f"checkpointed: counted {self.counted:,}, duplicate {self.duplicate}, late {self.late}, "
            f"rejected {self.rejected}, replayed {self.replayed:,}",
        ]
        if self.kills:
            parts.append(f"{self.kills} killed, {self.restarts} restarted")
        return "; ".join(parts)


class Screen(Protocol):
    """Shows lines that stay and a state that changes."""

    def tell(self, line: str) -> None:
        """Shows a line that stays."""

    def show(self, view: View, progress: Progress) -> None:
        """Shows where things are now."""

    def close(self) -> None:
        """Leaves what was shown last; more than once is as good as once."""


def screen() -> Screen:
    """Returns the screen for standard output."""
    console = Console(highlight=False)
    return LiveScreen(console) if console.is_terminal else PlainScreen()


class PlainScreen:
    """One line for everything that happens, and one for the progress every five seconds."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or _print
        self._told_s = time.monotonic()

    def tell(self, line: str) -> None:
        """Prints the line."""
        self._write(line)

    def show(self, view: View, progress: Progress) -> None:
        """Prints the progress when five seconds have passed."""
        now_s = time.monotonic()
        if now_s - self._told_s >= PROGRESS_EVERY_S:
            self._told_s = now_s
            self._write(progress.line())

    def close(self) -> None:
        """Does nothing: lines stay."""


def _print(line: str) -> None:
    print(line, file=sys.stdout, flush=True)


class LiveScreen:
    """Tables that are redrawn in place; lines scroll above them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=REFRESHES_PER_S)
        self._live.start()

    def tell(self, line: str) -> None:
        """Prints the line above the tables."""
        self._console.print(Text(line, style=_line_style(line)))

    def show(self, view: View, progress: Progress) -> None:
        """Redraws the tables."""
        self._live.update(drawn(view, progress))

    def close(self) -> None:
        """Stops redrawing; the tables stay as they are."""
        self._live.stop()


def drawn(view: View, progress: Progress) -> Group:
    """Returns the live view."""
    return Group(
        Text(),
        _objectives(sorted(view.objectives.values(), key=lambda o: (o.service, o.objective))),
        Text(),
        _certificates(sorted(view.certificates.values(), key=lambda c: (c.service, c.version))),
        Text(),
        Text(_bar(progress.done_ratio) + " " + progress.line()),
        Text(_counts(view), style="dim"),
    )


def _line_style(line: str) -> str:
    if line.startswith(("PAGE", "kill")) or ": revoked" in line:
        return "bold red"
    return "green" if ": issued" in line or "resolved" in line else ""


def _objectives(objectives: Sequence[ObjectiveView]) -> Table:
    table = _table()
    table.add_column("objective", no_wrap=True, ratio=1)
    for name in ("target", "last minute", "30 d", "budget left", "gone", "burn 5m", "1h"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("alert", no_wrap=True, min_width=len("PAGE, TICKET"))
    for o in objectives:
        burn = [_number(o.burn_rates.get(length)) for length in ("5m", "1h")]
        alert = Text(", ".join(sorted({s.upper() for s in o.firing.values()})), style="bold red")
        ratios = (percent(o.minute_ratio), percent(o.window_ratio))
        table.add_row(o.objective, o.target, *ratios, left(o.budget_left), o.forecast or "-", *burn, alert)
    return table


def _certificates(certificates: Sequence[CertificateView]) -> Table:
    table = _table()
    for name in ("version", "certificate", "decidable in"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", no_wrap=True, ratio=1)
    for c in certificates:
        eta = f"about {span(c.eta_minutes)}" if c.eta_minutes else ""
        table.add_row(f"{short(c.service)} {c.version}", Text(c.state, style=_STYLES.get(c.state, "")), eta, c.why)
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True)


def _counts(view: View) -> str:
    events = view.events
    return (
        f"events read: {events['sli']:,} SLI, {events['burn-rate']} burn rate, {events['budget']} budget, "
        f"{events['certificate']} certificate, "
        f"{events['deadletter']} dead letters"
    )


def _bar(ratio: float, width: int = 24) -> str:
    full = round(ratio * width)
    return "█" * full + "░" * (width - full)


def _number(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"
