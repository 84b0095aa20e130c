"""Memory that is kept: pages are asked for once, not for each message."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

MESSAGES, MESSAGE_BYTES = 200, 1 << 20

PROGRAM = f"""
import resource
from stream.kafka.buffers import keep_freed_memory

assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({MESSAGES}):
    messages = [bytes({MESSAGE_BYTES}) for _ in range(4)]
    del messages
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc")
def test_memory_of_messages_is_asked_for_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 8 * MESSAGE_BYTES, "four messages at a time, however many there were"
