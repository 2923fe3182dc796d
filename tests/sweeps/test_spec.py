"""A valid sweep: what the short forms mean and what is filled in."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from designspace.axes import Budget
from designspace.errors import DeclarationError
from designspace.registry import mechanism, strategy
from sweeps.expand import expand
from sweeps.presets import PRESETS
from sweeps.spec import GenerationSpec, Seeds, Sweep, parse_sweep
from tests.sweeps.conftest import write_model

SweepOf = Callable[..., Sweep]


def test_budgets_have_three_readings(sweep_of: SweepOf) -> None:
    """A plain number is a mean."""
    sweep = sweep_of(budgets=[48, {"tokens": 64, "of": "nominal"}, {"tokens": 96, "of": "peak"}])
    assert sweep.budgets == (Budget(48), Budget(64, "nominal"), Budget(96, "peak"))


def test_seeds_have_a_default(sweep_of: SweepOf) -> None:
    """One replicate, root 0."""
    assert sweep_of(seeds=None).seeds == Seeds(count=1, root=0)


def test_generation_is_a_plain_record(sweep_of: SweepOf) -> None:
    """The same object can be made in Python; a shard holds `rows` problems unless `block` says otherwise."""
    generation = sweep_of().generation
    assert generation == GenerationSpec(temperature=0.0, max_new_tokens=16, rows=4)
    assert (generation.problems_per_shard, generation.most_new_tokens) == (4, 16)


def test_rows_may_be_called_batch_size(sweep_of: SweepOf) -> None:
    """The same record, and the same identity; a wrong value is told under the name that was written."""
    generation = {"temperature": 0.0, "max_new_tokens": 16}
    assert sweep_of(generation={**generation, "batch_size": 4}).generation == sweep_of().generation
    automatic = sweep_of(generation={**generation, "batch_size": "auto", "memory": "8GiB"})
    assert automatic.generation == sweep_of(generation={**generation, "rows": "auto", "memory": "8GiB"}).generation
    with pytest.raises(DeclarationError, match=r"generation\.batch_size: must be .*at least 1, got 0"):
        sweep_of(generation={**generation, "batch_size": 0})
    with pytest.raises(DeclarationError, match=r"generation\.batch_size: batch_size is another name of rows"):
        sweep_of(generation={**generation, "rows": 4, "batch_size": 4})


def test_total_tokens_bound_new_tokens(sweep_of: SweepOf) -> None:
    """A prompt has at least one token; of two caps the smaller one counts."""
    total = sweep_of(generation={"temperature": 0, "max_total_tokens": 100, "rows": 1}).generation
    both = GenerationSpec(temperature=0, max_total_tokens=100, max_new_tokens=16, rows=1)
    assert (total.most_new_tokens, both.most_new_tokens) == (99, 16)


def test_what_ends_a_text_early_is_declared(sweep_of: SweepOf) -> None:
    """Read, kept in records and written to them only if it is there; mistakes are one line."""
    plain = {"temperature": 0, "max_new_tokens": 16, "rows": 4}
    declared = plain | {"stop": ["\n\nQ:", "é"], "min_new_tokens": 3}
    found = sweep_of(generation=declared).generation

    assert (("\n\nQ:", "é"), 3) == (found.stop, found.min_new_tokens)
    assert declared.items() <= found.model_dump().items()
    assert GenerationSpec(**found.model_dump()) == found
    assert not {"stop", "min_new_tokens"} & sweep_of(generation=plain).generation.model_dump().keys()
    for wrong, message in (
        ({"stop": "Q:"}, r"generation\.stop: must be a list, got 'Q:'"),
        ({"stop": [""]}, r"generation\.stop: a stop string must be text that a model can write, got ''"),
        ({"stop": ["a", "a"]}, "stop strings must differ"),
        ({"stop": [3]}, r"generation\.stop\[0\]: must be text, got 3"),
        ({"min_new_tokens": 17}, "must be at most the cap on new tokens, got min_new_tokens=17, cap=16"),
        ({"stops": ["Q:"]}, r"unknown field \(did you mean 'stop'\?\)"),
    ):
        with pytest.raises(DeclarationError, match=message):
            sweep_of(generation=plain | wrong)


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_gives_numbers_that_stand_in_the_record(sweep_of: SweepOf, name: str) -> None:
    """And in the arms' identities, as if they had been written; what is written beside it counts first."""
    preset = PRESETS[name]
    found = sweep_of(mechanisms=["full"], generation={"preset": name, "rows": 4})
    written = sweep_of(mechanisms=["full"], generation={**preset.values, "rows": 4})
    own = sweep_of(mechanisms=["full"], generation={"preset": name, "rows": 4, "temperature": 0.25}).generation

    assert preset.values.items() <= found.generation.model_dump().items()
    assert found.mechanisms == written.mechanisms
    assert [cell.cell_id for cell in expand(found)] == [cell.cell_id for cell in expand(written)]
    assert (0.25, preset.values["top_p"]) == (own.temperature, own.top_p)
    with pytest.raises(DeclarationError, match=r"preset must be one of .*, got 'qwen3-thinkin' \(did you mean"):
        sweep_of(generation={"preset": "qwen3-thinkin", "rows": 4})


