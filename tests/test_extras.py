"""A mechanism needs nothing but torch and transformers; a command without its extra says which one it needs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from designspace.errors import EXTRA_OF, MissingExtra, missing_extra, require
from tests.conftest import REPOSITORY
from tests.designspace.query.stored_study import write_study
from tests.docs.run_page import blocks

# Runs before a program: to it the named packages are not installed, neither for `import` nor for who asks beforehand.
WITHOUT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {absent} else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv[1:] = {arguments}
"""

EVERY_STRATEGY = """
import designspace.engine
from designspace import Budget, Engine, ModelSpec, Request, load_model, mechanism
from designspace.registry import REGISTRY_AXES, catalog, kinds, strategy
from families.decoding.greedy import Greedy

n_strategies = sum(strategy(axis, kind).kind == kind for axis in REGISTRY_AXES for kind in kinds(axis))
n_systems = sum(mechanism(name).name == name for name in catalog())
loaded = load_model(ModelSpec.bundled("pocket-llama"))
h2o = mechanism("h2o").override("h2o", decoding=Greedy())
engine = Engine(loaded, h2o, Budget(20), rows=1, max_new_tokens=8, max_prompt_tokens=48)
prompt = loaded.encode("<bos> solve modulo ten : A: a= a +3 ; B: b= b +2 ; given a1 b4 loop run s04 ask last =>")
(generation,) = engine.generate([Request("mine", prompt, bytes(16))])
print(n_strategies, n_systems, generation.n_new_tokens, max(generation.cache_tokens_per_step))
"""

COMMAND = "from designspace.cli import main; main()"

# Distributions that bring a module of another name, or along with their own.
DISTRIBUTION_OF = {
    "anyio": "huggingface_hub",
    "annotated_types": "annotated-types",
    "math_verify": "math-verify",
    "pydantic_core": "pydantic",
    "regex": "transformers",
    "ruamel": "ruamel.yaml",
    "sympy": "torch",
    "triton": "torch",
}


def run_without(absent: set[str], program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own that has everything but some packages."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(absent=absent, arguments=list(arguments)) + program],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@cache
def declared() -> dict[str, set[str]]:
    """Return the distributions of every extra, what it inherits included; "" has those that are always installed."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}

    def of(extra: str) -> set[str]:
        names = set()
        for requirement in lists[extra]:
            inherited = re.fullmatch(r"designspace\[(.*)\]", requirement)
            names |= (
                set().union(*map(of, inherited[1].split(",")))
                if inherited
                else {re.split(r"[<>=~! \[]", requirement)[0]}
            )
        return names

    return {extra: of(extra) for extra in lists}


def imported() -> dict[str, set[str]]:
    """Return the top-level modules of others that the packages import anywhere, each with the files that do."""
    found: dict[str, set[str]] = {}
    own = {"designspace", "families", "sweeps", "cluster"}
    for file in (file for package in sorted(own) for file in (REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in {name.partition(".")[0] for name in names} - own - set(sys.stdlib_module_names):
                found.setdefault(name, set()).add(str(file.relative_to(REPOSITORY)))
    return found


def test_a_mechanism_needs_no_extra() -> None:
    """Every strategy and every system loads, and a model writes eight tokens, with nothing of any extra there."""
    done = run_without(set(EXTRA_OF), EVERY_STRATEGY)

    assert done.returncode == 0, done.stderr
    n_strategies, n_systems, n_new_tokens, most_tokens = map(float, done.stdout.split())
    assert (n_strategies > 60, n_systems > 60, n_new_tokens, most_tokens <= 20) == (True, True, 8, True)


def test_the_page_on_programs_is_true_without_extras() -> None:
    """Its programs that need nothing measured."""
    page = (REPOSITORY / "docs/how-to/use-a-mechanism.md").read_text(encoding="utf-8")
    bodies = [block.body for block in blocks(page) if block.language == "python"]
    in_one_call, within_transformers, *_ = bodies
    (by_engine,) = [body for body in bodies if "engine.generate" in body]
    done = run_without(set(EXTRA_OF), in_one_call + within_transformers + by_engine)

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


def test_a_mechanism_in_a_mapping_names_the_extra_that_it_needs() -> None:
    """Its fields are checked by what checks a sweep's."""
    program = 'import designspace\ndesignspace.generate("pocket-llama", "<bos>", {"scoring": "knorm"}, 48)\n'
    done = run_without(set(EXTRA_OF), program)

    assert done.stderr.splitlines()[-1].endswith("pip install 'designspace[sweep]'")


def test_everything_imported_is_declared() -> None:
    """Each module is a dependency, or `EXTRA_OF` has an extra that brings it; no extra is named that does not."""
    required = declared()[""]
    undeclared = {
        module: sorted(files)
        for module, files in imported().items()
        if (distribution := DISTRIBUTION_OF.get(module, module)) not in required
        and distribution not in declared().get(EXTRA_OF.get(module, ""), ())
    }
    assert undeclared == {}
    assert {m for m, extra in EXTRA_OF.items() if DISTRIBUTION_OF.get(m, m) not in declared()[extra]} == set()
    parts = [declared()[extra] for extra in ("study", "report", "duckdb", "gguf")]
    assert declared()["dev"] >= declared()["all"] == set().union(*parts)


def test_constraints_name_every_dependency() -> None:
    """An installation under `constraints.txt` leaves none of them open."""
    pinned = {line.partition("==")[0].lower() for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}

    assert {name for names in declared().values() for name in names} - pinned == set()


@pytest.mark.parametrize(
    ("absent", "arguments", "extra"),
    [
        ("typer", ["list"], "sweep"),
        ("ruamel", ["plan", "sweeps/quickstart.yaml"], "sweep"),
        ("pyarrow", ["report", "nowhere"], "sweep"),
        ("matplotlib", ["report", "nowhere", "--html", "page.html", "--static"], "report"),
        ("duckdb", ["query", "nowhere", "SELECT 1"], "duckdb"),
        ("gguf", ["import", "README.md", "--out", "nowhere"], "gguf"),
        ("accelerate", ["import", "README.md", "--out", "nowhere"], "gguf"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(absent: str, arguments: list[str], extra: str, tmp_path: Path) -> None:
    """One line, and exit code 2, before anything is done."""
    results = ["--results", str(tmp_path / "results")] if arguments[0] == "run" else []
    done = run_without({absent}, COMMAND, *arguments, *results)

    assert (done.returncode, done.stderr) == (
        2,
        f"error: this command needs {absent}: pip install 'designspace[{extra}]'\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_arms_need_no_other_extra(tmp_path: Path) -> None:
    """The table, its contrasts and the terminal's report: with what sweeps need, and nothing of studies, figures or SQL."""
    folder, out = str(tmp_path / "r"), str(tmp_path / "c.csv")
    write_study(tmp_path / "r")
    absent = {module for module, extra in EXTRA_OF.items() if extra != "sweep"}
    for arguments in (["report", folder], ["export", folder, "--table", "contrasts", "--out", out]):
        done = run_without(absent, COMMAND, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "c.csv").read_text().count("\n") == 9


def test_any_other_missing_module_keeps_its_traceback() -> None:
    """A broken installation is not a matter of extras."""
    assert missing_extra(ModuleNotFoundError("no", name="torch")) is None
    assert missing_extra(ModuleNotFoundError("no")) is None
    found = missing_extra(ModuleNotFoundError("no", name="math-verify"))
    assert isinstance(found, MissingExtra)
    assert (found.module, found.extra) == ("math_verify", "sweep")


def test_a_package_that_is_there_is_not_missed() -> None:
    """Nothing happens."""
    require("pyarrow")
