"""Which model: bundled, a local folder, a GGUF file, or a hub repository; and what identifies it in a cell."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from designspace.errors import ModelError, UnknownName, did_you_mean
from designspace.models.imported_models import ORIGIN, cached_folder

Quantization = Literal["torchao-int8"]
BUNDLED_ROOT = Path(__file__).parent / "pocket"
# First, in this order, as older results know them; then whatever else may change a prompt's tokens or where a text ends.
_FIRST = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_ALSO = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.vocab", "*chat_template*/*")
_IRRELEVANT = (
    ORIGIN,
    "*.safetensors.index.json",
    "training_args*",
    "trainer_state*",
    "*results*.json",
    "requirements*.txt",
    "LICENSE*",
)


@dataclass(frozen=True)
class ModelSpec:
    """A model by name; with `hub` (and `revision`) or `path` it is any transformers model in safetensors form.

    Attributes:
        gguf: a GGUF file, which is imported to the user's cache folder when it is loaded or named by a sweep
            (see `designspace.models.gguf_import`); its identity is that of the folder that an import makes.
        device: where a run puts the model, "cpu", "cuda" or "cuda:1"; "auto": where its worker is. It is no part of the
            identity.
        dtype: "float32" or "bfloat16", the type weights and cache are held in.
        calibration: folder of calibration artefacts; by default `calibration/` inside a local model folder, or the user's
            cache folder for a hub model (see `designspace.models.calibration`).
        quantization: how transformers quantises the weights while it loads them ("torchao-int8"), None: not at all.
        declared_in: the sweep file that declares it, as the user wrote it; no part of what the model is.
    """

    name: str
    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    calibration: str | None = None
    gguf: str | None = None
    device: str = "auto"
    quantization: Quantization | None = None
    declared_in: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check that exactly one source is given.

        Raises:
            ModelError: more than one of `hub`, `path` and `gguf`, a revision without `hub`, or an unknown quantization.
        """
        if error := sources_error(hub=self.hub, path=self.path, gguf=self.gguf):
            raise ModelError(f"{error} for {self.name!r}")
        if self.revision and not self.hub:
            raise ModelError(f"revision needs hub, got revision={self.revision!r} for {self.name!r}")
        kinds = get_args(Quantization)
        if self.quantization is not None and self.quantization not in kinds:
            hint = did_you_mean(str(self.quantization), kinds)
            raise ModelError(f"unknown quantization {self.quantization!r} for {self.name!r}{hint}")

    @staticmethod
    def bundled(name: str, **changes: Any) -> ModelSpec:
        """Return one of the models that ship with the package.

        Raises:
            UnknownName: no such bundled model.
        """
        if name not in bundled_names():
            raise UnknownName("bundled model", name, bundled_names())
        return ModelSpec(name=name, path=str(BUNDLED_ROOT / name), **changes)

    @property
    def folder(self) -> Path | None:
        """The local folder, None for a hub model; that of a GGUF file is made by `ensure_imported`.

        Raises:
            ModelError: the GGUF file cannot be read.
        """
        if self.gguf:
            return cached_folder(Path(self.gguf).expanduser())
        return Path(self.path).expanduser() if self.path else None

    def device_on(self, worker: str) -> str:
        """Return where a worker on some device puts the model."""
        return worker if self.device == "auto" else self.device

    @property
    def exists_locally(self) -> bool:
        """Whether the weights are in a local folder."""
        return self.folder is not None and (self.folder / "config.json").is_file()

    def identity(self) -> dict[str, Any]:
        """Return what identifies the model: content for a local folder, repository and revision for a hub model."""
        source = {"hub": self.hub, "revision": self.revision} if self.hub else {"content": self.fingerprint()}
        # What is as it ever was stays out, so that older results keep their ids.
        quantized = {} if self.quantization is None else {"quantization": self.quantization}
        return {**source, "dtype": self.dtype, "attention": "designspace", **quantized}

    def fingerprint(self) -> str:
        """Return the SHA-256 of a local model's configuration, tokenizer and weights.

        Raises:
            ModelError: the folder holds no model in safetensors form.
        """
        if self.folder is None:
            raise ModelError(f"model {self.name!r} has no local folder to fingerprint")
        return folder_fingerprint(self.folder.resolve())


def sources_error(**sources: str | None) -> str | None:
    """Return what is wrong if a model has more than one source, None if it has one or none."""
    given = [name for name, value in sources.items() if value]
    return f"a model has one of {', '.join(sources)}, got {' and '.join(given)}" if len(given) > 1 else None


def bundled_names() -> list[str]:
    """Return the names of the models that ship with the package."""
    if not BUNDLED_ROOT.is_dir():
        return []
    return sorted(folder.name for folder in BUNDLED_ROOT.iterdir() if (folder / "config.json").is_file())


def forget_fingerprints() -> None:
    """Read every model folder again when its fingerprint is next asked for: it may have changed under this process."""
    folder_fingerprint.cache_clear()


@cache
def folder_fingerprint(folder: Path) -> str:
    """Return the SHA-256 over names and contents of a model folder's weights and of all that can change a prompt's tokens.

    Raises:
        ModelError: no config.json or no *.safetensors there.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise ModelError(f"no model at {folder}: config.json and *.safetensors are needed")
    digest = hashlib.sha256()
    for file in [*_described(folder), *weights]:
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _described(folder: Path) -> list[Path]:
    """Return the files beside the weights that can change a result: configuration, tokenizer, templates."""
    first = [folder / name for name in _FIRST if (folder / name).is_file()]
    found = {file for pattern in _ALSO for file in folder.glob(pattern) if file.is_file()}
    relevant = {file for file in found if not any(fnmatch(file.name, pattern) for pattern in _IRRELEVANT)}
    return [*first, *sorted(relevant - set(first))]
