"""The fields of a sweep file, section by section: strict and frozen, nothing unknown, nothing converted."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from designspace.axes import Budget, Protect, Reading, TokenReading
from designspace.models.model_spec import Quantization, sources_error

SCHEMA_VERSION = 1
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_ALMOST_COMMIT = re.compile(r"(?=.{30,})(?!.{40}$)[0-9a-f]+")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,2})?")
# The store keeps token counts as int32 and seeds as int64.
LARGEST_COUNT = 2**31 - 1
_LARGEST_SEED = 2**63 - 1
_MOST_REPLICATES = 10_000


def _is_label(text: str) -> str:
    """Labels end up in tables, file metadata and HTML, where a stray newline or blank is invisible and fatal."""
    if not text.isprintable() or text != text.strip():
        raise ValueError(f"must be printable text without blanks at its ends, got {text!r}")
    return text


Label = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_is_label)]


class Strict(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Root(Strict):
    """The top level; sections are checked one by one, so that one bad entry does not hide another.

    Example: `{schema: 1, study: quickstart, models: […], tasks: […], budgets: […], mechanisms: […], seeds: {…},
    generation: {…}, exclude: […]}`.

    Attributes:
        schema: version of this form, 1.
        study: name of the study; results go to `results/<study>` unless told otherwise, so it must be a folder name.
        models: what writes the texts.
        tasks: what is asked.
        budgets: how large the cache may be; needed by every mechanism that cuts it.
        mechanisms: the arms, each run at every budget, or once if it takes none.
        seeds: how many replicates, and of what random numbers.
        generation: how every arm generates.
        exclude: cells that are left out.
    """

    schema_: int = Field(alias="schema")
    study: str
    models: list[Any] = Field(min_length=1)
    tasks: list[Any] = Field(min_length=1)
    budgets: list[Any] = []
    mechanisms: list[Any] = Field(min_length=1)
    seeds: Any = None
    generation: dict[str, Any]
    exclude: list[Any] = []

    @field_validator("study")
    @classmethod
    def _study_names_a_folder(cls, study: str) -> str:
        if not _FOLDER_NAME.fullmatch(study) or study.endswith("."):
            raise ValueError(
                f"must be a folder name (letters, digits, '.', '_', '-'; no '.' at either end), got {study!r}"
            )
        return study


class ModelEntry(Strict):
    """`pocket-llama`, `{name, hub, revision}`, `{name, path}` or `{name, gguf}`; the other fields go with any of them.

    Attributes:
        name: of a bundled model, or any name for one of yours.
        hub: the repository of a model on the Hugging Face hub, `organisation/model`.
        revision: its commit id (40 hex digits), tag or branch; only a commit id fixes the weights. Required with `hub`.
        path: the folder of a model in safetensors form.
        gguf: a GGUF file; it is imported once, to the user's cache folder, and runs as the folder of `designspace import` does.
        device: where it runs, `cpu`, `cuda` or `cuda:1`; `auto`: on the GPU that the worker has, else on the CPU.
        dtype: number type of weights and cache.
        quantization: weights that transformers quantises while it loads them; `torchao-int8`: 8-bit integers of torchao, with
            one scale for each output of a layer. Cache and activations keep their type.
        calibration: folder of calibration artefacts, if they are not where `designspace calibrate` puts them.
    """

    name: Label
    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    gguf: str | None = None
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantization: Quantization | None = None
    calibration: str | None = None

    @field_validator("device")
    @classmethod
    def _device_is_one(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError(f"must be auto, cpu, cuda or cuda:N, got {device!r}")
        return device

    @field_validator("revision")
    @classmethod
    def _revision_is_a_git_name(cls, revision: str | None) -> str | None:
        if revision is None:
            return None
        if not _REVISION.fullmatch(revision):
            raise ValueError(f"must be a commit id (40 hex digits), a tag or a branch, got {revision!r}")
        if _ALMOST_COMMIT.fullmatch(revision):
            raise ValueError(f"a commit id has 40 hex digits, got {len(revision)}: {revision!r}")
        return revision

    @model_validator(mode="after")
    def _one_source(self) -> ModelEntry:
        if error := sources_error(hub=self.hub, path=self.path, gguf=self.gguf):
            raise ValueError(error)
        if self.hub and not self.revision:
            raise ValueError(
                "a hub model needs a revision: a commit id (40 hex digits) fixes the weights, 'main' does not"
            )
        if self.revision and not self.hub:
            raise ValueError("revision needs hub, got revision without hub")
        return self


class ProblemFields(Strict):
    """Columns of a task's file under other names than the usual ones: ours on the left, the file's on the right.

    Attributes:
        id: name of a problem.
        problem: its text.
        answer: the correct answer.
        kind: the kind of problem, by which reports sort accuracy.
        choices: the options.
        solution: a worked solution, which teacher forcing feeds to the arms.
    """

    id: str | None = None
    problem: str | None = None
    answer: str | None = None
    kind: str | None = None
    choices: str | None = None
    solution: str | None = None

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return the columns that are named."""
        return tuple((name, column) for name, column in self if column is not None)


