"""The shape of a registered document, and the rules that make it one.

    format            3
    study             name
    parent            sha256 of the registration this one amends, or null
    amendment         reason given for it, or null
    source            text of the study file
    hypotheses        [{id, arm, baseline, kind, margin, model, task, budget}]; optional: contrast (the id that decision
                      rules know it by), primary (true)
    m                 size of the family that the correction counts, that of the parent included
    metric            "accuracy", or "forced_agreement": of tokens, by teacher forcing
    alpha, correction, smallest_effect, tolerance
    test              {name, resamples, seed}
    decision          {rules: "paper", roles: {...}}, {rules: [branches]}, a list of branches, or null
    tuning            space, sampler, trials, seed, selection rule
    arms              name -> identity of the mechanism, placeholders shown
    data              {dev: [task], heldout: [task]}, each {name, split, content, template, grader, problems:
                      [{id, content, marks}]}; grader is {id, kind, version}
    generation        settings
    replicates        generations per held-out problem
    root_seed         of all sampling
    budgets           [{label, tokens, of}]; a hypothesis names the label
    models            name -> identity
    calibration       model -> name -> sha256
    grader            what counts as wrong, whatever the task's grader
    code              code id, engine and identity versions, packages, kernels, code of other packages
    power             smallest detectable effects and what they assume
    seen              whether somebody looked at held-out problems before this registration

Contents are hashes of prompt and gold answer, templates hashes of the prompt template; `designspace.protocol.recognition`
tells what marks are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from designspace.errors import ProtocolError
from designspace.protocol.decision import check_decision
from designspace.protocol.metric import METRICS
from designspace.protocol.problem_records import problems_of
from designspace.statistics.registered_tests import REGISTERED_TESTS

FORMAT = 3
_READABLE = (1, 2, FORMAT)  # 1: one grader for all tasks. Up to 2: ids in the hashes of contents
_MOST_REPEATED = 0.01  # share of held-out problems that may say what another says: generated tasks repeat a few
KINDS = ("superiority", "non-inferiority", "equivalence")
KEYS = (
    "format", "study", "parent", "amendment", "source", "hypotheses", "m", "metric", "alpha", "correction",
    "smallest_effect", "tolerance", "test", "decision", "tuning", "arms", "data", "generation", "replicates", "root_seed",
    "budgets", "models", "calibration", "grader", "code", "power", "seen",
)  # fmt: skip
HYPOTHESIS_KEYS = ("id", "arm", "baseline", "kind", "margin", "model", "task", "budget")
_HYPOTHESIS_OPTIONAL = ("contrast", "primary")
_TASK_KEYS = ("name", "split", "content", "template", "problems")


def grader_id_of(document: Mapping[str, Any], task: Mapping[str, Any]) -> str:
    """Return the id of the grader that is registered for a task record."""
    grader: Mapping[str, Any] = task.get("grader") or document["grader"]
    return str(grader["id"])


def tuned_parameters(document: Mapping[str, Any]) -> list[str]:
    """Return the dotted places of all placeholders in the arms, e.g. `alpha.scoring.selector.weight`."""
    return list(_placeholders("", document["arms"]))


def check_document(document: Mapping[str, Any]) -> None:
    """Raise ProtocolError, naming every broken rule, unless the document is one that may be registered."""
    problems = list(_missing_and_unknown("", document, KEYS))
    if not problems:
        problems = [*_numbers(document), *_data(document), *_arms_and_cells(document), *_family(document)]
        problems += _lineage(document)
    if not problems and document["decision"] is not None:
        check_decision(document["decision"], document["hypotheses"])
    if problems:
        raise ProtocolError("\n".join(f"registration: {problem}" for problem in problems))


def _missing_and_unknown(
    place: str, found: Any, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[str]:
    if not isinstance(found, Mapping):
        yield f"{place or 'document'} must be a mapping, got {type(found).__name__}"
        return
    dotted = f"{place}." if place else ""
    yield from (f"{dotted}{key} is missing" for key in required if key not in found)
    yield from (f"{dotted}{key} is unknown" for key in found if key not in (*required, *optional))


def _numbers(document: Mapping[str, Any]) -> Iterator[str]:
    rules = {"format": _READABLE, "metric": METRICS, "correction": ("bonferroni",), "seen": (False, True)}
    for key, allowed in rules.items():
        if not any(document[key] is value or document[key] == value for value in allowed):
            yield f"{key} must be {' or '.join(map(str, allowed))}, got {document[key]!r}"
    for key in ("alpha", "smallest_effect", "tolerance"):
        if not (_is_number(document[key]) and 0 < document[key] < 1):
            yield f"{key} must be between 0 and 1, both excluded, got {document[key]!r}"
    for key in ("m", "replicates"):
        if not (_is_count(document[key]) and document[key] >= 1):
            yield f"{key} must be a whole number of at least 1, got {document[key]!r}"
    yield from _test(document["test"], document["replicates"])
    if document["metric"] != "accuracy" and document["test"].get("name") == "mcnemar_exact":
        yield f"test mcnemar_exact must have right or wrong generations, got metric {document['metric']}"


def _test(test: Any, replicates: Any) -> Iterator[str]:
    if not isinstance(test, Mapping) or test.get("name") not in REGISTERED_TESTS:
        yield f"test.name must be one of {', '.join(REGISTERED_TESTS)}, got {test!r}"
        return
    if test["name"] == "mcnemar_exact":
        if replicates != 1:
            yield f"test mcnemar_exact must have one generation per problem, got replicates={replicates}"
        return
    yield from _missing_and_unknown("test", test, ("name", "resamples", "seed"))
    if "resamples" in test and not (_is_count(test["resamples"]) and test["resamples"] >= 1):
        yield f"test.resamples must be a whole number of at least 1, got {test['resamples']!r}"


def _data(document: Mapping[str, Any]) -> Iterator[str]:
    problems = list(_missing_and_unknown("data", document["data"], ("dev", "heldout")))
    if not problems:
        for side, tasks in document["data"].items():
            problems += _tasks(side, tasks)
    yield from problems
    if problems:
        return
    dev, heldout = (problems_of(document["data"][side]) for side in ("dev", "heldout"))
    for what in ("id", "content"):
        shared = {p[what] for p in dev} & {p[what] for p in heldout}
        if shared:
            yield f"dev and held-out must share no problem, got {len(shared)} of the same {what}: {_some(shared)}"
    yield from _repeated(heldout)


def _repeated(heldout: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with problems that are there twice: a problem is the unit of inference, and counts once."""
    ids = Counter(problem["id"] for problem in heldout)
    if len(ids) < len(heldout):
        yield f"held-out problems must differ in id, got {_some(name for name, n in ids.items() if n > 1)} twice"
    texts = Counter((*problem.get("marks", ()), problem["content"])[0] for problem in heldout)
    repeated = len(heldout) - len(texts)
    if repeated > _MOST_REPEATED * len(heldout):
        yield f"held-out problems must differ in content, got {repeated} of {len(heldout)} that repeat another"


