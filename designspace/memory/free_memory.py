"""How much memory there is on a device now, and bytes in words."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_MEMORY_INFO = Path("/proc/meminfo")
_GIB = 2**30
_MIB = 2**20


def free_bytes(device: str | torch.device = "cpu") -> int:
    """Return the bytes that are free on a CUDA device, or of the machine's memory."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    lines = _MEMORY_INFO.read_text().splitlines() if _MEMORY_INFO.is_file() else []
    for line in lines:
        if line.startswith("MemAvailable:"):  # what pages of files would give back is free too
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def bytes_text(n_bytes: int) -> str:
    """Return a number of bytes in the units of `ps` and `nvidia-smi`."""
    return f"{n_bytes / _GIB:.2f} GiB" if n_bytes >= _GIB else f"{n_bytes / _MIB:.1f} MiB"