class TaskEntry(Strict):
    """`{name, split, problems, path}`: `problems` takes the first n, `path` reads a local JSONL file.

    A task of one's own is a name, a path and how answers are graded: `{name: mine, path: file.jsonl, answer: integer}`.

    Attributes:
        name: of a task that ships or is installed, or any name for one of yours.
        split: by default `all` for a task of one's own, else `dev`.
        problems: how many of the split, from the first on; all by default.
        path: the JSON Lines file of the problems.
        answer: a kind of grader, or a mapping such as `{kind: regex, pattern: "=> (.*)"}`.
        prompt: `boxed-suffix`, `answer-colon`, `none`, or a text with `{problem}` in it.
        system: a system message, which needs a chat template.
        chat: whether prompts go through the model's chat template; `auto`: where it has one. A mapping gives the template
            arguments, such as `{enable_thinking: false}`, and requires one that reads them.
        fields: columns of the file under other names.
        of: the task that this is, where `name` is a label of yours: so one task can stand several times in a sweep.
        parameters: of a task that generates its problems, such as `{words: 2000}`; `designspace list tasks` names them.
        prompt_room: the longest prompt, in tokens, that caches have room for; by default that of the task's problems. With
            it, more problems of a task generate only what is new.
    """

    name: Label
    split: str | None = None
    problems: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    path: str | None = None
    answer: str | dict[str, Any] | None = None
    prompt: str | None = None
    system: str | None = None
    chat: Literal["auto", "on", "off"] | dict[str, Any] = "auto"
    fields: ProblemFields = ProblemFields()
    prompt_room: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    of: str | None = None
    parameters: dict[str, int | str] = {}


class BudgetEntry(Strict):
    """A plain number is a mean; `{tokens: 64, of: nominal}` and `{tokens: 64, of: peak}` are the other readings.

    `{bytes_per_token_full: 64}` is the bytes of 64 tokens in full precision, which a smaller representation may fill with
    more of them. `{prompt: 64, trace: 64}` is 128 tokens in two parts: the prompt's tokens compete for 64 slots among
    themselves, the tokens after it for the others; it takes `of` too.

    Attributes:
        tokens: per layer and KV head, on average over the heads.
        prompt: slots that the prompt's tokens compete for among themselves.
        trace: slots that the tokens after the prompt compete for.
        of: what the number is: the `mean` over decode steps, the size right after an event (`nominal`), or the largest.
        bytes_per_token_full: as many tokens as fit into the bytes of so many full-precision ones.
    """

    tokens: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    prompt: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    trace: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    of: TokenReading = "mean"
    bytes_per_token_full: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)

    @model_validator(mode="after")
    def _one_amount(self) -> BudgetEntry:
        if (self.prompt is None) != (self.trace is None):
            raise ValueError("separate budgets need both prompt and trace")
        if sum(amount is not None for amount in (self.tokens, self.prompt, self.bytes_per_token_full)) != 1:
            raise ValueError("a budget needs either tokens, or prompt and trace, or bytes_per_token_full")
        if self.bytes_per_token_full is not None and "of" in self.model_fields_set:
            raise ValueError("bytes_per_token_full is a mean, so it takes no 'of'")
        return self

    def budget(self) -> Budget:
        """Return the core's budget."""
        if self.bytes_per_token_full is not None:
            return Budget(self.bytes_per_token_full, "bytes")
        if self.prompt is not None and self.trace is not None:
            return Budget(self.prompt + self.trace, self.of, self.prompt)
        return Budget(self.tokens or 1, self.of)


