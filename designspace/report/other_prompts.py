"""Arms that read other tokens than the rest of their place: what sets them apart is then more than their mechanism."""

from __future__ import annotations

from dataclasses import dataclass

from designspace.report.arm_rows import ArmKey, Arms, PlaceKey


@dataclass(frozen=True)
class OtherPrompts:
    """Sets of arms of one place, each with prompts of its own; the largest set first. n_problems: that were compared."""

    keys: tuple[tuple[ArmKey, ...], ...]
    n_problems: int


def other_prompts(arms: Arms) -> list[OtherPrompts]:
    """Return the places where arms have different prompts, over the problems that they all have.

    Nothing is found where the prompts' tokens are not at hand.
    """
    places: dict[PlaceKey, dict[ArmKey, dict[str, bytes]]] = {}
    for key, rows in arms.items():
        prompts = {row["problem_id"]: row["prompt_digest"] for row in rows if row.get("prompt_digest") is not None}
        if prompts:
            places.setdefault(key.place, {})[key] = prompts
    found = []
    for members in places.values():
        common = sorted(set.intersection(*(set(prompts) for prompts in members.values())))
        alike: dict[tuple[bytes, ...], list[ArmKey]] = {}
        for key, prompts in members.items():
            alike.setdefault(tuple(prompts[name] for name in common), []).append(key)
        if len(alike) > 1:
            sets = sorted((tuple(sorted(keys)) for keys in alike.values()), key=lambda keys: (-len(keys), keys))
            found.append(OtherPrompts(tuple(sets), len(common)))
    return found
