"""The tables of the report: every number that a chart shows, and those that none does."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from wit.analysis.analyse import StageAnalysis, StudyAnalysis
from wit.analysis.digits import decimals_of, number, plus_minus
from wit.analysis.grid import CellScore, Gain, Grid, scores_among
from wit.analysis.parts import Parts
from wit.analysis.rays import RayScore
from wit.analysis.resampling import Estimate
from wit.analysis.score_labels import signal_name
from wit.analysis.scores import Row, alignment_of, alignments_in, by_angle, rows_of, tuning_of
from wit.analysis.selection import Recommendation
from wit.analysis.stage_rows import stage_rows

NONE = "\N{EN DASH}"


class Problem(NamedTuple):
    """A model without scores."""

    cell: str
    stage: str
    status: str
    error: str


class Line(NamedTuple):
    """One row of a table of scores: a pair of weights, and a column per figure."""

    weights: str
    is_best: bool
    values: list[CellScore | None]


class Figures(NamedTuple):
    """A table of scores: one group of columns per benchmark or diagnostic."""

    groups: list[str]
    stages: dict[str, list[str]]  # by group: those with any score
    lines: list[Line]
    decimals: dict[str, int]  # by group

    @property
    def columns(self) -> list[tuple[str, bool, int]]:
        """Stage, whether a group begins here, and decimals."""
        return [
            (stage, place == 0, self.decimals[group])
            for group in self.groups
            for place, stage in enumerate(self.stages[group])
        ]


class Numbers(NamedTuple):
    """A plain table."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    best: int | None = None  # the row to stand out


def figures_of(table: pd.DataFrame, names: Iterable[str], choice: Recommendation) -> Figures:
    """Each of ``names`` apart, for the base and for every cell before and after DPO."""
    asked, all_stages = list(names), ("base", "sft", "dpo")
    rows = {stage: stage_rows(table, stage) for stage in all_stages if asked}
    scores = {(n, s): scores_among(rows[s], [n]) for n in asked for s in all_stages}
    stages = {n: [s for s in ("sft", "dpo") if scores[n, s].cells] for n in asked}
    groups = [name for name in asked if stages[name]]
    lines = []
    base = [scores[name, "base"].cell("base") for name in groups]
    if any(base):
        lines.append(Line("base", False, base))
    known = {c.weights: c for found in scores.values() for c in found.cells if c.weights != "base"}
    ordered = _listed(known.values())
    best = None if choice.best is None else choice.best.weights
    for cell in ordered:
        values = [
            scores[name, stage].cell(cell.weights) for name in groups for stage in stages[name]
        ]
        lines.append(Line(cell.weights, cell.weights == best, values))
    decimals = {
        name: decimals_of([c.score for s in stages[name] for c in scores[name, s].cells])
        for name in groups
    }
    return Figures(groups, stages, lines, decimals)


def cells_of(grid: Grid, decimals: int) -> Numbers:
    """The numbers of both maps and of the scatter."""
    known = {cell.weights: cell for cell in (*grid.sft.cells, *grid.dpo.cells)}
    ordered = _listed(known.values())
    rows = []
    for cell in ordered:
        both = [stage.cell(cell.weights) for stage in (grid.sft, grid.dpo)]
        scores = [_cell(found, decimals) for found in both]
        seeds = [NONE if found is None else str(found.num_seeds) for found in both]
        same = seeds[0] if seeds[0] == seeds[1] else " / ".join(seeds)
        rows.append((cell.weights, _objective(cell), *scores, same))
    best = grid.dpo.best
    place = None if best is None else [cell.weights for cell in ordered].index(best.weights)
    return Numbers(("weights", "objective", "SFT", "DPO", "seeds"), rows, place)


def _objective(cell: CellScore) -> str:
    not_trained = cell.replicate_of and f", not trained: as {cell.replicate_of}"
    return f"{cell.ray}{not_trained or ''}"