class Seeds(Strict):
    """How many replicates; their random numbers are derived from `root`, never listed by hand.

    Attributes:
        count: replicates of each cell.
        root: what all random numbers are derived from.
    """

    count: int = Field(default=1, ge=1, le=_MOST_REPLICATES)
    root: int = Field(default=0, ge=0, le=_LARGEST_SEED)


class BudgetMatch(Strict):
    """A partial match on a budget: what is left out matches anything.

    Attributes:
        tokens: of a budget that is not divided.
        prompt: of a divided one, the prompt's part.
        trace: of a divided one, the other part.
        of: as under `budgets`, or `bytes`.
    """

    tokens: int | None = Field(default=None, ge=1)
    prompt: int | None = Field(default=None, ge=1)
    trace: int | None = Field(default=None, ge=1)
    of: Reading | None = None

    def matches(self, budget: Budget) -> bool:
        """Return whether a budget is one of those that this names."""
        tokens = None if budget.prompt else budget.tokens
        prompt, trace = (budget.prompt, budget.trace) if budget.prompt else (None, None)
        wanted = ((self.tokens, tokens), (self.prompt, prompt), (self.trace, trace), (self.of, budget.of))
        return all(want in (None, got) for want, got in wanted)


class TaskMatch(Strict):
    """A partial match on a task; a plain name matches all its splits.

    Attributes:
        name: of the task.
        split: of its problems.
    """

    name: str | None = None
    split: str | None = None


class ExcludeEntry(Strict):
    """A partial match on a cell: what is left out matches anything.

    Attributes:
        model: its name.
        task: its name, or a match.
        budget: a number, which is a mean, or a match.
        mechanism: its name.
        why: for the reader; shows in the plan.
    """

    model: str | None = None
    task: TaskMatch | None = None
    budget: BudgetMatch | None = None
    mechanism: str | None = None
    why: str = ""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        task, budget = data.get("task"), data.get("budget")
        if isinstance(task, str):
            data = {**data, "task": {"name": task}}
        if isinstance(budget, int) and not isinstance(budget, bool):
            # As under `budgets`: a plain number is a mean.
            data = {**data, "budget": {"tokens": budget, "of": "mean"}}
        return data

    @model_validator(mode="after")
    def _says_something(self) -> ExcludeEntry:
        if not (self.model or self.task or self.budget or self.mechanism):
            raise ValueError("a rule needs at least one of model, task, budget, mechanism")
        return self


class MechanismEntry(Strict):
    """`{name, base, <axis>: …}` or `{name, <axis>: …}`: an axis that is given replaces the base's whole strategy.

    Attributes:
        name: the arm's label.
        base: a system of the catalogue, whose other axes are taken over.
        scoring: which tokens are worth a slot.
        head_routing: how many each layer and head may hold; without a base `uniform`.
        cadence: when the cache is cut; without a base `every-step`, or `never` with the scoring `full`.
        representation: what a slot holds; without a base `full`.
        decoding: how logits become tokens; by default as `generation` says.
        protect: whether the scoring may evict the prompt; by default as the scoring says.
    """

    name: Label
    base: str | None = None
    scoring: Any = None
    head_routing: Any = None
    cadence: Any = None
    representation: Any = None
    decoding: Any = None
    protect: Protect | None = None


class GridEntry(Strict):
    """`{grid: {<axis>: […], protect: [none, prompt], …}}`: all combinations.

    Attributes:
        grid: for each axis, and for `protect`, a list of what it may be.
        name: template over the axes, e.g. "{scoring}+{cadence}"; by default the axes with "/" between.
        illegal: "skip" drops combinations that are refused, and lists them in the plan; "error" refuses the sweep.
    """

    grid: dict[str, Any] = Field(min_length=1)
    name: Label | None = None
    illegal: Literal["error", "skip"] = "error"
