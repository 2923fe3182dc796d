"""RULER's tasks: every prompt is counted and read back here by other means than those that wrote it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

import pytest

from designspace.errors import DeclarationError, UnknownName
from designspace.tasks import Problem, TaskSpec
from designspace.tasks.grading import ContainsGrader, GradeStatus
from designspace.tasks.grading.contains_grader import answers_of, share_found
from designspace.tasks.ruler.ruler_tasks import RULER_NAMES
from designspace.tasks.ruler.token_length import words_for
from designspace.tasks.ruler.word_problems import _zeta
from tests.conftest import SHARED_DATA

TASKS = sorted({name for name, _ in RULER_NAMES.values()})
_NEEDLE = re.compile(r"One of the special magic (\w+) for (\S+) is: (\S+)\.")


def loaded(name: str, n: int = 6, split: str = "dev", **parameters: Any) -> list[Problem]:
    """Return the first problems of a task."""
    return TaskSpec(name, split, n, parameters=tuple(sorted(parameters.items()))).load()


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("words", [400, 1500, 4000])
def test_lengths_are_near_what_was_asked_for(name: str, words: int) -> None:
    """Never longer, and shorter by less than a piece of the haystack, or than a word of each rank."""
    for problem in loaded(name, words=words):
        assert words - max(20, 0.06 * words) <= len(problem.prompt.split()) <= words


@pytest.mark.parametrize("name", TASKS)
def test_the_solution_is_right_and_the_prompt_holds_the_answers(name: str) -> None:
    """What can be found is there to be found; a text that says one answer less is wrong, and its share is counted."""
    grader = ContainsGrader()
    for problem in loaded(name, words=500):
        answers = answers_of(problem.answer)
        assert all(answer in problem.prompt for answer in answers)
        assert len(set(answers)) == len(answers)
        assert grader.grade(problem.solution, problem.answer).strict_correct
        less = grader.grade(" ".join(answers[:-1]) or "none", problem.answer)
        assert less.strict_status is GradeStatus.INCORRECT
        share = share_found(problem.answer, less.strict_extracted)
        assert share == pytest.approx((len(answers) - 1) / len(answers))


@pytest.mark.parametrize("name", TASKS)
def test_splits_share_no_answers(name: str) -> None:
    """What one split asks for, no other does."""
    dev, confirm = ({p.answer for p in loaded(name, 12, split, words=400)} for split in ("dev", "confirm"))
    assert len(dev) == len(confirm) == 12
    assert not dev & confirm


@pytest.mark.parametrize("label", [name for name in RULER_NAMES if name.startswith("niah")])
def test_needles_say_what_is_asked_for(label: str) -> None:
    """Read back from the prompt: the keys in the question, the needles, and the values of those keys."""
    name, parameters = RULER_NAMES[label]
    for problem in loaded(name, words=600, **parameters):
        found: dict[str, list[str]] = {}
        for _, key, value in _NEEDLE.findall(problem.prompt):
            found.setdefault(key, []).append(value)
        (query,) = re.findall(r"What (?:is|are all) the special magic \w+ for (.*?) mentioned in", problem.prompt)
        asked = re.split(r", and |, ", query)
        assert sorted(answers_of(problem.answer)) == sorted(value for key in asked for value in found[key])
        n_keys = {"niah_multikey_1": 4, "niah_multiquery": 4}.get(label, 1)
        assert len(found) == n_keys if parameters.get("haystack") != "needles" else len(found) > 20
        assert len(asked) == (4 if label == "niah_multiquery" else 1)
        assert len(found[asked[0]]) == (4 if label == "niah_multivalue" else 1)


def test_the_same_needles_at_every_length() -> None:
    """So that lengths are compared on the same questions."""
    short, long = loaded("ruler-niah-multikey", words=300), loaded("ruler-niah-multikey", words=3000)
    assert [p.answer for p in short] == [p.answer for p in long]
    assert [p.prompt.rpartition("\n")[2] for p in short] == [p.prompt.rpartition("\n")[2] for p in long]


def test_what_a_model_thinks_is_read_leniently() -> None:
    """An answer that only the marked thinking holds was not given."""
    grade = ContainsGrader().grade("<think>it was 7</think> It was 8.", '["7"]')
    assert (grade.strict_correct, grade.lenient_correct) == (False, True)


def test_needles_lie_at_all_depths() -> None:
    """Of 100 problems, each fifth of the text has between 8 and 40."""
    kinds = Counter(problem.kind for problem in loaded("ruler-niah-single", 100, words=300))
    assert len(kinds) == 5
    assert all(8 <= n <= 40 for n in kinds.values())
    problem = next(p for p in loaded("ruler-niah-single", 100, words=300) if p.kind == "depth 0-20 %")
    assert problem.prompt.index("One of the special") < 0.35 * len(problem.prompt)


@pytest.mark.parametrize("parameters", [{}, {"chains": 3, "hops": 2}, {"haystack": "text"}, {"examples": 0}])
def test_variables_are_tracked(parameters: dict[str, Any]) -> None:
    """Following the assignments from top to bottom gives the variables that the answer names, in one order."""
    for problem in loaded("ruler-variable-tracking", words=700, **parameters):
        _, _, asked = problem.prompt.rpartition("Memorize and track")
        values: dict[str, str] = {}
        for name, _, source, number in re.findall(r"VAR ([A-Z]{5}) = (VAR ([A-Z]{5})|(\d{5}))", asked):
            values[name] = number or values[source]
        (value,) = set(re.findall(r"assigned the value (\d+)", asked))
        assert [name for name in values if values[name] == value] == answers_of(problem.answer)
        assert len(values) == parameters.get("chains", 1) * (parameters.get("hops", 4) + 1)
        assert problem.prompt.count("Memorize and track") == 1 + parameters.get("examples", 1)


@pytest.mark.parametrize("words", [400, 3200])
def test_common_words_are_the_most_common(words: int) -> None:
    """Counted in the list that is asked about."""
    for problem in loaded("ruler-common-words", words=words):
        _, _, asked = problem.prompt.rpartition("Below is a numbered list")
        counts = Counter(re.findall(r"\d+\. ([a-z]+)", asked.partition("\nQuestion")[0]))
        often, seldom = (30, 3) if words >= 3000 else (6, 1)
        assert {word for word, n in counts.items() if n == often} == set(answers_of(problem.answer))
        assert set(counts.values()) == {often, seldom}


@pytest.mark.parametrize("words", [250, 4000])
def test_frequent_words_are_the_most_frequent(words: int) -> None:
    """After the dots, by a margin, and with the law that was asked for."""
    for problem in loaded("ruler-frequent-words", words=words):
        text = problem.prompt.partition("coded words. ")[2].partition("\nQuestion")[0]
        ranked = Counter(text.split()).most_common()
        assert [word for word, _ in ranked[:4]] == ["...", *answers_of(problem.answer)]
        assert ranked[3][1] > ranked[4][1]
        assert ranked[0][1] / ranked[1][1] == pytest.approx(4, rel=0.15)
    assert _zeta(2.0) == pytest.approx(math.pi**2 / 6, rel=1e-9)


def test_bounds_are_said_at_declaration() -> None:
    """With the parameter's name, and what would do."""
    with pytest.raises(DeclarationError, match=r"parameter words must be a number from 60 to 1,000,000, got 5"):
        TaskSpec("ruler-niah-single", "dev", 2, parameters=(("words", 5),))
    with pytest.raises(DeclarationError, match=r"4 keys with 20 values each need at least words=932, got words=500"):
        TaskSpec("ruler-niah-multikey", "dev", 2, parameters=(("values", 20), ("words", 500)))
    with pytest.raises(DeclarationError, match="parameter haystack must be noise, text or needles, got 'essay'"):
        TaskSpec("ruler-niah-single", "dev", 2, parameters=(("haystack", "essay"),))
    with pytest.raises(UnknownName, match=r"unknown parameter of task 'ruler-niah-single' 'word'.*words"):
        TaskSpec("ruler-niah-single", "dev", 2, parameters=(("word", 500),))
    assert TaskSpec("mine", "dev", 2, of="ruler-niah-single").load()[0].prompt.startswith("A special magic number")


