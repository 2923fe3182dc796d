"""The fields of a study's `protocol` block: strict and frozen, like those of the sections of a sweep."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from designspace.protocol.metric import MetricName
from sweeps.fields import BudgetMatch, Label, Strict, TaskEntry

_LARGEST_SEED = 2**63 - 1
_MOST_REPLICATES = 10_000
_MOST_TRIALS = 10_000
_DRAWING_TESTS = ("sign_flip", "cluster_bootstrap")
_RESAMPLES = 10_000
_TEST_SEED = 1

Share = Annotated[float, Field(gt=0, lt=1)]


class CellMatch(Strict):
    """A partial match on a contrast's cells: `{model: pocket-llama, budget: 48}`; what is left out matches anything.

    Attributes:
        model: its name.
        budget: a number, which is a mean, or a match.
    """

    model: str | None = None
    budget: BudgetMatch | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_budget(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(budget := data.get("budget"), int) and not isinstance(budget, bool):
            # As under `budgets`: a plain number is a mean.
            return {**data, "budget": {"tokens": budget, "of": "mean"}}
        return data

    @model_validator(mode="after")
    def _says_something(self) -> CellMatch:
        if self.model is None and self.budget is None:
            raise ValueError("a match needs model, budget or both, got neither")
        return self


class Contrast(Strict):
    """One comparison: one hypothesis per model, held-out task and budget.

    Attributes:
        id: name of the contrast.
        arm: the mechanism that is tested.
        baseline: the one that it is held against.
        cells: the models and budgets that count; none given = all.
        kind: what is to be shown: that the arm is better, not worse by the margin, or no different by the margin.
        margin: of non-inferiority and equivalence, in the metric's own unit.
    """

    id: Label
    arm: Label
    baseline: Label
    cells: list[CellMatch] = Field(default_factory=list)
    kind: Literal["superiority", "non-inferiority", "equivalence"] = "superiority"
    margin: Share | None = None

    @model_validator(mode="after")
    def _means_something(self) -> Contrast:
        if self.arm == self.baseline:
            raise ValueError(f"arm and baseline must differ, got {self.arm!r} twice")
        if self.kind == "superiority" and self.margin is not None:
            raise ValueError(f"superiority takes no margin, got margin={self.margin:g}")
        if self.kind != "superiority" and self.margin is None:
            raise ValueError(f"{self.kind} needs a margin, got none")
        return self


class TuningSpec(Strict):
    """How the placeholders' values are found on the development tasks, and the rule by which one trial is selected.

    Attributes:
        sampler: `grid` takes all values, `random` draws them, `tpe` is Optuna's.
        trials: number of trials; a grid has as many as it has points, and needs no number.
        seed: of the sampler.
        maximise: `mean-effect`: the mean over all cells of all contrasts of metric(arm) - metric(baseline).
        ties_within: trials whose objective is this near the best one's count as equal to it.
        prefer: which of equal trials is taken; `smaller` and `larger` speak of the values, `first` of the trial's number.
        wave: trials that are drawn before any of their results is looked at, whatever the number of workers.
    """

    sampler: Literal["grid", "random", "tpe"]
    trials: int | None = Field(default=None, ge=1, le=_MOST_TRIALS)
    seed: int = Field(default=0, ge=0, le=_LARGEST_SEED)
    maximise: Literal["mean-effect"] = "mean-effect"
    ties_within: float = Field(default=0.0, ge=0, lt=1)
    prefer: Literal["smaller", "larger", "first"] = "first"
    wave: int = Field(default=4, ge=1, le=_MOST_TRIALS)

    @model_validator(mode="after")
    def _length(self) -> TuningSpec:
        if self.trials is None and self.sampler != "grid":
            raise ValueError(f"sampler {self.sampler} needs trials, got none")
        return self


class PairedTest(Strict):
    """The primary test; `resamples` and `seed` belong to the tests that draw.

    Attributes:
        name: permutation of signs, exact McNemar for one generation per problem, or the bootstrap over problems.
        resamples: how often a test draws; 10,000 by default.
        seed: of its draws; 1 by default.
    """

    name: Literal["sign_flip", "mcnemar_exact", "cluster_bootstrap"]
    resamples: int | None = Field(default=None, ge=100, le=10_000_000)
    seed: int | None = Field(default=None, ge=0, le=_LARGEST_SEED)

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, data: Any) -> Any:
        # A registration has to name its draws, so defaults are filled in here rather than where the test is run.
        if isinstance(data, dict) and data.get("name") in _DRAWING_TESTS:
            return {"resamples": _RESAMPLES, "seed": _TEST_SEED, **data}
        return data

    @model_validator(mode="after")
    def _draws(self) -> PairedTest:
        if self.name not in _DRAWING_TESTS and (self.resamples is not None or self.seed is not None):
            raise ValueError(f"{self.name} draws nothing, so it takes neither resamples nor seed")
        return self


class PaperRoles(Strict):
    """Which model of the study stands for which model of the source paper.

    Attributes:
        qwen: the model of the first condition.
        llama: the model of the second.
    """

    qwen: str
    llama: str


class PaperDecision(Strict):
    """`{rules: paper, roles: {…}}`: the branches A, B and C of the source paper, on the cells of one contrast.

    Attributes:
        rules: `paper`.
        roles: which model is which.
        contrast: its id; needed where the study has several.
    """

    rules: Literal["paper"]
    roles: PaperRoles
    contrast: str | None = None


class ProtocolSpec(Strict):
    """The whole block.

    Attributes:
        heldout: the tasks that only a confirmation may load.
        contrasts: what is compared with what.
        metric: `accuracy` of arms that write their texts, or `forced_agreement`: of arms that are fed them, the share of
            tokens that are their first choice.
        replicates: of the confirmation; `seeds.count` is that of tuning.
        smallest_effect: smallest effect of interest, to hold the design's power against.
        tuning: of the placeholders that mechanisms have; none if there are none.
        test: the primary test.
        alpha: level of the whole family of hypotheses.
        correction: for the size of the family.
        tolerance: by how much the mean memory of an arm may differ from its budget, and from the other arm's.
        decision: the paper's rules, or a list of branches; None where the study ends with its tests.
    """

    heldout: list[TaskEntry] = Field(min_length=1)
    replicates: int = Field(default=1, ge=1, le=_MOST_REPLICATES)
    contrasts: list[Contrast] = Field(min_length=1)
    metric: MetricName = "accuracy"
    smallest_effect: Share
    tuning: TuningSpec | None = None
    test: PairedTest
    alpha: Share = 0.05
    correction: Literal["bonferroni"] = "bonferroni"
    tolerance: Share = 0.02
    decision: Any = None

    @model_validator(mode="after")
    def _test_suits(self) -> ProtocolSpec:
        if self.test.name == "mcnemar_exact" and self.replicates != 1:
            raise ValueError(f"test mcnemar_exact needs one generation per problem, got replicates={self.replicates}")
        if self.metric == "forced_agreement":
            if self.test.name == "mcnemar_exact":
                raise ValueError(
                    "test mcnemar_exact needs right or wrong generations, got metric forced_agreement (sign_flip)"
                )
            if self.replicates != 1:
                raise ValueError(
                    f"metric forced_agreement draws nothing, so one replicate is enough, got replicates={self.replicates}"
                )
        return self
