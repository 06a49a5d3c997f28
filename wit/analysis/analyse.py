"""Everything that a table of scores can say, study by study and over all of them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wit.analysis.across import Across, across
from wit.analysis.grid import CellScore, Gain, Grid, StageScores, gain_of, reference_cell, summarise
from wit.analysis.parts import Parts, parts_of
from wit.analysis.rays import Rays, RayScore, rays_of
from wit.analysis.relation import Relation, Signal, relate, signals
from wit.analysis.resampling import Estimate, mean_estimate
from wit.analysis.scores import Result
from wit.analysis.selection import Recommendation, recommend
from wit.analysis.variance import VarianceSplit, variance_split

# Figures of one study that are averaged over studies, by their names in JSON.
AVERAGED = (
    "gain_sft_best_pct",
    "gain_dpo_best_pct",
    "gain_dpo_at_sft_best_pct",
    "spearman_all",
    "spearman_response_positive",
    "regret",
    "noise_sd",
)


class StageAnalysis(Result):
    """One stage of one study, by objective."""

    rays: tuple[RayScore, ...]  # by angle
    noise_sd: float | None  # pooled within rays: the noise floor; None: every ray has one run
    noise_freedom: int  # its degrees of freedom
    from_usual: dict[str, float]  # half-width of each ray's difference from (0, 1), all together
    variance: VarianceSplit
    parts: Parts | None


class StudyAnalysis(Result):
    """One study."""

    name: str
    grid: Grid
    sft: StageAnalysis
    dpo: StageAnalysis
    gain_sft_best: Gain | None  # best SFT cell over instruction tuning
    gain_dpo_best: Gain | None  # best DPO cell over DPO from instruction tuning
    gain_dpo_at_sft_best: Gain | None  # DPO from the best SFT cell over that
    relation: Relation
    signals: tuple[Signal, ...]  # the one that foretells the DPO score best, first
    recommendation: Recommendation

    @property
    def figures(self) -> dict[str, float | None]:
        """The figures of ``AVERAGED``."""
        gains = (self.gain_sft_best, self.gain_dpo_best, self.gain_dpo_at_sft_best)
        correlations = (self.relation.all, self.relation.response_positive)
        return dict(
            zip(
                AVERAGED,
                (
                    *(None if gain is None else gain.percent for gain in gains),
                    *(found["spearman"].value if found else None for found in correlations),
                    self.relation.regret,
                    self.sft.noise_sd,
                ),
                strict=True,
            )
        )


class Analysis(Result):
    """All studies of a table."""

    studies: dict[str, StudyAnalysis]  # by name, in the order of the table
    overall: dict[str, Estimate]  # means over studies, of the names in ``AVERAGED``
    num_same_best: int  # studies whose best cell is the same before and after DPO
    num_rays: int  # different ones in all studies
    sft: Across
    dpo: Across


def analyse(table: pd.DataFrame) -> Analysis:
    """Analyses each study of a table, and all of them together.

    Args:
        table: As ``wit.lineage.table`` or ``wit.analysis.reading.read_scores`` gives it.
    """
    tables = by_study(table)
    grids = {name: summarise(part) for name, part in tables.items()}
    rays = {name: (rays_of(grid.sft), rays_of(grid.dpo)) for name, grid in grids.items()}
    studies = {name: _study(name, tables[name], grids[name], *rays[name]) for name in tables}
    figures = {name: [s.figures[name] for s in studies.values()] for name in AVERAGED}
    means = {k: mean_estimate([v for v in vs if v is not None]) for k, vs in figures.items()}
    return Analysis(
        studies=studies,
        overall={name: mean for name, mean in means.items() if mean is not None},
        num_same_best=sum(study.relation.same_best is True for study in studies.values()),
        num_rays=len({ray.ray for stages in rays.values() for s in stages for ray in s.rays}),
        sft=across("sft", _each(grids, "sft"), {name: both[0] for name, both in rays.items()}),
        dpo=across("dpo", _each(grids, "dpo"), {name: both[1] for name, both in rays.items()}),
    )


def by_study(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table of each study, by name; one study where they have no names."""
    if "study" not in table:
        return {"scores": table}
    return {str(name): table.loc[table["study"] == name] for name in table["study"].unique()}


def _each(grids: Mapping[str, Grid], stage: str) -> dict[str, StageScores]:
    return {name: grid.sft if stage == "sft" else grid.dpo for name, grid in grids.items()}