def _tasks(side: str, tasks: Any) -> Iterator[str]:
    if not isinstance(tasks, list) or not tasks:
        yield f"data.{side} must hold at least one task, got {tasks!r}"
        return
    for index, task in enumerate(tasks):
        place = f"data.{side}[{index}]"
        yield from _missing_and_unknown(place, task, _TASK_KEYS, ("grader",))
        found = task.get("problems") if isinstance(task, Mapping) else None
        if not (isinstance(found, list) and found and all(_is_problem(problem) for problem in found)):
            yield f"{place}.problems must be a list of {{id, content, marks}}, at least one"
    names = [task.get("name") for task in tasks if isinstance(task, Mapping)]
    if side == "heldout" and len(set(map(str, names))) < len(names):
        yield f"data.heldout must name each task once, got {', '.join(map(str, names))}"


def _arms_and_cells(document: Mapping[str, Any]) -> Iterator[str]:
    known = {"arms": document["arms"], "models": document["models"]}
    for name, found in known.items():
        if not isinstance(found, Mapping) or not found:
            yield f"{name} must be a mapping of at least one name, got {found!r:.80}"
            return
    labels: set[str] = set()
    budgets = document["budgets"]
    for index, budget in enumerate(budgets if isinstance(budgets, list) else ()):
        yield from _missing_and_unknown(f"budgets[{index}]", budget, ("label", "tokens", "of"))
        labels |= {str(budget.get("label"))} if isinstance(budget, Mapping) else set()
    heldout = document["data"].get("heldout", ()) if isinstance(document["data"], Mapping) else ()
    tasks = {str(task.get("name")) for task in heldout if isinstance(task, Mapping)}
    if not isinstance(document["hypotheses"], list) or not document["hypotheses"]:
        yield "hypotheses must hold at least one"
        return
    for hypothesis in document["hypotheses"]:
        problems = list(_missing_and_unknown("hypotheses", hypothesis, HYPOTHESIS_KEYS, _HYPOTHESIS_OPTIONAL))
        arms, models = known["arms"], known["models"]
        places = {"arm": arms, "baseline": arms, "model": models, "task": tasks, "budget": labels}
        yield from problems or _hypothesis(hypothesis, places)


