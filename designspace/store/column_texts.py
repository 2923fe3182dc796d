"""What each column of the results says, and in which unit: the one place, which Arrow, Parquet and docs/columns.md repeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa

DESCRIPTION, UNIT = b"description", b"unit"  # keys of a field's metadata


class ColumnText(NamedTuple):
    """What a column says; unit: empty where a value has none."""

    unit: str
    description: str


_PER_HEAD = "tokens per layer and KV head"
_NATS = "nats per token"
SAMPLE_TEXTS: Mapping[str, ColumnText] = {
    name: ColumnText(unit, description)
    for name, unit, description in (
        ("cell_id", "", "What made the text: a hash of model, task, split, budget, mechanism, seed and all other settings."),
        ("shard_id", "", "The block of problems of a cell that was run and stored together."),
        ("study", "", "Name of the study whose run made the text, or took it over; another study may use it too."),
        ("model", "", "Name of the model in the sweep."),
        ("task", "", "Name of the task."),
        ("split", "", "Part of the task's problems, e.g. dev or confirm."),
        ("problem_id", "", "Name of the problem within its task and split."),
        ("kind", "", "Kind of problem, as the task sorts its problems; empty where it does not."),
        ("mechanism", "", "Name of the mechanism under which the text was made."),
        ("budget", "", "The budget as written in a report; 'none' for a mechanism without one."),
        ("budget_tokens", _PER_HEAD, "The budget as a number; null without a budget."),
        ("budget_of", "", "What the budget bounds: mean, nominal, peak or bytes; null without a budget."),
        ("replicate", "", "Number of the repetition with another seed, from 0."),
        ("seed", "", "Root seed of the sweep."),
        ("prompt", "", "The problem as the task words it, before a chat template."),
        ("text", "", "What the model wrote, without the prompt and the end-of-text token, up to a stop string."),
        ("n_prompt_tokens", "tokens", "Length of the prompt as the model read it."),
        ("n_new_tokens", "tokens", "Length of the text, its end-of-text token included."),
        ("finish_reason", "", "stop: the model ended the text, or a stop string did. length: it was cut off at the limit."),
        ("mean_cache_tokens", _PER_HEAD, "Tokens attended to, mean over all decode steps of the text."),
        ("steady_mean_cache_tokens", _PER_HEAD,
         "The same over the steps after the first event; null where the cache was never cut."),
        ("peak_cache_tokens", _PER_HEAD, "The largest number of tokens attended to at a decode step."),
        ("mean_cache_bytes", "bytes", "Held in the whole cache of the text, all layers and heads; mean over decode steps."),
        ("peak_cache_bytes", "bytes", "The largest number of bytes held at a decode step."),
        ("mean_read_bytes", "bytes per decode step", "Read from the cache by attention; mean over decode steps."),
        ("mean_aux_bytes", "bytes", "Kept by the mechanism beside the cache; mean over decode steps."),
        ("n_events", "events", "How often the cache was cut."),
        ("n_evicted", "slots",
         "Dropped in all events, counted in every layer and KV head: a token that all of them drop counts layers x heads."),
        ("cache_tokens_per_step", _PER_HEAD, "Tokens attended to at each decode step."),
        ("wall_s", "s", "From the start of the text to its end, beside others of its batch. No measure of speed."),
        ("shard_wall_s", "s",
         "From the first text of the shard to its commit. Shards of one engine overlap: use `designspace bench` for speed."),
        ("attempt", "", "Which attempt at the shard succeeded, from 1."),
        ("worker", "", "Process that made the text."),
        ("started_at", "UTC", "When the first text of the shard was begun."),
        ("code_id", "", "State of the code that made the text."),
        ("engine_version", "", "Version of the engine; it changes when the same settings may give other texts."),
        ("n_extra_tokens", "tokens", "Forwarded beyond one for each token of the text: rolled back or encoded anew."),
        ("look_sha256", "", "Entry of the look ledger that the text belongs to; null where no problem was held out."),
        ("prompt_token_ids", "token ids", "The prompt as the model read it, with chat template."),
        ("token_ids", "token ids", "The text as the model wrote it, its end-of-text token or stop string included."),
        ("prompt_survival_union", "share, 0 to 1",
         "Tokens of the prompt that the cache held at the end of the text in at least one head of a layer, mean over layers."),
        ("prompt_survival_mean", "share, 0 to 1",
         "Tokens of the prompt that the cache held at the end of the text in a head, mean over layers and heads."),
        ("forced_of", "", "Whose text was fed to a teacher-forced arm, token by token; null where the model wrote its own."),
        ("forced_logp_mean", _NATS, "Log-probability of the fed text under the arm; null where none was fed, as all forced_."),
        ("forced_logp_full_mean", _NATS, "Log-probability of the fed text under the full cache."),
        ("forced_loss_over_full", _NATS, "forced_logp_full_mean less forced_logp_mean: what the arm loses."),
        ("forced_agreement", "share, 0 to 1", "Tokens of the fed text that are the arm's first choice."),
        ("forced_first_disagreement", "token index",
         "The first token, from 0, that is not the arm's first choice; null where all are."),
        ("forced_logps", "nats", "Log-probability of each fed token under the arm."),
        ("forced_full_logps", "nats", "Log-probability of each fed token under the full cache."),
        ("forced_agrees", "", "Whether each fed token is the arm's first choice."),
        ("sampling_error", "relative",
         "Error of attention to expect from a selector that draws, root mean square over events; null where nothing is drawn."),
        ("taken_from", "",
         "Cell that the row was made for, where it was taken over from one with fewer problems; null for one of its own cell."),
        ("prompt_text", "",
         "The prompt as the model read it, decoded from prompt_token_ids with chat template and special tokens; null in "
         "results of earlier versions."),
        ("forced_answer_agreement", "share, 0 to 1",
         "Tokens of the answer, at its last place in a fed solution, that are the arm's first choice; null where it has none."),
        ("forced_answer_logp_mean", _NATS, "Log-probability of these tokens under the arm."),
        ("grader_id", "", "Who graded, in which version; null, as all that follow, for a text that is not graded."),
        ("answer", "", "The right answer."),
        ("extracted", "", "Answer found by the strict reading, which takes it where the prompt asks for it; null for none."),
        ("grade_status", "",
         "Outcome of the strict reading: correct, incorrect, no_answer, unfinished, grader_timeout, grader_error, gold_error."),
        ("correct", "", "Whether the strict reading is right; a text without an answer is not."),
        ("lenient_extracted", "", "Answer found by the lenient reading, which also takes a final phrase or the last number."),
        ("lenient_status", "", "Outcome of the lenient reading."),
        ("lenient_correct", "", "Whether the lenient reading is right."),
        ("grader", "", "Kind of the grader."),
        ("grader_version", "", "Its version; it changes when a text may get another grade."),
    )
}  # fmt: skip


def described(schema: pa.Schema, texts: Mapping[str, ColumnText]) -> pa.Schema:
    """Return a schema whose fields carry their descriptions and units as metadata.

    Raises:
        KeyError: a column has no text.
    """
    return pa.schema([_with_text(field, texts[field.name]) for field in schema])


def _with_text(field: pa.Field, text: ColumnText) -> pa.Field:
    return field.with_metadata({DESCRIPTION: text.description, **({UNIT: text.unit} if text.unit else {})})


def column_rows(schema: pa.Schema) -> list[dict[str, str]]:
    """Return name, type, unit and description of every column, as plain data."""
    return list(_rows(schema))


def _rows(schema: pa.Schema) -> Iterable[dict[str, str]]:
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        told = field.metadata or {}
        yield {
            "column": field.name,
            "type": str(kind).replace("list<element: ", "list<").replace("list<item: ", "list<"),
            "unit": told.get(UNIT, b"").decode(),
            "description": told.get(DESCRIPTION, b"").decode(),
        }