def _study(name: str, table: pd.DataFrame, grid: Grid, sft: Rays, dpo: Rays) -> StudyAnalysis:
    relation = relate(grid.sft, grid.dpo)
    # What is said of both stages together is said of the cells that have both scores.
    best_sft = relation.best_sft or grid.sft.best
    best_dpo = relation.best_dpo or grid.dpo.best
    at_sft_best = None if best_sft is None else grid.dpo.cell(best_sft.weights)
    return StudyAnalysis(
        name=name,
        grid=grid,
        sft=_stage(table, sft),
        dpo=_stage(table, dpo),
        gain_sft_best=_gain(grid.sft, best_sft),
        gain_dpo_best=_gain(grid.dpo, best_dpo),
        gain_dpo_at_sft_best=_gain(grid.dpo, at_sft_best),
        relation=relation,
        signals=tuple(signals(table)),
        recommendation=recommend(table),
    )


def _stage(table: pd.DataFrame, rays: Rays) -> StageAnalysis:
    usual = rays.instruction_tuning
    return StageAnalysis(
        rays=rays.rays,
        noise_sd=rays.noise.deviation if rays.noise.freedom else None,
        noise_freedom=rays.noise.freedom,
        from_usual={} if usual is None else rays.noise_of(usual) or {},
        variance=variance_split(rays.stage),
        parts=parts_of(table, rays.stage.stage),
    )


def _gain(stage: StageScores, cell: CellScore | None) -> Gain | None:
    usual = reference_cell(stage)
    return None if cell is None or usual is None else gain_of(stage, cell, usual)


def as_json(analysis: Analysis) -> dict[str, Any]:
    """The analysis as plain values: figures by study, their means over studies, and choices.

    ``overall`` has the means over studies under the names of the studies' figures, with 95 %
    intervals beside them; ``same_best`` is there a count, ``best_sft`` and ``best_dpo`` the best
    fixed cell of each stage.
    """
    return {
        "studies": {name: _study_as_json(study) for name, study in analysis.studies.items()},
        "overall": _overall_as_json(analysis),
    }


def _study_as_json(study: StudyAnalysis) -> dict[str, Any]:
    relation = study.relation
    return {
        **study.figures,
        "same_best": relation.same_best,
        "best_sft": _pair(relation.best_sft or study.grid.sft.best),
        "best_dpo": _pair(relation.best_dpo or study.grid.dpo.best),
        "num_cells": relation.num_cells,
        "num_rays": len(study.dpo.rays or study.sft.rays),
        "num_excluded": study.grid.sft.num_excluded + study.grid.dpo.num_excluded,
        "correlations": {
            "all": _dumped(relation.all),
            "response_positive": _dumped(relation.response_positive),
        },
        "signals": [signal.model_dump(mode="json") for signal in study.signals],
        "variance": {
            stage: found.variance.model_dump(mode="json")
            for stage, found in (("sft", study.sft), ("dpo", study.dpo))
        },
        "rays": {
            stage: [ray.model_dump(mode="json") for ray in found.rays]
            for stage, found in (("sft", study.sft), ("dpo", study.dpo))
        },
        "recommendation": study.recommendation.model_dump(mode="json"),
    }


def _overall_as_json(analysis: Analysis) -> dict[str, Any]:
    means = analysis.overall
    return {
        **{name: means[name].value if name in means else None for name in AVERAGED},
        "same_best": analysis.num_same_best,
        "best_sft": _best_fixed(analysis, "sft"),
        "best_dpo": _best_fixed(analysis, "dpo"),
        "num_studies": len(analysis.studies),
        "num_rays": analysis.num_rays,
        "intervals": {name: [mean.low, mean.high] for name, mean in means.items()},
        "across": {found.stage: _across_as_json(found) for found in (analysis.sft, analysis.dpo)},
    }


def _across_as_json(found: Across) -> dict[str, Any]:
    content = found.model_dump(mode="json")
    content["best_fixed_cell"] = next(iter(content.pop("cells")), None)
    content["best_fixed_ray"] = next(iter(content["rays"]), None)
    return content


def _best_fixed(analysis: Analysis, stage: str) -> list[float | None] | None:
    found = analysis.sft if stage == "sft" else analysis.dpo
    if not found.cells:
        return None
    grids = [study.grid for study in analysis.studies.values()]
    stages = [grid.sft if stage == "sft" else grid.dpo for grid in grids]
    cells = [cell for one in stages if (cell := one.cell(found.cells[0].name))]
    return _pair(cells[0]) if cells else None


def _pair(cell: CellScore | None) -> list[float | None] | None:
    return None if cell is None else [cell.prompt_weight, cell.response_weight]


def _dumped(found: dict[str, Estimate]) -> dict[str, Any]:
    return {name: value.model_dump(mode="json") for name, value in found.items()}
