"""Identity: what is in it, what is not, and ids that change only with a version bump."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from designspace.axes import Budget
from designspace.canonical import canonical_json
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from designspace.tasks.task_spec import TaskSpec
from families.decoding.greedy import Greedy
from families.decoding.sampling import Sampling
from families.scoring.selectors.diversity import Diversity
from families.scoring.triattention import TriAttention
from sweeps.generation_fields import GenerationSpec
from sweeps.identity import IDENTITY_VERSION, cell_id, identity_document
from sweeps.shards import shard_id
from sweeps.spec import Sweep

GOLDEN = Path(__file__).parent / "golden"

PARTS: dict[str, Any] = {
    "model": ModelSpec("far", hub="org/far", revision="main"),
    "task": TaskSpec("math500", "dev"),
    "task_content_hash": "content",
    "mechanism": replace(mechanism("alpha"), decoding=Greedy()),
    "calibration": {"q-stats": "statistics"},
    "budget": Budget(48),
    "generation": GenerationSpec(temperature=0.0, max_new_tokens=16, rows=4),
    "replicate": 0,
    "root_seed": 7,
}


def id_of(**changes: Any) -> str:
    """Return the id of the fixed parts with some replaced."""
    return cell_id(identity_document(**{**PARTS, **changes}))


def test_golden_ids() -> None:
    """Ids of fixed documents change only when `IDENTITY_VERSION` does: then, and only then, rewrite the file."""
    documents = json.loads((GOLDEN / "identities.json").read_text(encoding="utf-8"))
    lines = [f"identity version {IDENTITY_VERSION}"]
    for name, document in documents.items():
        identity = cell_id(document)
        lines.append(f"{name} {identity} {shard_id(identity, ['a', 'b'])} {shard_id(identity, ['b', 'a'])}")
    assert (GOLDEN / "ids.txt").read_text(encoding="utf-8").splitlines() == lines


def test_the_projection_of_a_fixed_declaration() -> None:
    """Field by field: a change here is a change of every id and needs a new `IDENTITY_VERSION`."""
    document = identity_document(**PARTS)
    assert document.pop("mechanism") == PARTS["mechanism"].identity()
    assert document == {
        "identity_version": 2,
        "engine_version": 5,
        "model": {"hub": "org/far", "revision": "main", "dtype": "float32", "attention": "designspace"},
        "calibration": {"q-stats": "statistics"},
        "task": {
            "name": "math500",
            "split": "dev",
            "content": "content",
            "template": PARTS["task"].template_hash,
        },
        "budget": {"tokens": 48, "of": "mean"},
        "generation": {"max_new_tokens": 16, "max_total_tokens": None, "rows": 4, "block": 4, "step": "plain"},
        "replicate": 0,
        "root_seed": 7,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelSpec("far", hub="org/far", revision="v2")},
        {"model": ModelSpec("far", hub="org/far", revision="main", dtype="bfloat16")},
        {"task": TaskSpec("math500", "confirm")},
        {"task_content_hash": "other"},
        {"task_content_hash": None},
        {"calibration": {"q-stats": "other"}},
        {"calibration": {}},
        {"mechanism": replace(PARTS["mechanism"], decoding=Sampling(temperature=0.6, top_p=1.0))},
        {"mechanism": replace(PARTS["mechanism"], scoring=TriAttention(selector=Diversity(weight=0.25)))},
        {"budget": Budget(49)},
        {"budget": Budget(48, "peak")},
        {"budget": None},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=17, rows=4)},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=16, rows=5, block=4)},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=16, rows=4, block=8)},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=16, rows=4, step="compiled")},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=16, max_total_tokens=99, rows=4)},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=16, rows=4, stop=("Q:",))},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=16, rows=4, min_new_tokens=1)},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=16, rows=4, prefill_chunk=2048)},
        {"replicate": 1},
        {"root_seed": 8},
    ],
)
def test_what_can_change_a_result_changes_the_id(changes: dict[str, Any]) -> None:
    """Model, data, mechanism, calibration, budget, generation policy, seed."""
    assert id_of() != id_of(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelSpec("another-label", hub="org/far", revision="main", calibration="elsewhere")},
        {"model": ModelSpec("far", hub="org/far", revision="main", device="cuda:1")},
        {"mechanism": replace(PARTS["mechanism"], name="label", summary="words", citation=None)},
        {"mechanism": replace(PARTS["mechanism"], scoring=TriAttention(selector=Diversity(weight=0.5)))},
        {"calibration": {"q-stats": "statistics", "not-needed": "x"}},
        {"generation": GenerationSpec(temperature=0.6, top_p=0.9, max_new_tokens=16, rows=4)},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=16, rows=4, block=4)},
        {"generation": GenerationSpec(temperature=0.0, max_new_tokens=16, rows=4, stop=(), min_new_tokens=0)},
    ],
)
def test_labels_and_paths_do_not(changes: dict[str, Any]) -> None:
    """Names, folders, artefacts that are not read, and sampling settings that the decoding states or ignores."""
    assert id_of() == id_of(**changes)


def test_a_whole_float_hashes_like_the_integer() -> None:
    """`Diversity(weight=1)` made in Python is the arm that YAML's `weight: 1.0` declares."""
    one, float_one = (
        replace(PARTS["mechanism"], scoring=TriAttention(selector=Diversity(weight=weight))) for weight in (1, 1.0)
    )
    assert id_of(mechanism=one) == id_of(mechanism=float_one)
    assert canonical_json({"b": [1.0, -0.0, 1e300], "a": True}) == '{"a":true,"b":[1,0,1e+300]}'


def test_what_json_cannot_say_is_refused() -> None:
    """NaN has no place in an identity."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_the_order_of_keys_in_the_file_is_of_no_account(sweep_of: Callable[..., Sweep]) -> None:
    """Mappings are unordered in YAML."""
    from sweeps.expand import expand

    first = {"name": "a", "cadence": {"kind": "every-k", "k": 8, "prefill": False}, "scoring": "knorm"}
    second = {"scoring": {"kind": "knorm"}, "cadence": {"prefill": False, "k": 8, "kind": "every-k"}, "name": "a"}
    ids = [[cell.cell_id for cell in expand(sweep_of(mechanisms=[entry]))] for entry in (first, second)]
    assert ids[0] == ids[1]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_round_trips(value: Any) -> None:
    """Reading it back gives equal data, and writing that gives the same text."""
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@given(
    st.dictionaries(st.text("abcdef", max_size=3), st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    st.randoms(),
)
def test_key_order_does_not_matter(value: dict[str, Any], random: Any) -> None:
    """Nor does it for the hash."""
    items = list(value.items())
    random.shuffle(items)
    assert cell_id(dict(items)) == cell_id(value)
