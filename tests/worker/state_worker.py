"""A state worker as a process: options as JSON in argv; a line of JSON on stdout whenever its status changes."""

import asyncio
import json
import sys

from stream.worker.options import StateOptions
from stream.worker.process import run_state
from stream.worker.status import StateStatus


async def report(status: StateStatus) -> None:
    """Prints the status when it has changed."""
    last = ""
    while True:
        line = json.dumps(
            {
                "ready": status.ready,
                "owned": sorted(status.owned),
                "applied": {number: engine.log_offset for number, engine in status.engines.items()},
                "lag": status.log_lag,
                "checkpoint_s": status.checkpoint_duration_s,
            }
        )
        if line != last:
            print(line, flush=True)
            last = line
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    run_state(StateOptions(**json.loads(sys.argv[1])), [report])
