"""Where the machine code of the decoders is kept between starts."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numba

from stream.core.otlp import scan


def use_kernel_cache() -> Path:
    """Makes numba keep compiled kernels in the user's cache directory, and returns where.

    One directory per state of the kernels' sources: numba looks at the file of a kernel alone, and would take machine
    code from before a change in another file that is compiled into it. Call it before a compiled decoder is imported.
    """
    sources = sorted(Path(scan.__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "qma-stream" / "kernels" / digest[:16]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home that can be written: compiled once a boot, then
        directory = Path(tempfile.gettempdir()) / f"qma-stream-kernels-{os.getuid()}" / digest[:16]
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    numba.config.CACHE_DIR = str(directory)
    return directory
