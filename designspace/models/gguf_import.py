"""Import a GGUF file once: through transformers' own reader, to a folder of bfloat16 safetensors with all that a model needs.

The folder appears whole or not at all, and knows what it was made from.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch

from designspace.canonical import canonical_json
from designspace.errors import ModelError
from designspace.models.config_file import check_config_file, one_line
from designspace.models.gguf_config import ARCHITECTURES, ROPE_FACTORS, check_supported, stated_configuration
from designspace.models.gguf_file import GgufFile, open_gguf
from designspace.models.gguf_tokenizer import PROBE, check_tokenizer_keys, ending_ids, tokenizer_in
from designspace.models.imported_models import IMPORT_FORMAT, ORIGIN, cached_folder, gguf_sha256
from designspace.models.model_spec import ModelSpec, folder_fingerprint
from designspace.models.quiet import silently
from designspace.version import __version__

_SHARD_BYTES = 4 * 2**30


def import_gguf(file: Path, folder: Path, say: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Make a model folder of a GGUF file, and return what it was made from; nothing is done where that is there already.

    say: told before a conversion begins, which takes about a second for every 50 MB.

    Raises:
        MissingExtra: the packages that read GGUF are not installed.
        ModelError: the file is none that can be imported, or the folder holds something else; nothing is left behind.
    """
    sha256 = gguf_sha256(file)
    if (made := _made_before(folder, file, sha256)) is not None:
        return made
    stored = open_gguf(file)
    check_supported(stored)
    check_tokenizer_keys(stored)
    if say is not None:
        say(f"importing {file} to {folder}, once")
    temporary = folder.with_name(f".{folder.name}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        _clear(folder)
        temporary.mkdir(parents=True)
        origin = _write_model(stored, sha256, temporary)
        _move(temporary, folder)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    folder_fingerprint.cache_clear()
    found = _made_before(folder, file, sha256)  # another process may have been faster
    return origin if found is None else found


def ensure_imported(spec: ModelSpec) -> None:
    """Import a spec's GGUF file to the user's cache folder, unless that was done; an import is announced on standard error.

    Raises:
        MissingExtra: the packages that read GGUF are not installed.
        ModelError: the file is none that can be imported.
    """
    if spec.gguf:
        file = Path(spec.gguf).expanduser()
        if not ((folder := cached_folder(file)) / ORIGIN).is_file():
            import_gguf(file, folder, getLogger("designspace").warning)


def _made_before(folder: Path, file: Path, sha256: str) -> dict[str, Any] | None:
    """Return what a folder was made from if that is this file; None: the folder is not there, or empty.

    Raises:
        ModelError: it holds something else, or has been changed since.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
        same, content = origin["sha256"] == sha256 and origin["format"] == IMPORT_FORMAT, origin["content"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{folder} is there already and was not made from {file}: name another folder") from None
    if not same:
        raise ModelError(f"{folder} was made from another file, {origin.get('file')}: name another folder")
    folder_fingerprint.cache_clear()
    if folder_fingerprint(folder.resolve()) != content:
        raise ModelError(f"{folder} was made from {file} and has been changed since: remove it, or name another folder")
    return dict(origin)


def _write_model(stored: GgufFile, sha256: str, folder: Path) -> dict[str, Any]:
    """Write a file's model into an empty folder, its config.json last: without it nothing takes the folder for a model."""
    from huggingface_hub import save_torch_state_dict

    with silently():
        config = _configuration(stored)
        tokenizer = tokenizer_in(stored, config)
        model = _read_model(stored, config)
    endings = ending_ids(stored, tokenizer)
    tied = _tie_equal(model)
    model.config.eos_token_id = endings
    tokenizer.save_pretrained(str(folder))
    _check_tokenizer(stored, folder, tokenizer)
    weights = {name: tensor for name, tensor in model.state_dict().items() if not (tied and name == "lm_head.weight")}
    save_torch_state_dict(weights, str(folder), max_shard_size=_SHARD_BYTES)
    _write_json(folder / "generation_config.json", {"eos_token_id": endings, **_other_ids(model.config)})
    config = json.loads(model.config.to_json_string())
    # Which version made it is in the origin: the same model has the same content whatever it was made with.
    config.pop("transformers_version", None)
    _write_json(folder / "config.json", {**config, "architectures": [type(model).__name__], "dtype": "bfloat16"})
    check_config_file(folder)
    for weight_file in folder.glob("*.safetensors"):  # written for the owner alone, where the others are as usual
        weight_file.chmod((folder / "config.json").stat().st_mode)
    folder_fingerprint.cache_clear()
    origin = _origin(stored, sha256) | {"tied": tied, "content": folder_fingerprint(folder.resolve())}
    _write_json(folder / ORIGIN, origin)
    return origin


def _configuration(stored: GgufFile) -> Any:
    from transformers import AutoConfig

    facts = stated_configuration(stored, _rope_factors(stored))
    try:
        return AutoConfig.for_model(ARCHITECTURES[stored.architecture], **facts)
    except Exception as error:  # of transformers' own checks
        raise ModelError(f"{stored.path}: no configuration can be made of it: {one_line(error)}") from error


def _read_model(stored: GgufFile, config: Any) -> Any:
    """Return the model of a file in bfloat16, with every tensor of the file in it.

    Raises:
        ModelError: transformers cannot read it, or weights are left over on either side.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(stored.path.parent),
            gguf_file=stored.path.name,
            config=config,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
        )
    except Exception as error:  # transformers and gguf raise whatever they like
        raise ModelError(f"{stored.path}: transformers cannot read it: {one_line(error)}") from error
    lost = {str(key if isinstance(key, str) else key[0]) for keys in report.values() for key in keys or ()}
    held = sum(tensor.n_numbers for tensor in stored.tensors if tensor.name != ROPE_FACTORS)
    needed = sum(parameter.numel() for parameter in model.parameters())
    if lost or held != needed:
        named = f", without or in another shape: {', '.join(sorted(lost)[:3])}" if lost else ""
        raise ModelError(f"{stored.path}: holds {held:,} weights, its model has {needed:,}{named}")
    return model


def _rope_factors(stored: GgufFile) -> np.ndarray | None:
    """Return what the file divides its rotary frequencies by, [D/2] float32."""
    from gguf import GGUFReader

    if all(tensor.name != ROPE_FACTORS for tensor in stored.tensors):
        return None
    return next(np.array(t.data, dtype=np.float32) for t in GGUFReader(stored.path).tensors if t.name == ROPE_FACTORS)


def _tie_equal(model: Any) -> bool:
    """Return whether the output shares the embedding's weights, and say so in the configuration where they are bit-equal."""
    if not model.config.tie_word_embeddings:
        output, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        model.config.tie_word_embeddings = torch.equal(output, embedding)
    return bool(model.config.tie_word_embeddings)


def _check_tokenizer(stored: GgufFile, folder: Path, tokenizer: Any) -> None:
    """Check that the tokenizer that was written is the one that was built."""
    from designspace.models.tokenizer import tokenizer_of

    again = tokenizer_of(ModelSpec(stored.path.name, path=str(folder)))
    text = PROBE + str(tokenizer.eos_token or "")
    if again(text)["input_ids"] != tokenizer(text)["input_ids"] or again.chat_template != tokenizer.chat_template:
        raise ModelError(f"{stored.path}: its tokenizer is another one after it was written and read")


def _other_ids(config: Any) -> dict[str, int]:
    found = {name: getattr(config, name, None) for name in ("bos_token_id", "pad_token_id")}
    return {name: value for name, value in found.items() if value is not None}


def _origin(stored: GgufFile, sha256: str) -> dict[str, Any]:
    """Return what a folder was made from, and by what."""
    return {
        "format": IMPORT_FORMAT,
        "file": stored.path.name,
        "sha256": sha256,
        "bytes": stored.path.stat().st_size,
        "name": stored.metadata.get("general.name"),
        "architecture": stored.architecture,
        "tensor_types": stored.tensor_types,
        "dtype": "bfloat16",
        "versions": {name: version(name) for name in ("transformers", "gguf")} | {"designspace": __version__},
    }


def _write_json(file: Path, data: Any) -> None:
    json.loads(canonical_json(data))  # plain data only
    file.write_text(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _clear(folder: Path) -> None:
    """Remove what imports of this machine that were killed have left beside a folder."""
    import psutil

    host = socket.gethostname()
    for left in folder.parent.glob(f".{folder.name}.{host}-*.partial"):
        pid = left.name.removesuffix(".partial").rpartition("-")[2]
        if pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            shutil.rmtree(left, ignore_errors=True)


def _move(temporary: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process has."""
    with suppress(OSError):
        folder.rmdir()  # an empty one
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / ORIGIN).is_file():
            raise
