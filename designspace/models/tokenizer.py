"""The tokenizer that a model's files describe."""

from __future__ import annotations

from typing import Any

from designspace.errors import ModelError
from designspace.models.config_file import one_line, source_of
from designspace.models.model_spec import ModelSpec

_GENERIC_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")


def tokenizer_of(spec: ModelSpec) -> Any:
    """Return a model's tokenizer.

    Raises:
        ModelError: there is none, or its files are damaged.
    """
    source, where = source_of(spec)
    try:
        return _load(source, where)
    except Exception as error:  # tokenizers raises bare exceptions, transformers whatever it likes
        raise ModelError(
            f"cannot load the tokenizer of model {spec.name!r} from {source}: {one_line(error)}"
        ) from error


def _load(source: str, where: dict[str, str]) -> Any:
    """Load the tokenizer that the model's files describe.

    AutoTokenizer goes by the model type and, in transformers 5, puts a byte-pair tokenizer over whatever a Qwen2 model
    ships. A tokenizer.json that declares itself generic is taken at its word.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    declared = get_tokenizer_config(source, **where).get("tokenizer_class")
    loader = PreTrainedTokenizerFast if declared in _GENERIC_TOKENIZERS else AutoTokenizer
    return loader.from_pretrained(source, trust_remote_code=False, **where)
