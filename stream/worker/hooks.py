"""For tests only: stop or kill this process at a named step of a checkpoint or a restore.

With `QMA_TEST_HOOKS` set to a directory, a file `stop-STEP-PARTITION` or `kill-STEP-PARTITION` in it makes the
process send itself SIGSTOP or SIGKILL when that partition reaches that step: those of `StateStore`, and
`restored`, where everything assigned is and the consumer has not been told yet where to read on. The file is removed
first: once is enough. Without the variable there are no hooks.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from stream.kafka.state_store import Hook

VARIABLE = "QMA_TEST_HOOKS"

_SIGNALS = {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}


def hook_of(partition: int) -> Hook | None:
    """Returns the hook of a partition, None unless a test has set `QMA_TEST_HOOKS`."""
    directory = os.environ.get(VARIABLE)
    if not directory:
        return None

    async def reached(step: str) -> None:
        for action, number in _SIGNALS.items():
            order = Path(directory) / f"{action}-{step}-{partition}"
            if order.exists():
                order.unlink()
                os.kill(os.getpid(), number)

    return reached
