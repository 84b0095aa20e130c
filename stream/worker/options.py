"""What a state worker is started with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StateOptions:
    """Options of one state worker.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        pipeline: Name of the pipeline.
        generation: Its generation, as in the configuration bundle.
        prefix: Of every topic of this pipeline.
        checkpoint_interval_s: A partition that changed is checkpointed this often.
        urgent_interval_s: After an alert or a certificate change it is checkpointed at once, but not more often
            than this.
        checkpoint_records: A checkpoint is also due after this many log records ...
        checkpoint_bytes: ... or this many bytes of log, so that a replay stays short.
        restore_deadline_s: Partitions that cannot be restored within this end the process.
        session_timeout_s: A worker that the group does not hear of for this long loses its partitions.
    """

    bootstrap: str
    pipeline: str
    generation: str
    prefix: str = "qma."
    checkpoint_interval_s: float = 3.0
    urgent_interval_s: float = 1.0
    checkpoint_records: int = 2000
    checkpoint_bytes: int = 64 << 20
    restore_deadline_s: float = 30.0
    session_timeout_s: float = 6.0

    @property
    def group(self) -> str:
        """The consumer group of the state workers; also Faust's application id."""
        return f"{self.pipeline}-{self.generation}-state"

    @property
    def shuffle_topic(self) -> str:
        """The log that is folded."""
        return f"{self.prefix}shuffle"

    @property
    def state_topic(self) -> str:
        """The compacted topic of the checkpoints."""
        return f"{self.prefix}state"

    def transactional_id(self, partition: int) -> str:
        """Returns the id under which exactly one worker at a time can write checkpoints of `partition`."""
        return f"{self.pipeline}-{self.generation}-{partition}"
