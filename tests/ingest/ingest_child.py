"""An ingest as a process of its own, for tests that kill one. Says `caught up` when it has read everything.

Arguments: bootstrap, topic prefix, the point to die at (or `never`), in which cycle that holds rows.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

from stream.ingest import loop
from stream.ingest.process import IngestOptions, IngestStats, serve


def main() -> None:
    bootstrap, prefix, point, cycle = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    loop._FETCH_MESSAGES = 60  # every fetch its own cycle: nobody has read everything when it dies
    stats = IngestStats()

    async def hook(at: str) -> None:
        if at == point and stats.cycles >= int(cycle) and stats.rows:
            os.kill(os.getpid(), signal.SIGKILL)
        if at == "committed" and stats.caught_up:
            print("caught up", flush=True)

    options = IngestOptions(bootstrap=bootstrap, prefix=prefix, cycle_s=0.001, progress_s=0.3)
    serve(options, stats=stats, hook=hook)
    print(f"served {stats.rows}", flush=True)


if __name__ == "__main__":
    main()
