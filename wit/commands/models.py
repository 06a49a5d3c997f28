"""Models: which one to take of a study, and taking it away."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wit.commands.options import (
    AsJSON,
    RuntimeFile,
    RuntimeOverrides,
    StudyName,
    StudyVersion,
    console,
    note_versions,
    notes,
    print_json,
)
from wit.files import size_text

if TYPE_CHECKING:
    from wit.choice import Choice


def best(
    study: StudyName,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Register its model in MLflow, as champion or challenger"
        ),
    ] = None,
    alignment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of several: the best after it, not the study's first"),
    ] = None,
    tuning: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of several: the best of it, not of the study's first"),
    ] = None,
    version: StudyVersion = None,
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Say which weights a study recommends, how sure that is, and which model to take."""
    from wit.champion import register as register_model
    from wit.choice import choose
    from wit.lineage import tracking_uri
    from wit.loading import load_runtime
    from wit.past import name_of, scores_of

    runtime = load_runtime(runtime_file, runtime_overrides or [])
    name, uri = name_of(study), tracking_uri(runtime)
    scores = scores_of(name, version, runtime)
    note_versions(scores, name, version, uri)
    choice = choose(scores, name, runtime.artifact_root.resolve(), uri, alignment, tuning)
    registered = register_model(register, choice, uri) if register is not None else None
    if as_json:
        more = None if registered is None else registered.model_dump(mode="json")
        print_json(choice.model_dump(mode="json") | {"registered": more})
        return
    _show(choice)
    if registered is not None:
        console.print(registered.sentence, highlight=False)


def _show(choice: "Choice") -> None:
    from wit.analysis.wording import left_out

    def say(label: str, value: str) -> None:  # no table: it would break paths apart
        console.print(f"[bold]{label:<14}[/bold]", end="")
        console.print(value, soft_wrap=True, highlight=False, markup=False)

    console.print(choice.sentence, highlight=False)
    interval = "" if choice.half_width is None else f" ± {choice.half_width:.3f}"
    say("weights", choice.weights)
    if choice.is_instruction_tuning:
        say("", "instruction tuning itself, so there is nothing to compare them with")
    chosen_by = f"{', '.join(choice.select_benchmarks)}: {choice.score:.3f}{interval}"
    say("chosen by", chosen_by + _beside("base", choice.base_score))
    if choice.num_excluded:
        say("left out", left_out(choice.num_excluded))
    say("in the noise", ", ".join(choice.within_noise) or "no other cell")
    for report in choice.report_scores:
        usual = None if choice.is_instruction_tuning else report["instruction_tuning"]
        beside = _beside("instruction tuning", usual)
        beside += _beside("base", choice.base_scores.get(report["benchmark"]))
        width = "" if report["half_width"] is None else f" ± {report['half_width']:.3f}"
        say("reported", f"{report['benchmark']}: {report['score']:.3f}{width}{beside}")
    model = choice.model
    why = f", the best of {choice.num_seeds} by select scores" if choice.num_seeds > 1 else ""
    say("DPO model", f"{model.fingerprint}, seed {model.seed}{why}")
    if choice.num_tunings > 1:
        say("tuning", f"{choice.tuning}, one of {choice.num_tunings} of the study")
    if choice.num_alignments > 1:
        how = f"{model.alignment} ({model.objective}, beta {model.beta:g})"
        say("alignment", f"{how}, one of {choice.num_alignments} of the study")
    say("its scores", ", ".join(f"{s.benchmark} {s}" for s in model.scores))
    say("folder", model.folder + ("" if model.is_here else " (not on this machine)"))
    say("MLflow run", model.run_url or model.run_id)


def _beside(what: str, score: float | None) -> str:
    return "" if score is None else f", {what} {score:.3f}"


def export(
    artifact: Annotated[
        str, typer.Argument(metavar="FINGERPRINT", help="Of an SFT or DPO model; 4 digits or more")
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="To be written; not there, or empty")
    ],
    merge: Annotated[  # noqa: ARG001  every training merges its own when it ends
        bool, typer.Option("--merge", help="Merge adapters: always so, as trainings merge theirs")
    ] = False,
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Write a model as a plain Hugging Face folder, with its card; needs no MLflow."""
    from wit.export import export as export_model
    from wit.loading import load_runtime

    runtime = load_runtime(runtime_file, runtime_overrides or [])
    done = export_model(artifact, folder, runtime.artifact_root.resolve())
    if as_json:
        print_json(done._asdict() | {"folder": str(done.folder)})
    else:
        size = size_text(done.num_bytes)
        console.print(f"{done.stage} {done.fingerprint} ({size}): {done.folder}", soft_wrap=True)
    if done.stage == "dpo" and not done.has_reasons:
        notes.print(
            "note: the card does not say why this model was chosen; 'wit best STUDY --register "
            "NAME' keeps that for the one it chooses, and then export says it",
            soft_wrap=True,
            highlight=False,
        )
