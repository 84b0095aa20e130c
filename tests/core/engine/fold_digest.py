"""Prints the SHA-256 of a rich scenario's outputs and of its state; run under several hash seeds."""

import hashlib

from stream.core.engine import Engine
from stream.core.rendering import render
from tests.core.engine.scenarios import rich_log

if __name__ == "__main__":
    engine = Engine(0)
    seen = hashlib.sha256()
    for offset, (time_ns, value) in enumerate(rich_log()):
        for output in engine.apply(offset, time_ns, value):
            rendered = render(output)
            seen.update(rendered.topic.encode() + b"\0" + rendered.key + b"\0" + rendered.value + b"\0")
    engine.checkpoint()
    state = hashlib.sha256(repr(sorted(engine.snapshot().items())).encode())
    print(seen.hexdigest(), state.hexdigest())
