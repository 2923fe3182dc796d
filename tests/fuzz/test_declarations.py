"""Damaged sweeps and studies: a line with its place for every fault, or a plan of what stands in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from designspace.errors import DeclarationError, DesignspaceError
from sweeps.plan import plan
from sweeps.spec import Sweep, load_sweep
from sweeps.study import is_study, load_study
from tests.fuzz.bounds import bounded
from tests.fuzz.damage import damaged
from tests.fuzz.declarations import STUDY, SWEEP, plain, values_damaged, write_folder

N_EXCERPT, N_ALL = 20, 600
SOUND = (SWEEP.encode(), STUDY.encode())


def _planned(path: Path) -> Sweep:
    """Do what the command `plan` does, and return the sweep that it was done with."""
    with bounded():
        if not is_study(path):
            sweep = load_sweep(path)
        else:
            study = load_study(path)
            study.data_records()
            sweep = study.sweep
        plan(sweep).to_json()
    return sweep


def _faults(path: Path) -> Iterator[str]:
    """Yield what is wrong with what is made of a damaged file."""
    try:
        sweep = _planned(path)
    except DeclarationError as error:
        place = rf"{re.escape(str(path))}:\d+:\d+: \S"
        yield from (f"no place: {line!r}" for line in error.problems if not re.match(place, line))
        yield from (f"more than a line: {line!r}" for line in error.problems if len(line.splitlines()) != 1)
    except DesignspaceError as error:
        if len(str(error).splitlines()) != 1:
            yield f"not a line: {error}"
    else:
        yield from _misread(sweep, plain(path.read_bytes().decode("utf-8-sig")))


def _misread(sweep: Sweep, data: Any) -> Iterator[str]:
    """Yield what of a sweep is not what another reader finds in its file."""
    generation = data["generation"]
    pairs = {
        "study": (sweep.study, str(data["study"])),
        "models": ([model.name for model in sweep.models], [_name(entry) for entry in data["models"]]),
        "tasks": ([task.name for task in sweep.tasks], [_name(entry) for entry in data["tasks"]]),
        "problems": ([task.problems for task in sweep.tasks], [entry.get("problems") for entry in data["tasks"]]),
        "budgets": ([budget.tokens for budget in sweep.budgets], [_tokens(entry) for entry in data.get("budgets", [])]),
        "root": (sweep.seeds.root, (data.get("seeds") or {}).get("root", 0)),
        "count": (sweep.seeds.count, (data.get("seeds") or {}).get("count", 1)),
        "temperature": (sweep.generation.temperature, generation["temperature"]),
        "max_new_tokens": (sweep.generation.max_new_tokens, generation.get("max_new_tokens")),
        "rows": (sweep.generation.rows, generation.get("rows", generation.get("batch_size"))),
    }
    yield from (f"{what}: {ours!r} for {theirs!r}" for what, (ours, theirs) in pairs.items() if ours != theirs)


def _name(entry: Any) -> str:
    return str(entry["name"] if isinstance(entry, dict) else entry)


def _tokens(entry: Any) -> Any:
    return entry if isinstance(entry, int) else entry.get("tokens", entry.get("bytes_per_token_full"))


def check(seed: int, folder: Path) -> None:
    """Damage one file and plan it."""
    random, path = Random(f"declarations {seed}"), folder / "sweep.yaml"
    content = damaged(random, random.choice(SOUND), [values_damaged] * 3)
    path.write_bytes(content)
    faults = list(_faults(path))
    assert faults == [], f"seed {seed}: {content!r:.4000}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the sound sweep names."""
    made = tmp_path_factory.mktemp("declared")
    write_folder(made)
    return made


@pytest.mark.parametrize("content", SOUND)
def test_the_sound_ones_are_planned(content: bytes, folder: Path) -> None:
    """Else nothing would be tried but what is wrong with them."""
    (folder / "sound.yaml").write_bytes(content)
    assert _planned(folder / "sound.yaml").models


@pytest.mark.parametrize("first", range(0, N_EXCERPT, 10))
def test_some_damaged_files(first: int, folder: Path) -> None:
    """An excerpt, for every run of the suite."""
    for seed in range(first, first + 10):
        check(seed, folder)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(N_EXCERPT, N_ALL, 10))
def test_many_damaged_files(first: int, folder: Path) -> None:
    """The rest."""
    for seed in range(first, first + 10):
        check(seed, folder)
