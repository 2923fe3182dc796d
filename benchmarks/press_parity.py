"""Does a prompt that is cut here keep the tokens that kvpress keeps, and does the text go on with the same tokens?

    python -m benchmarks.press_parity [--models build/models/smollm2-135m] [--problems FILE] [--presses knorm …] [--sizes 24 48]

Both sides read the same token ids in float32, cut the prompt once to the same number of tokens per head, and write greedily.
Ours is the engine with the cadence `prefill-only`, all prompts in one batch; kvpress takes one prompt at a time, in an
environment of its own (`make bench-peer`, or KVPRESS_PYTHON). What is compared is the set of tokens in every layer and KV head,
and the text token by token. Sets that differ are shown with how near the swapped tokens' scores are; a text that parts behind
such a set is written again here from kvpress' own sets.

Our scorings have the parameters of kvpress' presses, which are not the defaults here in four cases (`PAIRS`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks.against_kvpress import kvpress_python
from benchmarks.json_lines import Worker
from benchmarks.measured import table, versions
from benchmarks.settings import progress
from designspace.axes import Budget, Mechanism, Request, Scoring, Selector, View
from designspace.engine import Engine
from designspace.engine.hook import EngineHook
from designspace.engine.row import RowState
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.models.worked_problems import worked_problems
from families.cadence.prefill_only import PrefillOnly
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.expected_attention import ExpectedAttention
from families.scoring.keydiff import KeyDiff
from families.scoring.knorm import KNorm
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM
from families.scoring.tova import TOVA

MODULE = "benchmarks.kvpress_presses"
N_PROMPTS, N_NEW_TOKENS, SIZES = 16, 64, (24, 48)
MODEL = "build/models/smollm2-135m"
Sets = list[list[list[int]]]


@dataclass(frozen=True)
class GivenSets(Scoring):
    """Keep what one prompt is told to keep: positions by layer and KV head, as many in each."""

    kind: ClassVar[str] = "given-sets"

    selector: Selector = field(default=TopK())
    kept: tuple[tuple[tuple[int, ...], ...], ...] = ()

    def score(self, view: View) -> Tensor:
        """Return 1 for what is kept, 0 for the rest, [L,E,H_kv,C]."""
        kept = torch.tensor(self.kept)  # [L,H_kv,c]
        chosen = torch.zeros(*kept.shape[:2], int(view.next_position.max())).scatter_(-1, kept, 1.0)
        chosen = chosen[:, None].expand(-1, view.positions.shape[1], -1, -1)
        return chosen.gather(-1, view.positions.clamp(min=0))


@dataclass(frozen=True)
class Pair:
    """A scoring of ours for a prompt's length, and the parameters of the press of the same name that it stands beside."""

    scoring: Callable[[int], Scoring]
    parameters: dict[str, Any] = field(default_factory=dict)


PAIRS = {
    # kvpress keeps no window of newest tokens, here 8 are kept by default.
    "knorm": Pair(lambda _: KNorm(recent=0)),
    "streaming-llm": Pair(lambda _: StreamingLLM()),
    # Pooled by a mean over 5 instead of a maximum over 7; kvpress' own window of 64 is more than either size.
    "snapkv": Pair(lambda _: SnapKV(recent=16, kernel=5, pool="avg"), {"window_size": 16}),
    "tova": Pair(lambda _: TOVA()),
    "keydiff": Pair(lambda _: KeyDiff(recent=0)),
    # kvpress takes the statistics of all queries but the 4 sinks', here of the newest 64; and it keeps no window.
    "expected-attention": Pair(lambda n_prompt: ExpectedAttention(window=n_prompt - 4, recent=0)),
}


@dataclass(frozen=True)
class Cut:
    """One prompt of one side. kept: positions [L][H_kv][size], ascending. tokens: what was written.

    scores: kvpress' [L][H_kv][n]; leads: of each token's logit over the next best. Both are empty for ours.
    """

    kept: Sets
    tokens: list[int]
    scores: list[list[list[float]]] = field(default_factory=list)
    leads: list[float] = field(default_factory=list)


