"""Prints the SHA-256 of what composites put out and of their state; run under several hash seeds."""

import hashlib

from stream.core.engine import Engine
from stream.core.rendering import render
from tests.core.engine.test_composite_alerts import story_log

if __name__ == "__main__":
    engine, seen = Engine(0), hashlib.sha256()
    for offset, (time_ns, value) in enumerate(story_log(beside_payments=2)):
        for output in engine.apply(offset, time_ns, value):
            seen.update(render(output).value)
    engine.checkpoint()
    print(seen.hexdigest(), hashlib.sha256(repr(sorted(engine.snapshot().items())).encode()).hexdigest())
