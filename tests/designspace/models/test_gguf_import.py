"""Models imported from GGUF files: logits of the original, tokens of the original, nothing lost in silence, all or nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate")

from designspace.errors import DesignspaceError, ModelError  # noqa: E402
from designspace.models.gguf_import import ensure_imported, import_gguf  # noqa: E402
from designspace.models.imported_models import ORIGIN  # noqa: E402
from designspace.models.loading import load_model  # noqa: E402
from designspace.models.model_spec import ModelSpec  # noqa: E402
from tests.conftest import REPOSITORY  # noqa: E402
from tests.designspace.models.gguf_files import (  # noqa: E402
    SPECIAL,
    TEMPLATE,
    TEXTS,
    architecture_keys,
    as_type,
    byte_level_tokenizer,
    piece_tokenizer,
    randomised,
    tensors_of,
    tokenizer_keys,
    write_gguf,
)

TINY = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": None,
}
DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 5000.0}
GEMMA_LAYERS = ["sliding_attention"] * 5 + ["full_attention"] + ["sliding_attention"]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LINEAR = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}
# Of each architecture what makes it differ from its class's defaults: type, then configuration.
MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"head_dim": 16, "rope_parameters": DEFAULT_ROPE, "tie_word_embeddings": False}),
    "qwen2": ("qwen2", {"rope_parameters": DEFAULT_ROPE, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 32, "rope_parameters": DEFAULT_ROPE, "tie_word_embeddings": True}),
    "gemma2": (
        "gemma2",
        {
            "head_dim": 32,
            "sliding_window": 4,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "query_pre_attn_scalar": 32,
            "rope_parameters": DEFAULT_ROPE,
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            "head_dim": 32,
            "sliding_window": 4,
            "num_hidden_layers": 7,
            "layer_types": GEMMA_LAYERS,
            "query_pre_attn_scalar": 32,
            "rope_parameters": {
                "full_attention": DEFAULT_ROPE,
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
    ),
}
IDS = torch.tensor([[1, 40, 41, 300, 7, 8, 9, 200, 12, 13, 14, 15]])


def original(architecture: str, **changes: Any) -> Any:
    """Return a tiny random model of an architecture, in float32 and in transformers' own attention."""
    kind, own = MODELS[architecture]
    config = AutoConfig.for_model(kind, **{**TINY, **own, **changes})
    return randomised(AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32))


def keys_of(model: Any, architecture: str, **more: Any) -> dict[str, Any]:
    """Return all keys of a file, as llama.cpp's converter writes them; `more` replaces dots by two underscores."""
    keys = architecture_keys(model.config, architecture) | tokenizer_keys(byte_level_tokenizer(), 320)
    return {**keys, "tokenizer.ggml.add_bos_token": False, **more}


def logits(model: Any) -> torch.Tensor:
    """Return the logits of a fixed text."""
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def imported(folder: Path) -> Any:
    """Return the model in a folder, in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def file_of(tmp_path: Path, architecture: str, model: Any = None, **keys: Any) -> Path:
    """Write a sound file, with some keys changed."""
    model = original(architecture) if model is None else model
    written = {**keys_of(model, architecture), **keys}
    return write_gguf(tmp_path / "m.gguf", architecture, written, tensors_of(model, architecture))


@pytest.mark.parametrize("architecture", MODELS)
def test_a_file_of_whole_numbers_gives_the_original_to_the_bit(tmp_path: Path, architecture: str) -> None:
    """Weights that bfloat16 holds exactly, in F32: the imported model's logits are those of the one it was written from."""
    model = original(architecture)
    file = file_of(tmp_path, architecture, model)
    import_gguf(file, tmp_path / "out")
    found = imported(tmp_path / "out")

    assert float(logits(model).abs().max()) > 0.05
    torch.testing.assert_close(logits(found), logits(model), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("kind", "step"), [("F16", 1e-5), ("BF16", 0.0), ("Q8_0", 0.5 / 127 + 2**-9 + 2**-11)])
def test_a_type_is_off_by_its_rounding(tmp_path: Path, kind: str, step: float) -> None:
    """F16 keeps what bfloat16 holds; Q8_0 moves each weight by half a 127th of its block's largest, in F16 scales."""
    model = original("llama")
    quantised = as_type(gguf.GGMLQuantizationType[kind])
    file = write_gguf(tmp_path / "m.gguf", "llama", keys_of(model, "llama"), tensors_of(model, "llama"), quantised)
    origin = import_gguf(file, tmp_path / "out")
    before, after = (m.state_dict() for m in (model, imported(tmp_path / "out")))

    assert origin["tensor_types"] == {"F32": 5, kind: 16}
    worst = max(float((after[name] - weight).abs().max() / weight.abs().max()) for name, weight in before.items())
    assert worst <= step
    assert kind != "Q8_0" or worst > step / 2


