"""A GGUF file, read by the package `gguf`: what it says of a model, and which tensors it holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from designspace.errors import ModelError, require
from designspace.models.config_file import one_line

_MAGIC = b"GGUF"
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_LONGEST_ARRAY = 4096  # of tokens, scores and merges only the number is kept: the tokenizer is transformers' to read


class StoredTensor(NamedTuple):
    """A tensor as the file holds it; shape: in torch's order, rows first."""

    name: str
    type: str
    shape: tuple[int, ...]
    n_numbers: int


class GgufFile(NamedTuple):
    """What a GGUF file says.

    metadata: its keys and values; of a long array the number of its entries.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: tuple[StoredTensor, ...]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the kind of model."""
        return str(self.metadata["general.architecture"])

    @property
    def tensor_types(self) -> dict[str, int]:
        """How many tensors have which type, such as `Q4_K`."""
        return dict(sorted(Counter(tensor.type for tensor in self.tensors).items()))

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            ModelError: the file does not hold it.
        """
        for stored in self.tensors:
            if stored.name == tensor:
                return stored.shape
        raise ModelError(f"{self.path}: holds no tensor {tensor!r}, which every language model has")


def open_gguf(path: Path) -> GgufFile:
    """Read what a file says of its model and check that all of its tensors are there; no tensor is read.

    Raises:
        MissingExtra: the packages that read it are not installed.
        ModelError: not a GGUF file, not a whole one, or one of several parts.
    """
    for package in ("gguf", "accelerate"):
        require(package)
    _check_start(path)
    try:
        return _read(path)
    except ModelError:
        raise
    except Exception as error:  # the reader raises whatever a damaged length happens to lead to
        raise ModelError(f"{path}: cut short, or damaged: {one_line(error)}") from None


def _check_start(path: Path) -> None:
    try:
        with path.open("rb") as handle:
            start = handle.read(len(_MAGIC))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if start != _MAGIC:
        raise ModelError(f"{path}: not a GGUF file: it must start with {_MAGIC!r}, got {start!r}")
    part = _PART.search(path.name)
    if part is not None and int(part[2]) > 1:
        _refuse_part(path, int(part[2]))


def _refuse_part(path: Path, n_parts: int) -> None:
    raise ModelError(
        f"{path}: one of {n_parts} parts of a GGUF file, which transformers does not read: "
        "join them first (llama-gguf-split --merge FIRST-PART OUT.gguf)"
    )


def _read(path: Path) -> GgufFile:
    from gguf import GGUFReader

    reader = GGUFReader(path)
    metadata = {
        name: len(field.data) if len(field.data) > _LONGEST_ARRAY else field.contents()
        for name, field in reader.fields.items()
    }
    if int(metadata.get("split.count") or 1) > 1:
        _refuse_part(path, int(metadata["split.count"]))
    if "general.architecture" not in metadata:
        raise ModelError(f"{path}: lacks general.architecture, so it is not known what kind of model it holds")
    end = max((tensor.data_offset + tensor.n_bytes for tensor in reader.tensors), default=0)
    if end > path.stat().st_size:
        raise ModelError(f"{path}: cut short: its tensors need {end:,} bytes, it has {path.stat().st_size:,}")
    tensors = tuple(
        StoredTensor(t.name, t.tensor_type.name, tuple(int(n) for n in reversed(t.shape)), int(t.n_elements))
        for t in reader.tensors
    )
    return GgufFile(path, metadata, tensors)
