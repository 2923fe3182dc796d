"""What a study's design can find: the power of every test that it registers, and designs that can find nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from designspace.errors import ProtocolError
from designspace.statistics import (
    BetaAccuracies,
    StudyDesign,
    can_reject,
    estimate_power,
    minimum_detectable_effect,
    problems_needed,
    resamples_needed,
    smallest_p_value,
)
from sweeps.study import Study

# What the power calculation assumes where nothing was measured yet: problems of every difficulty, and a mechanism that
# helps some of them and hurts others.
_ASSUMED = BetaAccuracies(1.0, 1.0)
_EFFECT_SPREAD = 0.5
# A text's agreement is a share of its tokens, and neighbouring tokens fail together: it varies as the share of so many
# independent ones does (docs/fidelity.md says what was measured).
_INDEPENDENT_TOKENS = 32
_TARGET = 0.8
_MARGIN_TESTS = {"non-inferiority": "non_inferiority", "equivalence": "equivalence"}


def power(study: Study, data: Mapping[str, Any], m: int, override: str | None = None) -> dict[str, Any]:
    """Return what the study's tests find with a power of 80 %, by simulation, and what that assumes.

    Each kind of hypothesis has the power of its own test, on the held-out problems of its own task: superiority the
    smallest gain found, non-inferiority and equivalence the chance that they are shown where the arms do not differ.

    data: `study.data_records()`. m: size of the family. override: why it is registered although that is too little.
    """
    sizes = {task["name"]: len(task["problems"]) for task in data["heldout"]}
    asked = dict.fromkeys((h["kind"], h["margin"], sizes[h["task"]]) for h in study.hypotheses())
    tests = [_test(study, m, *key) for key in asked]
    gains = [test["minimum_detectable_effect"] for test in tests if test["kind"] == "superiority"]
    return {
        "minimum_detectable_effect": None if not gains or None in gains else max(gains),
        "target_power": _TARGET,
        "n_problems": sum(sizes.values()),
        "n_replicates": study.protocol.replicates,
        "threshold": study.protocol.alpha / m,
        "tests": tests,
        "assumes": _assumed(study),
        "override": override,
    }


def _assumed(study: Study) -> dict[str, Any]:
    spread = f"beta({_ASSUMED.a:g}, {_ASSUMED.b:g}) over problems"
    if study.protocol.metric == "accuracy":
        return {"baseline_accuracy": spread, "effect_spread_logits": _EFFECT_SPREAD}
    return {
        "baseline_agreement": spread,
        "effect_spread_logits": _EFFECT_SPREAD,
        "independent_tokens_per_text": _INDEPENDENT_TOKENS,
    }


def check_power(document: Mapping[str, Any]) -> None:
    """Check that every test of a registration can reject, and that its design finds what it is after.

    Too few draws are refused whatever the reason, because more of them cost nothing. Too few problems and too small a
    power may be registered with a reason.

    Raises:
        ProtocolError: with the number of resamples or problems that would do, or with what the design finds instead.
    """
    found = document["power"]
    reasons = list(undrawable(found))
    if not found["override"]:
        reasons = [*reasons, *unprovable(found)] or list(_weak(found, document["smallest_effect"]))
    if reasons:
        raise ProtocolError("\n".join(reasons))


def undrawable(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield why tests draw too few resamples to reject anything; found: what `power` returned."""
    for test in found["tests"]:
        if (needed := test["resamples_needed"]) is not None:
            yield (
                f"{test['test']} with {test['resamples']:,} resamples {_beyond(test, found)}: at least {needed:,} resamples "
                "are needed (test: {resamples: …})"
            )


def unprovable(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield why tests have too few held-out problems to reject anything."""
    for test in found["tests"]:
        if test["can_reject"] or (test["resamples_needed"] is not None and test["problems_needed"] is None):
            continue
        needed = test["problems_needed"]
        would_do = "no number of problems is enough" if needed is None else f"at least {needed:,} problems are needed"
        yield f"{_name(test)} on {test['n_problems']:,} held-out problems {_beyond(test, found)}: {would_do}{_REASON}"


_REASON = ", or a reason to register it all the same (--underpowered REASON), which is recorded"


def _weak(found: Mapping[str, Any], smallest: float) -> Iterator[str]:
    """Yield what the tests find, where that is not what the study is after."""
    target = f"{found['target_power']:.0%}"
    for test in found["tests"]:
        if test["kind"] == "superiority":
            effect = test["minimum_detectable_effect"]
            if effect is not None and effect <= smallest:
                continue
            finds = "no effect" if effect is None else f"an effect of {effect:.3f}"
            yield (
                f"the smallest effect of interest is {smallest:g}, but this design finds {finds} with a power of {target}: "
                f"more problems, more replicates or fewer hypotheses are needed{_REASON}"
            )
        elif test["power_without_difference"] < found["target_power"]:
            yield (
                f"{test['kind']} within {test['margin']:g} is shown with a power of {test['power_without_difference']:.0%} "
                f"where the arms do not differ, and {target} is asked for: more problems, more replicates, a larger margin "
                f"or fewer hypotheses are needed{_REASON}"
            )


def _test(study: Study, m: int, kind: str, margin: float | None, n_problems: int) -> dict[str, Any]:
    """Return what one kind of hypothesis comes to on so many problems."""
    registered = study.protocol.test
    design = StudyDesign(
        accuracies=_ASSUMED,
        n_problems=n_problems,
        n_replicates=study.protocol.replicates * (1 if study.protocol.metric == "accuracy" else _INDEPENDENT_TOKENS),
        test=_MARGIN_TESTS.get(kind, registered.name),
        alpha=study.protocol.alpha,
        n_comparisons=m,
        effect_spread=_EFFECT_SPREAD,
        margin=margin,
        resamples=None if kind in _MARGIN_TESTS else registered.resamples,
    )
    detectable = minimum_detectable_effect(design, target_power=_TARGET) if margin is None else None
    at = estimate_power(design, 0.0) if detectable is None else detectable.at
    return {
        "kind": kind,
        "margin": margin,
        "test": design.test,
        "resamples": design.resamples,
        "n_problems": n_problems,
        "minimum_detectable_effect": None if detectable is None else detectable.effect,
        "power_without_difference": at.power if detectable is None else None,
        "discordance": at.discordance,
        "smallest_p": smallest_p_value(design),
        "can_reject": can_reject(design),
        **_needed(design),
    }


def _needed(design: StudyDesign) -> dict[str, int | None]:
    """Return the resamples and the problems that a design must have to reject anything, where it has fewer."""
    resamples = resamples_needed(design)
    few_draws = resamples is not None and design.resamples is not None and design.resamples < resamples
    few_problems = not can_reject(replace(design, resamples=None))
    return {
        "resamples_needed": resamples if few_draws else None,
        "problems_needed": problems_needed(design) if few_problems else None,
    }


def _beyond(test: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return f"gives no p value below {test['smallest_p']:.3g}, and only p up to {found['threshold']:.3g} counts"


def _name(test: Mapping[str, Any]) -> str:
    return str(test["test"]) if test["margin"] is None else f"{test['kind']} within {test['margin']:g}"
