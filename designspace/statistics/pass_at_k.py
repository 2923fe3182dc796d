"""The unbiased estimate of solving a problem with the best of k generations [chen2021codex]."""

from __future__ import annotations

from math import comb

from designspace.errors import DeclarationError


def pass_at_k(n_generations: int, n_correct: int, k: int) -> float:
    """Return the chance that k of the generations, drawn without replacement, hold a correct one."""
    if not 1 <= k <= n_generations or not 0 <= n_correct <= n_generations:
        raise DeclarationError(
            "k and n_correct must be at most n_generations, and k at least 1, "
            f"got k={k}, n_correct={n_correct}, n_generations={n_generations}"
        )
    return 1 - comb(n_generations - n_correct, k) / comb(n_generations, k)
