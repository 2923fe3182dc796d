"""The quick loop leaves out what it says, and nothing that has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from designspace.axes import Mechanism, Strategy
from designspace.registry import mechanism
from families.cadence.every_k import EveryK
from families.representation.kivi import Kivi
from families.scoring.h2o import H2O
from families.scoring.selectors.mmr import MMR
from families.scoring.snapkv import SnapKV
from tests import changed
from tests.conftest import REPOSITORY
from tests.designspace.testing import test_registered as kit


@pytest.fixture
def touch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that says which files have changed."""
    return lambda *files: monkeypatch.setattr(changed, "changed_files", lambda: frozenset(files))


@dataclass(frozen=True)
class Parameters:
    """What pytest keeps of one parameter set."""

    id: str
    params: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Item:
    """As much of a test as is looked at."""

    nodeid: str
    callspec: Parameters


def case(subject: Strategy | str, file: str = changed.KIT) -> Any:
    """Return a conformance case: of a strategy, or of a system by name."""
    name = subject if isinstance(subject, str) else f"{subject.axis}.{subject.kind}"
    parameters = {"name": subject} if isinstance(subject, str) else {"subject": subject}
    return Item(f"{file}::test[{name}]", Parameters(name, parameters))


def test_every_name_is_one() -> None:
    """Of a file that takes long, of the kit, and of the cases that are run instead of all."""
    assert [file for file in sorted(changed.LONG_FILES) if not (REPOSITORY / file).is_file()] == []
    assert (REPOSITORY / changed.KIT).is_file()
    ids = {parameter.id for parameter in kit.instances()} | {*kit.catalog()}
    assert ids >= changed.SAMPLE


def test_a_long_file_runs_when_it_or_what_it_tests_has_changed(touch: Any) -> None:
    """Any other test file always does."""
    long, short = REPOSITORY / "tests/designspace/engine/test_engine.py", REPOSITORY / "tests/test_layout.py"
    touch("families/scoring/h2o.py")
    assert (changed.is_left_out(long), changed.is_left_out(short)) == (True, False)
    for file in ("designspace/engine/engine.py", "tests/designspace/engine/test_engine.py"):
        touch(file)
        assert not changed.is_left_out(long)


def test_the_cases_of_a_changed_strategy_run(touch: Any) -> None:
    """Whether its own file has changed, one that it is made with, or that of a strategy inside it."""
    scorings, others = [case(H2O()), case(SnapKV(selector=MMR()))], [case(EveryK(k=4)), case(Kivi())]
    systems, foreign = [case("h2o"), case("kivi")], [case("a name", file="tests/another.py")]
    items = [*scorings, *others, *systems, *foreign]
    for file, expected in {
        "families/scoring/h2o.py": [scorings[0], systems[0]],
        "families/scoring/selectors/mmr.py": [scorings[1]],
        "families/representation/quantiser.py": [others[1], systems[1]],
    }.items():
        touch(file)
        left_out = changed.unchanged_cases(items)
        assert [item for item in items if item not in left_out] == [*expected, *foreign]


def test_where_no_strategy_has_changed_a_few_cases_run(touch: Any) -> None:
    """And of the systems of one that most of them have, a few."""
    items = [case(H2O()), case(SnapKV()), case("snapkv")]
    touch("README.md")
    assert changed.unchanged_cases(items) == [items[1]]
    systems = [case(name) for name in kit.catalog()]
    touch("families/head_routing/uniform.py")
    left_out = changed.unchanged_cases(systems)
    kept = [item for item in systems if item not in left_out]
    assert len(kept) == changed.MOST_SYSTEMS
    assert all(is_uniform(mechanism(item.callspec.id)) for item in kept)


def is_uniform(system: Mechanism) -> bool:
    """Return whether a system has the strategy that has changed."""
    return system.head_routing.kind == "uniform"