class _Watch(EngineHook):
    """Notes what each prompt keeps, when it stands in its row."""

    def __init__(self, engine: Engine) -> None:
        self.kept: dict[str, Sets] = {}
        self._cache = engine.cache

    def on_start(self, state: RowState) -> None:
        """Read the positions of the row's slots."""
        positions = self._cache.positions[:, state.index]  # [L,H_kv,C], -1 where free
        self.kept[state.request.problem_id] = [
            [sorted(p for p in head if p >= 0) for head in layer] for layer in positions.tolist()
        ]


def ours(
    loaded: LoadedModel, scoring: Scoring, prompts: dict[str, tuple[int, ...]], size: int, tokens: int = N_NEW_TOKENS
) -> dict[str, Cut]:
    """Cut prompts, by their names, to `size` tokens per head and write, all in one batch; the model must end no text."""
    mechanism = Mechanism(scoring.kind, scoring, Uniform(), PrefillOnly(), FullPrecision(), Greedy())
    longest = max(map(len, prompts.values()))
    engine = Engine(
        loaded,
        mechanism,
        Budget(size, "nominal"),
        rows=len(prompts),
        max_new_tokens=tokens,
        max_prompt_tokens=longest,
    )
    engine.hook = watch = _Watch(engine)
    requests = [Request(name, prompt, bytes(16)) for name, prompt in prompts.items()]
    written = {done.problem_id: list(done.token_ids) for done in engine.generate(requests)}
    return {name: Cut(watch.kept[name], written[name]) for name in prompts}


def ours_all(
    loaded: LoadedModel,
    scoring: Callable[[int], Scoring],
    prompts: Sequence[tuple[int, ...]],
    size: int,
    tokens: int = N_NEW_TOKENS,
) -> list[Cut]:
    """Cut all prompts: in one batch where a scoring suits them all, else one batch per length."""
    batches: dict[Scoring, dict[str, tuple[int, ...]]] = {}
    for idx, prompt in enumerate(prompts):
        batches.setdefault(scoring(len(prompt)), {})[str(idx)] = prompt
    found: dict[str, Cut] = {}
    for own, batch in batches.items():
        found |= ours(loaded, own, batch, size, tokens)
    return [found[str(idx)] for idx in range(len(prompts))]


class Peer:
    """kvpress with one model loaded. Use as a context manager."""

    def __init__(self, python: str, model: ModelSpec) -> None:
        self._worker = Worker(MODULE, python, threads=1)
        answer = self._worker.ask("load", path=str(model.folder), dtype=model.dtype)
        self.versions = ", ".join(f"{package} {number}" for package, number in answer["versions"].items())

    def __enter__(self) -> Peer:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._worker.close()

    def cut(self, press: str, prompt: Sequence[int], size: int, tokens: int = N_NEW_TOKENS) -> Cut:
        """Cut one prompt and write."""
        answer = self._worker.ask(
            "press",
            name=press,
            parameters=PAIRS[press].parameters,
            prompt=list(prompt),
            ratio=ratio_for(size, len(prompt)),
            tokens=tokens,
        )
        return Cut(**answer)


def ratio_for(size: int, n_prompt: int) -> float:
    """Return the ratio at which kvpress keeps `size` tokens: it rounds down what stays, so half a token more is asked for."""
    return 1 - (size + 0.5) / n_prompt


@dataclass(frozen=True)
class Difference:
    """One layer and head of one prompt in which the sides keep other tokens.

    n_swapped: tokens that kvpress keeps and we do not. gap: by how much the best of them beats the worst of ours in kvpress'
    own scores, relative to the span of that head's scores.
    """

    layer: int
    head: int
    n_swapped: int
    gap: float


