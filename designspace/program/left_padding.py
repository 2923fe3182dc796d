"""Prompts of unlike lengths as transformers takes them, [B,T] padded on the left, and back."""

from __future__ import annotations

from torch import Tensor

from designspace.errors import DeclarationError


def prompts_of(input_ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> list[tuple[int, ...]]:
    """Return each row's token ids without its padding.

    input_ids: [B,T]. mask: [B,T], 0 where there is padding; None: nowhere. positions: [B,T] of the tokens; None: as they stand.

    Raises:
        DeclarationError: padding anywhere but on the left, a row of nothing else, or positions that are not counted from the
            first token.
    """
    if mask is None:
        lengths = [input_ids.shape[1]] * len(input_ids)
    else:
        real = mask != 0
        lengths = real.sum(dim=1).tolist()
        for row, length in enumerate(lengths):
            if length == 0:
                raise DeclarationError(
                    f"each prompt must have a token, got row {row} with none that the attention_mask shows"
                )
            if not bool(real[row, -length:].all()):
                raise DeclarationError(
                    f"padding must be on the left of each prompt (padding_side='left'), got row {row} with an attention_mask "
                    "of 0 behind its first token"
                )
    for row, length in enumerate(lengths):
        # Where a prompt stands in the batch is nothing to it: its first token is at position 0.
        if positions is not None and positions[row, -length:].tolist() != list(range(length)):
            raise DeclarationError(f"positions must count each prompt from its first token, got others in row {row}")
    return [tuple(ids[-length:].tolist()) for ids, length in zip(input_ids, lengths, strict=True)]
