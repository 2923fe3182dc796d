"""A prompt cut here keeps what kvpress keeps, on a real model in float32, and the text goes on with the same tokens.

kvpress 0.5.4 runs as released, in an environment of its own. Where its definition is not our default, ours is given its
parameters (`benchmarks.press_parity.PAIRS`), and then nothing is left that differs but rounding:

* kvpress computes the window's queries anew from the hidden states; here they are the stored ones. It scores a prompt in one
  pass by itself; here prompts run together, padded. Both move scores by some units of float32's last place.
* Equal scores: kvpress leaves the order to `torch.topk`, here the newest of equals stays. Keys of the first layer are those of
  the token alone, turned by its position, so a token that stands in a prompt twice has the same norm twice, up to rounding:
  `knorm` has such ties there.
* Sizes: kvpress rounds down what a ratio leaves, so that 1 - size / n may keep a token less. It is given half a token more.
* The means over a window and over the query heads of a KV head are the same in either order; one softmax over the prompt.

A set that differs must be a tie by kvpress' own scores. A text may part only behind such a set, and must not part when it is
written here from kvpress' sets; or where the reference's two best logits are a tie to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.against_kvpress import ENVIRONMENT
from benchmarks.press_parity import PAIRS, SIZES, Agreement, Peer, compared, differences, endless, ours, texts
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from families.scoring.snapkv import SnapKV
from tests.conftest import REPOSITORY, SHARED_DATA

pytestmark = pytest.mark.peer
PYTHON = Path(os.environ.get("KVPRESS_PYTHON", REPOSITORY / ENVIRONMENT / "bin/python"))
MODEL = Path(os.environ.get("DESIGNSPACE_REAL_MODELS", REPOSITORY / "build/models")) / "smollm2-135m"
GSM8K = SHARED_DATA / "gsm8k_test.jsonl"
TIE = 1e-5  # between scores, as a share of the span of the head's scores
LOGIT_TIE = 1e-3  # between the two best logits
MOST_TIES = 0.05  # of all sets


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    """The model, if it and kvpress are there."""
    if not PYTHON.exists():
        pytest.skip(f"no interpreter with kvpress at {PYTHON}: run `make bench-peer`, or set KVPRESS_PYTHON")
    if not (MODEL / "config.json").is_file():
        pytest.skip(f"no model at {MODEL}: run `make real`, or set DESIGNSPACE_REAL_MODELS")
    return ModelSpec(MODEL.name, path=str(MODEL))


@pytest.fixture(scope="module")
def loaded(spec: ModelSpec) -> LoadedModel:
    """The model in float32, whose texts end at their limit."""
    return endless(load_model(spec))


@pytest.fixture(scope="module")
def peer(spec: ModelSpec) -> Iterator[Peer]:
    """The other side with the same files."""
    with Peer(str(PYTHON), spec) as found:
        yield found


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[tuple[int, ...]]:
    """Problems in the chat template: of GSM8K where it is, else those that are made here."""
    return [loaded.encode(text) for text in texts(GSM8K if GSM8K.is_file() else None)]


@pytest.fixture(
    scope="module", params=[(press, size) for press in PAIRS for size in SIZES], ids=lambda p: f"{p[0]}-{p[1]}"
)
def found(request: pytest.FixtureRequest, loaded: LoadedModel, peer: Peer, prompts: list[tuple[int, ...]]) -> Agreement:
    """Both sides at one press and size."""
    press, size = request.param
    agreement = compared(loaded, peer, press, prompts, size)
    print("\n" + " | ".join(agreement.cells()), *agreement.notes(), sep="\n")
    return agreement


def test_the_same_tokens_are_kept(found: Agreement) -> None:
    """In every layer and KV head of every prompt, but for ties."""
    assert found.n_sets == found.n_texts * 30 * 3
    assert [one for one in found.differences if one.gap > TIE] == []
    assert len(found.differences) <= MOST_TIES * found.n_sets


def test_the_text_goes_on_with_the_same_tokens(found: Agreement) -> None:
    """All of them, from the same sets."""
    assert [text for text in found.parted if not text.explained(LOGIT_TIE)] == []
    assert found.n_tokens == found.n_texts * 64


def test_another_definition_is_noticed(loaded: LoadedModel, peer: Peer, prompts: list[tuple[int, ...]]) -> None:
    """SnapKV pooled by a maximum, as it is by default, keeps other tokens than kvpress in most heads, and by no tie."""
    (size, _), prompt = SIZES, prompts[0]
    own = ours(loaded, SnapKV(recent=16), {"p": prompt}, size)["p"]
    other = differences(own, peer.cut("snapkv", prompt, size))

    assert sum(one.gap > TIE for one in other) > 0.5 * 30 * 3