def differences(own: Cut, other: Cut) -> list[Difference]:
    """Return every layer and head whose sets differ; `other` is kvpress'."""
    found = []
    for layer, (ours_of_layer, theirs_of_layer) in enumerate(zip(own.kept, other.kept, strict=True)):
        for head, (mine, theirs) in enumerate(zip(ours_of_layer, theirs_of_layer, strict=True)):
            if mine == theirs:
                continue
            scores = other.scores[layer][head]
            only_mine, only_theirs = {*mine} - {*theirs}, {*theirs} - {*mine}
            # A head that is given too few tokens swaps nothing, and is no tie.
            gap = max((scores[t] for t in only_theirs), default=torch.inf) - min(
                (scores[t] for t in only_mine), default=-torch.inf
            )
            span = max(scores) - min(scores)
            found.append(Difference(layer, head, len(only_theirs), gap / span if span else gap))
    return found


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Return the place at which two texts part, None where they are the same."""
    if list(one) == list(other):
        return None
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@dataclass(frozen=True)
class Parted:
    """A text that parts. place: of the first other token. lead: in logits, of kvpress' token there over its next best.

    sets_differ: whether its prompt keeps other tokens in any head. again: where the text parts that is written here from
    kvpress' own sets, None where it does not; where it does, the lead is that at this place.
    """

    prompt: int
    place: int
    lead: float
    sets_differ: bool
    again: int | None = None

    def explained(self, tie: float) -> bool:
        """Return whether other sets alone are the reason, or two logits that are as near to each other as `tie`."""
        return (self.sets_differ and self.again is None) or self.lead <= tie


@dataclass(frozen=True)
class Agreement:
    """All prompts of one press and size."""

    press: str
    size: int
    n_sets: int
    differences: list[Difference]
    n_texts: int
    n_tokens: int
    parted: list[Parted]

    @property
    def largest_gap(self) -> float:
        """The largest gap of all differences, 0 where there is none."""
        return max((one.gap for one in self.differences), default=0.0)

    @property
    def n_tokens_agreed(self) -> int:
        """Tokens before a text parts, and all of those that do not."""
        per_text = self.n_tokens // self.n_texts
        return self.n_tokens - sum(per_text - text.place for text in self.parted)

    def notes(self) -> Iterator[str]:
        """Yield a line for the layers with other sets, and one for every text that parts."""
        if self.differences:
            layers = sorted({one.layer for one in self.differences})
            yield f"* {self.press}, {self.size}: other sets in layers {', '.join(map(str, layers))}"
        for text in self.parted:
            sets = "the same sets"
            if text.sets_differ:
                sets = f"from kvpress' sets {'the same text' if text.again is None else f'at token {text.again}'}"
            yield (
                f"* {self.press}, {self.size}: text {text.prompt} parts at token {text.place}, where kvpress' best logit leads "
                f"by {text.lead:.2g}; {sets}"
            )

    def cells(self) -> list[str]:
        """Return a table row."""
        gaps = [one.gap for one in self.differences]
        same_texts = self.n_texts - len(self.parted)
        return [
            self.press,
            str(self.size),
            f"{self.n_sets - len(gaps):,} of {self.n_sets:,}",
            str(sum(one.n_swapped for one in self.differences)),
            str(gaps.count(0.0)) if gaps else "",
            f"{self.largest_gap:.1e}" if gaps else "",
            f"{same_texts} of {self.n_texts}",
            f"{self.n_tokens_agreed:,} of {self.n_tokens:,}",
        ]


def agreement(press: str, size: int, own: Sequence[Cut], other: Sequence[Cut]) -> Agreement:
    """Compare the sides prompt by prompt; `other` is kvpress'."""
    found: list[Difference] = []
    parted = []
    for idx, (mine, theirs) in enumerate(zip(own, other, strict=True)):
        swapped = differences(mine, theirs)
        found += swapped
        place = first_difference(mine.tokens, theirs.tokens)
        if place is not None:
            parted.append(Parted(idx, place, theirs.leads[place], bool(swapped)))
    n_sets = sum(len(layer) for cut in other for layer in cut.kept)
    return Agreement(press, size, n_sets, found, len(own), sum(len(cut.tokens) for cut in other), parted)


