"""One generation: what is asked for, and what came of it with its cache account."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One generation to make. `stream` keys its random numbers (`designspace.axes.randomness.stream_key`).

    `max_new_tokens` is a cap of its own below the engine's, e.g. where prompt and text together are limited.
    `foreseen` is the text that the full cache writes for the same prompt, for a mechanism that needs foresight.
    `reference` is the text that is fed after the prompt, in the place of what is chosen; only a decoding that `scores_tokens`
    takes one. It ends with its first end-of-text token, or has none.
    """

    problem_id: str
    prompt_ids: tuple[int, ...]
    stream: bytes
    max_new_tokens: int | None = None
    foreseen: tuple[int, ...] | None = None
    reference: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Generation:
    """One finished generation and its cache account; sizes are per (layer, KV head), bytes are per row, over all layers.

    `stream` is the request's: where one engine runs replicates of a problem side by side it tells them apart.
    `steady_mean_cache_tokens` is the mean over the steps after the first event, None where there was none.
    `n_extra_tokens` are tokens forwarded beyond one for each that stands in the text: rolled back or encoded anew.
    `prompt_survival_union` and `_mean` are the shares of the prompt that the cache held at the end of the text: in at least one
    head of a layer, and in one head, each averaged; None where nobody counted.
    `sampling_error` is by how much the draws of a weighing selector were expected to change attention, relative to it: the root
    mean square over events; None where nothing was drawn.
    `mean_log_prob` is the model's own of the tokens, whatever the temperature; known only where samples are compared by it.
    `token_log_probs` are the model's own of each token, in nats, and `token_agrees` whether the token is the one that was
    chosen, which differs only in a reference text; known only for a decoding that `scores_tokens`.
    """

    problem_id: str
    stream: bytes
    token_ids: tuple[int, ...]
    finish_reason: str
    n_prompt_tokens: int
    n_steps: int
    n_events: int
    n_evicted: int
    n_extra_tokens: int
    mean_cache_tokens: float
    steady_mean_cache_tokens: float | None
    peak_cache_tokens: float
    mean_cache_bytes: float
    peak_cache_bytes: int
    mean_read_bytes: float
    mean_aux_bytes: float
    cache_tokens_per_step: tuple[float, ...]
    wall_s: float
    prompt_survival_union: float | None = None
    prompt_survival_mean: float | None = None
    sampling_error: float | None = None
    mean_log_prob: float | None = None
    token_log_probs: tuple[float, ...] | None = None
    token_agrees: tuple[bool, ...] | None = None

    @property
    def n_new_tokens(self) -> int:
        """Tokens generated, the end-of-text token included."""
        return len(self.token_ids)
