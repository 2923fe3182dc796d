"""A prompt through a model's chat template: what the template would leave out without a word is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from designspace.errors import ModelError, did_you_mean
from designspace.models.config_file import one_line

# What is there for every template, or is the conversation itself: none of it is a setting.
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}
_FUNCTIONS = {"raise_exception", "strftime_now"}
# A block tag of transformers' own, which marks what the assistant says; plain Jinja does not know it.
_GENERATION_TAG = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def chat_ids(tokenizer: Any, prompt: str, system: str | None, arguments: Mapping[str, object]) -> tuple[int, ...]:
    """Return the tokens of a conversation of one prompt, up to where the model answers.

    Raises:
        ModelError: the template refuses it, leaves the system message out, or has no such argument.
    """
    template = _template(tokenizer)
    check_arguments(template, arguments, set(tokenizer.special_tokens_map))
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
        _check_system(_rendered(tokenizer, messages, arguments, tokenize=False), system, prompt)
    return tuple(_rendered(tokenizer, messages, arguments, tokenize=True))


def check_arguments(template: str, arguments: Mapping[str, object], special_tokens: set[str]) -> None:
    """Refuse arguments that a template never reads: it would render the same text without a word.

    special_tokens: names such as `bos_token` that the tokenizer itself gives to the template.

    Raises:
        ModelError: naming the argument, and the nearest one that the template reads.
    """
    if not arguments:
        return
    known = sorted(_read_by(template) - special_tokens)
    for name in arguments:
        if name not in known:
            hint = did_you_mean(name, known) if known else " (it takes none)"
            raise ModelError(f"the model's chat template never reads an argument {name!r}{hint}")


@cache
def _read_by(template: str) -> frozenset[str]:
    """Return the names that a template takes from outside and that a task may set."""
    from jinja2 import Environment, TemplateError, meta

    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        names = meta.find_undeclared_variables(environment.parse(_GENERATION_TAG.sub("", template)))
    except TemplateError as error:
        raise ModelError(f"the model's chat template cannot be read: {one_line(error)}") from error
    return frozenset(names - _GIVEN - _FUNCTIONS)


def _template(tokenizer: Any) -> str:
    """Return the template of a conversation without tools; some tokenizers have several."""
    try:
        template: str = tokenizer.get_chat_template()
    except ValueError as error:
        raise ModelError(f"the model's tokenizer has no chat template for plain messages: {one_line(error)}") from error
    return template


def _check_system(rendered: str, system: str, prompt: str) -> None:
    """Refuse a system message that is not in the rendered text, or only because the prompt has the same words."""
    words = system.strip()
    if words and rendered.count(words) <= prompt.count(words):
        raise ModelError(
            "the model's chat template leaves the system message out without a word: write it into the prompt instead, as in "
            "prompt: 'your text {problem}'"
        )


def _rendered(
    tokenizer: Any, messages: list[dict[str, str]], arguments: Mapping[str, object], *, tokenize: bool
) -> Any:
    try:
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=tokenize, return_dict=False, **arguments
        )
    except Exception as error:  # a template is a program of the model's authors, and may raise anything
        raise ModelError(f"the model's chat template refuses the messages: {one_line(error)}") from error
