"""Tasks of one's own in a sweep file: a path and how answers are graded is all that they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from designspace.errors import DeclarationError
from designspace.tasks.grading import ChoiceGrader, ExactGrader, IntegerGrader, MathGrader, RegexGrader
from sweeps.expand import expand
from sweeps.plan import plan
from sweeps.spec import Sweep, load_sweep

SWEEP = """\
schema: 1
study: own
models: [pocket-llama]
tasks: [{tasks}]
mechanisms: [full, {{name: vote, base: full, decoding: {{kind: self-consistency, samples: 2}}}}]
generation: {{temperature: 1.0, max_new_tokens: 8, rows: 2}}
"""


def sweep(folder: Path, tasks: str, *lines: str) -> Sweep:
    """Return a sweep of tasks, next to a file of problems `data.jsonl`."""
    (folder / "data.jsonl").write_text("\n".join(lines or ('{"problem": "p", "answer": "B"}',)))
    file = folder / "sweep.yaml"
    file.write_text(SWEEP.format(tasks=tasks))
    return load_sweep(file)


@pytest.mark.parametrize(
    ("answer", "grader"),
    [
        ("choice", ChoiceGrader()), ("math", MathGrader()), ("integer", IntegerGrader()), ("exact", ExactGrader()),
        ("{kind: exact, case: true}", ExactGrader(case=True)), ('{kind: regex, pattern: "=> (.)"}', RegexGrader("=> (.)")),
    ],
)  # fmt: skip
def test_every_way_to_grade_can_be_named(tmp_path: Path, answer: str, grader: object) -> None:
    """By its kind, or with parameters; the split is the whole file."""
    (task,) = sweep(tmp_path, f"{{name: mine, path: data.jsonl, answer: {answer}}}").tasks

    assert (grader, "all") == (task.grader, task.split)


def test_a_shipped_task_may_be_asked_and_graded_otherwise(tmp_path: Path) -> None:
    """Prompt, system message and grader of gsm8k are defaults."""
    declared = "{name: gsm8k, split: test, path: data.jsonl, answer: integer, prompt: answer-colon, system: Be brief.}"
    (task,) = sweep(tmp_path, declared, '{"question": "q", "answer": "so #### 1,000"}').tasks
    (problem,) = task.load()

    assert (IntegerGrader(), "Be brief.") == (task.grader, task.system)
    assert ("1000", True) == (problem.answer, problem.prompt.endswith('begins with "Answer:".'))


def test_two_tasks_of_one_name_are_two_cells_only_if_they_differ(tmp_path: Path) -> None:
    """The same task twice is a mistake."""
    one = "{name: mine, path: data.jsonl, answer: choice}"
    with pytest.raises(DeclarationError, match="declared twice"):
        sweep(tmp_path, f"{one}, {one}")


def test_a_grader_is_no_part_of_a_cell_but_where_it_votes(tmp_path: Path) -> None:
    """Texts are graded anew when their grader changes; but which of several samples is returned is the grader's choice."""
    ids = []
    for answer in ("math", "exact"):
        declared = f"{{name: mine, path: data.jsonl, answer: {answer}, prompt: none}}"
        ids.append([cell.cell_id for cell in expand(sweep(tmp_path, declared, '{"problem": "p", "answer": "2"}'))])

    (plain, voted), (other_plain, other_voted) = ids
    assert plain == other_plain
    assert voted != other_voted


def test_a_plan_of_a_file_that_breaks_a_rule_is_refused(tmp_path: Path) -> None:
    """With file and line, and not as data that may be elsewhere."""
    declared = sweep(tmp_path, "{name: mine, path: data.jsonl, answer: integer}", '{"problem": "p", "answer": "x"}')
    with pytest.raises(DeclarationError, match=r"data.jsonl:1: the gold answer must be a whole number, got 'x'"):
        plan(declared, None)


def test_arguments_of_the_chat_template_are_declared_under_chat(tmp_path: Path) -> None:
    """A mapping requires a template and gives it arguments; mistakes are told at their place."""
    one = "{{name: mine, path: data.jsonl, answer: choice, chat: {}}}"
    (task,) = sweep(tmp_path, one.format("{enable_thinking: false, effort: low}")).tasks

    assert ("on", {"enable_thinking": False, "effort": "low"}) == (task.chat, task.chat_arguments.values)
    for chat, message in (
        ("of", r"tasks\[0\].chat: must be 'auto', 'on' or 'off' or a mapping, got 'of' \(did you mean 'off'\?\)"),
        ("{}", r"tasks\[0\].chat: a mapping has arguments of a chat template, got none"),
        ("{think: 0.5}", r"tasks\[0\].chat: the chat template's think must be true, false"),
    ):
        with pytest.raises(DeclarationError, match=message):
            sweep(tmp_path, one.format(chat))
