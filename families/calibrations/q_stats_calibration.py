"""The artefact "q-stats-reasoning": query statistics of the model's own reasoning, for the scoring `q-stats`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from designspace.axes import Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.calibration_stages import stage
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Effort, apart
from designspace.models.query_statistics import statistics_of
from families.cadence.never import Never
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.full import Full
from families.scoring.q_stats import ARTEFACT

MAX_NEW_TOKENS = 512  # of one trace
_ROWS = 8
_STEP = 32  # tokens of a text that take as long as a decode step, about


def _effort(loaded: LoadedModel, corpus: Corpus) -> Effort:
    # Each new token is one step of at most _ROWS rows, which reads the weights as often as a short text does.
    n_prompt = sum(map(len, corpus.prompts))
    return Effort(2 * n_prompt + (2 + _STEP // _ROWS) * MAX_NEW_TOKENS * len(corpus.prompts))


@apart(_effort)
def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return q_mean_real, q_mean_imag and q_abs_mean, each [L,H_q,D/2] float32, over the model's own full-cache texts.

    Raises:
        CalibrationError: a corpus without problems, or a model that rotates only part of its head dimension.
    """
    if not corpus.prompts:
        raise CalibrationError(
            f"artefact {ARTEFACT!r} needs problems whose solutions the model writes, got plain text ({corpus.source})"
        )
    return statistics_of(loaded, traces(loaded, corpus.prompts))


def traces(loaded: LoadedModel, prompts: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Yield each prompt with the text that the model writes after it, greedily and with the full cache."""
    engine = Engine(
        loaded,
        Mechanism("full cache", Full(), Uniform(), Never(), FullPrecision(), Greedy()),
        None,
        rows=min(_ROWS, len(prompts)),
        max_new_tokens=MAX_NEW_TOKENS,
        max_prompt_tokens=max(len(prompt) for prompt in prompts),
    )
    names = [f"calibration {i}" for i in range(len(prompts))]
    requests = [Request(name, ids, stream_key(0, name, 0)) for name, ids in zip(names, prompts, strict=True)]
    written = {}
    with stage("writing", len(requests), "solutions") as done:
        for generation in engine.generate(requests):
            written[generation.problem_id] = generation.token_ids
            done(1)
    for name, prompt in zip(names, prompts, strict=True):
        yield prompt + written[name]
