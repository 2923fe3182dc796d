"""A CUDA device that is not there: tensors in the host's memory that say they are on one, and calls that mind it.

What a real device refuses is refused: operations on tensors of both sides, and the host reading what is on the device. So a
tensor made without `device=`, or a C kernel handed an address of the device, fails here and not on somebody's GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

HOST, DEVICE = torch.device("cpu"), torch.device("cuda:0")
_READS = {"numpy", "data_ptr", "__array__", "untyped_storage", "storage"}


class OnDevice(Tensor):
    """A tensor that says it is on the device; without the mode below it is like any other."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class PretendDevice(TorchFunctionMode):
    """Runs every call in the host's memory, refuses what a device would, and says where the results are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Check the sides of all tensors, then run."""
        kwargs, name = dict(kwargs or {}), func.__name__
        if name == "__get__":
            return self._property(func, args)
        if name == "_lazy_init":
            return None
        on_device = _any_on_device((args, kwargs))
        if on_device:
            assert name not in _READS, f"the host reads memory of the device: {name}"
            _check_sides(name, args, kwargs)
        asked = _asked_for(name, args, kwargs)
        result = func(*tree_map(_here, args), **tree_map(_here, kwargs))
        on_device = on_device if asked is None else asked.type == "cuda"
        return tree_map(on_the_device if on_device else on_the_host, result)

    def _property(self, func: Any, args: Any) -> Any:
        """Return a tensor's attribute; of one on the device, with the device's name or on the device too."""
        of, name = args[0], func.__self__.__name__
        if not isinstance(of, OnDevice):
            return func(*args)
        return {"device": DEVICE, "is_cuda": True, "is_cpu": False}.get(name) or tree_map(on_the_device, func(*args))


def on_the_device(x: Any) -> Any:
    """Say of a tensor that it is on the device; leave anything else alone."""
    return x.as_subclass(OnDevice) if isinstance(x, Tensor) and not isinstance(x, OnDevice) else x


def move_to_device(module: torch.nn.Module) -> None:
    """Say it of all parameters and buffers."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, x in held.items():
                held[name] = None if x is None else on_the_device(x.detach())  # type: ignore[assignment]


def on_the_host(x: Any) -> Any:
    """Say of a tensor that it is in the host's memory, where it is."""
    return x.as_subclass(Tensor) if isinstance(x, OnDevice) else x


def _here(x: Any) -> Any:
    """Ask for the host where the device was asked for."""
    return HOST if _is_device(x) else x


def _is_device(x: Any) -> bool:
    return isinstance(x, torch.device) or (isinstance(x, str) and x.split(":")[0] in ("cpu", "cuda"))


def _asked_for(name: str, args: Any, kwargs: Any) -> torch.device | None:
    """Return the device that a call names: by keyword, in what `to` is given, or as what makes a tensor of other things."""
    named = [kwargs.get("device"), *(args[1:] if name == "to" else ())]
    devices = [torch.device(x) for x in named if _is_device(x)]
    if name in ("cpu", "tensor", "as_tensor") and not devices:
        return HOST
    return devices[0] if devices else None


def _any_on_device(tree: Any) -> bool:
    return any(isinstance(x, OnDevice) for x in tree_leaves(tree))


def _check_sides(name: str, args: Any, kwargs: Any) -> None:
    """Refuse tensors of the host next to those of the device, but for numbers, copies and indices of what is there."""
    if name in ("copy_", "to"):
        return
    if name in ("__getitem__", "__setitem__"):
        assert isinstance(args[0], OnDevice), f"{name}: indices on the device for a tensor of the host"
        args = (args[0], *args[2:])
    sizes = [x.shape for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and not isinstance(x, OnDevice)]
    assert all(len(size) == 0 for size in sizes), f"{name}: on both sides, {sizes} on the host"
