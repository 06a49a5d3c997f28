"""Tables of scores that did not come from here."""

from pathlib import Path
from typing import Annotated

import typer

from wit.commands.options import AsJSON, console, notes, print_json
from wit.errors import InputError


def analyze(
    scores: Annotated[
        Path,
        typer.Argument(help="CSV: stage, prompt_weight, response_weight, benchmark, score, ..."),
    ],
    benchmarks: Annotated[
        list[str] | None,
        typer.Option("--benchmark", metavar="NAME", help="Mean of these; unset: 'average' or all"),
    ] = None,
    lower_is_better: Annotated[
        list[str] | None, typer.Option("--lower-is-better", metavar="NAME", help="Less is better")
    ] = None,
    scales: Annotated[
        list[str] | None,
        typer.Option("--scale", metavar="NAME=FACTOR", help="Before a mean, such as MT-Bench=10"),
    ] = None,
    alignment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a table with several of them")
    ] = None,
    tuning: Annotated[
        str | None, typer.Option(metavar="NAME", help="Way of SFT, of a table with several of them")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="HTML file to write")] = None,
    as_json: AsJSON = False,
) -> None:
    """Analyse a table of scores: gains, noise, how SFT relates to DPO, what to choose."""
    from wit.analysis.analyse import analyse
    from wit.analysis.analyse import as_json as to_json
    from wit.analysis.benchmark_names import doubts
    from wit.analysis.display import show_analysis
    from wit.analysis.reading import read_scores
    from wit.analysis.studies_page import write_studies_page

    table = read_scores(
        scores,
        benchmarks=benchmarks or (),
        lower_is_better=lower_is_better or (),
        scales=dict(map(_factor, scales or [])),
        alignment=alignment,
        tuning=tuning,
    )
    analysis, warnings = analyse(table), doubts(table)
    for warning in warnings:
        notes.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
    if report is not None:
        write_studies_page(analysis, scores.name, report, warnings)
    if as_json:
        print_json(to_json(analysis))
        return
    show_analysis(console, analysis)
    if report is not None:
        console.print(f"report: {report}", soft_wrap=True, highlight=False)


def _factor(setting: str) -> tuple[str, float]:
    name, _, factor = setting.partition("=")
    try:
        value = float(factor)
    except ValueError:
        value = 0.0
    if not name or not 0 < value < float("inf"):
        raise InputError(f"--scale {setting}: is not NAME=FACTOR with a factor above 0")
    return name, value