@pytest.mark.parametrize("name", TASKS)
def test_the_least_that_is_allowed_fits(name: str) -> None:
    """A declaration that is accepted makes prompts that are no longer than it says."""
    for least in range(60, 700):
        try:
            spec = TaskSpec(name, "dev", 2, parameters=(("words", least),))
        except DeclarationError:
            continue
        assert all(len(problem.prompt.split()) <= least for problem in spec.load())
        return
    pytest.fail("nothing was accepted")


def test_words_for_a_number_of_tokens() -> None:
    """The largest that fits, by a tokenizer of three letters a token."""

    def count(text: str) -> int:
        return len(text) // 3

    words = words_for("ruler-niah-multikey", 2048, count, problems=3)
    longest = [max(count(p.prompt) for p in loaded("ruler-niah-multikey", 3, words=n)) for n in (words, words + 1)]
    assert longest[0] <= 2048 < longest[1]
    with pytest.raises(DeclarationError, match="has longer prompts than 20 tokens even with words="):
        words_for("ruler-common-words", 20, count)


def shared(name: str) -> list[dict[str, Any]]:
    """Return the rows of a file of the shared data, or skip."""
    file = SHARED_DATA / name
    if not file.is_file():
        pytest.skip(f"no data at {file}")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_prompts_have_the_form_of_the_benchmark() -> None:
    """Template and answer prefix of every task that RULER defines, filled with what our prompt holds."""
    rows = {row["name"]: row for row in shared("ruler_tasks.jsonl")}
    assert set(rows) - set(RULER_NAMES) == {"qa_1", "qa_2"}
    for label, (name, parameters) in RULER_NAMES.items():
        (problem,) = loaded(name, 1, **parameters)
        asked = rows[label]["template"] + rows[label]["answer_prefix"]
        if label.startswith("niah") and len(answers_of(problem.answer)) == 1:
            # RULER's own rewriting for a single answer.
            asked = asked.replace("Some", "A").replace("are all", "is").replace("are", "is")
            asked = asked.replace("{type_needle_v}", rows[label]["args"]["type_needle_v"][:-1])
        asked = asked.replace("{type_needle_v}", str(rows[label]["args"].get("type_needle_v")))
        pattern = re.sub(r"\\\{\w+\\\}", "(?s:.*)", re.escape(asked.rstrip()))
        assert re.search(pattern + r"\Z", problem.prompt), (label, asked, problem.prompt[-300:])


def test_a_prompt_of_the_benchmark_reads_like_ours() -> None:
    """Its five published samples, as a task that is a file, and ours with the same parameters: frame, needles and gold."""
    rows = shared("ruler_niah_multikey_3_4k_sample.jsonl")
    path = str(SHARED_DATA / "ruler_niah_multikey_3_4k_sample.jsonl")
    theirs = TaskSpec("sample", "all", path=path, answer=ContainsGrader()).load()
    name, parameters = RULER_NAMES["niah_multikey_3"]
    ours = loaded(name, 5, words=len(theirs[0].prompt.split()), **parameters)
    for row, theirs_now, ours_now in zip(rows, theirs, ours, strict=True):
        assert answers_of(theirs_now.answer) == row["answer"]
        forms = [re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "U", p.prompt)
                 for p in (theirs_now, ours_now)]  # fmt: skip
        heads, tails = ([form[:300] for form in forms], [form[-300:] for form in forms])
        assert heads[0] == heads[1]
        assert tails[0] == tails[1]
        assert abs(len(forms[0]) - len(forms[1])) < 250
