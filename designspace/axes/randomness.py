"""Counter-based randomness: every number is a hash of what it is for, never the state of a generator.

So a row draws the same numbers whatever its batch-mates, its place in the queue or the arm it runs under.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from designspace.axes.view import View

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64, splitmix64's increment
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def stream_key(root_seed: int, problem_id: str, replicate: int) -> bytes:
    """Return the 16-byte key of one generation's random stream."""
    return hashlib.sha256(f"{root_seed}\0{problem_id}\0{replicate}".encode()).digest()[:16]


def sample_streams(key: bytes, samples: int) -> list[bytes]:
    """Return the streams of several samples of one generation: the first is `key` itself, the others hashes of it."""
    return [key, *(hashlib.sha256(key + f"\0sample {i}".encode()).digest()[:16] for i in range(1, samples))]


def step_uniforms(key: bytes, n_steps: int) -> np.ndarray:
    """Return [n_steps] float64 in [0, 1): the number for step t depends on the key and t alone (Philox)."""
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    return generator.random(n_steps)


def key_integer(key: bytes) -> int:
    """Return the key folded to a signed 64-bit integer, for hashing on the device."""
    return int.from_bytes(key[:8], "little", signed=True)


def hash_uniform(*integers: Tensor) -> Tensor:
    """Return float32 in [0, 1) from broadcastable int64 tensors: equal integers give equal numbers on every device."""
    state = torch.zeros((), dtype=torch.int64, device=integers[0].device)
    for value in integers:
        state = _mix((state + value.long()).add_(_GOLDEN))
    return _shift(state, 40).float() * 2.0**-24


def slot_coordinates(view: View) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what a slot's random numbers are hashes of: its row's stream, layer, head and position, broadcastable int64."""
    n_layers, _, n_heads, _ = view.positions.shape
    layer = torch.arange(n_layers, device=view.positions.device)[:, None, None, None]
    head = torch.arange(n_heads, device=view.positions.device)[None, None, :, None]
    return view.streams[None, :, None, None], layer, head, view.positions


def _mix(x: Tensor) -> Tensor:
    """Return the bits of x mixed, in its own memory."""
    x = x.bitwise_xor_(_shift(x, 30)).mul_(_MIX_1)
    x = x.bitwise_xor_(_shift(x, 27)).mul_(_MIX_2)
    return x.bitwise_xor_(_shift(x, 31))


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's on int64 is arithmetic."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)