def _listed(cells: Iterable[CellScore]) -> list[CellScore]:
    return sorted(cells, key=lambda c: by_angle(c.prompt_weight, c.response_weight, c.weights))


def rays_numbers(study: StudyAnalysis, near_sft: Collection[str], decimals: int) -> Numbers:
    """The numbers of both charts over rays."""
    sft, dpo = ({ray.ray: ray for ray in stage.rays} for stage in (study.sft, study.dpo))
    choice = study.recommendation
    rows = []
    names = list(sft | dpo) if len(sft) > len(dpo) else list(dpo | sft)
    near = {"SFT": near_sft, "DPO": choice.within_noise}
    for name in names:
        both = (sft.get(name), dpo.get(name))
        ray = both[0] or both[1]
        runs = " / ".join(NONE if found is None else str(found.num_runs) for found in both)
        angle = NONE if ray is None or ray.degrees is None else f"{ray.degrees:.0f}°"
        scores = [_ray(found, decimals) for found in both]
        gaps = [
            _against(stage, found, decimals)
            for stage, found in zip((study.sft, study.dpo), both, strict=True)
        ]
        within = ", ".join(stage for stage, found in near.items() if name in found)
        rows.append((name, angle, runs, scores[0], gaps[0], scores[1], gaps[1], within or NONE))
    columns = ("objective", "angle", "runs", "SFT", "minus (0, 1)", "DPO", "minus (0, 1)")
    place = None if choice.ray is None else names.index(choice.ray.ray)
    return Numbers((*columns, "within the noise of the best"), rows, place)


def _against(stage: StageAnalysis, ray: RayScore | None, decimals: int) -> str:
    """The difference from instruction tuning."""
    usual = next((r for r in stage.rays if r.ray not in stage.from_usual), None)
    if ray is None or usual is None or not stage.from_usual or ray == usual:
        return NONE
    width = stage.from_usual.get(ray.ray)
    return plus_minus(ray.score - usual.score, width, decimals, is_signed=True)


def correlations_of(study: StudyAnalysis) -> Numbers:
    """How SFT scores and DPO scores go together, in three ways."""
    relation = study.relation
    rows = [
        (f"all {relation.num_cells}", relation.all),
        (
            f"the {relation.num_response_positive} with loss on responses",
            relation.response_positive,
        ),
    ]
    if relation.num_cells == relation.num_response_positive:
        rows = rows[:1]
    kinds = ("spearman", "kendall", "pearson")
    lines = [
        (name, *(interval_of(found.get(kind)) for kind in kinds)) for name, found in rows if found
    ]
    return Numbers(("pairs of weights", "Spearman", "Kendall", "Pearson"), lines)


def interval_of(found: Estimate | None, decimals: int = 2) -> str:
    """A figure with its interval, such as ``+0.71 (+0.40 to +0.88)``."""
    if found is None:
        return NONE
    value = number(found.value, decimals, is_signed=True)
    if found.low is None or found.high is None:
        return value
    low, high = (number(end, decimals, is_signed=True) for end in (found.low, found.high))
    return f"{value} ({low} to {high})"


def signals_of(study: StudyAnalysis, decimals: int) -> Numbers:
    """What can be measured before DPO, and how well it foretells."""
    rows = [
        (
            signal_name(signal.name) + ("" if signal.higher_is_better else " (less is better)"),
            interval_of(signal.spearman),
            signal.chosen,
            number(signal.regret, decimals),
        )
        for signal in study.signals
        if not signal.is_constant
    ]
    columns = ("measured after SFT", "Spearman with the DPO score", "would choose", "and lose")
    return Numbers(columns, rows, 0 if rows else None)


def parts_numbers(parts: Parts) -> Numbers:
    """The gain of the best cell taken apart."""
    gains = [gain for part in parts.parts for gain in (part.alone, part.without) if gain]
    decimals = decimals_of([gain.absolute for gain in gains])
    rows = [
        (
            part.benchmark,
            gain_in_words(part.alone, decimals),
            gain_in_words(part.without, decimals),
            part.best_without or NONE,
        )
        for part in parts.parts
    ]
    rows.append(("all of them", NONE, gain_in_words(parts.together, decimals), parts.best or NONE))
    columns = ("benchmark", "gain on it alone", "on the mean without it", "best weights without it")
    return Numbers(columns, rows, len(rows) - 1)


