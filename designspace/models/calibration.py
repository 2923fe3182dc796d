"""Calibration artefacts: named tensors measured on a model, tied by content to the model they were made for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
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
    """What to measure on: token ids of whole texts, and of the prompts they begin with (empty for plain text)."""

    texts: tuple[tuple[int, ...], ...]
    prompts: tuple[tuple[int, ...], ...]
    source: str

    @property
    def n_tokens(self) -> int:
        """Tokens of all texts together."""
        return sum(len(text) for text in self.texts)


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
    """Return the words that tell how to make an artefact: a command that works, once it is given a text."""
    from designspace.models.model_spec import BUNDLED_ROOT

    if spec.folder is None:
        return f"make it with: designspace calibrate {spec.name} {name} --sweep SWEEP --text FILE"
    to = f" --out {spec.calibration}" if spec.calibration else ""
    if spec.folder.parent == BUNDLED_ROOT:
        return f"make it with: designspace calibrate {spec.name} {name}{to}"
    return f"make it with: designspace calibrate {spec.path} {name} --text FILE{to}"


def save_artefact(path: Path, artefact: Artefact) -> None:
    """Write an artefact atomically."""
    from safetensors.torch import save

    about = {
        "format": FORMAT,
        "artefact": artefact.name,
        "made_for": artefact.made_for,
        "n_tokens": artefact.n_tokens,
        "source": artefact.source,
    }
    tensors = {name: tensor.contiguous() for name, tensor in artefact.tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(save(tensors, {"designspace": json.dumps(about, sort_keys=True)}))
    os.replace(temporary, path)


def load_artefact(spec: ModelSpec, name: str = Q_STATISTICS) -> Artefact:
    """Return one of a model's artefacts.

    Raises:
        CalibrationError: missing, unreadable, of another name, or made for another model; the message names the command
            that makes it.
    """
    from safetensors import SafetensorError, safe_open

    path = artefact_path(spec, name)
    if not path.is_file():
        raise CalibrationError(
            f"model {spec.name!r} has no calibration artefact {name!r} at {path}; {remedy(spec, name)}"
        )
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["designspace"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - a safetensors handle, not a dict
        found = Artefact(
            about["artefact"], tensors, about["made_for"], about["n_tokens"], about["source"],
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )  # fmt: skip
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CalibrationError(f"{path} is no calibration artefact ({error}); {remedy(spec, name)}") from error
    if found.name != name:
        raise CalibrationError(f"{path} holds artefact {found.name!r}, not {name!r}; {remedy(spec, name)}")
    if found.made_for != model_key(spec):
        raise CalibrationError(
            f"{path} was made for another model ({found.made_for[:16]}…), "
            f"model {spec.name!r} is {model_key(spec)[:16]}…; {remedy(spec, name)}"
        )
    return found
