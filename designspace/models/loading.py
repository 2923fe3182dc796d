"""Load a model for the slot cache: safetensors only, no remote code, our attention function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from designspace.axes import Artefact, Geometry
from designspace.cache import attention
from designspace.cache.attention import Pass
from designspace.cache.layer_call import in_flight
from designspace.errors import ModelError
from designspace.models.chat_prompt import chat_ids
from designspace.models.config_file import (
    check_owners,
    check_retrofit,
    check_size,
    configuration_of,
    one_line,
    source_of,
)
from designspace.models.gguf_import import ensure_imported
from designspace.models.model_spec import ModelSpec
from designspace.models.proof import Proof, prove
from designspace.models.proven import keep_proof, kept_proof
from designspace.models.quantization import check_quantization, loading_arguments, unpacked
from designspace.models.quiet import quietly
from designspace.models.rotary_limits import longest_text
from designspace.models.rotation import Frequencies, frequencies_of
from designspace.models.tokenizer import tokenizer_of
from designspace.models.trial import Subject

# Of what transformers offers, the one in which a token's experts do not depend on the other rows.
EXPERTS = "batched_mm"
_POINTER_BYTES = 1024
Chat = Literal["auto", "on", "off"]
Found = TypeVar("Found")
_MOST_NAMED = 3  # weights in a message


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for the engine. `tokenizer` may be None for models made in memory.

    proof: what trying it out has found; None on the meta device. longest: positions that a text may have, None: any number.
    graphs: its compiled decode steps by number of rows and threads, shared by everything that runs on it.
    measured: the calibrations that were measured on it in this process, by name.
    """

    model: Any
    tokenizer: Any
    geometry: Geometry
    eos_ids: frozenset[int]
    spec: ModelSpec | None = None
    proof: Proof | None = None
    longest: int | None = None
    graphs: dict[tuple[int, int], Callable[[Tensor, Tensor], Tensor]] = field(
        default_factory=dict, repr=False, compare=False
    )
    measured: dict[str, Artefact] = field(default_factory=dict, repr=False, compare=False)

    def forward(self, slots: Pass, **arguments: Any) -> Any:
        """Call the model with a pass, which its layers attend through, and return what it returns."""
        # Known in both ways: some models do not hand on to their layers what they are called with.
        with in_flight(slots):
            return self.model(use_cache=False, slots=slots, **arguments)

    @property
    def kv_owners(self) -> tuple[int, ...] | None:
        """For each layer the layer whose keys and values it was trained to use; None: each its own."""
        return attention.trained_owners(self.model.config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and cache."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    def encode(
        self,
        prompt: str,
        *,
        system: str | None = None,
        chat: Chat = "auto",
        arguments: Mapping[str, object] | None = None,
    ) -> tuple[int, ...]:
        """Return the token ids of a prompt, through the chat template where that is asked for, or `auto` and there is one.

        arguments: what the template is given beside the messages, such as `enable_thinking`.

        Raises:
            ModelError: a chat, a system message or arguments are asked for and there is no template, the template refuses
                them or leaves them out, or a token is not in the model's embedding.
        """
        ids = self._encoded(prompt, system, chat, arguments or {})
        n_embeddings = self.model.get_input_embeddings().weight.shape[0]
        if ids and max(ids) >= n_embeddings:
            raise ModelError(f"the tokenizer writes token {max(ids)}, the model's embedding has {n_embeddings} rows")
        return ids

    def _encoded(self, prompt: str, system: str | None, chat: Chat, arguments: Mapping[str, object]) -> tuple[int, ...]:
        has_template = bool(self.tokenizer.chat_template)
        if not has_template and (chat == "on" or system is not None or arguments):
            raise ModelError("the model's tokenizer has no chat template, so prompts can have neither chat nor system")
        if chat == "off" or not has_template:
            return tuple(self.tokenizer(prompt)["input_ids"])
        return chat_ids(self.tokenizer, prompt, system, arguments)

    def decode(self, token_ids: tuple[int, ...]) -> str:
        """Return the text of generated tokens."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def rendered(self, token_ids: tuple[int, ...]) -> str:
        """Return the text of a prompt's tokens, special tokens written out: what the model reads."""
        text: str = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def token_ids(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a piece of text, without any special token added.

        Raises:
            ModelError: the tokenizer has no tokens for it, or there is no tokenizer.
        """
        if self.tokenizer is None:
            raise ModelError(f"the model has no tokenizer, so it has no tokens for {text!r}")
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if not ids or self.tokenizer.unk_token_id in ids:
            raise ModelError(f"the model's tokenizer has no tokens for {text!r}")
        return ids

    def last_tokens(self, texts: Iterable[str]) -> frozenset[int]:
        """Return the last token of each of some pieces of text.

        Raises:
            ModelError: the tokenizer has no tokens for one of them, or there is no tokenizer.
        """
        return frozenset(self.token_ids(text)[-1] for text in texts)

    def ids_with(self, text: str) -> frozenset[int]:
        """Return the tokens whose own text contains `text`."""
        return _ids_with(self.tokenizer, text)

    def attention_inputs_error(self) -> str | None:
        """Return why what the layers' projections read cannot be told from the residual stream, or None."""
        if all(hasattr(layer, "input_layernorm") for layer in self.model.model.layers):
            return None
        return f"gates read the input of attention after a norm, which layers of {self.model.config.model_type!r} lack"

    def attention_inputs(self, hidden_states: Sequence[Tensor]) -> list[Tensor]:
        """Return what each layer's projections read, [B,T,hidden], of the residual stream before each layer."""
        return [layer.input_layernorm(x) for layer, x in zip(self.model.model.layers, hidden_states, strict=False)]

    def output_projection(self) -> Tensor:
        """Return the weights that turn head outputs into the residual stream, [L,H_q,D,hidden]."""
        geometry = self.geometry
        weights = [unpacked(layer.self_attn.o_proj.weight.detach(), self.dtype).T for layer in self.model.model.layers]
        return torch.stack(weights).unflatten(1, (geometry.n_query_heads, geometry.head_dim))


@cache
def _ids_with(tokenizer: Any, text: str) -> frozenset[int]:
    vocabulary = range(len(tokenizer))
    return frozenset(i for i in vocabulary if text in tokenizer.decode([i], clean_up_tokenization_spaces=False))


def load_model(spec: ModelSpec, device: str = "cpu", *, try_out: bool = False) -> LoadedModel:
    """Load weights and tokenizer. The model is tried out unless it was before; `try_out`: in any case.

    Raises:
        ModelError: not there, not in safetensors form, or of a kind that the slot cache does not support; or no such device.
        MissingExtra: the package that quantises its weights is not installed.
    """
    from transformers import AutoModelForCausalLM

    check_device(device, spec.name)
    ensure_imported(spec)
    source, where = source_of(spec)
    config = configuration_of(spec)
    check_quantization(spec, config)
    if spec.folder is not None:
        check_weight_files(spec.folder)
    check_size(spec, config)
    try:
        with quietly():
            model, report = AutoModelForCausalLM.from_pretrained(
                source,
                config=config,
                dtype=getattr(torch, spec.dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
                **loading_arguments(spec),
                **where,
            )
    except Exception as error:  # transformers, safetensors and quantisation libraries raise whatever they like
        raise ModelError(f"cannot load model {spec.name!r} from {source}: {one_line(error)}") from error
    _check_report(spec, source, report)
    tokenizer = tokenizer_of(spec)
    known = None if try_out else kept_proof(spec, device)
    loaded = prepare(model.to(device), tokenizer, spec, known)
    if known is None and loaded.proof is not None:
        keep_proof(spec, device, loaded.proof)
    return loaded


def check_device(device: str, model: str) -> None:
    """Check that torch finds a device before gigabytes are read for it.

    Raises:
        ModelError: naming the device, and how many CUDA devices there are.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ModelError(f"a device is cpu, cuda or cuda:N, got {device!r}") from None
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= n_cuda:
        raise ModelError(f"model {model!r} cannot run on device {device!r}: torch finds {n_cuda} CUDA devices here")


def check_weight_files(folder: Path) -> None:
    """Check that the weights in a folder open: a pointer of git-lfs, or half of a download, has a name but no weights.

    Raises:
        ModelError: naming the file.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            pointer = file.stat().st_size < _POINTER_BYTES and file.read_bytes().startswith(b"version https://git-lfs")
            hint = "it is a pointer of git-lfs: fetch the file itself" if pointer else f"{error}: download it again"
            raise ModelError(f"{file} holds no weights: {hint}") from error


def _check_report(spec: ModelSpec, source: str, report: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of other weights than the model's: what is missing would be random in every process.

    Raises:
        ModelError: naming the weights.
    """
    found = {
        "lacks": report.get("missing_keys"),
        "has unknown": report.get("unexpected_keys"),
        "has in another shape": [key for key, *_ in report.get("mismatched_keys") or ()],
    }
    faults = [f"{what} {_some(keys)}" for what, keys in found.items() if keys]
    if faults:
        raise ModelError(
            f"the weights of model {spec.name!r} at {source} are not those of its config.json: it {'; it '.join(faults)}"
        )


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more


def prepare(
    model: Any, tokenizer: Any = None, spec: ModelSpec | None = None, proof: Proof | None = None
) -> LoadedModel:
    """Put a transformers model under our attention function and read off its geometry.

    It is tried out (`designspace.models.proof`) unless that was done (`proof`), or it is on the meta device, where nothing is
    computed.

    Raises:
        ModelError: layers without a slot per token (linear attention, sliding-window-only caches of other designs), or a
            forward pass that is not the same under our attention.
    """
    attention.register()
    model.eval().requires_grad_(False)
    geometry = _read_off(geometry_of, model)
    check_owners(model.config)
    check_retrofit(model.config)
    if hasattr(model.config, "_experts_implementation"):
        model.set_experts_implementation(EXPERTS)
    model.set_attn_implementation(attention.IMPLEMENTATION)
    longest = _read_off(longest_text, model)
    if proof is None and model.device.type != "meta":
        proof = prove(Subject(model, geometry, attention.trained_owners(model.config)))
    if proof is not None:
        geometry = _with_rotations(geometry, model, proof)
    return LoadedModel(model, tokenizer, geometry, eos_ids_of(model), spec, proof, longest)


def _read_off(what: Callable[[Any], Found], model: Any) -> Found:
    """Return what a function reads off a model; numbers that mean nothing are the configuration's fault.

    Raises:
        ModelError: it cannot be read off.
    """
    try:
        return what(model)
    except ModelError:
        raise
    except Exception as error:  # a configuration may hold anything, and the model's own classes compute with it
        raise ModelError(f"model type {model.config.model_type!r} is not supported: {one_line(error)}") from error


def geometry_of(model: Any) -> Geometry:
    """Return the numbers that cache and strategies need.

    Raises:
        ModelError: the model is not a decoder with rotary positions and ordinary attention layers.
    """
    config, frequencies = model.config, frequencies_of(model)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not frequencies or not kinds <= {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"model type {config.model_type!r} is not supported: rotary positions and ordinary attention needed"
        )
    return Geometry(
        n_layers=config.num_hidden_layers,
        n_query_heads=config.num_attention_heads,
        n_kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        inv_freq=frequencies[0].inv_freq,
        attention_scaling=frequencies[0].scaling,
    )


def _with_rotations(geometry: Geometry, model: Any, proof: Proof) -> Geometry:
    """Return a geometry with what was found of how each layer turns its keys."""
    geometry = replace(geometry, rotation_note=proof.rotation_note)
    sets = {found.name: found for found in frequencies_of(model)}
    alike = {*proof.rotations} == {"half"} and {*proof.frequencies} == {next(iter(sets))}
    if proof.rotation_note or alike:
        return geometry
    still = Frequencies("", torch.zeros_like(geometry.inv_freq), 1.0)  # of a layer that turns nothing
    found = zip(proof.rotations, proof.frequencies, strict=True)
    of_layers = [still if layout == "none" else sets[name] for layout, name in found]
    return replace(
        geometry,
        layer_inv_freq=torch.stack([own.inv_freq for own in of_layers]),
        layer_scaling=tuple(own.scaling for own in of_layers),
    )


def eos_ids_of(model: Any) -> frozenset[int]:
    """Return the token ids that end a generation, from generation and model configuration."""
    for config in (model.generation_config, model.config):
        eos = getattr(config, "eos_token_id", None)
        if eos is not None:
            return frozenset([eos] if isinstance(eos, int) else eos)
    return frozenset()
