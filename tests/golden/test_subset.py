"""The cases that come with the repository: enough for every test here, true to the whole collection, and small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from tests.conftest import GOLDEN, GOLDEN_SUBSET
from tests.golden.cases import read

MOST_BYTES = 500_000
ASKED = re.compile(r'golden_files\("(\w+)"(?:, "([^"]+)")?\)')
FILES = sorted(GOLDEN_SUBSET.rglob("*.safetensors"))


def test_no_test_is_without_a_case() -> None:
    """Whatever files a test asks for, some are there; of generations one for each test of them."""
    sources = [file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py")]
    asked = {found for source in sources for found in ASKED.findall(source)}
    topics = {topic for source in sources for topic in re.findall(r'entries\("(\w+)"\)', source)}

    assert len(asked) > 15
    assert [a for a in asked if not list((GOLDEN_SUBSET / a[0]).glob(a[1] or "*.safetensors"))] == []
    assert [topic for topic in topics if not (GOLDEN_SUBSET / "statistics" / f"{topic}.json").is_file()] == []
    generations = {file.stem.rpartition("_")[2] for file in (GOLDEN_SUBSET / "e2e").glob("llama_*")}
    assert generations >= {"full", "streamlate", "every8", "ragged"}


def test_it_is_small() -> None:
    """Half a megabyte at most, the text that explains it included."""
    assert sum(file.stat().st_size for file in GOLDEN_SUBSET.rglob("*") if file.is_file()) <= MOST_BYTES


@pytest.mark.skipif(GOLDEN == GOLDEN_SUBSET, reason="the whole collection is not here")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_part_of_the_whole(file: Path) -> None:
    """Every tensor is the collection's; weights are rounded."""
    ours, meta = read(file)
    theirs, whole = read(GOLDEN / file.relative_to(GOLDEN_SUBSET))

    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name].to(tensor.dtype)), name
        assert tensor.dtype == theirs[name].dtype or "rounded" in meta, name
    assert {key: meta[key] for key in meta if key != "rounded"} == {key: whole[key] for key in meta if key != "rounded"}


@pytest.mark.skipif(GOLDEN == GOLDEN_SUBSET, reason="the whole collection is not here")
@pytest.mark.parametrize("file", sorted((GOLDEN_SUBSET / "statistics").glob("*.json")), ids=lambda file: file.stem)
def test_statistics_are_those_of_the_whole(file: Path) -> None:
    """All entries."""
    assert json.loads(file.read_text()) == json.loads((GOLDEN / "statistics" / file.name).read_text())
