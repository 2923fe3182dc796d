"""Train a pocket model: `python -m designspace.models.train_pocket --architecture llama --minutes 40 --out DIR`.

The models are small enough for one CPU core. Three things make the task learnable in minutes: loss on the solution
only, a curriculum that starts with three steps and lengthens whenever the smoothed loss falls below a threshold, and
small batches until the solutions are long. Random forgetting of old, uninformative keys (an attention mask) keeps a
model from derailing when filler is missing from its cache.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from designspace.models.pocket_language import LANGUAGES, NEVER, GeneratedProblem, Language
from designspace.tasks.generated_splits import BOS, EOS, PAD, UNK

Architecture = Literal["llama", "qwen2"]
IGNORED = -100
PROBLEMS_PER_SEED = 10_000_000


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, apart from the speed of the machine."""

    architecture: Architecture
    minutes: float
    seed: int
    language: str = "chain-arithmetic"
    n_layers: int = 3
    ending_weight: float = 1.0
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up_steps: int = 100
    decay_share: float = 0.45
    first_steps: int = 3
    loss_to_lengthen: float = 0.2
    short_batch_tokens: int = 2000
    long_batch_tokens: int = 3000
    forget_rates: tuple[float, ...] = (0.0, 0.0, 0.3, 0.6, 0.9)
    forget_ages: tuple[int, int] = (14, 60)


@dataclass
class Progress:
    """Where a training run stands."""

    n_updates: int = 0
    n_problems: int = 0
    n_tokens: int = 0
    max_steps: int = 3
    smoothed_loss: float | None = None
    started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_s


class SharingAttention:
    """SDPA in which layer l attends to the keys and values of layer `owners[l]`: cross-layer attention [brandon2024cla]."""

    name = "pocket-sharing"

    def __init__(self, owners: Sequence[int]) -> None:
        self.owners = tuple(owners)
        self._held: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> Any:
        """Attend; layers run in order, so an owner's keys and values are those of this very forward pass."""
        owner = self.owners[module.layer_idx]
        if owner == module.layer_idx:
            self._held[owner] = (key, value)
        return sdpa_attention_forward(module, query, *self._held[owner], attention_mask, **options)

    def apply(self, model: Any) -> None:
        """Make a model share, and note it in the configuration that is saved with it."""
        AttentionInterface.register(self.name, self)
        AttentionMaskInterface.register(self.name, sdpa_mask)
        model.config.kv_owners = list(self.owners)
        model.set_attn_implementation(self.name)


class Batch(NamedTuple):
    """Padded token ids, the targets (`IGNORED` outside the solution), their weights, and the additive attention mask."""

    ids: Tensor  # [B, T]
    targets: Tensor  # [B, T]
    weights: Tensor  # [B, T]
    mask: Tensor  # [B, 1, T, T]


