"""A supervisor over tiny children, as a process of its own: `python -m tests.cli.supervised LIMITS CHILD…`.

LIMITS are keyword arguments of `Limits` as JSON; each CHILD is Python source.
"""

from __future__ import annotations

import json
import sys

from stream.cli.supervisor import Child, Limits, supervise

if __name__ == "__main__":
    limits, *sources = sys.argv[1:]
    children = [
        Child(name=f"child-{number}", command=[sys.executable, "-c", source], url="http://none")
        for number, source in enumerate(sources, 1)
    ]
    sys.exit(supervise(children, Limits(**json.loads(limits))))
