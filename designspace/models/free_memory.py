"""How much memory there is on a device now, and bytes in words."""

from __future__ import annotations

import torch

_GIB = 2**30
_MIB = 2**20


def free_bytes(device: str | torch.device = "cpu") -> int:
    """Return the bytes that are free on a CUDA device, or of the machine's memory."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil  # not on a machine that has no more than what a GPU's check needs

    return int(psutil.virtual_memory().available)  # what the system's caches would give back is free too


def bytes_text(n_bytes: int) -> str:
    """Return a number of bytes in the units of `ps` and `nvidia-smi`."""
    return f"{n_bytes / _GIB:.2f} GiB" if n_bytes >= _GIB else f"{n_bytes / _MIB:.1f} MiB"