def build_tokenizer(language: Language) -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer: one token per space-separated word, `<bos>` written in the prompt itself."""
    vocab = {token: idx for idx, token in enumerate(language.words)}
    backend = Tokenizer(models.WordLevel(vocab, unk_token=UNK))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def build_model(architecture: Architecture, language: Language, n_layers: int = 3) -> Any:
    """Return an untrained model: width 128, 4 query and 2 KV heads of size 32, untied embeddings."""
    tokens = language.words
    shape = {
        "vocab_size": len(tokens),
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": False,
        "initializer_range": 0.05,
        "bos_token_id": tokens.index(BOS),
        "eos_token_id": tokens.index(EOS),
        "pad_token_id": tokens.index(PAD),
        "attn_implementation": "sdpa",
    }
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape, head_dim=32))
    return Qwen2ForCausalLM(Qwen2Config(**shape))


class Batches:
    """Draw training batches of a growing difficulty."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._language = LANGUAGES[recipe.language]
        self._ids = {token: idx for idx, token in enumerate(self._language.words)}
        self._rng = random.Random(recipe.seed)

    def draw(self, progress: Progress) -> Batch:
        """Return the next batch; one in eight mixes all lengths seen so far."""
        longest, language = progress.max_steps, self._language
        shortest = language.min_steps if longest == language.max_steps else max(1, longest - 4)
        if progress.n_updates % 8 == 7:
            shortest = 3
        recipe = self._recipe
        n_tokens = recipe.short_batch_tokens if longest < 8 else recipe.long_batch_tokens
        n_rows = max(8, n_tokens // (language.n_prompt_tokens + language.n_step_tokens * longest))
        first = progress.n_problems + recipe.seed * PROBLEMS_PER_SEED
        progress.n_problems += n_rows
        problems = [
            language.draw("train", index, min_steps=shortest, max_steps=longest)
            for index in range(first, first + n_rows)
        ]
        return self._pad(problems)

    def _pad(self, problems: Sequence[GeneratedProblem]) -> Batch:
        texts = [(p.prompt.split(), p.solution.split()) for p in problems]
        width = max(len(prompt) + len(solution) for prompt, solution in texts)
        ids = torch.zeros(len(texts), width, dtype=torch.long)
        targets = torch.full((len(texts), width), IGNORED)
        weights = torch.ones(len(texts), width)
        gone_from = torch.full((len(texts), width), NEVER)
        for row, (prompt, solution) in enumerate(texts):
            tokens = [*prompt, *solution]
            encoded = torch.tensor([self._ids[token] for token in tokens])
            ids[row, : len(tokens)] = encoded
            targets[row, len(prompt) : len(tokens)] = encoded[len(prompt) :]
            weights[row, len(prompt) + self._n_lines(solution) :] = self._recipe.ending_weight
            gone_from[row, : len(tokens)] = self._forget(self._language.expiry(tokens, len(prompt)))
        return Batch(ids, targets, weights, attention_mask(gone_from))

    def _n_lines(self, solution: Sequence[str]) -> int:
        """Return how many tokens come before the ending: few tokens that decide about the answer."""
        return next(idx for idx, token in enumerate(solution) if token in self._language.ending)

    def _forget(self, expires: Sequence[int]) -> Tensor:
        """Return, per key, the query index from which it is hidden; the row draws its own rate and age. [T]"""
        rate = self._rng.choice(self._recipe.forget_rates)
        age = self._rng.randint(*self._recipe.forget_ages)
        return torch.tensor([at + age if self._rng.random() < rate else NEVER for at in expires])


def attention_mask(gone_from: Tensor) -> Tensor:
    """Return the additive mask of causal attention in which key j is hidden from queries past `gone_from[j]`.

    gone_from: [B, T]. Returns [B, 1, T, T] float32.
    """
    query = torch.arange(gone_from.shape[1])[:, None]  # [T, 1]
    hidden = (query < query.T) | (query > gone_from[:, None, :])  # [B, T, T]
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, torch.finfo(torch.float32).min)
    return mask[:, None]


def learning_rate(recipe: Recipe, progress: Progress) -> float:
    """Return the rate of the next update: warm-up, plateau, linear decay over the last part of the time."""
    left = 1 - progress.elapsed_s / (60 * recipe.minutes)
    warm_up = min(1.0, (progress.n_updates + 1) / recipe.warm_up_steps)
    return recipe.learning_rate * warm_up * max(0.02, min(1.0, left / recipe.decay_share))


def lengthen(recipe: Recipe, progress: Progress, loss: float) -> None:
    """Smooth the loss and lengthen the solutions when it is low, or to full length when decay begins."""
    before = progress.smoothed_loss
    progress.smoothed_loss = loss if before is None else 0.95 * before + 0.05 * loss
    longest = LANGUAGES[recipe.language].max_steps
    if progress.elapsed_s > 60 * recipe.minutes * (1 - recipe.decay_share):
        progress.max_steps = longest
    elif progress.smoothed_loss < recipe.loss_to_lengthen and progress.max_steps < longest:
        progress.max_steps = min(longest, progress.max_steps + (2 if progress.max_steps > 8 else 1))
        progress.smoothed_loss = 1.5 * recipe.loss_to_lengthen


