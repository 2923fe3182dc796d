"""Models are accepted by proof: families in demand run, what would be computed otherwise is refused by what differed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from designspace.errors import ModelError
from designspace.models import widened
from designspace.models.loading import load_model, prepare
from designspace.models.model_spec import ModelSpec, folder_fingerprint
from designspace.registry import mechanism, strategy
from designspace.testing.model_families import REFUSED, SUPPORTED, page, random_model
from tests.conftest import REPOSITORY, toy_model


@pytest.mark.parametrize("name", SUPPORTED)
def test_supported_families(name: str) -> None:
    """Logits are transformers' to 1e-5, whatever the batch-mates; keys are turned back where their rotation is known."""
    proof = prepare(random_model(*SUPPORTED[name])).proof

    assert proof is not None
    assert proof.logits_difference <= 1e-5
    assert proof.unrotation_error <= 1e-5


@pytest.mark.parametrize("name", REFUSED)
def test_refused_families(name: str) -> None:
    """One line that says why."""
    kind, changes, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason) as caught:
        prepare(random_model(kind, changes))
    assert "\n" not in str(caught.value)


def test_the_list_in_the_docs_names_every_family() -> None:
    """docs/models.md is what the command prints; figures may differ in their last digit between machines."""
    written = (REPOSITORY / "docs/models.md").read_text(encoding="utf-8")
    printed = "\n".join(page())

    def without_figures(text: str) -> list[list[str]]:
        return [[cell for n, cell in enumerate(line.split("|")) if n not in (3, 4)] for line in text.splitlines()]

    assert without_figures(written) == without_figures(printed)


def _own_frequencies(model: Any) -> None:
    """Turn the keys of one layer by frequencies that the model's rotary embedding does not have."""
    layer = model.model.layers[1].self_attn
    plain = layer.forward

    def forward(*given: Any, position_embeddings: Any, **named: Any) -> Any:
        cos, sin = position_embeddings
        angle = 2 * torch.atan2(sin, cos)  # a whole multiple: angles are known up to whole turns
        return plain(*given, position_embeddings=(angle.cos(), angle.sin()), **named)

    layer.forward = forward


@pytest.mark.parametrize(
    ("name", "changes", "change", "words"),
    [
        (
            "GLM-4",
            {"head_dim": 16, "partial_rotary_factor": 1.0},
            None,
            "in layers 0, 1, 2 neighbouring components are turned together",
        ),
        ("Llama 3", {}, _own_frequencies, "in layer 1 keys are turned at other frequencies"),
    ],
)
def test_mechanisms_that_turn_keys_back_refuse_what_is_turned_otherwise(
    name: str, changes: dict[str, Any], change: Callable[[Any], None] | None, words: str
) -> None:
    """TriAttention and expected attention would score with garbage; what needs no rotation runs."""
    kind, usual = SUPPORTED[name]
    model = random_model(kind, {**usual, **changes})
    if change is not None:
        change(model)
    geometry = prepare(model).geometry

    for needy in ("triattention", "expected-attention"):
        assert any(words in reason for reason in mechanism(needy).geometry_errors(geometry))
    assert not mechanism("h2o").geometry_errors(geometry)
    assert strategy("scoring", "knorm")().unsupported_reason(geometry) is None


Change = Callable[[Any], None]


def _other_scaling(model: Any) -> None:
    """Attend at another temperature than the layer says."""
    for layer in model.model.layers:
        layer.self_attn.register_forward_pre_hook(lambda module, args: None)
    forward = model.model.layers[0].self_attn.o_proj.forward
    model.model.layers[0].self_attn.o_proj.forward = lambda x: forward(x * (1.0 + 0.01 * float(x.shape[1] > 1)))


def _two_heads_less(model: Any) -> None:
    """Say that there are fewer KV heads than there are."""
    model.config.num_key_value_heads = 1


