"""The floating-point environment of this thread, read and written by a few bytes of machine code: MXCSR on x86-64,
FPCR and FPSR on aarch64. fesetround alone would not reach flush-to-zero or the exception masks.
"""

import contextlib
import ctypes
import mmap
import platform

_MACHINE = platform.machine().lower()
X86 = _MACHINE in ("x86_64", "amd64")
ARM = _MACHINE in ("aarch64", "arm64")
AVAILABLE = X86 or ARM

if X86:
    _CODE = {
        "read": bytes.fromhex("0fae1f c3"),  # stmxcsr [rdi]; ret
        "write": bytes.fromhex("0fae17 c3"),  # ldmxcsr [rdi]; ret
    }
    DEFAULT = 0x1F80
    ROUNDING_MODES = {"nearest": 0, "down": 1 << 13, "up": 2 << 13, "zero": 3 << 13}
    FLUSH = {"ftz": 1 << 15, "daz": 1 << 6, "ftz_daz": 1 << 15 | 1 << 6}
    ALL_FLAGS = 0x3F
    UNMASKED = 0x1F80  # bits to clear
elif ARM:
    _CODE = {
        # mrs x1, fpcr; str x1, [x0]; mrs x1, fpsr; str x1, [x0, 8]; ret
        "read": b"".join(w.to_bytes(4, "little") for w in (0xD53B4401, 0xF9000001, 0xD53B4421, 0xF9000401, 0xD65F03C0)),
        # ldr x1, [x0]; msr fpcr, x1; ldr x1, [x0, 8]; msr fpsr, x1; ret
        "write": b"".join(
            w.to_bytes(4, "little") for w in (0xF9400001, 0xD51B4401, 0xF9400401, 0xD51B4421, 0xD65F03C0)
        ),
    }
    DEFAULT = 0
    ROUNDING_MODES = {"nearest": 0, "up": 1 << 22, "down": 2 << 22, "zero": 3 << 22}
    FLUSH = {"fz": 1 << 24, "fz16": 1 << 19, "dn": 1 << 25, "ahp": 1 << 26}
    ALL_FLAGS = 0x9F
    UNMASKED = 0  # many CPUs have no trapping exceptions

if AVAILABLE:
    _page = mmap.mmap(-1, mmap.PAGESIZE)
    _page[:64] = _CODE["read"].ljust(64, b"\0")
    _page[64:128] = _CODE["write"].ljust(64, b"\0")
    _start = ctypes.addressof(ctypes.c_char.from_buffer(_page))
    # Made executable only after it was written: the kernel then makes the instruction cache see it.
    _mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    _mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if _mprotect(_start, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    _Words = ctypes.c_uint64 * 2
    _read = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_start)
    _write = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_start + 64)


def get():
    """(control, flags): on x86-64 both are parts of MXCSR."""
    words = _Words()
    _read(ctypes.addressof(words))
    if X86:
        return words[0] & ~ALL_FLAGS, words[0] & ALL_FLAGS
    return words[0], words[1] & ALL_FLAGS


def put(control, flags):
    words = _Words(control | flags, 0) if X86 else _Words(control, flags)
    _write(ctypes.addressof(words))


@contextlib.contextmanager
def environment(control, flags=0):
    """The body runs with exactly this control word and these sticky flags; the old ones come back."""
    before = get()
    put(control, flags)
    try:
        yield
    finally:
        put(*before)
