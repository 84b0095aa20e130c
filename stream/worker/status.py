"""What a state worker says of itself, for `/metrics`, `/healthz` and `/readyz`."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream.core.engine import Engine


@dataclass(slots=True, kw_only=True)
class StateStatus:
    """The worker as it is now. Written by the worker, read by the services that run in its event loop.

    Args:
        owned: Partitions assigned to this worker, restored or not.
        rebalancing: From the moment the partitions are taken away until the new ones are restored.
        assigned: The group has assigned partitions (perhaps none) at least once.
        engines: The fold of each restored partition.
        checkpoint_at_s: Monotonic time of each partition's last checkpoint, or of its restore.
        checkpoint_duration_s: How long that checkpoint took; absent before the first.
        log_lag: Log records that each partition has yet to apply; absent until its end is known.
    """

    owned: frozenset[int] = frozenset()
    rebalancing: bool = True
    assigned: bool = False
    engines: dict[int, Engine] = field(default_factory=dict)
    checkpoint_at_s: dict[int, float] = field(default_factory=dict)
    checkpoint_duration_s: dict[int, float] = field(default_factory=dict)
    log_lag: dict[int, int] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Every owned partition is restored and none is being moved."""
        return self.assigned and not self.rebalancing and self.owned <= self.engines.keys()

    def forget(self, partition: int) -> None:
        """Removes what is known of a partition that is no longer ours."""
        self.engines.pop(partition, None)
        self.checkpoint_at_s.pop(partition, None)
        self.checkpoint_duration_s.pop(partition, None)
        self.log_lag.pop(partition, None)
