"""The inline executor passes the suite, in this process."""

import os
from pathlib import Path

from cluster.inline import InlineExecutor
from tests.cluster.executor_suite import ExecutorSuite, drain, shards


class TestInline(ExecutorSuite):
    """The suite."""

    def make(self) -> InlineExecutor:
        """One thread, so that nothing of the test process changes."""
        return InlineExecutor(threads=1)


def test_it_stays_in_this_process(tmp_path: Path) -> None:
    """That is what it is for."""
    drain(InlineExecutor(threads=1), shards("ok"), tmp_path)
    assert str(os.getpid()) == (tmp_path / "ok#0").read_text().split()[0]