def update(model: Any, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """Do one optimiser step on a batch and return its loss."""
    logits = model(input_ids=batch.ids[:, :-1], attention_mask=batch.mask[:, :, :-1, :-1], use_cache=False).logits
    losses = cross_entropy(logits.flatten(0, 1), batch.targets[:, 1:].flatten(), ignore_index=IGNORED, reduction="none")
    weights = (batch.weights * (batch.targets != IGNORED))[:, 1:].flatten()
    loss = (losses * weights).sum() / weights.sum()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def train(model: Any, recipe: Recipe, progress: Progress, out: Path) -> None:
    """Train for the recipe's minutes, saving every three minutes."""
    torch.manual_seed(recipe.seed)
    batches = Batches(recipe)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
    )
    next_save_s = 180.0
    while progress.elapsed_s < 60 * recipe.minutes:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, progress)
        batch = batches.draw(progress)
        lengthen(recipe, progress, update(model, optimizer, batch))
        progress.n_updates += 1
        progress.n_tokens += int((batch.targets != IGNORED).sum())
        if progress.n_updates % 50 == 0:
            _log(progress)
        if progress.elapsed_s > next_save_s:
            next_save_s = progress.elapsed_s + 180
            save(model, LANGUAGES[recipe.language], out)


def save(model: Any, language: Language, out: Path) -> None:
    """Write the model and its tokenizer in the transformers layout."""
    model.generation_config.do_sample = False
    model.generation_config.max_new_tokens = 512
    model.save_pretrained(out)
    build_tokenizer(language).save_pretrained(out)


def rows_right(
    model: Any, language: Language, problems: Sequence[GeneratedProblem], n_rows: int = 64
) -> Iterator[bool]:
    """Decode greedily with the full cache and say per problem whether the boxed answer is right."""
    tokenizer = build_tokenizer(language)
    tokenizer.padding_side = "left"
    model.eval()
    for first in range(0, len(problems), n_rows):
        part = problems[first : first + n_rows]
        prompts = tokenizer([p.prompt for p in part], return_tensors="pt", padding=True, return_token_type_ids=False)
        ids = model.generate(**prompts, do_sample=False, max_new_tokens=320)
        for problem, row in zip(part, ids, strict=True):
            yield f"\\boxed{{{problem.answer}}}" in tokenizer.decode(row, skip_special_tokens=True)


def evaluate(model: Any, language: Language, count: int) -> dict[str, list[int]]:
    """Return [right, asked] per kind on dev problems."""
    problems = language.problems("dev", count)
    scores: dict[str, list[int]] = {}
    for problem, right in zip(problems, rows_right(model, language, problems), strict=True):
        score = scores.setdefault(problem.kind, [0, 0])
        score[0] += right
        score[1] += 1
    return scores


def _log(progress: Progress) -> None:
    print(
        f"update {progress.n_updates} after {progress.elapsed_s:.0f} s, up to {progress.max_steps} steps, "
        f"loss {progress.smoothed_loss:.4f}",
        flush=True,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train a pocket model on one of the languages that are generated here."
    )
    parser.add_argument("--language", choices=sorted(LANGUAGES), default="chain-arithmetic")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--ending-weight", type=float, default=1.0, help="of the tokens after the lines, in the loss")
    parser.add_argument("--architecture", choices=("llama", "qwen2"), required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--evaluate", type=int, default=256, help="number of dev problems")
    parser.add_argument(
        "--kv-owners", type=int, nargs="+", help="for each layer the layer whose keys and values it uses, e.g. 0 1 1"
    )
    parser.add_argument("--start-from", type=Path, help="folder of weights to continue from, at full length")
    return parser.parse_args()


def main() -> None:
    """Train, save and evaluate one model."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(
        arguments.architecture,
        arguments.minutes,
        arguments.seed,
        arguments.language,
        arguments.layers,
        arguments.ending_weight,
    )
    language = LANGUAGES[recipe.language]
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.architecture, language, recipe.n_layers)
    progress = Progress(max_steps=recipe.first_steps)
    if arguments.start_from is not None:
        model = type(model).from_pretrained(arguments.start_from, attn_implementation="sdpa").train()
        progress.max_steps = language.max_steps
    if arguments.kv_owners is not None:
        SharingAttention(arguments.kv_owners).apply(model)
    train(model, recipe, progress, arguments.out)
    save(model, language, arguments.out)
    report = {
        "recipe": asdict(recipe),
        "updates": progress.n_updates,
        "problems": progress.n_problems,
        "tokens": progress.n_tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
        "right_of_asked": evaluate(model, language, arguments.evaluate),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
