"""What must be true of every decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from designspace.axes import Action, Budget, Decoding
from designspace.testing.conformance.probes import HostMechanism, Likeliest
from designspace.testing.conformance.purity import check_pure
from designspace.testing.conformance.spelling import Spelling
from designspace.testing.conformance.verdict import expect, expect_equal, named

ALMOST_ONE = 1 - 2.0**-53  # the largest number that a row can draw
_ROWS = 5


@dataclass(frozen=True)
class Trial:
    """A decoding, and logits [B,V] to try it on, each with a name."""

    strategy: Decoding
    tried: list[tuple[str, Tensor]]

    def who(self, name: str) -> str:
        """Return how a message begins."""
        return f"{named(self.strategy)}, {name}"


def trial(strategy: Decoding, company: HostMechanism) -> Trial:
    """Return what the checks of a decoding need. One that leaves its chooser to the sweep gets the likeliest token."""
    strategy = strategy.with_default_chooser(Likeliest())
    logits = torch.randn(_ROWS, Spelling.n_tokens, generator=torch.Generator().manual_seed(0)) * 4
    banned = logits.clone()
    banned[:, ::2] = -torch.inf
    named_logits = [
        ("ordinary logits", logits),
        ("half of the vocabulary at -inf", banned),
        ("equal logits", torch.zeros_like(logits)),
        ("huge logits", logits * 1e4),
    ]
    return Trial(strategy, named_logits)


def _uniforms(kind: float | None) -> Tensor:
    if kind is None:
        return torch.rand(_ROWS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return torch.full((_ROWS,), kind, dtype=torch.float64)


def check_choice(t: Trial) -> None:
    """Check one token per row, within the vocabulary and never one at -inf, for every number that can be drawn."""
    for name, logits in t.tried:
        for drawn in (None, 0.0, ALMOST_ONE):
            tokens = t.strategy.choose(logits.clone(), _uniforms(drawn))
            who = f"{t.who(name)}, uniform numbers {'at random' if drawn is None else drawn}"
            expect(
                tokens.dtype == torch.int64 and tuple(tokens.shape) == (_ROWS,),
                f"{who}: must return int64 [{_ROWS}], got {tokens.dtype} {tuple(tokens.shape)}",
            )
            n_tokens = logits.shape[1]
            expect(
                bool(((tokens >= 0) & (tokens < n_tokens)).all()),
                f"{who}: a token is outside the vocabulary of {n_tokens}, got {tokens.tolist()}",
            )
            chosen = logits.gather(1, tokens[:, None])
            expect(not bool(torch.isneginf(chosen).any()), f"{who}: a token of probability zero was chosen")


def check_row_independence(t: Trial) -> None:
    """Check that a row's token is the same alone, in company, and in another order."""
    for name, logits in t.tried:
        uniforms = _uniforms(None)
        tokens = t.strategy.choose(logits.clone(), uniforms)
        for rows in [[row] for row in range(_ROWS)] + [list(range(_ROWS))[::-1]]:
            other = t.strategy.choose(logits[rows], uniforms[rows])
            expect_equal(tokens[rows], other, f"{t.who(name)}: rows {rows} by themselves have other tokens")


def check_purity(t: Trial) -> None:
    """Check determinism, that inputs stay as they are, and that global generators do."""
    given = [(logits.clone(), _uniforms(None)) for _, logits in t.tried]
    check_pure(named(t.strategy), lambda: [t.strategy.choose(*one) for one in given], given)


def check_accounts(t: Trial) -> None:
    """Check what it announces: samples, random numbers, the cue, and what one of its samples may hold."""
    who = named(t.strategy)
    samples, draws = t.strategy.samples, t.strategy.draws(50)
    expect(isinstance(samples, int) and samples >= 1, f"{who}: samples must be at least 1, got {samples}")
    expect(
        isinstance(draws, int) and (draws == 0 or draws >= 50),
        f"{who}: draws(50) must be 0 or at least 50, got {draws}",
    )
    cue = t.strategy.format_prompt("a prompt")
    expect("a prompt" in cue, f"{who}: cue must add to the prompt, not replace it, got {cue!r}")
    budget = t.strategy.sample_budget(Budget(960))
    expect(budget.tokens * samples <= 960, f"{who}: {samples} samples of {budget} tokens are more than 960")
    again = t.strategy.with_default_chooser(Likeliest())
    expect(again == t.strategy, f"{who}: completed() must leave a complete decoding as it is, got {again!r}")


def check_controller(t: Trial) -> None:
    """Check that controllers are fresh, repeatable, share nothing, and only ask for what exists."""
    script = [
        (token, 0.2 + 0.75 * ((7 * token) % 10) / 10) for token in (45, 13, 95, 14, 95, 95, 46, 1, 90, 95, 12) * 6
    ]
    actions = [_steered(t, script), _steered(t, script)]
    expect(actions[0] == actions[1], f"{named(t.strategy)}: two controllers told the same things must act alike")


def _steered(t: Trial, script: list[tuple[int, float]]) -> list[Action]:
    """Return what a fresh controller does, while another one of its kind is told something else."""
    controller, other = t.strategy.controller(Spelling()), t.strategy.controller(Spelling())
    if controller is None or other is None:
        return []
    actions: list[Action] = []
    text: list[int] = []
    for token, probability in script:
        other.on_token((token + 11) % Spelling.n_tokens, 1 - probability / 2)
        action = controller.on_token(token, probability)
        _check_action(t, action, len(text) + len(action.tokens))
        text.extend(() if action.rollback else action.tokens)
        actions.append(action)
    return actions


def _check_action(t: Trial, action: Any, n_tokens: int) -> None:
    who = named(t.strategy)
    expect(isinstance(action, Action), f"{who}: a controller must return an Action, got {action!r}")
    expect(bool(action.tokens) or action.rollback, f"{who}: an action must put at least one token, got {action}")
    expect(
        all(isinstance(token, int) and 0 <= token < Spelling.n_tokens for token in action.tokens),
        f"{who}: an action may only put tokens of the vocabulary, got {action}",
    )
    for span in (action.pin, action.drop):
        expect(
            span is None or 0 <= span[0] <= span[1] <= n_tokens,
            f"{who}: spans are half-open ranges of the {n_tokens} tokens so far, got {action}",
        )
    expect(
        action.temperature_scale is None or action.temperature_scale > 0, f"{who}: heat must be above 0, got {action}"
    )


CHECKS: dict[str, Callable[[Trial], None]] = {
    "choice": check_choice,
    "row independence": check_row_independence,
    "accounts": check_accounts,
    "controller": check_controller,
    "purity": check_purity,
}
