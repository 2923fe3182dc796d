"""The tokenizer of a GGUF file: transformers builds it from the vocabulary, and what its reader leaves out is put right here.

Its reader knows the rule by which text is cut up before merging for some vocabularies only, and uses GPT-2's for all others;
it never says that whole words need no merges (Llama 3), and takes the start token from the file's flag alone, where llama.cpp
has defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Regex, pre_tokenizers, processors

from designspace.errors import ModelError
from designspace.models.config_file import one_line
from designspace.models.gguf_file import GgufFile

# `tokenizer.ggml.pre` of byte-level vocabularies whose cutting rule transformers' reader knows, and puts in place.
_LLAMA3 = {"llama3", "llama-v3", "llama-bpe", "falcon3"}
_KNOWN = {*_LLAMA3, "tekken", "qwen2", "deepseek-r1-qwen", "gpt-2"}
# Digits one by one, then GPT-2's rule.
_DIGITS = {"smollm", "starcoder", "refact", "command-r", "exaone", "codeshell"}
_START_BY_DEFAULT = {*_LLAMA3, "tekken"}
_WHOLE_WORDS = {*_LLAMA3, "tekken"}

_IDS = ["bos", "eos", "unknown", "padding", "eot", "eom"]
_USED = [
    "model",
    "pre",
    "tokens",
    "scores",
    "token_type",
    "merges",
    "bos_token_id",
    "eos_token_id",
    "unknown_token_id",
    "padding_token_id",
]
_USED += ["eot_token_id", "eom_token_id", "add_bos_token", "add_space_prefix"]
# Tokens for tasks of their own, which no prompt here has; and the whole of another library's file.
_SILENT_ENDINGS = ("_token_id", "hf_json")
_IDLE: Mapping[str, tuple[Any, ...]] = {
    "add_eos_token": (False,),
    "add_sep_token": (False,),
    "remove_extra_whitespaces": (False,),
    "token_type_count": (0, 1, 2),
}
# Shows whether a tokenizer survived being written: cases, digits, blanks, breaks, accents, other scripts.
PROBE = "The cat's 3 hats cost  $1,234.56!\n\n\tNaïve – 東京 🙂 don't\r\n  x=42   end "


def check_tokenizer_keys(file: GgufFile) -> None:
    """Check that nothing the file says of its tokenizer would be passed over.

    Raises:
        ModelError: naming the keys.
    """
    faults = []
    for name, value in file.metadata.items():
        key = name.removeprefix("tokenizer.ggml.")
        if key == name or key in _USED or key.endswith(_SILENT_ENDINGS) or value in _IDLE.get(key, ()):
            continue
        faults.append(f"{name} = {value!s:.40} is not known, and would be passed over")
    kind, pre = _said(file, "model"), _said(file, "pre")
    if kind not in ("gpt2", "llama"):
        faults.append(f"tokenizer.ggml.model must be gpt2 or llama, got {kind!r}")
    elif kind == "gpt2" and pre not in _KNOWN | _DIGITS:
        faults.append(f"tokenizer.ggml.pre = {pre!r} names a rule for cutting up text that is not known")
    tokens = _said(file, "tokens")
    n_tokens = len(tokens) if isinstance(tokens, list) else tokens or 0
    for key in _IDS:
        if (token := _said(file, f"{key}_token_id")) is not None and not 0 <= token < n_tokens:
            faults.append(f"tokenizer.ggml.{key}_token_id must be one of {n_tokens} tokens, got {token}")
    if faults:
        raise ModelError(f"{file.path}: {'; '.join(faults)}")


def tokenizer_in(file: GgufFile, config: Any) -> Any:
    """Return the tokenizer of a file, to be asked for after `check_tokenizer_keys`.

    config: of the file's model, as its type decides how texts are normalised.

    Raises:
        ModelError: transformers cannot build it, or it begins texts in another way than the file says.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        read = AutoTokenizer.from_pretrained(
            str(file.path.parent), gguf_file=file.path.name, config=config, trust_remote_code=False
        )
    except Exception as error:  # the reader raises whatever a damaged vocabulary happens to lead to
        raise ModelError(f"{file.path}: its tokenizer cannot be built: {one_line(error)}") from error
    backend = read.backend_tokenizer
    _mend(file, backend)
    _set_start(file, backend, read)
    special = {name: getattr(read, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **special)
    tokenizer.chat_template = file.metadata.get("tokenizer.chat_template")
    _check_space_prefix(file, tokenizer)
    return tokenizer


def ending_ids(file: GgufFile, tokenizer: Any) -> list[int]:
    """Return the tokens that end a text: of the file's keys, and what its chat template writes after an answer.

    A file names one end of a text; where the model was tuned to end its turn in another way, the template shows how.

    Raises:
        ModelError: there is none.
    """
    found = {_said(file, f"{name}_token_id") for name in ("eos", "eot", "eom")} - {None}
    found |= {_turn_end(tokenizer)} - {None} if tokenizer.chat_template else set()
    if not found:
        raise ModelError(f"{file.path}: tokenizer.ggml.eos_token_id must be stated: a text would have no end")
    return sorted(found)


def _turn_end(tokenizer: Any) -> int | None:
    """Return the special token that follows an answer in the chat template; None: no such token."""
    answer = "an answer"
    messages = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": answer}]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception:  # a template is a program of the model's authors; that it fails is said where it is used
        return None
    after = tokenizer(text.rpartition(answer)[2], add_special_tokens=False)["input_ids"]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return after[0] if after and after[0] in special else None


def _mend(file: GgufFile, backend: Any) -> None:
    """Cut texts up, and merge, as the file's vocabulary was made."""
    pre = _said(file, "pre")
    if _said(file, "model") != "gpt2":
        return
    if pre in _DIGITS:
        digits, words = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), pre_tokenizers.ByteLevel(False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    if pre in _WHOLE_WORDS:
        backend.model.ignore_merges = True


def _set_start(file: GgufFile, backend: Any, read: Any) -> None:
    """Put the start token before every text if the file says so, or llama.cpp's default for its vocabulary does."""
    by_default = _said(file, "model") == "llama" or _said(file, "pre") in _START_BY_DEFAULT
    starts = _said(file, "add_bos_token")
    if starts is None:
        starts = by_default
    if not starts:
        backend.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
        return
    if read.bos_token is None:
        raise ModelError(
            f"{file.path}: tokenizer.ggml.add_bos_token is on, and there is no tokenizer.ggml.bos_token_id"
        )
    start = (read.bos_token, backend.token_to_id(read.bos_token))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start[0]} $A", pair=f"{start[0]} $A $B", special_tokens=[start]
    )


def _check_space_prefix(file: GgufFile, tokenizer: Any) -> None:
    """Refuse a SentencePiece vocabulary whose texts begin with a blank, or do not, other than the file says."""
    if _said(file, "model") != "llama":
        return
    stated = _said(file, "add_space_prefix")
    wanted = True if stated is None else bool(stated)
    ids = tokenizer("a", add_special_tokens=False)["input_ids"]
    prefixed = bool(ids) and tokenizer.convert_ids_to_tokens(ids)[0].startswith("▁")
    if prefixed != wanted:
        how = "puts" if prefixed else "does not put"
        raise ModelError(
            f"{file.path}: tokenizer.ggml.add_space_prefix is {wanted}, transformers' tokenizer {how} a blank before a text"
        )


def _said(file: GgufFile, key: str) -> Any:
    return file.metadata.get(f"tokenizer.ggml.{key}")
