"""An analysis on a terminal."""

from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from wit.analysis.across import Across
from wit.analysis.analyse import Analysis, StudyAnalysis
from wit.analysis.digits import decimals_of, number
from wit.analysis.report_findings import signals_sentence
from wit.analysis.report_tables import interval_of
from wit.analysis.resampling import Estimate
from wit.analysis.studies_words import verdicts
from wit.analysis.wording import NO_DPO

# Eighty columns hold all of them beside a name of 27 letters.
COLUMNS = {
    "gain_sft_best_pct": "best\nSFT\n%",
    "gain_dpo_best_pct": "best\nDPO\n%",
    "gain_dpo_at_sft_best_pct": "DPO at\nbest\nSFT %",
    "regret": "regret",
    "spearman_all": "corr.\nall",
    "spearman_response_positive": "corr.\nλr>0",
    "noise_sd": "noise\nSFT",
}


def show_analysis(console: Console, analysis: Analysis) -> None:
    """Prints one line per study, and what all of them say together."""
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title="Gains over instruction tuning (0, 1) in percent; rank correlation SFT to DPO",
    )
    table.add_column("study", overflow="fold")
    for column in COLUMNS.values():
        table.add_column(column, justify="right", no_wrap=True)
    for study in analysis.studies.values():
        table.add_row(study.name, *_numbers(study.figures))
    if len(analysis.studies) > 1:
        means = {name: found.value for name, found in analysis.overall.items()}
        table.add_section()
        table.add_row(f"mean of {len(analysis.studies)}", *_numbers(means), style="bold")
    console.print(table)
    for sentence in sentences(analysis):
        console.print(sentence, highlight=False, soft_wrap=True)


def sentences(analysis: Analysis) -> Iterable[str]:
    """What a table of studies says, a sentence each."""
    studies = list(analysis.studies.values())
    if len(studies) == 1:
        yield from _about_one(studies[0])
        return
    excluded = sum(s.grid.sft.num_excluded + s.grid.dpo.num_excluded for s in studies)
    if excluded:
        yield f"{excluded} model{'s' * (excluded != 1)} without complete scores left out."
    known = [study for study in studies if study.relation.same_best is not None]
    if known:
        yield (
            f"One cell is best before and after DPO in {analysis.num_same_best} of {len(known)} "
            "studies with both scores."
        )
    if any(study.dpo.rays for study in studies):
        yield f"After DPO, objective by objective: {verdicts(analysis)}"
    else:
        yield NO_DPO
    for stage in (analysis.sft, analysis.dpo):
        yield from _about_choices(stage)


def _about_one(study: StudyAnalysis) -> Iterable[str]:
    yield study.recommendation.sentence
    basis = study.recommendation.basis
    yield f"{basis[:1].upper()}{basis[1:]}."
    for name, found in (
        ("all cells", study.relation.all),
        ("cells with loss on responses", study.relation.response_positive),
    ):
        if found:
            parts = ", ".join(
                f"{kind.capitalize()} {_wide(value)}" for kind, value in found.items()
            )
            yield f"SFT and DPO scores over {name}: {parts}."
    first = next(iter(study.signals), None)
    if first is not None and first.spearman is not None:
        digits = decimals_of(cell.score for cell in study.grid.dpo.cells)
        yield (
            f"{signals_sentence(study.signals)} Choosing by it would cost "
            f"{number(first.regret, digits)}."
        )


def _about_choices(stage: Across) -> Iterable[str]:
    name = "Before DPO" if stage.stage == "sft" else "After DPO"
    if stage.oracle_cell is None or not stage.cells:
        return
    fixed, ray = stage.cells[0], stage.rays[0] if stage.rays else None
    parts = [f"each study's own best cell {_wide(stage.oracle_cell)}"]
    parts.append(f"the best fixed cell {fixed.name} {_wide(fixed.gain_pct)}")
    if ray is not None:
        parts.append(f"the best fixed objective {ray.name} {_wide(ray.gain_pct)}")
    if stage.held_out_cell is not None:
        chosen = _wide(stage.held_out_cell.gain_pct)
        parts.append(f"a cell chosen without the study {chosen}")
    yield f"{name}, mean gain over instruction tuning in percent: {'; '.join(parts)}."


def _numbers(figures: Mapping[str, float | None]) -> list[str]:
    return [_plain(figures.get(name)) for name in COLUMNS]


def _plain(value: float | None) -> str:
    return "-" if value is None else number(value)


def _wide(found: Estimate) -> str:
    return interval_of(found) + (" (no interval: too few)" if found.low is None else "")
