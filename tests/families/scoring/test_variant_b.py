"""The value direction against loops over tokens, and its limits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Needs, View
from designspace.testing.views import view_of
from families.scoring.h2o import H2O
from families.scoring.knorm import KNorm
from families.scoring.triattention import TriAttention
from families.scoring.variant_b import VariantB


def ragged_view(seed: int, **more: Any) -> View:
    """Heads that hold different tokens, with free slots that hold large numbers."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, 2, 7)
    positions = torch.stack([torch.randperm(12, generator=generator)[:7].sort().values for _ in range(12)]).view(shape)
    positions[0, 1, 1, -2:] = -1
    positions[1, 0, 0, -1:] = -1
    values = torch.randn(*shape, 5, generator=generator).masked_fill((positions == -1)[..., None], 1e3)
    accumulated = torch.rand(shape, generator=generator)
    return view_of(
        torch.zeros_like(values), values, positions=positions, next_position=12, accumulated=accumulated, **more
    )


def unit(vector: list[float]) -> list[float]:
    """The vector over its length; zero stays zero."""
    length = sum(x * x for x in vector) ** 0.5
    return [x / length for x in vector] if length else vector


def mean(vectors: list[list[float]]) -> list[float]:
    """The mean vector."""
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def naive_cosines(view: View, row: int, n_prompt: int | None) -> dict[int, float]:
    """Cosine to the direction by token position: signatures over all holders, each token once."""
    n_layers, _, n_heads, n_slots = view.positions.shape
    holders: dict[int, list[list[float]]] = {}
    for layer in range(n_layers):
        for head in range(n_heads):
            for slot in range(n_slots):
                position = int(view.positions[layer, row, head, slot])
                if position != -1:
                    value = view.values[layer, row, head, slot].double().tolist()
                    holders.setdefault(position, []).append(value)
    signatures = {position: unit(mean(vectors)) for position, vectors in holders.items()}
    members = [s for position, s in signatures.items() if n_prompt is None or position < n_prompt]
    direction = unit(mean(members)) if members else [0.0] * view.values.shape[-1]
    return {p: sum(a * b for a, b in zip(s, direction, strict=True)) for p, s in signatures.items()}


@pytest.mark.parametrize("over", ["prompt", "all"])
@pytest.mark.parametrize("seed", range(5))
def test_bonus_against_loops(over: str, seed: int) -> None:
    """Base plus lam times the cosine, rows with prompts of different lengths."""
    prompts = torch.tensor([5, 0, 9])
    view = ragged_view(seed, n_prompt_tokens=prompts)
    scores = VariantB(scoring=H2O(), lam=0.7, over=over).score(view)  # type: ignore[arg-type]

    for row in range(3):
        cosines = naive_cosines(view, row, int(prompts[row]) if over == "prompt" else None)
        for layer in range(2):
            for head in range(2):
                for slot in range(7):
                    position = int(view.positions[layer, row, head, slot])
                    if position == -1:
                        continue
                    expected = float(view.accumulated[layer, row, head, slot]) + 0.7 * cosines[position]
                    assert float(scores[layer, row, head, slot]) == pytest.approx(expected, abs=1e-5)


def two_tokens(prompt: int, **more: Any) -> View:
    """Three tokens in one head: (3, 0), (0, 2), (-1, 0)."""
    values = torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]).view(1, 1, 1, 3, 2)
    base = torch.tensor([0.1, 0.2, 0.3]).view(1, 1, 1, 3)
    return view_of(torch.zeros_like(values), values, accumulated=base, n_prompt_tokens=prompt, **more)


def bonus(view: View, scoring: VariantB) -> list[float]:
    """What was added to the base."""
    added: Tensor = (scoring.score(view) - view.accumulated) / scoring.lam
    return added.flatten().tolist()


def test_hand_vector() -> None:
    """The prompt's one token gives the direction (1, 0); two give (1, 1) / sqrt 2 whatever their lengths."""
    scoring = VariantB(scoring=H2O())

    assert bonus(two_tokens(1), scoring) == pytest.approx([1.0, 0.0, -1.0], abs=1e-6)
    assert bonus(two_tokens(2), scoring) == pytest.approx([0.5**0.5, 0.5**0.5, -(0.5**0.5)], abs=1e-6)
    # All three: the opposites cancel and (0, 1) is left.
    assert bonus(two_tokens(1), VariantB(scoring=H2O(), over="all")) == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


def test_no_prompt_token_held_leaves_the_base() -> None:
    """The direction is zero, not undefined."""
    view = two_tokens(0)

    assert torch.equal(VariantB(scoring=H2O()).score(view), view.accumulated)


def test_weight_zero_is_the_base_bit_for_bit() -> None:
    """Also where the base is negative."""
    view = ragged_view(3, n_prompt_tokens=4)

    assert torch.equal(VariantB(scoring=KNorm(), lam=0.0).score(view), KNorm().score(view))


def test_only_directions_count() -> None:
    """Longer values of one token in all its heads change nothing."""
    view = ragged_view(4, n_prompt_tokens=6)
    before = VariantB(scoring=H2O()).score(view)
    view.values[view.positions == 2] *= 9.0

    assert torch.allclose(VariantB(scoring=H2O()).score(view)[view.valid], before[view.valid], atol=1e-5)


def test_default_base_is_triattention() -> None:
    """The direction was tried on top of it; its calibration is asked for."""
    assert VariantB().scoring == TriAttention()
    assert VariantB().needs() == TriAttention().needs() | Needs(values=True)
