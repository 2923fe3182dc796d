"""What both harnesses are asked: problems of trace-recall, as records of a file."""

from __future__ import annotations

import json
from pathlib import Path

from designspace.models.model_spec import ModelSpec
from designspace.tasks.task_spec import TaskSpec

MODEL = "trace-llama"
FOLDER = str(ModelSpec.bundled(MODEL).folder)
ANSWER = r"\\boxed\{(.*?)\}"
N_PROBLEMS = 6
N_NEW = 300  # no text reaches it: lm_eval's own model goes by the cap of the model's generation settings instead, 512


def problems() -> list[tuple[str, str]]:
    """Return prompts and answers."""
    return [(p.prompt, p.answer) for p in TaskSpec("trace-recall", "dev", problems=N_PROBLEMS).load()]


def write(file: Path) -> None:
    """Write them as a data set of JSON lines."""
    rows = [json.dumps({"question": prompt, "answer": answer}) for prompt, answer in problems()]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
