"""The loop of transformers' `generate`, on an engine: it chooses the tokens, and the engine holds the cache.

Greedy search, sampling, processors of logits and streamers are transformers' own. In the place of the model's forward pass and
of its `Cache` stands a `FedEngine`: the first call returns the logits after all prompts, each later one takes one token per
row. The model itself is not changed: the loop runs on a shallow copy of it, of a class with these methods.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import Any

from torch import Tensor

from designspace.axes import Generation
from designspace.engine.fed_engine import FedEngine
from designspace.errors import DeclarationError, InvariantViolation
from designspace.program.left_padding import prompts_of

# What a call may hand on to the model beside its input_ids.
_PLAIN = {"attention_mask", "position_ids", "use_cache", "logits_to_keep"}
_OF_THE_LOOP = {"logits_processor", "stopping_criteria", "generation_config", "synced_gpus", "streamer"}
# Arguments that would change what the cache holds, look at the model in another way, or end a text for another reason than an
# end-of-text token or its length, of which the cache's account would not know.
_REFUSED = (
    "assistant_model", "custom_generate", "inputs_embeds", "negative_prompt_ids", "past_key_values", "position_ids",
    "prompt_lookup_num_tokens", "stopping_criteria", "synced_gpus",
)  # fmt: skip
# The same of the settings: the values with which the loop is run here.
_ONLY: dict[str, tuple[Any, ...]] = {
    "use_cache": (True, None),
    "output_attentions": (False, None),
    "output_hidden_states": (False, None),
    "stop_strings": (None,),
    "max_time": (None,),
    "prefill_chunk_size": (None,),
    "cache_implementation": (None,),
    "compile_config": (None,),
    "guidance_scale": (None, 1),
    "penalty_alpha": (None,),
    "dola_layers": (None,),
    "prompt_lookup_num_tokens": (None,),
}

Begin = Callable[[list[tuple[int, ...]], int, frozenset[int]], tuple[FedEngine, Tensor]]


class CompressedLoop:
    """One call of `generate`.

    begin: takes in the prompts, with the most new tokens and the tokens that end a text; returns the engine that holds them,
    and the logits [B,V] after them. ledgers: by row, once the loop has ended.
    """

    def __init__(self, model: Any, begin: Begin) -> None:
        self.model, self._begin = model, begin
        self.ledgers: tuple[Generation, ...] = ()
        self._fed: FedEngine | None = None
        self._logits: Tensor | None = None

    def run(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Return what transformers' `generate` returns.

        Raises:
            DeclarationError: an argument that has no meaning with a compressed cache, or would have another one; it is named.
        """
        runner = copy.copy(self.model)
        runner.__dict__.pop("generate", None)
        model_class: Any = type(self.model)
        runner.__class__ = _class_for(model_class)
        runner.__dict__["loop"] = self
        _check_arguments(runner, arguments, options)
        found = runner.generate(*arguments, **options)
        if self._fed is None:
            raise InvariantViolation(
                "transformers has generated without the compressed loop, so nothing was compressed"
            )
        return found

    def start(self, input_ids: Tensor, settings: Any, others: Mapping[str, Any]) -> None:
        """Take in the prompts [B,T], padded on the left; others: what goes to the model beside them."""
        _check_settings(settings, others)
        prompts = prompts_of(input_ids, others.get("attention_mask"), others.get("position_ids"))
        eos = getattr(settings, "_eos_token_tensor", None)
        eos_ids = frozenset[int]() if eos is None else frozenset(int(token) for token in eos.flatten().tolist())
        self._fed, self._logits = self._begin(prompts, settings.max_length - input_ids.shape[1], eos_ids)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the logits [B,1,V] after all that has been fed, the last of each row's tokens [B,T] included."""
        if self._fed is None:
            raise InvariantViolation("generate() calls the model before its prompts are known")
        logits = self._fed.feed(input_ids[:, -1].tolist()) if self._logits is None else self._logits
        self._logits = None
        return logits[:, None]

    def finish(self, found: Any) -> None:
        """End all texts; found: what the loop returned."""
        sequences = found if isinstance(found, Tensor) else found.sequences
        if self._fed is not None:
            self.ledgers = self._fed.finish(sequences[:, -1].tolist())


def _check_arguments(runner: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Refuse what transformers would act on before it comes to its loop."""
    given = inspect.signature(runner.generate).bind(*arguments, **options).arguments
    for name in _REFUSED:
        value = given.get(name, given.get("kwargs", {}).get(name))
        if value is not None and value is not False and not (hasattr(value, "__len__") and len(value) == 0):
            raise _refusal(name, value)


def _check_settings(settings: Any, others: Mapping[str, Any]) -> None:
    """Refuse what a `GenerationConfig` may ask for, and what would go to the model itself."""
    for name, values in _ONLY.items():
        if getattr(settings, name, None) not in values:
            raise _refusal(name, getattr(settings, name))
    for name, value in others.items():
        if name not in _PLAIN and value is not None:
            raise _refusal(name, value)


def _refusal(name: str, value: Any) -> DeclarationError:
    return DeclarationError(
        f"generate() with a compressed cache does not take {name}, got {name}={value!r:.60}; it takes greedy search or sampling"
        " of padded input_ids, with an attention_mask, any logits processors and a streamer"
    )


@cache
def _class_for(model_class: Any) -> type:
    """Return the class of the copy that the loop runs on."""
    from transformers.modeling_outputs import CausalLMOutputWithPast

    @wraps(model_class.forward)  # transformers reads the names of its arguments
    def forward(self: Any, input_ids: Any = None, *_: Any, **__: Any) -> Any:
        return CausalLMOutputWithPast(logits=self.loop.forward(input_ids))

    def no_cache(self: Any, *_: Any, **__: Any) -> None:
        return None

    def sample(self: Any, input_ids: Any, *arguments: Any, **options: Any) -> Any:
        handed_on = {name: value for name, value in options.items() if name not in _OF_THE_LOOP}
        self.loop.start(input_ids, options["generation_config"], handed_on)
        found = model_class._sample(self, input_ids, *arguments, **options)
        self.loop.finish(found)
        return found

    def refuse(self: Any, *_: Any, generation_config: Any = None, **__: Any) -> Any:
        raise _refusal("num_beams", getattr(generation_config, "num_beams", None))

    methods = {
        "forward": forward,
        "_prepare_cache_for_generation": no_cache,
        "_sample": sample,
        "_beam_search": refuse,
        "__module__": __name__,
    }
    return type(model_class.__name__, (model_class,), methods)
