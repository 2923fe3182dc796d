"""Idle row-steps: counted on a toy model, and by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.engine_side import new_engine, requests, without_end
from benchmarks.refill import Filling, filling
from benchmarks.subject import subject
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import catalog
from families.decoding.greedy import Greedy


def test_shares_by_hand() -> None:
    """Two rows; texts of 3, 1, 1 and 4 steps: 3 on one row, 1 + 1 + 4 on the other, or 3 and 4 in fixed batches."""
    found = Filling(rows=2, batch_steps=6, n_steps=(3, 1, 1, 4))

    assert 1 - 9 / 12 == found.idle
    assert 0.0 == found.idle_before_the_end
    assert 7 == found.in_fixed_batches().batch_steps and 1 - 9 / 14 == found.in_fixed_batches().idle


def test_steps_that_no_end_explains_are_shown() -> None:
    """The same texts in nine steps: six row-steps more are idle than at the end of the list."""
    found = Filling(rows=2, batch_steps=9, n_steps=(3, 1, 1, 4))

    assert pytest.approx(6 / 18) == found.idle_before_the_end


def test_an_engine_is_counted(tmp_path: Path) -> None:
    """Texts of one length that fill the rows exactly leave nothing idle; one more leaves a row idle for a whole text."""
    model = subject("tiny", tmp_path)
    loaded = without_end(load_model(ModelSpec("tiny", path=str(model.path))))
    arm = catalog()["full"].override("full", decoding=Greedy())
    engine = new_engine(loaded, arm, None, rows=2, max_new_tokens=9, max_prompt_tokens=32)

    even = filling(engine, requests(loaded, model.prompts(4)))
    odd = filling(engine, requests(loaded, model.prompts(3)))

    assert (16, (8, 8, 8, 8)) == (even.batch_steps, even.n_steps) and 0.0 == even.idle
    assert (16, (8, 8, 8)) == (odd.batch_steps, odd.n_steps) and 0.25 == odd.idle and 0.0 == odd.idle_before_the_end
