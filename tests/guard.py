"""Memory that faults when touched outside: pages between two forbidden ones (mmap and mprotect through ctypes)."""

import ctypes
import mmap

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class GuardedBytes:
    """`pages` usable pages; the bytes just before `bytes[0]` and just after `bytes[-1]` cannot be touched."""

    def __init__(self, pages=1):
        page = mmap.PAGESIZE
        self._map = mmap.mmap(-1, (pages + 2) * page)
        everything = np.frombuffer(self._map, np.uint8)
        self.bytes = everything[page:-page]
        self._guards = (everything.ctypes.data, everything.ctypes.data + (pages + 1) * page)
        self._protect(0)

    def _protect(self, access):
        for address in self._guards:
            if _libc.mprotect(address, mmap.PAGESIZE, access) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def close(self):
        self._protect(mmap.PROT_READ | mmap.PROT_WRITE)

    def at_start(self, dtype, count):
        """`count` items that begin at the first usable byte."""
        return self.bytes[: count * dtype.itemsize].view(dtype)

    def at_end(self, dtype, count):
        """`count` items that end at the last usable byte."""
        return self.bytes[self.bytes.size - count * dtype.itemsize :].view(dtype)
