"""The memory that a process holds, and the most it held since it was last asked to forget: from the system, without torch.

All numbers are 0 on a system that does not say.
"""

from __future__ import annotations

from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int:
    """Return the bytes of main memory that this process holds now."""
    return _field("VmRSS:")


def begin_peak() -> int:
    """Begin a new peak; return the bytes that are held now."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")  # the peak that the system remembers becomes what is resident now
    return resident()


def peak() -> int:
    """Return the most bytes held since the peak began."""
    return _field("VmHWM:")  # getrusage's peak also knows the process that this one was started from


def _field(name: str) -> int:
    if not _STATUS.exists():
        return 0
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])
