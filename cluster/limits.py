"""How long a run on Ray waits for what before it says that something is missing, all in seconds."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace

from designspace.errors import DeclarationError

VARIABLE = "DESIGNSPACE_LIMITS"


@dataclass(frozen=True)
class Limits:
    """The limits of a run. The variable `DESIGNSPACE_LIMITS` changes some: `silent_s=20,start_s=1200`.

    Attributes:
        attach_s: for a cluster at an address to let this process in.
        start_s: for the first of the workers to be up, as long as none is. A cluster may have to start machines.
        silent_s: for a worker at work to answer when it is asked whether it lives. Its model computes meanwhile, and
            answering takes no time of it: one that is silent is stopped, or its machine is.
        still_s: for a worker that does answer to generate anything, at the least; see `slowness`.
        first_s: the same where no shard of the model is done yet, or the worker is about to load the model.
        slowness: how often over a worker may take the time that a whole shard is expected to take, without generating
            anything, before it is given up.
        head_s: for the head of a cluster to be reachable again. Ray ends this process after 60 s of that.
        local_head_s: for that of a local Ray, which nobody would start again.
    """

    attach_s: float = 60.0
    start_s: float = 600.0
    silent_s: float = 60.0
    still_s: float = 300.0
    first_s: float = 3600.0
    slowness: float = 20.0
    head_s: float = 30.0
    local_head_s: float = 5.0

    @staticmethod
    def from_environment() -> Limits:
        """Return the limits, with those that the environment names.

        Raises:
            DeclarationError: it names others than there are, or a value that is no positive number.
        """
        names, found = [field.name for field in fields(Limits)], dict[str, float]()
        for setting in filter(None, os.environ.get(VARIABLE, "").split(",")):
            name, _, value = (part.strip() for part in setting.partition("="))
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = 0.0
            if name not in names or not found[name] > 0:
                raise DeclarationError(
                    f"{VARIABLE} must be like silent_s=20,start_s=1200 with positive numbers for some of "
                    f"{', '.join(names)}, got {setting!r}"
                )
        return replace(Limits(), **found)
