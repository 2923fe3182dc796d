"""The finished generations of a shard that is not whole: noted as they finish, read back by a later attempt.

A row does not depend on its batch-mates, to the last bit, so a generation that another attempt has finished is the one that
this attempt would make. It is used only if nothing that can move a bit has changed: the state of the code, the versions of what
computes, the kind of device and the number of threads, and what was asked (prompt, cap, random stream, texts that are given).

What a kill costs: the generations under way, and those that took less than a second each and finished within the last one. A
generation that took longer is on the disk before the next step begins.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import torch

from cluster.code_id import code_id
from designspace.axes import Generation, Request
from designspace.canonical import canonical_json
from designspace.environment import environment
from designspace.kernels.build import load_library
from designspace.store.journal import Journal

LONG_S = 1.0
_FIELDS = tuple(field.name for field in fields(Generation))


@dataclass(frozen=True)
class Origin:
    """Who made a generation, and the look at held-out problems that it was made under."""

    worker: str
    look_sha256: str | None


@cache
def conditions(device: str, threads: int) -> dict[str, Any]:
    """Return what may move a bit of a generation beside its cell's identity."""
    kernels = load_library("decode_attention") is not None
    # The name says which GPU; that of a device that is not here is only the device.
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") and torch.cuda.is_available() else device
    return {
        "format": 1, "code_id": code_id(), "packages": environment(), "kernels": kernels, "device": name,
        "threads": threads,
    }  # fmt: skip


class KeptGenerations:
    """The generations of one shard that need not be made again, and the journal of those that are being made.

    Args:
        journal: of the shard.
        origin: of what is made now.
    """

    def __init__(self, journal: Journal, origin: Origin) -> None:
        self._journal, self._origin = journal, origin
        self._unwritten: list[dict[str, Any]] = []
        self._written_s = time.monotonic()

    def found(self, asked: Collection[Request]) -> list[tuple[Generation, Origin]]:
        """Return what earlier attempts have finished of what is asked for now, each generation once."""
        digests = {request.stream: _digest(request) for request in asked}
        found: dict[bytes, tuple[Generation, Origin]] = {}
        for entry in self._journal.entries():
            stream = bytes.fromhex(entry["stream"])
            if digests.get(stream) == entry["request"]:
                found.setdefault(stream, (_generation(entry["generation"], stream), Origin(**entry["origin"])))
        return list(found.values())

    def note(self, request: Request, generation: Generation) -> None:
        """Note a generation that has just finished."""
        self._unwritten.append(
            {
                "stream": generation.stream.hex(),
                "request": _digest(request),
                "origin": {"worker": self._origin.worker, "look_sha256": self._origin.look_sha256},
                "generation": {name: getattr(generation, name) for name in _FIELDS if name != "stream"},
            }
        )
        if generation.wall_s >= LONG_S or time.monotonic() - self._written_s >= LONG_S:
            self._journal.write(self._unwritten)
            self._unwritten, self._written_s = [], time.monotonic()

    def forget(self) -> None:
        """Remove the journal: the shard is committed."""
        self._unwritten = []
        self._journal.remove()


def _digest(request: Request) -> str:
    """Return the SHA-256 of everything that is asked."""
    asked = [
        request.problem_id, request.prompt_ids, request.stream.hex(), request.max_new_tokens, request.foreseen,
        request.reference,
    ]  # fmt: skip
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()


def _generation(noted: dict[str, Any], stream: bytes) -> Generation:
    """Return a generation as it was: JSON keeps every bit of a float, and makes lists of tuples."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in noted.items()}
    return Generation(stream=stream, **values)
