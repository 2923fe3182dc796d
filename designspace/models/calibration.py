"""Calibration artefacts: named tensors measured on a model, tied by content to the model they were made for."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from designspace.axes import Artefact
from designspace.axes.artefact import Q_STATISTICS
from designspace.errors import CalibrationError

if TYPE_CHECKING:
    from designspace.models.loading import LoadedModel
    from designspace.models.model_spec import ModelSpec

FORMAT = 1


class Corpus(NamedTuple):
    """What to measure on: token ids of whole texts, and of the prompts they begin with (empty for plain text).

    n_found: tokens of the source, of which the texts may be the beginning; 0: all of them are read.
    """

    texts: tuple[tuple[int, ...], ...]
    prompts: tuple[tuple[int, ...], ...]
    source: str
    n_found: int = 0

    @property
    def n_tokens(self) -> int:
        """Tokens of all texts together."""
        return sum(len(text) for text in self.texts)

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(map(len, self.texts), default=0)

    def digest(self) -> str:
        """Return a SHA-256 of the token ids, text by text: of what was read, how it was cut, and by which tokenizer."""
        return hashlib.sha256(json.dumps([self.texts, self.prompts]).encode()).hexdigest()


Measure = Callable[["LoadedModel", Corpus], dict[str, Tensor]]  # what an artefact is measured with


def model_key(spec: ModelSpec) -> str:
    """Return the string that ties an artefact to a model: weights' content, or hub repository and revision."""
    identity = spec.identity()
    return str(identity.get("content") or f"{identity['hub']}@{identity['revision']}")


def artefact_path(spec: ModelSpec, name: str = Q_STATISTICS) -> Path:
    """Return where a model's artefact is looked for and written."""
    if spec.calibration:
        return Path(spec.calibration).expanduser() / f"{name}.safetensors"
    if spec.folder is not None:
        return spec.folder / "calibration" / f"{name}.safetensors"
    cache = Path(os.environ.get("DESIGNSPACE_CACHE", "~/.cache/designspace")).expanduser()
    return cache / "calibration" / hashlib.sha256(model_key(spec).encode()).hexdigest()[:16] / f"{name}.safetensors"


def artefact_hash(spec: ModelSpec, name: str = Q_STATISTICS) -> str | None:
    """Return the SHA-256 of a model's artefact, None where there is none."""
    path = artefact_path(spec, name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def remedy(spec: ModelSpec, name: str) -> str:
    """Return the words that tell how to make an artefact: a command that works as it stands, in the same folder."""
    return f"make it with: {command(spec, name)}"


def command(spec: ModelSpec, *names: str) -> str:
    """Return the command that makes artefacts of a model, for a shell.

    A model of a sweep file is named by the file, which says all about it; a plain folder by its path; any other one by what a
    sweep file would say.
    """
    from designspace.models.model_spec import BUNDLED_ROOT, bundled_names

    if spec.declared_in is not None:
        return shlex.join(["designspace", "calibrate", spec.name, *names, "--sweep", spec.declared_in])
    said = {one.name: getattr(spec, one.name) for one in fields(spec) if getattr(spec, one.name) != one.default}
    if spec.path == str(BUNDLED_ROOT / spec.name):
        said.pop("path")
    elif said.keys() == {"name", "path"} and spec.path not in bundled_names():
        return shlex.join(["designspace", "calibrate", str(spec.path), *names])
    named = spec.name if said.keys() == {"name"} else json.dumps(said, ensure_ascii=False)
    return shlex.join(["designspace", "calibrate", named, *names])


def save_artefact(path: Path, artefact: Artefact) -> None:
    """Write an artefact atomically."""
    from safetensors.torch import save

    about = {
        "format": FORMAT,
        "artefact": artefact.name,
        "made_for": artefact.made_for,
        "n_tokens": artefact.n_tokens,
        "source": artefact.source,
        **({"text": artefact.text, "dtype": artefact.dtype} if artefact.text else {}),
    }
    tensors = {name: tensor.contiguous() for name, tensor in artefact.tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(save(tensors, {"designspace": json.dumps(about, sort_keys=True)}))
    os.replace(temporary, path)


def read_artefact(path: Path) -> Artefact:
    """Return the artefact in a file, whatever model it was made for.

    Raises:
        CalibrationError: it is none, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["designspace"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - a safetensors handle, not a dict
        return Artefact(
            about["artefact"], tensors, about["made_for"], about["n_tokens"], about["source"],
            hashlib.sha256(path.read_bytes()).hexdigest(), about.get("text", ""), about.get("dtype", ""),
        )  # fmt: skip
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CalibrationError(f"{path} is no calibration artefact ({error})") from error


def load_artefact(spec: ModelSpec, name: str = Q_STATISTICS) -> Artefact:
    """Return one of a model's artefacts.

    Raises:
        CalibrationError: missing, unreadable, of another name, or made for another model; the message names the command
            that makes it.
    """
    path = artefact_path(spec, name)
    if not path.is_file():
        raise CalibrationError(
            f"model {spec.name!r} has no calibration artefact {name!r} at {path}; {remedy(spec, name)}"
        )
    try:
        found = read_artefact(path)
    except CalibrationError as error:
        raise CalibrationError(f"{error}; {remedy(spec, name)}") from error
    if found.name != name:
        raise CalibrationError(f"{path} holds artefact {found.name!r}, not {name!r}; {remedy(spec, name)}")
    if found.made_for != model_key(spec):
        raise CalibrationError(
            f"{path} was made for another model ({found.made_for[:16]}…), "
            f"model {spec.name!r} is {model_key(spec)[:16]}…; {remedy(spec, name)}"
        )
    return found
