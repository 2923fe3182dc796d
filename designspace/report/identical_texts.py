"""Arms that write the same texts: whatever sets them apart did nothing, and an effect of zero between them is none."""

from __future__ import annotations

from dataclasses import dataclass

from designspace.report.arm_rows import NO_BUDGET, ArmKey, Arms, PlaceKey


@dataclass(frozen=True)
class IdenticalArms:
    """Arms of one place of which every text is equal, in the order in which they were asked about; n_texts: of each."""

    keys: tuple[ArmKey, ...]
    n_texts: int


def identical_arms(arms: Arms) -> list[IdenticalArms]:
    """Return the sets of arms with identical texts, over the generations that all arms of a place have.

    Nothing is found where the texts are not at hand, or no generation is common.
    """
    places: dict[PlaceKey, dict[ArmKey, dict[tuple[str, int], bytes]]] = {}
    for key, rows in arms.items():
        texts = {(row["problem_id"], row["replicate"]): row["text_digest"] for row in rows if "text_digest" in row}
        places.setdefault(key.place, {})[key] = texts
    found = []
    for members in places.values():
        common = sorted(set.intersection(*(set(texts) for texts in members.values())))
        alike: dict[tuple[bytes, ...], list[ArmKey]] = {}
        for key, texts in members.items():
            alike.setdefault(tuple(texts[name] for name in common), []).append(key)
        found += [IdenticalArms(tuple(keys), len(common)) for keys in alike.values() if common and len(keys) > 1]
    return found


def arm_name(key: ArmKey, beside: ArmKey) -> str:
    """Return what an arm is called beside another one of its place: with its budget where that is another one."""
    if key.budget == beside.budget:
        return key.name
    return f"{key.name} (no budget)" if key.budget == NO_BUDGET else f"{key.name} at budget {key.budget}"
