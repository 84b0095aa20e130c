"""Messages in memory that ends, with its padding, where no page may be read: a read beyond it ends the process."""

import ctypes
import mmap

import numpy as np

from stream.core.otlp.scan.memory import joined

_PROT_NONE = 0


class GuardedMemory:
    """Room for joined messages between two pages that nobody may read."""

    def __init__(self, size: int) -> None:
        self._pages = -(-size // mmap.PAGESIZE)
        self._map = mmap.mmap(-1, (self._pages + 2) * mmap.PAGESIZE)
        self._bytes = np.frombuffer(self._map, "uint8")
        begin = self._bytes.ctypes.data
        for page in (0, self._pages + 1):
            libc = ctypes.CDLL(None, use_errno=True)
            address = ctypes.c_void_p(begin + page * mmap.PAGESIZE)
            assert libc.mprotect(address, ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE) == 0, ctypes.get_errno()

    def joined_at_the_end(self, values):
        """As `memory.joined`, right before a page that nobody may read."""
        data, offsets = joined(values)
        end = (self._pages + 1) * mmap.PAGESIZE
        return self._placed(end - len(data), data), offsets

    def joined_at_the_begin(self, values):
        """As `memory.joined`, right after a page that nobody may read."""
        data, offsets = joined(values)
        return self._placed(mmap.PAGESIZE, data), offsets

    def _placed(self, first, data):
        assert len(data) <= self._pages * mmap.PAGESIZE
        place = self._bytes[first : first + len(data)]
        place[:] = np.frombuffer(data, "uint8")
        return place
