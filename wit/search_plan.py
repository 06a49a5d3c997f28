"""How far the search of a study has come, as the artifacts tell: what it tried, and what is next.

Nothing is kept of a search but its cells, which are ordinary ones. Whoever goes on with it replays
it from the start: the same scores give the same rounds, on whatever machine.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from wit.artifacts import Artifact
from wit.cell_plan import CellPlan
from wit.config import Cell, Study
from wit.evaluation_recipes import (
    BenchmarkEvaluation,
    JudgeEvaluation,
    LikelihoodEvaluation,
    ResponsesEvaluation,
)
from wit.lineage.score_table import table_of_artifacts
from wit.search.knobs import SearchKnobs
from wit.search.trials import Trial

NLL = "nll_response"  # held-out, unweighted
Values = Mapping[str, float]  # by cell; more is better


@dataclass(frozen=True)
class Search:
    """A search up to its newest round."""

    knobs: SearchKnobs
    trials: tuple[Trial, ...]  # those of the newest round may lack rung and score
    cells: tuple[CellPlan, ...]  # all that were begun; those that are not aligned end with SFT
    stopped: tuple[Cell, ...]  # before they were aligned
    is_over: bool  # nothing is left to begin

    @property
    def num_rounds(self) -> int:
        """Those that were begun."""
        return len({trial.round for trial in self.trials})

    def __str__(self) -> str:
        """Where it stands, for people."""
        num_scored = sum(trial.score is not None for trial in self.trials)
        rounds = "1 round" if self.num_rounds == 1 else f"{self.num_rounds} rounds"
        said = (
            f"search: {len(self.trials)} of at most {self.knobs.most_cells} cells begun in {rounds}"
        )
        said += f", {num_scored} scored"
        said += f", {len(self.stopped)} stopped before alignment" if self.knobs.stop else ""
        return f"{said}; {'over' if self.is_over else 'the scores decide on the next round'}"


def replay(
    study: Study, candidates: Sequence[CellPlan], tried: Collection[str] = frozenset()
) -> Search:
    """The search of a study, from its first round to the one that is not whole yet.

    Args:
        study: It has a search.
        candidates: All cells that it may try.
        tried: Fingerprints of stages that this run has made, or has failed to make. A cell that
            has no score although all that makes it was tried has failed.
    """
    from wit.search import goes_on, next_round

    assert study.search is not None
    knobs, rungs, scores = study.search, _rungs(study, candidates), _scores(study, candidates)
    plans = {(str(plan.cell.weights), plan.cell.seed): plan for plan in candidates}
    trials: list[Trial] = []
    cells: list[CellPlan] = []
    stopped: list[Cell] = []
    number, is_whole = 0, True
    while is_whole and (asked := next_round(knobs, trials)):
        begun = [plans[str(weights), seed] for weights, seed in asked]
        newest = [_trial(study, plan, number, rungs, scores, tried) for plan in begun]
        trials += newest
        # Its own rung decides only beside those of the round's others.
        is_decided = all(trial.rung is not None or trial.has_failed for trial in newest)
        for plan, trial in zip(begun, newest, strict=True):
            has_rung = is_decided and trial.rung is not None
            if knobs.stop is None or (has_rung and goes_on(knobs, trials, trial.cell)):
                cells.append(plan)
                is_whole &= trial.score is not None or trial.has_failed
            else:
                cells.append(plan.before_alignment())
                stopped += [plan.cell] * has_rung
        is_whole &= is_decided
        number += 1
    return Search(knobs, tuple(trials), tuple(cells), tuple(stopped), is_over=is_whole)


def _trial(
    study: Study,
    plan: CellPlan,
    number: int,
    rungs: Values,
    scores: Values,
    tried: Collection[str],
) -> Trial:
    def is_tried(*artifacts: Artifact) -> bool:
        return all(artifact.fingerprint in tried for artifact in artifacts)

    rung, score = rungs.get(str(plan.cell)), scores.get(str(plan.cell))
    before = (plan.sft, *_at_rung(study, plan))
    after = (*plan.aligned[0].made, *_deciding(study, plan.dpo_evaluations))
    lacks_rung = rung is None and study.search is not None and study.search.stop is not None
    return Trial(
        weights=plan.cell.weights,
        seed=plan.cell.seed,
        round=number,
        rung=rung if lacks_rung or rung is not None else 0.0,
        score=score,
        has_failed=(lacks_rung and is_tried(*before)) or (score is None and is_tried(*after)),
    )


def _rungs(study: Study, candidates: Sequence[CellPlan]) -> Values:
    """What decides who is aligned; nothing where all are."""
    assert study.search is not None
    if study.search.stop is None:
        return {}
    measured = [a for plan in candidates for a in _at_rung(study, plan) if a.exists()]
    if study.search.stop.by == "select":
        return _select_scores(study, measured, "sft")
    return _likelihoods(study, measured)


def _scores(study: Study, candidates: Sequence[CellPlan]) -> Values:
    """Select scores of the main alignment, read from artifacts."""
    deciding = (a for plan in candidates for a in _deciding(study, plan.dpo_evaluations))
    return _select_scores(study, [a for a in deciding if a.exists()], "dpo")


def _at_rung(study: Study, plan: CellPlan) -> list[Artifact]:
    """What the rung of a cell is read from."""
    if study.search is None or study.search.stop is None:
        return []
    if study.search.stop.by == "select":
        return _deciding(study, plan.sft_evaluations)
    return [a for a in plan.sft_evaluations if isinstance(a.recipe, LikelihoodEvaluation)]


def _deciding(study: Study, evaluations: Sequence[Artifact]) -> list[Artifact]:
    """Those that a select score is made of."""
    names = _select_names(study)

    def selects(recipe: object) -> bool:
        if isinstance(recipe, BenchmarkEvaluation):
            return recipe.benchmark.name in names
        return isinstance(recipe, JudgeEvaluation | ResponsesEvaluation) and recipe.name in names

    return [artifact for artifact in evaluations if selects(artifact.recipe)]


def _select_names(study: Study) -> tuple[str, ...]:
    return tuple(o.name for o in (*study.benchmarks, *study.judged) if o.role == "select")


def _select_scores(study: Study, measured: Sequence[Artifact], stage: str) -> dict[str, float]:
    """By cell, of models that all of it was measured on."""
    if not measured:
        return {}
    from wit.analysis.grid import stage_scores  # imports pandas
    from wit.analysis.scores import of_alignment

    table = of_alignment(table_of_artifacts(study, measured, ()), next(iter(study.aligned_by)))
    scores = stage_scores(table, stage, _select_names(study))
    sign = -1 if scores.is_less_better else 1
    return {f"{model.weights}-s{model.seed}": sign * model.score for model in scores.models}


def _likelihoods(study: Study, measured: Sequence[Artifact]) -> dict[str, float]:
    """By cell the mean log-likelihood of a held-out response token after SFT, in nats."""
    if not measured:
        return {}
    rows = table_of_artifacts(study, measured, ()).query("benchmark == @NLL and stage == 'sft'")
    return dict(zip(rows["cell"], -rows["score"], strict=True))
