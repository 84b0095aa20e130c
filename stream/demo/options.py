"""What `qma demo` is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from stream.config.settings import LOCAL_BROKER
from stream.core.errors import ConfigError
from stream.demo import story
from stream.demo.workers import KILLS_MAX

DURATION_MIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """Options of the demo.

    Args:
        seed: Fixes everything but the time base.
        duration_s: Wall-clock length of the workload.
        rate: Factor on the traffic; 1 is 3,000 spans and flat events a second.
        broker: `local` for a Kafka of the demo's own, or `HOST:PORT[,HOST:PORT…]`.
        kill_workers: Workers to kill (SIGKILL) during the run.
        json_path: File for the result as JSON.
        keep: Leave everything running at the end, until Ctrl-C.
    """

    seed: int = 1
    duration_s: float = 60.0
    rate: float = 1.0
    broker: str = LOCAL_BROKER
    kill_workers: int = 0
    json_path: Path | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: One cannot be.
        """
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: write a number from 0")
        if not (math.isfinite(self.duration_s) and self.duration_s >= DURATION_MIN_S):
            raise ConfigError(f"--duration {self.duration_s:g}: write at least {DURATION_MIN_S:g} seconds")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"--rate {self.rate:g}: write a factor above 0")
        if not 0 <= self.kill_workers <= KILLS_MAX:
            raise ConfigError(
                f"--kill-workers {self.kill_workers}: write a number from 0 to {KILLS_MAX}; a worker that "
                "crashes five times in five minutes is given up"
            )
        if self.json_path is not None and not self.json_path.absolute().parent.is_dir():
            raise ConfigError(f"--json {self.json_path}: there is no directory {self.json_path.absolute().parent}")

    @property
    def speed(self) -> float:
        """Seconds of event time in a second of the workload."""
        return story.MINUTES * 60 / self.duration_s

    @property
    def spans_expected(self) -> float:
        """About as many spans and flat events the workload has."""
        return story.SPANS_PER_S * self.rate * self.duration_s
