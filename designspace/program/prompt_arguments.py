"""What a person passes as prompts, as token ids and as requests."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from designspace.axes import Decoding, Request
from designspace.axes.randomness import stream_key
from designspace.errors import DeclarationError
from designspace.models.loading import Chat, LoadedModel
from designspace.tasks.chat_arguments import ChatArguments

PromptLike = str | Sequence[int]
ChatLike = Chat | Mapping[str, object]


def listed(prompts: Any) -> tuple[list[Any], bool]:
    """Return the prompts as a list, and whether they were given as one alone: a text, or its token ids.

    Raises:
        DeclarationError: it is neither that nor several.
    """
    if hasattr(prompts, "tolist"):  # of torch or numpy
        prompts = prompts.tolist()
    if isinstance(prompts, str):
        return [prompts], True
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping | bytes):
        raise DeclarationError(
            f"prompts must be texts or lists of token ids, got {type(prompts).__name__} {prompts!r:.60}"
        )
    prompts = list(prompts)
    alone = bool(prompts) and _is_id(prompts[0])
    return ([prompts] if alone else prompts), alone


def encoded(
    loaded: LoadedModel, prompt: PromptLike, decoding: Decoding, system: str | None, chat: ChatLike
) -> tuple[int, ...]:
    """Return the token ids of one prompt: of a text with what the decoding adds to it, and through the chat template.

    Raises:
        DeclarationError: neither text nor token ids, or empty, or ids where text would have to be added.
        ModelError: there is no tokenizer, or it cannot encode the text.
    """
    if hasattr(prompt, "tolist"):
        prompt = prompt.tolist()
    if isinstance(prompt, str):
        if loaded.tokenizer is None:
            raise DeclarationError("a text needs the model's tokenizer, which was not given: load(model, tokenizer)")
        text = decoding.format_prompt(prompt)
        if isinstance(chat, Mapping):
            ids = loaded.encode(text, system=system, chat="on", arguments=ChatArguments.of(chat).values)
        else:
            ids = loaded.encode(text, system=system, chat=chat)
    elif isinstance(prompt, Sequence) and all(_is_id(token) for token in prompt):
        if decoding.format_prompt("") or system is not None:
            what = "a system message" if system is not None else f"what decoding {decoding.kind!r} adds"
            raise DeclarationError(f"{what} can be added to a text, not to token ids")
        ids = tuple(int(token) for token in prompt)
    else:
        raise DeclarationError(f"a prompt must be a text or token ids, got {type(prompt).__name__} {prompt!r:.60}")
    if not ids:
        raise DeclarationError("a prompt must have at least one token, got an empty one")
    n_embeddings = loaded.model.get_input_embeddings().weight.shape[0]
    if not all(0 <= token < n_embeddings for token in ids):
        raise DeclarationError(f"token ids must lie below {n_embeddings}, the model's embedding, got {max(ids)}")
    return ids


def requests_for(prompts: Sequence[tuple[int, ...]], seed: int) -> list[Request]:
    """Return the generations to make, in order.

    A text's random numbers follow from the seed, its prompt, and how often the same prompt came before: not from the other
    prompts, and the same prompt twice gives two draws.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    requests = []
    for index, ids in enumerate(prompts):
        requests.append(Request(str(index), ids, stream_of(ids, seed, seen[ids])))
        seen[ids] += 1
    return requests


def stream_of(prompt_ids: tuple[int, ...], seed: int, n_before: int) -> bytes:
    """Return what keys a text's random numbers; n_before: how often the same prompt has come before with this seed."""
    return stream_key(seed, hashlib.sha256(repr(prompt_ids).encode()).hexdigest(), n_before)


def _is_id(value: Any) -> bool:
    return not isinstance(value, bool | str) and hasattr(value, "__index__")