def gain_in_words(gain: Gain | None, decimals: int) -> str:
    """A gain such as ``+0.021 (+3.4 %)``."""
    if gain is None:
        return NONE
    percent = ""
    if gain.percent is not None:
        percent = f" ({number(gain.percent, 1, is_signed=True)} %)"
    return f"{number(gain.absolute, decimals, is_signed=True)}{percent}"


def problems(table: pd.DataFrame) -> list[Problem]:
    """Every model that has no score, that lacks a benchmark, or that has one not a number."""
    rows = rows_of(table)
    by_model: dict[tuple[str, str, int, str | None, str | None], list[Row]] = {}
    wanted: dict[str, set[str]] = {"sft": set(), "dpo": set()}
    for row in rows:
        model = (row["stage"], row["weights"], row["seed"], alignment_of(row), tuning_of(row))
        by_model.setdefault(model, []).append(row)
        if isinstance(row["benchmark"], str) and row["role"] != "diagnostic":
            # What selects is needed everywhere; others may be measured after one stage only.
            for stage in wanted if row["role"] == "select" else wanted.keys() & {row["stage"]}:
                wanted[stage].add(row["benchmark"])
    others = alignments_in(table)[1:]
    return [
        problem._replace(cell=f"{problem.cell} {name}") if name in others else problem
        for (stage, _, _, name, _), of_model in by_model.items()
        for problem in _problems_of(of_model, wanted.get(stage, set()))
    ]


def _problems_of(rows: Sequence[Row], names: set[str]) -> Iterable[Problem]:
    first = rows[0]
    is_base = first["weights"] == "base"
    cell = first.get("cell") or ("base" if is_base else f"{first['weights']}-s{first['seed']}")
    measured = {row["benchmark"] for row in rows if isinstance(row["benchmark"], str)}
    if not measured:
        error = first.get("error")
        reason = error if isinstance(error, str) else ""
        yield Problem(cell, first["stage"], first.get("status", "missing"), reason)
        return
    for row in rows:
        if not isinstance(row["benchmark"], str):  # of an evaluation that ended badly
            yield Problem(cell, row["stage"], row.get("status", "missing"), row["error"])
        elif not math.isfinite(row["score"]):
            yield Problem(cell, first["stage"], "not a number", row["benchmark"])
    if missing := sorted(names - measured):
        yield Problem(cell, first["stage"], "incomplete", f"no score on {', '.join(missing)}")


class ModelRuns(NamedTuple):
    """A model, and where MLflow has it: its run, or the base's evaluations, for it has none."""

    cell: str
    stage: str
    fingerprint: str
    runs: dict[str, str | None]  # address by id; None: no server shows it


def runs_of(table: pd.DataFrame) -> list[ModelRuns]:
    """One entry per model that MLflow knows of, in the order of the table."""
    found: dict[tuple[str, str, str], ModelRuns] = {}
    others = alignments_in(table)[1:]
    for row in rows_of(table):
        if isinstance(row.get("run_id"), str):
            name = alignment_of(row)
            cell = f"{row.get('cell')} {name}" if name in others else str(row.get("cell"))
            key = (cell, row["stage"], str(row.get("fingerprint")))
            found.setdefault(key, ModelRuns(*key, {})).runs[row["run_id"]] = row.get("run_url")
    return list(found.values())


def _cell(cell: CellScore | None, decimals: int) -> str:
    return NONE if cell is None else plus_minus(cell.score, cell.half_width, decimals)


def _ray(ray: RayScore | None, decimals: int) -> str:
    return NONE if ray is None else plus_minus(ray.score, ray.half_width, decimals)
