"""What reading prompts block by block asks of a cadence."""

from __future__ import annotations

from designspace.errors import DeclarationError


def check_prompt_block(prefill: bool, prompt_block: int | None) -> None:
    """Check that a cadence that cuts prompts block by block cuts them at all.

    Raises:
        DeclarationError: it does not.
    """
    if prompt_block is not None and not prefill:
        raise DeclarationError(
            f"prompt_block cuts prompts while they are read, got prompt_block={prompt_block} and prefill: false, which leaves "
            "them whole"
        )
