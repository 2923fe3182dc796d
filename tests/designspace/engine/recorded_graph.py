"""A CUDA graph as PyTorch operations on a CPU: what a captured step does on a replay, without a device to capture it on.

Capturing runs Python once; a replay repeats the operations that were seen, on the same memory. So whatever a step keeps in
Python instead of in tensors stays as it was at the capture, and whatever tensor is exchanged for a new one is lost to it.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from designspace.cache.attend_operator import _attend

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

# Each has the host wait for the device, or hands over the host's memory: no stream can be captured meanwhile.
_WAITING = {
    "_local_scalar_dense", "argwhere", "equal", "is_nonzero", "item", "lift_fresh", "masked_select", "nonzero",
    "nonzero_numpy", "unique",
}  # fmt: skip


class NoWaiting(TorchDispatchMode):
    """Refuses every operation that would have the host wait for a device, or whose shape depends on what is in tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run everything else."""
        name = func.overloadpacket.__name__
        assert name not in _WAITING, f"{name} waits for the device"
        indices = args[1] if name in {"index", "index_put", "index_put_"} else ()
        assert all(index is None or index.dtype != torch.bool for index in indices), f"{name} by a mask waits"
        return func(*args, **(kwargs or {}))


class RecordedGraph(NoWaiting):
    """Records the operations that run inside of it, then repeats them."""

    def __init__(self) -> None:
        super().__init__()
        self._recorded: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note it; of attention, which is Python, note what it does."""
        if func.overloadpacket is torch.ops.designspace.attend:
            with self:
                return _attend(*args)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self._recorded.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        """Do the same to the same memory; what an operation made anew goes to where it stood at the capture."""
        for func, args, kwargs, was in self._recorded:
            now = func(*args, **kwargs)
            for old, new in zip(tree_leaves(was), tree_leaves(now), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    assert old.shape == new.shape
                    old.copy_(new)


def record_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `torch.cuda` record graphs like these."""

    @contextmanager
    def capture(graph: RecordedGraph) -> Iterator[None]:
        with graph:
            yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda of: nullcontext())
