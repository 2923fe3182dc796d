"""Sandbox: the child is limited, killed when it runs away, and replaced; nothing it is given is executed."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from designspace.errors import MissingExtra
from designspace.tasks.grading.sandbox import Sandbox

RUNAWAY = "(x+y+z+w)^{300}"  # expanding it for a comparison takes minutes


def test_a_runaway_item_is_cut_off_and_the_next_one_is_fine() -> None:
    """The child is killed at the deadline and respawned for the next item."""
    with Sandbox(deadline_s=1.0) as sandbox:
        sandbox.compare("x", "y")  # start it first, so that only the item is timed
        first_pid = sandbox.pid
        started_s = time.monotonic()
        outcome = sandbox.compare("x^{300}", RUNAWAY).outcome
        wall_s = time.monotonic() - started_s

        assert outcome == "timeout"
        assert 0.9 < wall_s < 10
        assert first_pid is not None
        assert not Path(f"/proc/{first_pid}").exists()
        assert sandbox.compare("x+y", "y+x").outcome == "equal"
        assert sandbox.n_spawned == 2


def test_a_child_killed_from_outside_is_replaced_without_losing_the_item() -> None:
    """Memory pressure may kill an idle child; the next comparison starts another."""
    with Sandbox() as sandbox:
        sandbox.compare("x", "y")
        assert sandbox.pid is not None
        os.kill(sandbox.pid, signal.SIGKILL)

        assert sandbox.compare("a+b", "b+a").outcome == "equal"


def test_the_child_runs_under_its_limits() -> None:
    """2 GiB of address space, no core dumps, few files, no file writes, no user environment."""
    with Sandbox() as sandbox:
        sandbox.compare("x", "y")
        assert sandbox.pid is not None
        limits = {
            kind: resource.prlimit(sandbox.pid, kind)[1]
            for kind in (resource.RLIMIT_AS, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
        }
        environment = Path(f"/proc/{sandbox.pid}/environ").read_bytes()

    expected = {
        resource.RLIMIT_AS: 2 * 1024**3,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_FSIZE: 0,
    }
    assert expected == limits
    assert b"HOME=" not in environment


@pytest.mark.parametrize("template", ["{}", r"\text{{{}}}", r"\operatorname{{{}}}", "f({})", r"\sqrt{{{}}}"])
def test_code_in_an_answer_has_no_effect(template: str, tmp_path: Path) -> None:
    """A candidate of Python code, sent straight to the child, is not executed."""
    marker = tmp_path / "marker"
    with Sandbox() as sandbox:
        for code in (f"__import__('os').system('touch {marker}')", f"open('{marker}', 'w').write('x') or 0"):
            verdict = sandbox.compare("0", template.format(code))

            assert verdict.outcome != "equal"
            assert not marker.exists()


def test_it_works_off_the_main_thread_and_from_several_threads() -> None:
    """No signals are used, and two threads never read each other's reply."""
    pairs = [(f"x+{n}", f"{n}+x" if n % 2 else f"{n + 1}+x") for n in range(16)]
    outcomes: dict[int, list[str]] = {}
    with Sandbox() as sandbox:

        def work(thread: int) -> None:
            outcomes[thread] = [sandbox.compare(gold, answer).outcome for gold, answer in pairs]

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)

        expected = ["equal" if n % 2 else "unequal" for n in range(16)]
        assert {0: expected, 1: expected, 2: expected} == outcomes
        assert sandbox.n_spawned == 1


def test_close_ends_the_child_and_a_later_comparison_starts_another() -> None:
    """A closed sandbox holds no process and is usable again."""
    sandbox = Sandbox()
    sandbox.compare("x", "y")
    pid = sandbox.pid
    sandbox.close()

    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
    assert sandbox.pid is None
    assert sandbox.compare("x+y", "y+x").outcome == "equal"
    sandbox.close()


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path: Path) -> None:
    """The child never imports the caller's main module."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('started')\n"
        "from designspace.tasks.grading import MathGrader\n"
        "with MathGrader() as grader:\n"
        "    print(grader.grade(r'\\boxed{b+a}', 'a+b').strict_status)\n"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )

    assert done.stdout == "started\ncorrect\n"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it every answer would look ungradable, and every gold unreadable."""
    monkeypatch.setattr("designspace.errors.find_spec", lambda module: None)
    with (
        Sandbox() as sandbox,
        pytest.raises(MissingExtra, match=r"needs math_verify: pip install 'designspace\[sweep\]'"),
    ):
        sandbox.compare(r"\frac{1}{2}", "0.5")