def test_rotary_factors_of_llama_3_are_followed(tmp_path: Path) -> None:
    """The file holds numbers to divide by, its reader passes them over: the import finds the rule that they come from."""
    model = original("llama", rope_parameters=LLAMA3, max_position_embeddings=131_072, head_dim=32)
    plain = 500_000.0 ** (-np.arange(0, 32, 2) / 32)
    factors = (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)
    tensors = {**tensors_of(model, "llama"), "rope_freqs.weight": factors}
    file = write_gguf(tmp_path / "m.gguf", "llama", keys_of(model, "llama"), tensors)
    import_gguf(file, tmp_path / "out")
    found = imported(tmp_path / "out")

    assert (factors.min(), factors.max()) == (pytest.approx(1), pytest.approx(32))
    torch.testing.assert_close(found.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq, rtol=1e-6, atol=0)

    broken = {**tensors, "rope_freqs.weight": factors[::-1]}
    other = write_gguf(tmp_path / "other.gguf", "llama", keys_of(model, "llama"), broken)
    with pytest.raises(ModelError, match=r"rope_freqs\.weight are not those of Llama 3"):
        import_gguf(other, tmp_path / "other")


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3"])
def test_linear_scaling_is_followed(tmp_path: Path, architecture: str) -> None:
    """Its reader passes it over; with Gemma 3 only layers without a window are scaled."""
    local = {"rope_type": "default", "rope_theta": 10_000.0}
    rope = {"full_attention": LINEAR, "sliding_attention": local} if architecture == "gemma3" else LINEAR
    model = original(architecture, rope_parameters=rope)
    scaling = {f"{architecture}.rope.scaling.type": "linear", f"{architecture}.rope.scaling.factor": 4.0}
    import_gguf(file_of(tmp_path, architecture, model, **scaling), tmp_path / "out")

    torch.testing.assert_close(logits(imported(tmp_path / "out")), logits(model), rtol=0, atol=2e-6)


def test_an_output_equal_to_the_embedding_is_tied(tmp_path: Path) -> None:
    """To the bit: then the file's second copy is not kept. One number apart: it is."""
    model = original("llama")
    model.lm_head.weight.data = model.model.embed_tokens.weight.data.clone()
    origin = import_gguf(file_of(tmp_path, "llama", model), tmp_path / "tied")
    tied = load_model(ModelSpec("tied", path=str(tmp_path / "tied")))

    assert origin["tied"] and tied.model.config.tie_word_embeddings
    torch.testing.assert_close(logits(imported(tmp_path / "tied")), logits(model), rtol=0, atol=2e-6)

    model.lm_head.weight.data[5, 5] += 1.0
    assert not import_gguf(file_of(tmp_path, "llama", model), tmp_path / "untied")["tied"]