def _hypothesis(hypothesis: Mapping[str, Any], known: Mapping[str, Collection[str]]) -> Iterator[str]:
    place = f"hypothesis {hypothesis['id']!r}"
    for key, names in known.items():
        if hypothesis[key] not in names:
            yield f"{place}: {key} must be registered too, got {hypothesis[key]!r} (known: {_some(names)})"
    if hypothesis["arm"] == hypothesis["baseline"]:
        yield f"{place}: arm and baseline must differ, got {hypothesis['arm']!r} twice"
    kind, margin = hypothesis["kind"], hypothesis["margin"]
    if kind not in KINDS:
        yield f"{place}: kind must be one of {', '.join(KINDS)}, got {kind!r}"
    elif kind != "superiority" and not (_is_number(margin) and 0 < margin < 1):
        yield f"{place}: {kind} must have a margin between 0 and 1, got {margin!r}"
    elif kind == "superiority" and margin is not None:
        yield f"{place}: superiority takes no margin, got {margin!r}"


def _family(document: Mapping[str, Any]) -> Iterator[str]:
    hypotheses = [found for found in document["hypotheses"] or () if isinstance(found, Mapping)]
    names = [str(found.get("id")) for found in hypotheses]
    if len(set(names)) < len(names):
        yield f"hypotheses must have ids of their own, got {', '.join(sorted(names))}"
    primary = sum(found.get("primary", True) is not False for found in hypotheses)
    if _is_count(document["m"]) and document["m"] < primary:
        yield f"m must count every primary hypothesis, got m={document['m']} for {primary}"


def _lineage(document: Mapping[str, Any]) -> Iterator[str]:
    parent, reason = document["parent"], document["amendment"]
    if (parent is None) != (reason is None):
        yield f"parent and amendment must come together, got parent={parent!r}, amendment={reason!r}"
    if reason is not None and not str(reason).strip():
        yield f"amendment must say why, got {reason!r}"


def _placeholders(place: str, found: Any) -> Iterator[str]:
    if isinstance(found, Mapping):
        if set(found) == {"tune"}:
            yield place
        for key, value in found.items():
            yield from _placeholders(f"{place}.{key}" if place else str(key), value)
    elif isinstance(found, list | tuple):
        for index, value in enumerate(found):
            yield from _placeholders(f"{place}.{index}", value)


def _is_problem(found: Any) -> bool:
    if not isinstance(found, Mapping) or set(found) - {"marks"} != {"id", "content"}:
        return False
    texts = [found["id"], found["content"], *(marks if isinstance(marks := found.get("marks", []), list) else [None])]
    return all(isinstance(text, str) for text in texts)


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)


def _is_count(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool)


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
