"""`preset: model` with several models: each has the settings of its own `generation_config.json`, and arms that follow them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from designspace.axes import Mechanism
from designspace.errors import DeclarationError
from designspace.models.model_spec import ModelSpec
from sweeps.checks import refuse_repeated_arms
from sweeps.generation_fields import AutoGeneration, GenerationSpec
from sweeps.mechanisms import Declared, Refusal
from sweeps.model_settings import NAME, SETTINGS, model_settings
from sweeps.problems import Problems

Generation = GenerationSpec | AutoGeneration


@dataclass(frozen=True)
class OwnSettings:
    """What a model of a sweep has to itself, where the models' files differ.

    Attributes:
        model: its name. settings: those fields of `generation` in which not all models agree, in the order of the section.
        mechanisms: the sweep's, in its order, with decodings that follow from these settings.
    """

    model: str
    settings: tuple[tuple[str, float | int], ...]
    mechanisms: tuple[Mechanism, ...]

    def __str__(self) -> str:
        """Return the settings in words."""
        return ", ".join(f"{name} {number:g}" for name, number in self.settings)


class Section(NamedTuple):
    """The `generation` section as one model has it. is_known: False where there is none, or it cannot be filled in."""

    model: str
    data: Any
    is_known: bool = True


class Built(NamedTuple):
    """What is made of a section: the settings, None if they mean nothing; and the arms, with what a grid leaves out."""

    model: str
    generation: Generation | None
    declared: list[Declared]
    refused: list[Refusal]

    @property
    def names(self) -> list[str]:
        """What must be the same for all models."""
        return [
            *(item.mechanism.name for item in self.declared),
            *(f"{item.mechanism}, left out" for item in self.refused),
        ]


def sections(data: Any, models: Sequence[ModelSpec], problems: Problems) -> list[Section]:
    """Return the section of each model with its own settings filled in; a single one where all have the same.

    What cannot be filled in is noted as a problem of `generation.preset`.
    """
    if not isinstance(data, dict) or data.get("preset") != NAME or not models:
        return [Section("", data)]
    found = []
    for model in models:
        try:
            found.append(Section(model.name, {**model_settings(model), **data}))
        except DeclarationError as error:
            problems.add_error(("generation", "preset"), error)
    if len(found) < len(models):
        return [Section("", None, is_known=False)]
    return found if any(section.data != found[0].data for section in found) else found[:1]


def build_each(
    found: Sequence[Section], build: Callable[[Section, Problems], Built], problems: Problems
) -> list[Built]:
    """Return what is made of each section; what is wrong with some of them only is noted with the name of the model."""
    if len(found) == 1:
        return [build(found[0], problems)]
    noted = [Problems(problems.document) for _ in found]
    built = [build(section, own) for section, own in zip(found, noted, strict=True)]
    told = [len(noted[0].found), *[None for _ in built[1:]]]  # repeats of the first are told with the rest of the sweep
    for one, own in zip(built, noted, strict=True):
        refuse_repeated_arms(one.declared, own)
    for section, own, n_told in zip(found, noted, told, strict=True):
        for position, text in own.found[:n_told]:
            of_all = all((position, text) in other.found for other in noted)
            problems.add_found(position, text if of_all else f"{text} (with the settings of model {section.model!r})")
    return built


def own_settings(built: Sequence[Built], problems: Problems) -> tuple[OwnSettings, ...]:
    """Return what each model has to itself, and note where one of them cannot have the arms of the others."""
    if len(built) == 1 or problems:
        return ()
    first, *others = built
    for one in others:
        if lacking := sorted({*one.names} ^ {*first.names}):
            problems.add(
                ("generation", "preset"),
                f"all models must have the same arms, got {lacking[0]!r} with the settings of one of {first.model!r} and "
                f"{one.model!r} alone: write one sweep for each of them (they may share a results folder)",
            )
    values = [{name: getattr(one.generation, name) for name in SETTINGS} for one in built]
    differing = [name for name in SETTINGS if any(other[name] != values[0][name] for other in values)]
    return tuple(
        OwnSettings(
            one.model,
            tuple((name, own[name]) for name in differing),
            tuple(item.mechanism for item in one.declared),
        )
        for one, own in zip(built, values, strict=True)
    )


def common_identity(identities: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a mechanism's identity as far as models agree on it; a part that follows from their settings is marked."""
    first = identities[0]
    return {
        name: part if all(other[name] == part for other in identities) else _common([of[name] for of in identities])
        for name, part in first.items()
    }


def _common(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = parts
    differing = {name for name in first if any(other.get(name) != first[name] for other in others)}
    alike = all(other.keys() == first.keys() for other in others)
    if alike and all(isinstance(part[name], dict) for part in parts for name in differing):
        return {name: _common([part[name] for part in parts]) if name in differing else first[name] for name in first}
    return {"kind": "as generation says"}