@pytest.mark.parametrize(
    ("architecture", "keys", "message"),
    [
        ("llama", {"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type must be none or linear, got 'yarn'"),
        ("llama", {"llama.expert_count": 8}, "llama.expert_count = 8 is not known"),
        ("llama", {"llama.attention.key_length": 8}, "heads must have one size"),
        ("llama", {"llama.logit_scale": 0.5}, "llama.logit_scale = 0.5 is not known"),
        ("llama", {"llama.attention.head_count_kv": [2, 1]}, "head_count_kv must be one number above 0, got [2, 1]"),
        ("qwen2", {"qwen2.attention.sliding_window": 128}, "qwen2.attention.sliding_window = 128 is not known"),
        ("gemma3", {"gemma3.vision.block_count": 3}, "gemma3.vision.block_count = 3 is not known"),
        ("gemma3", {"gemma3.attention.sliding_window": 0}, "gemma3.attention.sliding_window must be stated, got 0"),
        ("llama", {"tokenizer.ggml.pre": "superbpe"}, "tokenizer.ggml.pre = 'superbpe' names a rule"),
        ("llama", {"tokenizer.ggml.add_eos_token": True}, "tokenizer.ggml.add_eos_token = True is not known"),
        ("llama", {"tokenizer.ggml.model": "t5"}, "tokenizer.ggml.model must be gpt2 or llama, got 't5'"),
        (
            "llama",
            {"tokenizer.ggml.eos_token_id": 999},
            "tokenizer.ggml.eos_token_id must be one of 320 tokens, got 999",
        ),
        ("llama", {"general.type": "adapter"}, "general.type must be 'model', got 'adapter'"),
        ("llama", {"split.count": 3}, "one of 3 parts of a GGUF file"),
    ],
)
def test_what_would_be_passed_over_is_refused(
    tmp_path: Path, architecture: str, keys: dict[str, Any], message: str
) -> None:
    """By the name of the key, on one line, and nothing is left behind."""
    file = file_of(tmp_path, architecture, **keys)

    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        import_gguf(file, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["m.gguf"]


def test_unknown_tensors_and_architectures_are_refused(tmp_path: Path) -> None:
    """A bias that transformers' Llama has not, a layer too many, and a kind of model that is not accounted for."""
    model = original("llama")
    keys, tensors = keys_of(model, "llama"), tensors_of(model, "llama")
    for name in ("blk.0.attn_q.bias", "blk.2.attn_norm.weight", "blk.0.attn_sinks.weight"):
        file = write_gguf(tmp_path / "m.gguf", "llama", keys, {**tensors, name: np.zeros(64)})
        with pytest.raises(ModelError, match=f"tensor {name} is not known"):
            import_gguf(file, tmp_path / "out")
    lacking = {name: values for name, values in tensors.items() if name != "blk.1.ffn_up.weight"}
    file = write_gguf(tmp_path / "m.gguf", "llama", keys, lacking)
    with pytest.raises(ModelError, match=r"its model has .*mlp\.up_proj"):
        import_gguf(file, tmp_path / "out")
    file = write_gguf(tmp_path / "m.gguf", "gemma4", keys, tensors)
    with pytest.raises(ModelError, match=r"architecture 'gemma4' cannot be imported \(did you mean 'gemma"):
        import_gguf(file, tmp_path / "out")


def test_files_that_are_no_whole_gguf(tmp_path: Path) -> None:
    """Another format, every length of a file cut short, a part of several, nothing there."""
    sound = file_of(tmp_path, "qwen2").read_bytes()
    file = tmp_path / "cut.gguf"
    for n_bytes in (5, 30, 400, len(sound) // 2, len(sound) - 40_000):
        file.write_bytes(sound[:n_bytes])
        with pytest.raises(ModelError, match="cut short"):
            import_gguf(file, tmp_path / "out")
    file.write_bytes(b"PK\3\4 and so on")
    with pytest.raises(ModelError, match="not a GGUF file: it must start with b'GGUF', got b'PK"):
        import_gguf(file, tmp_path / "out")
    part = tmp_path / "m-00001-of-00003.gguf"
    part.write_bytes(sound)
    with pytest.raises(ModelError, match=r"one of 3 parts of a GGUF file.*llama-gguf-split --merge"):
        import_gguf(part, tmp_path / "out")
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        import_gguf(tmp_path / "none.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("starts", [False, True, None])
def test_tokens_are_those_of_the_original(tmp_path: Path, starts: bool | None) -> None:
    """Digits are cut apart before merging, which transformers' reader does not know of; a start token where the file says."""
    tokenizer = byte_level_tokenizer()
    flag = {} if starts is None else {"tokenizer.ggml.add_bos_token": starts}
    model = original("qwen2")
    keys = {k: v for k, v in keys_of(model, "qwen2").items() if not k.endswith("add_bos_token")}
    file = write_gguf(tmp_path / "m.gguf", "qwen2", keys | flag, tensors_of(model, "qwen2"))
    import_gguf(file, tmp_path / "out")
    loaded = load_model(ModelSpec("m", path=str(tmp_path / "out")))

    for text in [*TEXTS, "x  12 <|turn|> 3"]:
        assert loaded.encode(text) == (*([1] if starts else []), *tokenizer.encode(text).ids)
    assert loaded.decode(loaded.encode(TEXTS[0])) == TEXTS[0]
    assert (loaded.eos_ids, loaded.tokenizer.chat_template) == ({0}, None)


def test_a_template_comes_along_and_tells_how_a_turn_ends(tmp_path: Path) -> None:
    """Ends of a text: the file's eos, its eot, and the token that the template writes after an answer."""
    more = {"tokenizer.chat_template": TEMPLATE, "tokenizer.ggml.eot_token_id": 3}
    import_gguf(file_of(tmp_path, "qwen2", **more), tmp_path / "out")
    loaded = load_model(ModelSpec("m", path=str(tmp_path / "out")))

    assert loaded.eos_ids == {0, SPECIAL.index("<|turn|>"), 3}
    plain = byte_level_tokenizer().encode("<|start|>user\nhi<|turn|>\n").ids
    assert loaded.encode("hi") == tuple(plain)


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_of_sentencepiece(tmp_path: Path, prefix: bool) -> None:
    """A blank before a text is transformers' habit with Llama: a file without it is refused rather than read otherwise."""
    tokenizer = piece_tokenizer(prefix)
    size = tokenizer.get_vocab_size()
    model = original("llama", vocab_size=size)
    keys = architecture_keys(model.config, "llama") | tokenizer_keys(tokenizer, size, "llama", "default")
    keys |= {"tokenizer.ggml.add_space_prefix": prefix}
    file = write_gguf(tmp_path / "m.gguf", "llama", keys, tensors_of(model, "llama"))
    if not prefix:
        with pytest.raises(ModelError, match=r"tokenizer\.ggml\.add_space_prefix is False"):
            import_gguf(file, tmp_path / "out")
        return
    import_gguf(file, tmp_path / "out")
    loaded = load_model(ModelSpec("m", path=str(tmp_path / "out")))

    for text in TEXTS:
        assert loaded.encode(text) == (1, *tokenizer.encode(text).ids)


def test_an_import_knows_its_own_folder(tmp_path: Path) -> None:
    """The same file again, under another name too: nothing is done. Another file, a changed folder: refused."""
    file = file_of(tmp_path, "qwen2")
    said: list[str] = []
    first = import_gguf(file, tmp_path / "out", said.append)
    (tmp_path / "copy.gguf").write_bytes(file.read_bytes())
    before = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns

    assert import_gguf(tmp_path / "copy.gguf", tmp_path / "out", said.append) == first
    assert (len(said), (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns) == (1, before)
    spec = ModelSpec("m", path=str(tmp_path / "out"))
    assert first["content"] == spec.fingerprint()
    assert len({file.stat().st_mode for file in (tmp_path / "out").iterdir()}) == 1

    other = file_of(tmp_path, "qwen2", original("qwen2", rms_norm_eps=1e-3))
    with pytest.raises(ModelError, match=r"was made from another file, m\.gguf"):
        import_gguf(other, tmp_path / "out")
    (tmp_path / "out" / "generation_config.json").write_text('{"eos_token_id": 7}')
    with pytest.raises(ModelError, match="has been changed since"):
        import_gguf(tmp_path / "copy.gguf", tmp_path / "out")
    with pytest.raises(ModelError, match=r"is there already and was not made from"):
        import_gguf(other, tmp_path)


def test_a_killed_import_leaves_no_model(tmp_path: Path) -> None:
    """Killed while it writes the weights: the folder is not there; the next import clears what is left, and makes it."""
    file = file_of(tmp_path, "qwen2")
    program = (
        "import sys, time, huggingface_hub\nfrom pathlib import Path\n"
        "def slow(*a, **k):\n    print('writing', flush=True)\n    time.sleep(60)\n"
        "huggingface_hub.save_torch_state_dict = slow\n"
        "from designspace.models.gguf_import import import_gguf\nimport_gguf(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(file), str(tmp_path / "out")], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    assert child.stdout is not None and child.stdout.readline() == b"writing\n"
    child.send_signal(signal.SIGKILL)
    child.wait()

    left = [name for name in os.listdir(tmp_path) if name.endswith(".partial")]
    assert len(left) == 1 and not (tmp_path / "out").exists()
    assert not list((tmp_path / left[0]).glob("config.json"))
    import_gguf(file, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["m.gguf", "out"]


def test_a_spec_of_a_file_is_a_spec_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made in the cache folder once, kept by the file's content, with the identity of what `import` makes."""
    monkeypatch.setenv("DESIGNSPACE_CACHE", str(tmp_path / "cache"))
    file = file_of(tmp_path, "qwen2")
    by_file = ModelSpec("m", gguf=str(file))
    import_gguf(file, tmp_path / "out")
    ensure_imported(by_file)

    assert by_file.identity() == ModelSpec("m", path=str(tmp_path / "out")).identity()
    (kept,) = (tmp_path / "cache" / "gguf").iterdir()
    assert by_file.folder == kept and json.loads((kept / ORIGIN).read_text())["file"] == "m.gguf"
    with torch.no_grad():
        assert load_model(by_file).model.config.model_type == "qwen2"
    with pytest.raises(DesignspaceError, match="one of hub, path, gguf, got path and gguf"):
        ModelSpec("m", path="a", gguf="b")


def test_sharded_weights_are_the_unsharded_ones(tmp_path: Path) -> None:
    """A folder with its weights in several files loads as the same model."""
    model = original("qwen2")
    import_gguf(file_of(tmp_path, "qwen2", model), tmp_path / "one")
    whole = imported(tmp_path / "one")
    (tmp_path / "many").mkdir()
    whole.save_pretrained(tmp_path / "many", max_shard_size="40KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "many" / name).write_bytes((tmp_path / "one" / name).read_bytes())
    one, many = (load_model(ModelSpec(n, path=str(tmp_path / n))).model.state_dict() for n in ("one", "many"))

    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    assert one.keys() == many.keys() and all(torch.equal(one[name], many[name]) for name in one)