def test_decoding_follows_generation(sweep_of: SweepOf) -> None:
    """Greedy at temperature 0, else sampling with the sweep's settings; an explicit decoding stays."""
    greedy = {"name": "own", "base": "h2o", "decoding": "greedy"}
    hot = sweep_of(
        mechanisms=["snapkv", greedy], generation={"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 16, "rows": 4}
    )
    kinds = [found.decoding.kind for found in (*sweep_of().mechanisms, *hot.mechanisms) if found.decoding]
    assert kinds == ["greedy", "greedy", "sampling", "greedy"]
    assert hot.mechanisms[0].identity()["decoding"]["temperature"] == 0.6
    assert hot.mechanisms[0].identity()["decoding"]["top_p"] == 0.95


def test_a_base_lends_the_axes_that_are_not_given(sweep_of: SweepOf) -> None:
    """An axis that is given replaces the base's whole strategy."""
    (changed,) = sweep_of(
        mechanisms=[{"name": "r-kv-every-8", "base": "r-kv", "cadence": {"kind": "every-k", "k": 8}}]
    ).mechanisms
    base = mechanism("r-kv")
    assert (changed.name, changed.scoring, changed.head_routing) == ("r-kv-every-8", base.scoring, base.head_routing)
    assert changed.cadence == strategy("cadence", "every-k")(k=8)  # type: ignore[call-arg]


def test_omitted_axes_take_their_baseline(sweep_of: SweepOf) -> None:
    """Cadence: every step where there is something to cut, never where there is not."""
    ranked, whole = sweep_of(
        mechanisms=[{"name": "a", "scoring": "knorm"}, {"name": "b", "scoring": "full", "representation": "kivi"}]
    ).mechanisms
    kinds = (ranked.head_routing.kind, ranked.cadence.kind, ranked.representation.kind, whole.cadence.kind)
    assert kinds == ("uniform", "every-step", "full", "never")


def test_a_spelt_out_composition_equals_the_catalogue(sweep_of: SweepOf) -> None:
    """The selector of a scoring is a strategy of its own; an integer in a float field is that float."""
    declared = {
        "name": "mine",
        "scoring": {"kind": "triattention", "selector": {"kind": "diversity", "weight": 1}},
        "cadence": {"kind": "every-k"},
    }
    (mine,) = sweep_of(mechanisms=[declared]).mechanisms
    assert isinstance(mine.scoring.selector.weight, float)  # type: ignore[attr-defined]
    half = {**declared, "scoring": {"kind": "triattention", "selector": {"kind": "diversity", "weight": 0.5}}}
    with pytest.raises(DeclarationError, match="'mine' is the same composition as 'alpha'"):
        sweep_of(mechanisms=["alpha", half])


def test_paths_start_at_the_sweep_file(sweep_of: SweepOf, tmp_path: Path) -> None:
    """A sweep file means the same from wherever it is run."""
    write_model(tmp_path / "models" / "mine")
    (tmp_path / "problems.jsonl").write_text('{"unique_id": "a", "problem": "1+1", "answer": "2"}\n')
    sweep = sweep_of(
        models=[{"name": "mine", "path": "models/mine", "dtype": "bfloat16", "calibration": "elsewhere"}],
        tasks=[{"name": "math500", "split": "all", "path": "problems.jsonl"}],
    )
    assert sweep.models[0].path == str(tmp_path / "models" / "mine")
    assert sweep.models[0].calibration == str(tmp_path / "elsewhere")
    assert [problem.problem_id for problem in sweep.tasks[0].load()] == ["a"]


def test_a_bundled_model_may_change_its_dtype(sweep_of: SweepOf) -> None:
    """A mapping with neither hub nor path is a bundled model."""
    (model,) = sweep_of(models=[{"name": "pocket-llama", "dtype": "bfloat16"}]).models
    assert (model.exists_locally, model.dtype) == (True, "bfloat16")


def test_excluded_pairs_need_not_be_feasible(sweep_of: SweepOf) -> None:
    """Excluding is how an arm that only fits the larger budgets is declared."""
    slow = {"name": "slow", "base": "r-kv", "cadence": {"kind": "every-k", "k": 128}}
    sweep = sweep_of(
        budgets=[48, 128],
        mechanisms=[slow],
        exclude=[{"mechanism": "slow", "budget": 48, "why": "128 steps do not fit"}],
    )
    assert [rule.why for rule in sweep.exclude] == ["128 steps do not fit"]


def test_text_can_be_declared_without_a_file() -> None:
    """For notebooks; messages then start with the given source."""
    with pytest.raises(DeclarationError, match=r"cell 3:1:9: schema: must be 1"):
        parse_sweep("schema: 9", "cell 3")


def test_a_sweep_survives_pickling(sweep_of: SweepOf) -> None:
    """Workers in other processes get parts of it."""
    sweep = sweep_of()
    assert pickle.loads(pickle.dumps(sweep)) == sweep
