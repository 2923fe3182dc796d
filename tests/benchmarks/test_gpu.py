"""The check of a CUDA device starts anywhere, says what it did not run, and fails where something does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Check, Setting

TINY = Setting("cpu", "tiny", rows=2, prompt=24, tokens=8, budget=24)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_it_says_so(tmp_path: Path) -> None:
    """A file that says that nothing was checked, not one of passes."""
    out = tmp_path / "folder" / "gpu.md"

    assert gpu.main(["--out", str(out)]) == 0
    assert "**Skipped**" in out.read_text(encoding="utf-8")


def test_what_does_not_hold_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that does not hold, one that breaks, and one that has no time: each is in the file."""

    def broken(setting: Setting) -> Check:
        raise RuntimeError("no such kernel\nmore")

    sections = {"Wrong": lambda setting: Check(["1 of 2"], False), "Broken": broken}
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    out = tmp_path / "gpu.md"

    assert gpu.main(["--device", "cpu", "--shape", "tiny", "--out", str(out)]) == 1
    assert gpu.main(["--device", "cpu", "--shape", "tiny", "--out", str(tmp_path / "late.md"), "--minutes", "0"]) == 0
    text = out.read_text(encoding="utf-8")
    assert "**Not as it must be**" in text
    assert "**Failed**: RuntimeError: no such kernel" in text
    assert (tmp_path / "late.md").read_text(encoding="utf-8").count("**Not run**") == 2


def test_the_full_cache_is_held_against_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same texts; with other texts on one side the check does not hold."""
    assert gpu.full_cache(TINY).holds
    monkeypatch.setattr(gpu, "_generate", lambda loaded, prompts, tokens: [(0,) * tokens])
    assert not gpu.full_cache(TINY).holds


@pytest.mark.slow
def test_a_large_model_is_made_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every arm has a rate; memory is not claimed where it is not known."""
    monkeypatch.setattr(gpu, "STEP_KINDS", ("plain",))
    lines = gpu.throughput(TINY).lines

    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "`generate`, full cache", "`full`, plain", "`snapkv`, plain", "`triattention`, plain", "`alpha`, plain",
    ]  # fmt: skip
    assert "**Not run**" in gpu.memory(TINY).lines[0]
