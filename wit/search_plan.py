"""How far the search of a study has come, as the artifacts tell: what it tried, and what is next.

Nothing is kept of a search but its cells, which are ordinary ones. Whoever goes on with it replays
it from the start: the same scores give the same rounds, on whatever machine.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from wit.rungs import held_out_nll_at
from wit.search.knobs import SearchKnobs
from wit.search.trials import Trial

NLL = "nll_response"  # held-out, unweighted
Values = Mapping[str, float]  # by cell; more is better


@dataclass(frozen=True)
class Search:
    """A search up to its newest round."""

    knobs: SearchKnobs
    trials: tuple[Trial, ...]  # those of the newest round may lack rung and score
    cells: tuple[CellPlan, ...]  # all that were begun; those that are not aligned end at a rung
    stopped: tuple[Cell, ...]  # within SFT, or before they were aligned
    is_over: bool  # nothing is left to begin

    @property
    def num_rounds(self) -> int:
        """Those that were begun."""
        return len({trial.round for trial in self.trials})

    @property
    def ended_in_sft(self) -> tuple[CellPlan, ...]:
        """Those of which no SFT model is made."""
        return tuple(one for one in self.cells if not one.is_tuned and one.cell in self.stopped)

    def __str__(self) -> str:
        """Where it stands, for people."""
        num_scored = sum(trial.score is not None for trial in self.trials)
        rounds = "1 round" if self.num_rounds == 1 else f"{self.num_rounds} rounds"
        said = (
            f"search: {len(self.trials)} of at most {self.knobs.most_cells} cells begun in {rounds}"
        )
        said += f", {num_scored} scored"
        said += f", {len(self.stopped)} stopped early" if self.knobs.stop else ""
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
    from wit.search import next_round

    assert study.search is not None
    known = _Known(study, _rungs(study, candidates), _scores(study, candidates), tried)
    plans = {(str(plan.cell.weights), plan.cell.seed): plan for plan in candidates}
    trials: list[Trial] = []
    cells: list[CellPlan] = []
    stopped: list[Cell] = []
    is_whole = True
    while is_whole and (asked := next_round(study.search, trials)):
        found = _round([plans[str(weights), seed] for weights, seed in asked], trials, known)
        trials += found.trials
        cells += found.cells
        stopped += found.stopped
        is_whole = found.is_whole
    return Search(study.search, tuple(trials), tuple(cells), tuple(stopped), is_over=is_whole)


@dataclass(frozen=True)
class _Known:
    """What artifacts tell of cells."""

    study: Study
    rungs: tuple[Values, ...]  # from the first one on
    scores: Values
    tried: Collection[str]  # fingerprints

    def trial(self, plan: CellPlan, number: int) -> Trial:
        """Of a cell that was begun in that round, and has come to no rung yet."""
        score = self.scores.get(str(plan.cell))
        deciding = (*plan.aligned[0].made, *_deciding(self.study, plan.dpo_evaluations))
        has_failed = score is None and self._is_tried(deciding)
        return Trial(plan.cell.weights, plan.cell.seed, number, (), score, has_failed)

    def at(self, rung: int, trial: Trial, plan: CellPlan) -> Trial:
        """Once the cell has gone on to that rung."""
        value = self.rungs[rung].get(str(plan.cell))
        deciding = _at_rung(self.study, plan, rung)
        has_failed = trial.has_failed or (value is None and self._is_tried(deciding))
        return trial._replace(rungs=(*trial.rungs, value), has_failed=has_failed)

    def _is_tried(self, artifacts: Iterable[Artifact]) -> bool:
        return all(artifact.fingerprint in self.tried for artifact in artifacts)


class _Round(NamedTuple):
    trials: list[Trial]
    cells: list[CellPlan]
    stopped: list[Cell]
    is_whole: bool


def _round(begun: Sequence[CellPlan], before: Sequence[Trial], known: _Known) -> _Round:
    """The cells of a round, as far as each of them has come or may come next."""
    from wit.search import goes_on

    assert known.study.search is not None
    number = 1 + max((trial.round for trial in before), default=-1)
    trials = [known.trial(plan, number) for plan in begun]
    cells, stopped, going = list(begun), [], list(range(len(begun)))
    for rung in range(len(known.rungs)):
        for place in going:
            trials[place] = known.at(rung, trials[place], begun[place])
            cells[place] = begun[place].up_to(rung)
        # Its own rung decides only beside those of the round's others.
        if any(trials[p].at(rung) is None and not trials[p].has_failed for p in going):
            return _Round(trials, cells, stopped, is_whole=False)
        here, going = going, []
        for place in here:
            if goes_on(known.study.search, [*before, *trials], trials[place].cell, rung):
                going.append(place)
                cells[place] = begun[place]
            elif trials[place].at(rung) is not None:
                stopped.append(begun[place].cell)
    is_whole = all(trials[p].score is not None or trials[p].has_failed for p in going)
    return _Round(trials, cells, stopped, is_whole)


def _rungs(study: Study, candidates: Sequence[CellPlan]) -> tuple[Values, ...]:
    """What decides who goes on, by rung; nothing where all do."""
    assert study.search is not None
    if (stop := study.search.stop) is None:
        return ()
    found: list[Values] = []
    for rung in range(stop.num_rungs):
        at_rung = ((plan, _at_rung(study, plan, rung)) for plan in candidates)
        made = [(plan, [a for a in measured if a.exists()]) for plan, measured in at_rung]
        if rung < len(stop.sft_rungs):
            found.append({str(p.cell): -held_out_nll_at(one) for p, some in made for one in some})
            continue
        measured = [artifact for _, some in made for artifact in some]
        if stop.by == "select":
            found.append(_select_scores(study, measured, "sft"))
        else:
            found.append(_likelihoods(study, measured))
    return tuple(found)


def _scores(study: Study, candidates: Sequence[CellPlan]) -> Values:
    """Select scores of the main alignment, read from artifacts."""
    deciding = (a for plan in candidates for a in _deciding(study, plan.dpo_evaluations))
    return _select_scores(study, [a for a in deciding if a.exists()], "dpo")


def _at_rung(study: Study, plan: CellPlan, rung: int) -> list[Artifact]:
    """What the rung of a cell is read from."""
    assert study.search is not None
    assert study.search.stop is not None
    if rung < len(plan.rungs):
        return [plan.rungs[rung]]
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