def texts(problems: Path | None, count: int = N_PROMPTS) -> list[str]:
    """Return problems: the first of a file of JSON lines, or of those that are made here."""
    if problems is None:
        return [made.problem for made in worked_problems(count)]
    with problems.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]
    return [row["problem"] for row in rows]


def lost_to_rounding(prompts: Sequence[Sequence[int]], size: int) -> int:
    """Return for how many prompts kvpress' `compression_ratio = 1 - size / n` keeps one token less than `size`."""
    return sum(int(len(prompt) * (1 - (1 - size / len(prompt)))) < size for prompt in prompts)


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Compare and yield the lines."""
    python = kvpress_python()
    for name in arguments.models:
        spec = ModelSpec(Path(name).resolve().name, path=name)
        loaded = endless(load_model(spec))
        prompts = [loaded.encode(text) for text in texts(arguments.problems, arguments.prompts)]
        rows, notes = [], []
        with Peer(python, spec) as peer:
            for press in arguments.presses:
                for size in arguments.sizes:
                    found = compared(loaded, peer, press, prompts, size, arguments.tokens)
                    rows.append(found.cells())
                    progress(rows[-1])
                    notes += found.notes()
            lengths = [len(prompt) for prompt in prompts]
            yield (
                f"{spec.name}, float32, {len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens (median "
                f"{median(lengths):.0f}). {versions()}. The other side: {peer.versions}.\n"
            )
        header = (
            "press",
            "kept",
            "same sets",
            "swapped tokens",
            "exact ties",
            "largest gap",
            "same texts",
            "same tokens",
        )
        yield from table(header, rows)
        yield from ("", *notes) if notes else ()
        lost = ", ".join(f"{lost_to_rounding(prompts, size)} at {size}" for size in arguments.sizes)
        yield f"\nPrompts for which a ratio of 1 - kept / n keeps one token less by rounding: {lost}.\n"


def compared(
    loaded: LoadedModel,
    peer: Peer,
    press: str,
    prompts: Sequence[tuple[int, ...]],
    size: int,
    tokens: int = N_NEW_TOKENS,
) -> Agreement:
    """Run one press and size on both sides."""
    with ThreadPoolExecutor(1) as other:  # its work is done in a process of its own, which may have a core of its own
        asked = other.submit(lambda: [peer.cut(press, prompt, size, tokens) for prompt in prompts])
        own = ours_all(loaded, PAIRS[press].scoring, prompts, size, tokens)
        theirs = asked.result()
    found = agreement(press, size, own, theirs)
    parted = [
        _again(loaded, text, prompts[text.prompt], theirs[text.prompt]) if text.sets_differ else text
        for text in found.parted
    ]
    return replace(found, parted=parted)


def _again(loaded: LoadedModel, text: Parted, prompt: tuple[int, ...], theirs: Cut) -> Parted:
    """Write a text again from kvpress' sets, and note where it parts then."""
    given = GivenSets(kept=tuple(tuple(map(tuple, layer)) for layer in theirs.kept))
    cut = ours(loaded, given, {"again": prompt}, len(theirs.kept[0][0]), len(theirs.tokens))["again"]
    place = first_difference(cut.tokens, theirs.tokens)
    return text if place is None else replace(text, again=place, lead=theirs.leads[place])


def endless(loaded: LoadedModel) -> LoadedModel:
    """Return the model with its end-of-text token ignored, so that all texts have the same length."""
    return replace(loaded, eos_ids=frozenset())


def main(argv: list[str] | None = None) -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[MODEL], help="folders")
    parser.add_argument("--problems", type=Path, help="JSON lines, each with a problem; default: texts made here")
    parser.add_argument("--prompts", type=int, default=N_PROMPTS)
    parser.add_argument("--tokens", type=int, default=N_NEW_TOKENS, help="new tokens of each text")
    parser.add_argument("--presses", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    for line in report(arguments):
        print(line)


if __name__ == "__main__":
    main()