def _mates_matter(model: Any) -> None:
    """Add something of the whole batch to every row."""
    forward = model.lm_head.forward
    model.lm_head.forward = lambda x: forward(x + 1e-6 * x.mean(dim=0, keepdim=True))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_other_scaling, "its logits under slot attention differ"),
        (
            _two_heads_less,
            "hands over a key of 2 heads of 16, the configuration says 1 of 16",
        ),
        (_mates_matter, "a row's logits depend on the other rows of its batch|differ from transformers'"),
    ],
)
def test_a_model_that_is_not_what_it_seems_is_refused(change: Change, reason: str) -> None:
    """Each change is small, and each is found."""
    model = toy_model("llama").model
    change(model)
    with pytest.raises(ModelError, match=reason):
        prepare(model)


def _sharp(model: Any) -> None:
    """Let scores be in the hundreds, as some heads of real models have them: rounding then moves attention by much."""
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.data *= 256.0


def test_what_rounding_would_hide_is_found_in_a_narrow_type() -> None:
    """One percent is within what bfloat16 loses, and is refused all the same."""
    model = toy_model("llama").model.bfloat16()
    _other_scaling(model)
    with pytest.raises(ModelError, match=r"differ from transformers' by .* in torch\.float32"):
        prepare(model)


def test_a_model_is_not_refused_for_what_rounding_does_to_it() -> None:
    """Its logits in bfloat16 are far from those in float32, transformers' as much as ours; the weights stay as they were."""
    model = toy_model("llama").model.bfloat16()
    _sharp(model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    proof = prepare(model).proof

    assert proof is not None
    assert proof.compared_in == "float32"
    assert proof.logits_error < 1e-4
    assert proof.rounding_error > 5e-2
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.bfloat16}


def test_without_room_for_float32_it_is_compared_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and a model that is only rounded much is refused rather than believed."""
    monkeypatch.setattr(widened, "free_bytes", lambda device: 0)
    model = toy_model("llama").model.bfloat16()
    quiet = prepare(model).proof
    _sharp(model)

    assert quiet is not None
    assert quiet.compared_in == "bfloat16"
    with pytest.raises(ModelError, match="no room to compare them in float32"):
        prepare(model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A toy model in a folder."""
    toy_model("llama").model.save_pretrained(tmp_path / "toy")
    return tmp_path / "toy"


def _without(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if name != "lm_head.weight"}


def _with_more(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**weights, "extra.weight": torch.zeros(2)}


def _reshaped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**weights, "lm_head.weight": weights["lm_head.weight"][:3].clone()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without, "it lacks lm_head.weight"), (_with_more, "it has unknown extra.weight"),
        (_reshaped, "it has in another shape lm_head.weight"),
    ],
)  # fmt: skip
def test_other_weights_than_the_configuration_asks_for(folder: Path, change: Callable[..., Any], message: str) -> None:
    """What is missing would be random in every process."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=message):
        load_model(ModelSpec("toy", path=str(folder)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of git-lfs"),
        (None, "model.safetensors holds no weights: .*download it again"),
    ],
)
def test_files_that_hold_no_weights_are_named(folder: Path, content: bytes | None, message: str) -> None:
    """A pointer of git-lfs, or half of a download."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000] if content is None else content)
    with pytest.raises(ModelError, match=message):
        load_model(ModelSpec("toy", path=str(folder)))


@pytest.mark.parametrize(
    "name",
    [
        "chat_template.jinja",
        "special_tokens_map.json",
        "merges.txt",
        "tokenizer.model",
        "additional_chat_templates/x.jinja",
    ],
)
def test_every_file_that_can_change_a_prompt_is_part_of_the_identity(folder: Path, name: str) -> None:
    """An edit of the chat template is another model; a page of documentation is not."""
    before = folder_fingerprint(folder)
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("{{ messages }}")
    folder_fingerprint.cache_clear()
    after = folder_fingerprint(folder)
    (folder / "README.md").write_text("about")
    folder_fingerprint.cache_clear()

    assert before != after == folder_fingerprint(folder)
