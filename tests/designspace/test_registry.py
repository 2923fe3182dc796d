"""The registry: names, entry points of other packages, and what every registered strategy owes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from designspace import plugins, registry
from designspace.axes import Mechanism
from designspace.cli.describe import listing
from designspace.errors import DesignspaceError, UnknownName
from designspace.registry import REGISTRY_AXES, catalog, kinds, mechanism, strategy

ALL = [(axis, kind) for axis in REGISTRY_AXES for kind in kinds(axis)]

PLUGIN = """
from dataclasses import dataclass, field
from typing import ClassVar
from designspace.axes import Scoring, Selector
from families.scoring.selectors.top_k import TopK

@dataclass(frozen=True)
class Age(Scoring):
    kind: ClassVar[str] = "{kind}"
    selector: Selector = field(default=TopK())

    def score(self, view):
        return -view.positions.float()
"""


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Forget what was discovered, before and after, and the package that was."""
    cached = (registry._strategy_points, registry.strategy, registry.catalog)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()
    sys.modules.pop("plug_in", None)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str, registered_as: str) -> None:
    """Put a package with one strategy and its entry point on the path."""
    (folder / "plug_in.py").write_text(PLUGIN.format(kind=kind))
    info = folder / "plug_in-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[designspace.mechanisms]\nscoring.{registered_as} = plug_in:Age\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "plug_in", raising=False)


@pytest.mark.usefixtures("fresh_registry")
def test_another_package_adds_a_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point is all it takes."""
    install(tmp_path, monkeypatch, kind="age", registered_as="age")

    assert "age" in kinds("scoring")
    assert strategy("scoring", "age")().identity()["kind"] == "age"  # type: ignore[call-arg]


@pytest.mark.usefixtures("fresh_registry")
def test_a_strategy_under_a_wrong_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class and its registration must agree."""
    install(tmp_path, monkeypatch, kind="age", registered_as="youth")

    with pytest.raises(DesignspaceError, match="is registered as scoring 'youth' but says scoring 'age'"):
        strategy("scoring", "youth")


@pytest.mark.usefixtures("fresh_registry")
def test_two_packages_with_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No silent winner."""
    install(tmp_path, monkeypatch, kind="h2o", registered_as="h2o")

    with pytest.raises(DesignspaceError, match="two packages register scoring 'h2o'"):
        kinds("scoring")


@pytest.mark.parametrize(("axis", "kind"), ALL, ids=lambda x: x)
def test_strategies_are_frozen_printable_hashable_and_json_able(axis: str, kind: str) -> None:
    """An instance with defaults can serve as key, label and identity."""
    made = strategy(axis, kind)()

    assert made == strategy(axis, kind)() and hash(made) == hash(strategy(axis, kind)())
    assert type(made).__name__ in repr(made)
    assert json.loads(json.dumps(made.identity()))["kind"] == kind
    left_out = {name for name, value in made.all_added().items() if getattr(made, name) == value}
    assert set(made.identity()) == {"kind", "version"} | {f.name for f in fields(made)} - left_out
    assert made.all_added().keys() <= {f.name for f in fields(made)}
    for parameter in fields(made):
        with pytest.raises(FrozenInstanceError):
            setattr(made, parameter.name, None)
    assert (type(made).__doc__ or "").strip()


@pytest.mark.parametrize("name", list(catalog()))
def test_catalogue_entries_are_legal_and_cited(name: str) -> None:
    """Every published system has a summary, and its key is in the bibliography."""
    bibliography = (Path(__file__).parents[2] / "docs" / "references.bib").read_text(encoding="utf-8")
    entry = mechanism(name)

    assert entry.name == name
    assert entry.summary
    assert entry.composition_errors() == []
    for key in (entry.citation, *(part.citation for part in entry.strategies().values())):
        assert key is None or f"{{{key}," in bibliography


def test_unknown_names_come_with_the_nearest() -> None:
    """Axis, kind and mechanism."""
    with pytest.raises(UnknownName, match=r"unknown axis 'scorin' \(did you mean 'scoring'\?\)"):
        kinds("scorin")
    with pytest.raises(UnknownName, match=r"unknown scoring kind 'snapkw' \(did you mean 'snapkv'\?\)"):
        strategy("scoring", "snapkw")
    with pytest.raises(UnknownName, match=r"unknown mechanism 'alfa' \(did you mean 'alpha'\?\)"):
        mechanism("alfa")


def test_meaningless_compositions_are_refused() -> None:
    """With every reason at once."""
    full, h2o = mechanism("full"), mechanism("h2o")
    with pytest.raises(DesignspaceError, match="has nothing to cut: use 'never'"):
        full.override("x", cadence=h2o.cadence)
    with pytest.raises(DesignspaceError, match="would have no effect") as caught:
        Mechanism("y", h2o.scoring, mechanism("ada-kv").head_routing, full.cadence, full.representation)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "import no_such_package",
            "the plug-in 'scoring.age' of package 'plug-in' .*No module named 'no_such_package'$",
        ),
        ("1 / 0", "the plug-in 'scoring.age' of package 'plug-in' .*ZeroDivisionError"),
        ("", "the plug-in 'scoring.age' of package 'plug-in' .*has no attribute 'Age'"),
        ("Age = 7", "plug_in:Age is registered as scoring 'age', got 7"),
        ("import math_verify.nothing_there", "this command needs math_verify: pip install"),
    ],
)
def test_a_broken_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    """Whatever it raises while it is imported, `list` names the package rather than end in a traceback."""
    install(tmp_path, monkeypatch, kind="age", registered_as="age")
    (tmp_path / "plug_in.py").write_text(content)

    with pytest.raises(DesignspaceError, match=message) as caught:
        listing("scoring")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("content", ["CATALOG = 7", "CATALOG = {'x': 7}"])
def test_what_is_no_catalogue_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """It must map names to mechanisms."""
    install(tmp_path, monkeypatch, kind="age", registered_as="age")
    (tmp_path / "plug_in-1.dist-info/entry_points.txt").write_text("[designspace.catalog]\nmine = plug_in:CATALOG\n")
    (tmp_path / "plug_in.py").write_text(content)

    with pytest.raises(DesignspaceError, match="plug_in:CATALOG is registered as a catalogue of mechanisms, got"):
        catalog()


def test_the_extra_that_an_entry_point_needs_is_named() -> None:
    """A grader or task of another package may need more than that package does by itself."""
    point = EntryPoint("mine", "no_such_package.grader:Mine [fast,exact]", "designspace.graders")

    with pytest.raises(DesignspaceError, match=r"No module named 'no_such_package': pip install '.*\[fast,exact\]'$"):
        plugins.load(point)
