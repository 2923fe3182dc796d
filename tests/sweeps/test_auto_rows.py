"""`rows: auto`: a number that follows from the declaration, is one for all arms, and enters identities as if written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import designspace.models
from designspace.errors import CalibrationError, DeclarationError, ModelError
from designspace.memory.batch_rows import LADDER, SHARE
from designspace.models.loading import LoadedModel, load_model
from sweeps.auto_rows import arms, combinations_of, with_rows
from sweeps.combinations import combinations
from sweeps.expand import expand
from sweeps.generation_fields import AutoGeneration, GenerationSpec
from sweeps.plan import plan
from sweeps.plan_table import print_plan
from sweeps.spec import Sweep
from sweeps.study import Study
from sweeps.task_data import task_data
from tests.sweeps.conftest import write_model
from tests.sweeps.studies import protocol, study_of, tuned

SweepOf = Callable[..., Sweep]
REAL = Path(designspace.models.__file__).parent / "pocket"  # the other tests' bundled models have no tokenizer
LLAMA = {"name": "pocket-llama", "path": str(REAL / "pocket-llama")}


def auto(memory: object = "12MiB", **changes: Any) -> dict[str, Any]:
    """Return a generation section."""
    return {"temperature": 0.0, "max_new_tokens": 96, "rows": "auto", "memory": memory, **changes}


def resolved(sweep: Sweep) -> Sweep:
    """Return the sweep with its number of rows."""
    return with_rows(sweep, {task: task_data(task) for task in sweep.tasks})


def test_a_size_is_bytes(sweep_of: SweepOf) -> None:
    """Binary and decimal units, and plain bytes."""
    for text, expected in (("80GiB", 80 * 2**30), ("24GB", 24 * 10**9), ("0.5MiB", 2**19), (1000, 1000)):
        found = sweep_of(models=[LLAMA], generation=auto(text)).generation
        assert isinstance(found, AutoGeneration)
        assert found.memory == expected


def test_identities_are_those_of_the_number_written_out(sweep_of: SweepOf) -> None:
    """So a declaration may be changed from `auto` to the number, and its results stay."""
    sweep = sweep_of(models=[LLAMA], mechanisms=["full", "snapkv", "h2o"], generation=auto())
    cells = expand(sweep)
    rows = cells[0].generation.rows
    written = sweep_of(
        models=[LLAMA],
        mechanisms=["full", "snapkv", "h2o"],
        generation={"temperature": 0.0, "max_new_tokens": 96, "rows": rows},
    )
    assert rows in LADDER
    assert {cell.generation for cell in cells} == {GenerationSpec(temperature=0.0, max_new_tokens=96, rows=rows)}
    assert [cell.identity for cell in expand(written)] == [cell.identity for cell in cells]
    assert [cell.cell_id for cell in expand(written)] == [cell.cell_id for cell in cells]
    assert resolved(written) is written


def test_the_number_is_the_most_that_every_arm_holds(sweep_of: SweepOf) -> None:
    """Every arm's footprint is within the share of the memory; with one step more, one is not."""
    sweep = sweep_of(models=[LLAMA], budgets=[48, 96], mechanisms=["full", "snapkv", "h2o"], generation=auto())
    rows = resolved(sweep).generation.rows
    assert isinstance(rows, int)
    found = arms(combinations_of(sweep), {task: task_data(task) for task in sweep.tasks})
    allowed = SHARE * 12 * 2**20
    assert len(found) == 5
    assert all(one.memory.at(rows).total <= allowed for one in found)
    assert not all(one.memory.at(LADDER[LADDER.index(rows) + 1]).total <= allowed for one in found)


def test_memory_and_arms_decide(sweep_of: SweepOf) -> None:
    """More memory is never fewer rows; another arm is never more."""
    numbers = [
        resolved(sweep_of(models=[LLAMA], mechanisms=["snapkv"], generation=auto(f"{n}MiB"))).generation.rows
        for n in (8, 16, 64)
    ]
    longer = auto("16MiB", max_new_tokens=400)
    alone, together = (
        resolved(sweep_of(models=[LLAMA], mechanisms=names, generation=longer)).generation.rows
        for names in (["snapkv"], ["snapkv", "full"])
    )
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[2]
    assert together < alone  # type: ignore[operator]


def test_engines_are_counted_with_the_prompts_that_they_will_have(sweep_of: SweepOf) -> None:
    """The longest prompt in tokens fixes the slots, and what it leaves of a total length the new ones."""
    sweep = sweep_of(models=[LLAMA], mechanisms=["full"], generation=auto(max_total_tokens=80, max_new_tokens=None))
    loaded: LoadedModel = load_model(sweep.models[0])
    lengths = [len(loaded.encode(problem.prompt)) for problem in sweep.tasks[0].load()]
    (found,) = arms(combinations_of(sweep), {task: task_data(task) for task in sweep.tasks})
    assert found.memory.max_prompt_tokens == max(lengths)
    assert found.memory.max_new_tokens == 80 - min(lengths)
    assert found.memory.capacity == max(lengths) + 80 - min(lengths) + 1


def test_excluded_cells_do_not_count(sweep_of: SweepOf) -> None:
    """What is not run needs no memory."""
    rule = {"mechanism": "full", "why": "too large"}
    without = sweep_of(models=[LLAMA], mechanisms=["snapkv", "full"], generation=auto("16MiB"), exclude=[rule])
    alone = sweep_of(models=[LLAMA], mechanisms=["snapkv"], generation=auto("16MiB"))
    assert resolved(without).generation == resolved(alone).generation
    assert {one.mechanism.name for one in combinations(without)} == {"snapkv"}


