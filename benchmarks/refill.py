"""How much of a batch idles: row-steps in which a row has nothing to write, with texts as long as in a real run. No timing.

    python -m benchmarks.refill [--problems 512] [--seeds 3] [--rows 64] [--mechanism snapkv] [--budget 96]

The pocket model solves problems until its end-of-text token; a row that has finished takes the next problem at the end of
the burst of steps it is in, and idles when none is left. A worker streams the seeds of an arm through one engine, so they
make one list. Next to it: the same texts in fixed batches, each lasting as long
as its longest text.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from benchmarks.engine_side import new_engine
from benchmarks.measured import percent, table
from benchmarks.settings import preamble
from benchmarks.subject import POCKET, subject
from designspace.axes import Budget, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from families.decoding.sampling import Sampling


@dataclass(frozen=True)
class Filling:
    """Steps of the whole batch, and in how many of its row-steps a text was written.

    n_steps: steps of each text, in the order they were asked for.
    """

    rows: int
    batch_steps: int
    n_steps: tuple[int, ...]

    @property
    def idle(self) -> float:
        """Share of row-steps in which a row had nothing to write."""
        return 1 - sum(self.n_steps) / (self.rows * self.batch_steps)

    @property
    def idle_before_the_end(self) -> float:
        """Share that idles although a text is waiting, as against rows that always take the next one at once."""
        return self.idle - sum(self._left_at_the_end()) / (self.rows * self.batch_steps)

    def _left_at_the_end(self) -> list[int]:
        """Return how long each row idles at the end where whichever is free first takes the next text."""
        busy_until = [0] * self.rows
        for n_steps in self.n_steps:
            heapq.heapreplace(busy_until, busy_until[0] + n_steps)
        return [max(busy_until) - step for step in busy_until]

    def in_fixed_batches(self) -> Filling:
        """Return the same texts in batches that end with their longest text."""
        starts = range(0, len(self.n_steps), self.rows)
        return Filling(self.rows, sum(max(self.n_steps[start : start + self.rows]) for start in starts), self.n_steps)


def filling(engine: Engine, requests: Sequence[Request]) -> Filling:
    """Write all texts and count."""
    before = engine.n_steps
    n_steps = {generation.problem_id: generation.n_steps for generation in engine.generate(requests)}
    return Filling(engine.rows, engine.n_steps - before, tuple(n_steps[request.problem_id] for request in requests))


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Count and yield the lines of the section."""
    model = subject(POCKET)
    loaded = load_model(ModelSpec(POCKET, path=str(model.path)))
    prompts = [loaded.encode(prompt) for prompt in model.prompts(arguments.problems)]
    engine = new_engine(
        loaded,
        mechanism(arguments.mechanism).override(arguments.mechanism, decoding=Sampling(temperature=0.6, top_p=0.95)),
        Budget(arguments.budget),
        rows=arguments.rows,
        max_new_tokens=512,
        max_prompt_tokens=max(map(len, prompts)),
    )
    asked = [
        Request(f"{idx}, seed {seed}", ids, stream_key(seed, str(idx), 0))
        for seed in range(arguments.seeds)
        for idx, ids in enumerate(prompts)
    ]
    found = filling(engine, asked)
    fixed, lengths = found.in_fixed_batches(), sorted(found.n_steps)
    yield (
        f"{arguments.problems} problems × {arguments.seeds} seeds on {arguments.rows} rows, `{arguments.mechanism}` at budget "
        f"{arguments.budget}, "
        f"{lengths[0]} to {lengths[-1]} steps per text, median {lengths[len(lengths) // 2]}.\n"
    )
    rows = [
        ("rows refilled as they finish", found.batch_steps, f"**{percent(found.idle)}**"),
        ("of which before the end of the list", "", percent(found.idle_before_the_end)),
        ("the same texts in fixed batches", fixed.batch_steps, percent(fixed.idle)),
    ]
    yield from table(("", "steps of the batch", "row-steps idle"), rows)


def main(argv: list[str] | None = None) -> None:
    """Count and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("problems", 512), ("seeds", 3), ("rows", 64), ("budget", 96)):
        options.add_argument(f"--{option}", type=int, default=default)
    options.add_argument("--mechanism", default="snapkv")
    options.add_argument("--section", action="store_true", help="leave out machine and versions")
    arguments = options.parse_args(argv)
    torch.set_num_threads(1)
    print(preamble(arguments, "Rows that idle"))
    for line in report(arguments):
        print(line)


if __name__ == "__main__":
    main()
