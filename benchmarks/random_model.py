"""Write a model with random weights that any transformers 5 can load: safetensors, config.json and a word-level tokenizer.

    python -m benchmarks.random_model 0.1b [--folder benchmarks/.models]

Speed and memory do not depend on what the weights are, so a benchmark needs no download. The same name always gives the
same bytes; a folder that already holds them is left as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")
DEFAULT_FOLDER = Path(__file__).parent / ".models"
_RECIPE = "random_model.json"  # written last: a folder without it is not finished
_SHARD_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Shape:
    """A Llama's dimensions; the embeddings are untied."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    dtype: str = "float32"
    max_positions: int = 32768
    seed: int = 0


SHAPES: Mapping[str, Shape] = {
    "tiny": Shape(32, 2, 4, 2, 8, 64, 64),
    "0.1b": Shape(768, 12, 12, 4, 64, 2048, 8192),
    "7b": Shape(3584, 28, 28, 4, 128, 18944, 152064, dtype="bfloat16"),
}


def random_model(folder: Path, name: str) -> Path:
    """Write the model of that name below `folder` and return where it is.

    Raises:
        KeyError: no such name.
    """
    return write_model(folder / name, SHAPES[name])


def write_model(folder: Path, shape: Shape) -> Path:
    """Write a model of that shape into `folder`, unless it is there already."""
    recipe = folder / _RECIPE
    if recipe.is_file() and json.loads(recipe.read_text()) == asdict(shape):
        return folder
    recipe.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors*"):
        old.unlink()
    _write_weights(folder, shape)
    _write_configuration(folder, shape)
    _write_tokenizer(folder, shape)
    recipe.write_text(json.dumps(asdict(shape)))
    return folder


def n_parameters(shape: Shape) -> int:
    """Return the number of weights."""
    return sum(rows * max(columns, 1) for _, rows, columns in _parameters(shape))


def words(shape: Shape) -> list[str]:
    """Return the vocabulary; the position in the list is the token id."""
    return [*SPECIAL, *(f"w{idx}" for idx in range(len(SPECIAL), shape.vocab))]


def _parameters(shape: Shape) -> Iterator[tuple[str, int, int]]:
    """Yield name, rows and columns of every weight, columns 0 for the vector of a norm."""
    heads, kv_heads = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "model.embed_tokens.weight", shape.vocab, shape.hidden
    for layer in range(shape.layers):
        here = f"model.layers.{layer}."
        yield here + "input_layernorm.weight", shape.hidden, 0
        yield here + "self_attn.q_proj.weight", heads, shape.hidden
        yield here + "self_attn.k_proj.weight", kv_heads, shape.hidden
        yield here + "self_attn.v_proj.weight", kv_heads, shape.hidden
        yield here + "self_attn.o_proj.weight", shape.hidden, heads
        yield here + "post_attention_layernorm.weight", shape.hidden, 0
        yield here + "mlp.gate_proj.weight", shape.intermediate, shape.hidden
        yield here + "mlp.up_proj.weight", shape.intermediate, shape.hidden
        yield here + "mlp.down_proj.weight", shape.hidden, shape.intermediate
    yield "model.norm.weight", shape.hidden, 0
    yield "lm_head.weight", shape.vocab, shape.hidden


def _shards(shape: Shape) -> Iterator[dict[str, Tensor]]:
    """Yield the weights in pieces of at most about two gibibytes, so that a large model need not fit into memory twice."""
    generator, dtype = torch.Generator().manual_seed(shape.seed), getattr(torch, shape.dtype)
    shard: dict[str, Tensor] = {}
    for name, rows, columns in _parameters(shape):
        # A weight's spread keeps the variance from layer to layer, so that logits have a clear maximum at every width.
        weight = torch.randn(rows, columns, generator=generator) * columns**-0.5 if columns else torch.ones(rows)
        shard[name] = weight.to(dtype)
        if sum(tensor.nbytes for tensor in shard.values()) > _SHARD_BYTES:
            yield shard
            shard = {}
    if shard:
        yield shard


def _write_weights(folder: Path, shape: Shape) -> None:
    from safetensors.torch import save_file

    files: dict[str, list[str]] = {}
    n_bytes = 0
    for number, shard in enumerate(_shards(shape)):
        file = f"model-{number:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        files[file] = list(shard)
        n_bytes += sum(tensor.nbytes for tensor in shard.values())
    if len(files) == 1:
        (folder / next(iter(files))).rename(folder / "model.safetensors")
        return
    index = {name: file for file, names in files.items() for name in names}
    about = {"metadata": {"total_size": n_bytes}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(about))


def configuration(shape: Shape) -> PreTrainedConfig:
    """Return what transformers makes a model of that shape from."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype=shape.dtype,
        **_special_ids(),
    )


def _special_ids() -> dict[str, int]:
    return {f"{name}_token_id": SPECIAL.index(f"<{name}>") for name in ("pad", "bos", "eos")}


def _write_configuration(folder: Path, shape: Shape) -> None:
    from transformers import GenerationConfig

    configuration(shape).save_pretrained(folder)
    GenerationConfig(do_sample=False, **_special_ids()).save_pretrained(folder)


def _write_tokenizer(folder: Path, shape: Shape) -> None:
    """One token per word; the class is named as every transformers 5 knows it."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    pad, unk, bos, eos = SPECIAL
    tokenizer = Tokenizer(models.WordLevel({word: idx for idx, word in enumerate(words(shape))}, unk_token=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pad,
        "unk_token": unk,
        "bos_token": bos,
        "eos_token": eos,
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.max_positions,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2))


def main() -> None:
    """Write one model and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SHAPES)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    arguments = parser.parse_args()
    where = random_model(arguments.folder, arguments.name)
    print(f"{where}: {n_parameters(SHAPES[arguments.name]) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