def test_the_plan_says_what_limits(sweep_of: SweepOf) -> None:
    """In words for people, in numbers for scripts; nothing where the number is written."""
    found = plan(
        sweep_of(models=[LLAMA], budgets=[48], mechanisms=["full", "snapkv"], generation=auto(max_new_tokens=400))
    )
    assert found.rows_limit is not None
    data = json.loads(found.to_json())
    assert (data["rows"], data["rows_limit"]["arm"], data["rows_limit"]["model"]) == (
        found.rows,
        "full",
        "pocket-llama",
    )
    assert data["rows_limit"]["memory"] == 12 * 2**20
    parts = [data["rows_limit"][name] for name in ("cache", "workspace", "weights")]
    assert sum(parts) <= SHARE * 12 * 2**20
    stream = StringIO()
    print_plan(found, Console(file=stream, width=100))
    assert f"rows: auto: {found.rows} rows in 12.0 MiB: limited by full on pocket-llama: " in stream.getvalue()
    written = plan(sweep_of(models=[LLAMA]))
    assert (written.rows, written.rows_limit) == (4, None)


def test_a_number_that_results_have_is_kept(sweep_of: SweepOf) -> None:
    """Whatever would fit now."""
    sweep = replace(sweep_of(models=[LLAMA], generation=auto("64MiB")), rows_before=6)
    found = plan(sweep)
    assert {cell.generation.rows for cell in expand(sweep)} == {found.rows} == {6}
    assert found.rows_limit is not None
    assert "6 rows in 64.0 MiB: as in the results; the largest is" in found.rows_limit.text


def test_too_little_memory_names_the_arm(sweep_of: SweepOf) -> None:
    """And what one row of it takes."""
    with pytest.raises(
        DeclarationError, match=r"memory must hold one row of every arm, got 2\.0 MiB.*; full on pocket-llama"
    ):
        expand(sweep_of(models=[LLAMA], mechanisms=["full"], generation=auto("2MiB")))


def test_what_is_missing_is_said(sweep_of: SweepOf, tmp_path: Path) -> None:
    """Problems, a model's configuration, a calibration: without them there is no number, and so no identity."""
    with pytest.raises(
        DeclarationError,
        match=r"rows: auto needs the prompts of task 'math500' split 'dev': cannot load .* .no hub in tests.",
    ):
        plan(sweep_of(models=[LLAMA], tasks=[{"name": "math500"}], generation=auto()))
    write_model(tmp_path / "bare")
    with pytest.raises(ModelError, match="cannot load the tokenizer of model 'bare'"):
        plan(sweep_of(models=[{"name": "bare", "path": "bare"}], generation=auto()))
    uncalibrated = {**LLAMA, "calibration": str(tmp_path / "none")}
    with pytest.raises(CalibrationError, match=r"designspace calibrate \S*pocket-llama q-stats --sweep "):
        plan(sweep_of(models=[uncalibrated], mechanisms=["alpha"], generation=auto()))


def test_a_mechanism_that_cannot_run_on_the_model_is_refused(sweep_of: SweepOf) -> None:
    """Before its memory is asked for."""
    odd = {"name": "odd", "representation": {"kind": "kivi", "group": 24, "residual": 48}, "scoring": "full"}
    with pytest.raises(DeclarationError, match="mechanism 'odd' on model 'pocket-llama': kivi group must divide"):
        plan(sweep_of(models=[LLAMA], mechanisms=[odd], generation=auto()))


@pytest.fixture
def study() -> Study:
    """A study whose number of slots is tuned through the cadence, with `rows: auto`."""
    arm = tuned(cadence={"kind": "every-k", "k": {"tune": {"choices": [4, 64]}}})
    return study_of(arm, models=[LLAMA], generation=auto("16MiB"))


def test_a_study_has_one_number(study: Study) -> None:
    """For every value that tuning may find, for development and for held-out problems: it is what is registered."""
    rows = study.sweep.generation.rows
    assert study.sweep.generation.model_dump()["rows"] == rows
    sweeps = [study.sweep_for({"arm.cadence.k": k}) for k in (4, 64)]
    assert {cell.generation.rows for sweep in sweeps for cell in expand(sweep)} == {rows}
    assert sweeps[0].rows_plan == study.sweep.rows_plan
    assert study.sweep.rows_plan is not None


def test_a_study_counts_the_largest_value_and_the_heldout_prompts(study: Study) -> None:
    """Held-out problems of another length, or a value with more slots, leave room for fewer rows."""
    changes = {"models": [LLAMA], "generation": auto("16MiB")}
    small = study_of(tuned(cadence={"kind": "every-k", "k": {"tune": {"choices": [4, 5]}}}), **changes)
    largest = study_of(tuned(cadence={"kind": "every-k", "k": {"tune": {"choices": [64, 4]}}}), **changes)
    limits = [one.sweep.rows_plan for one in (small, study, largest)]
    assert limits[1] == limits[2]
    assert limits[0] is not None
    assert limits[1] is not None
    assert limits[0].rows >= limits[1].rows
    assert limits[1].arm.startswith("arm")
    assert protocol()["heldout"][0]["split"] == "confirm"


def test_the_full_cache_of_teacher_forced_arms_must_fit_too(sweep_of: SweepOf) -> None:
    """It makes the texts that are fed, so it limits the rows although the sweep has no such arm."""
    decodings: list[Any] = ["greedy", {"kind": "teacher-forced"}]
    free, forced, full = (
        resolved(sweep_of(models=[LLAMA], mechanisms=mechanisms, budgets=[24], generation=auto(max_new_tokens=512)))
        for mechanisms in (*([{"name": "arm", "base": "h2o", "decoding": d}] for d in decodings), ["full"])
    )
    assert forced.generation.rows == full.generation.rows < free.generation.rows  # type: ignore[union-attr, operator]
    assert forced.rows_plan is not None
    assert "full" == forced.rows_plan.arm
