"""The page of a table of scores: what holds over its studies, what does not, and every number."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from wit.analysis.analyse import Analysis, StudyAnalysis
from wit.analysis.intervals import basis_in_words
from wit.analysis.page import write_page
from wit.analysis.resampling import MIN_UNITS
from wit.analysis.studies_charts import Section
from wit.analysis.studies_findings import findings
from wit.analysis.studies_gains import angles, gains, noise, selection
from wit.analysis.studies_maps import SmallMap, small_map
from wit.analysis.studies_numbers import Leads, leads_of, score_digits, verdict
from wit.analysis.studies_relations import parts, ranks, regret, signals
from wit.analysis.studies_words import answer, counted, unbroken

VERDICTS = {
    "better": "other weights",
    "usual": "(0, 1)",
    "untold": "open",
    "unknown": "unknown",
}
# In reading order; each says None where the table has no numbers for it.
SECTIONS: tuple[Callable[[Analysis], Section | None], ...] = (
    gains,
    selection,
    angles,
    noise,
    ranks,
    regret,
    parts,
    signals,
)


class StudyView(NamedTuple):
    """A study as the page shows it."""

    study: StudyAnalysis
    leads: Leads
    verdict: str
    digits: int  # of its scores, behind the point
    maps: dict[str, SmallMap | None]  # by stage
    prompt_weights: list[float]
    response_weights: list[float]  # the largest first


def write_studies_page(
    analysis: Analysis, source: str, out: Path, warnings: Sequence[str] = ()
) -> Path:
    """Writes the page of a table of scores; whole or not at all.

    Args:
        analysis: Of one study or several.
        source: What the scores were read from, as a person calls it.
        out: An HTML file; its folder is made.
        warnings: What to doubt in the scores, a clause each.

    Returns:
        ``out``.

    Raises:
        InputError: It cannot be written.
    """
    shown = [section for make in SECTIONS if (section := make(analysis)) is not None]
    figures = {section.chart.name: section.figure for section in shown}
    found = [one._replace(evidence=unbroken(one.evidence)) for one in findings(analysis)]
    content = {
        "title": f"Loss weights in {source}",
        "subtitle": _subtitle(analysis),
        "answer": unbroken(answer(analysis)),
        "basis": _basis(analysis),
        "has_seeds": _max_seeds(analysis) > 1,
        "warnings": warnings,
        "holds": [one for one in found if one.holds],
        "fails": [one for one in found if not one.holds],
        "sections": [section._replace(words=unbroken(section.words)) for section in shown],
        "views": views(analysis),
        "excluded": sum(_num_excluded(study) for study in analysis.studies.values()),
    }
    return write_page("studies.html.jinja", f"Loss weights in {source}", figures, content, out)


def views(analysis: Analysis) -> list[StudyView]:
    """Every study as the page shows it."""
    digits = score_digits(analysis)
    return [_view(study, digits[name]) for name, study in analysis.studies.items()]


def _view(study: StudyAnalysis, digits: int) -> StudyView:
    grid = study.grid
    on_grid = [cell for stage in (grid.sft, grid.dpo) for cell in stage.cells if cell.is_on_grid]
    return StudyView(
        study=study,
        leads=leads_of(study),
        verdict=VERDICTS[verdict(study)],
        digits=digits,
        maps={stage.stage: small_map(stage, grid) for stage in (grid.sft, grid.dpo)},
        prompt_weights=sorted({cell.prompt_weight or 0.0 for cell in on_grid}),
        response_weights=sorted({cell.response_weight or 0.0 for cell in on_grid}, reverse=True),
    )


def _subtitle(analysis: Analysis) -> str:
    studies = list(analysis.studies.values())
    stages = [stage for s in studies for stage in (s.grid.sft, s.grid.dpo)]
    num_cells = len({cell.weights for stage in stages for cell in stage.cells})
    num_models = {
        name: sum(len(stage.models) for stage in stages if stage.stage == name)
        for name in ("sft", "dpo")
    }
    measures = list(dict.fromkeys(stage.measure for stage in stages if stage.cells))
    parts = [
        counted(len(studies), "study", "studies"),
        f"{num_models['sft']} SFT and {num_models['dpo']} DPO models",
        f"{counted(num_cells, 'pair', 'pairs')} of weights, "
        f"{counted(analysis.num_rays, 'objective', 'objectives')}",
        counted(_max_seeds(analysis), "seed", "seeds"),
        f"score: {'; '.join(measures) or 'none'}",
    ]
    return " · ".join(parts)


def _basis(analysis: Analysis) -> str:
    if len(analysis.studies) == 1:
        [study] = analysis.studies.values()
        shown = study.grid.dpo if study.grid.dpo.cells else study.grid.sft
        words = basis_in_words(shown.basis, shown.replicates)
        return f"{words[:1].upper()}{words[1:]}."
    has_intervals = len(analysis.studies) >= MIN_UNITS
    text = has_intervals * (
        "Brackets are 95 % intervals over studies, which are drawn again as if they were "
        "independent of each other; studies that share a model or data are not, and the true "
        "intervals are wider. "
    )
    if _max_seeds(analysis) <= 1:
        text += (
            "There is one seed per cell: noise is what cells of one objective differ by, and how "
            "much seeds vary is not in it."
        )
    return text.strip()


def _max_seeds(analysis: Analysis) -> int:
    """Of any cell."""
    grids = [study.grid for study in analysis.studies.values()]
    cells = [cell for grid in grids for cell in (*grid.sft.cells, *grid.dpo.cells)]
    return max((cell.num_seeds for cell in cells), default=0)


def _num_excluded(study: StudyAnalysis) -> int:
    return study.grid.sft.num_excluded + study.grid.dpo.num_excluded
