"""What calibrating takes is said before it starts: memory in proportion to what is held, seconds to what is run."""

from __future__ import annotations

import pytest
import torch

from designspace.errors import CalibrationError
from designspace.memory import calibration_cost
from designspace.memory.calibration_cost import check_memory, costs, memory_of
from designspace.models.calibrate import Job
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import calibration, calibrations

SPEC = ModelSpec.bundled("pocket-llama")


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    """A bundled model."""
    return load_model(SPEC)


def job(n_texts: int, length: int, *names: str) -> Job:
    """A job on texts of one length."""
    return Job(SPEC, {name: calibration(name) for name in names}, Corpus(((5,) * length,) * n_texts, (), "test"))


def test_sums_need_no_more_memory_for_more_texts() -> None:
    """Kept states do, up to what is taken of them; one text on its way through needs what it needs."""
    sums = memory_of(job(4, 100, "q-stats", "v-pca", "route"))
    assert memory_of(job(40, 100, "q-stats", "v-pca", "route")) == sums
    assert sums.held == 0
    assert memory_of(job(4, 200, "q-stats")).text > 1.9 * sums.text
    kept = [memory_of(job(n, 2048, "kvquant")).held for n in (2, 4, 16, 64)]
    assert kept[1] == 2 * kept[0] and kept[3] == kept[2]


def test_seconds_follow_from_the_rate_at_which_the_model_reads(
    pocket: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read together is one; twice the text takes twice as long."""
    monkeypatch.setattr(calibration_cost, "tokens_per_s", lambda loaded, corpus: 1000.0)
    together, trained = costs(job(10, 100, "kvzap", "v-pca", "q-stats"), pocket)

    assert (together.names, together.n_tokens) == ("v-pca, q-stats", 1000)
    assert together.seconds == pytest.approx(1.2)
    assert trained.names == "kvzap" and trained.n_tokens == 6000 and (trained.seconds or 0) > 6
    twice = costs(job(20, 100, "kvzap", "v-pca", "q-stats"), pocket)
    assert [one.n_tokens for one in twice] == [2000, 12000]


def test_every_artefact_says_what_it_takes(pocket: LoadedModel) -> None:
    """All that are registered here."""
    found = costs(job(2, 64, *calibrations()), pocket)

    assert sorted(name for cost in found for name in cost.names.split(", ")) == list(calibrations())
    assert all(cost.seconds is not None for cost in found)


def test_the_rate_is_measured(pocket: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of one forward pass in the time that it took, not counting the first."""
    clock = iter((0.0, 100.0, 200.0, 200.5))
    monkeypatch.setattr(calibration_cost.time, "perf_counter", lambda: next(clock))
    assert calibration_cost.tokens_per_s(pocket, Corpus(((5,) * 64,), (), "test")) == 128.0


def test_what_does_not_fit_is_refused_with_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Just enough is enough."""
    one = job(2, 64, "kvquant")
    total = memory_of(one).total
    monkeypatch.setattr(calibration_cost, "free_bytes", lambda device: total)
    assert "what the artefacts hold" in check_memory(one)
    monkeypatch.setattr(calibration_cost, "free_bytes", lambda device: total - 1)
    with pytest.raises(CalibrationError, match=r"^memory: about .* on cpu, which has .* free: use fewer --tokens"):
        check_memory(one)


def test_a_measure_that_says_nothing_is_no_fault(pocket: LoadedModel) -> None:
    """A plain function, as other packages register them."""
    plain = Job(SPEC, {"theirs": lambda loaded, corpus: {"x": torch.zeros(1)}}, Corpus(((5,) * 64,), (), "test"))
    assert [(cost.names, cost.seconds) for cost in costs(plain, pocket)] == [("theirs", None)]
    assert memory_of(plain).held == 0
    assert [artefact.name for artefact in plain.made(pocket)] == ["theirs"]
