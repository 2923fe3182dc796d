"""The side-by-side benchmarks take a folder with a model, and say what a step and a run of ours take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import resident
from benchmarks.engine_fleet import Floor, Run
from benchmarks.own_step import OwnSide, lines
from benchmarks.products import step_products
from benchmarks.settings import REAL, Load, load_of, parser
from benchmarks.subject import context_and_question, subject

RUN = Run(
    tokens_per_s=10.0, wall_s=6.4, event_share=0.1, n_events=3, step_s=0.2, process_bytes=3 * 2**30,
    grown_bytes=96 * 2**20, allocated_bytes=64 * 2**20, held_bytes=48 * 2**20,
)  # fmt: skip


def folder(path: Path, dtype: str) -> str:
    """Write what says that a model is there."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"dtype": dtype}))
    return str(path)


def test_a_folder_is_a_subject_in_the_type_of_its_weights(tmp_path: Path) -> None:
    """With word problems as prompts, which kvpress gets in two parts that make the same text."""
    half, whole = folder(tmp_path / "half", "bfloat16"), folder(tmp_path / "whole", "float32")
    assert [(found.name, found.dtype, found.real) for found in map(subject, (half, whole))] == [
        ("half", "bfloat16", True),
        ("whole", "float32", True),
    ]

    prompts = subject(half).prompts(3, start=2)
    assert prompts == subject(half).prompts(5)[2:]
    assert ["".join(context_and_question(prompt)) for prompt in prompts] == prompts


def test_a_folder_is_an_option_with_a_load_of_its_own(tmp_path: Path) -> None:
    """What is asked for comes first."""
    name = folder(tmp_path / "m", "bfloat16")
    asked = parser("").parse_args(["--models", name, "--rows", "4"])

    assert load_of(asked, {}, name) == Load(4, REAL.tokens)
    assert load_of(asked, {"pocket": Load(1, 7)}, "pocket-bf16") == Load(4, 7)


def test_what_is_no_model_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """With what was got, and the nearest that there is."""
    with pytest.raises(SystemExit):
        parser("").parse_args(["--models", "poket"])

    assert "got 'poket'; did you mean 'pocket'?" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the file and the place."""
    (Path(folder(tmp_path / "m", "float32")) / "config.json").write_text("{")
    with pytest.raises(SystemExit):
        parser("").parse_args(["--models", str(tmp_path / "m")])

    assert "config.json:1:2: not JSON" in capsys.readouterr().err


def test_all_products_of_a_step_are_timed() -> None:
    """Every linear layer once, two operations per weight and row."""
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 16, bias=False)).requires_grad_(False)
    found = step_products(model, rows=3)

    assert found.n_flop == 2 * 3 * (8 * 4 + 4 * 16)
    assert 0 < found.seconds < 1
    assert found.flop_per_s == found.n_flop / found.seconds


def test_shares_of_a_step_and_memory_are_shown() -> None:
    """A step of 200 ms with 50 ms of products, 40 ms of which are the floor."""
    own = OwnSide("m", 32, [RUN, RUN], Floor(0.05, 4e10, 1e11, 0.04), generate_grown_bytes=2**21)
    step, memory = (line for line in lines([own]) if line.startswith("| m |"))

    assert step == (
        "| m | 32 | 200 (200–200) | 50.0 | **25.0 % (25.0 %–25.0 %)** | 40.0 | 100 | 20.0 % (20.0 %–20.0 %) |"
    )
    assert memory == "| m | 3.00 | 96.0 | 64.0 | 48.0 | 2.00 |"


def test_the_peak_is_of_what_is_held_for_a_moment() -> None:
    """64 MiB that are gone again, but not those from before."""
    before = resident.begin_peak()
    torch.ones(16 * 2**20).sum()

    assert 60 * 2**20 < resident.peak() - before < 90 * 2**20
    assert resident.begin_peak() < before + 30 * 2**20
    assert resident.peak() < before + 30 * 2**20
