"""The command line. Heavy libraries are imported inside the commands that need them."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from wit.errors import WitError

app = typer.Typer(
    name="wit",
    help="Which loss weights on prompt and response tokens survive preference alignment?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench_app = typer.Typer(help="The project's benchmarks, as ratios against named baselines.")
app.add_typer(bench_app, name="bench", no_args_is_help=True)
console = Console()
is_debugging = False

StudyFile = Annotated[Path, typer.Argument(help="A study, such as configs/studies/quickstart.yaml")]
StudyName = Annotated[str, typer.Argument(help="Name of a study that has run, or its file")]
RuntimeFile = Annotated[
    Path | None, typer.Option("--runtime", help="Where and how fast: configs/runtimes/*.yaml")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Over the study file")
]
RuntimeOverrides = Annotated[
    list[str] | None,
    typer.Option("--set-runtime", metavar="KEY=VALUE", help="Over the runtime file"),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks")] = False,
) -> None:
    global is_debugging
    is_debugging = debug


@app.command()
def run(
    study_file: StudyFile,
    runtime_file: RuntimeFile = None,
    overrides: Overrides = None,
    runtime_overrides: RuntimeOverrides = None,
) -> None:
    """Run a whole study here; run again, it reuses all that is complete."""
    from wit.running import run_here

    try:
        outcome = run_here(console, study_file, overrides, runtime_file, runtime_overrides)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run again to go on where it was")
        raise typer.Exit(130) from None
    raise typer.Exit(outcome.exit_code)


@app.command()
def plan(
    study_file: StudyFile,
    runtime_file: RuntimeFile = None,
    overrides: Overrides = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Say what a run would make, reuse and cost. Touches nothing."""
    from wit.display import plan_as_json, show_plan
    from wit.estimate import estimate
    from wit.loading import load_runtime, load_study
    from wit.plan import make_plan

    runtime = load_runtime(runtime_file, runtime_overrides or [])
    planned = make_plan(load_study(study_file, overrides or []), runtime)
    cost = estimate(planned, runtime)
    if as_json:
        _print_json(plan_as_json(planned, cost))
    else:
        show_plan(console, planned, cost)


@app.command("show-data")
def show_data(
    study_file: StudyFile,
    num_rows: Annotated[int, typer.Option("-n", min=0, help="Rows and pairs to show")] = 3,
    is_plain: Annotated[bool, typer.Option("--plain", help="Names of roles, no colours")] = False,
    runtime_file: RuntimeFile = None,
    overrides: Overrides = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Show real rows and pairs, every token by its role; what was dropped and why; the cards."""
    from wit.loading import load_runtime, load_study
    from wit.plan import make_plan
    from wit.preview import prepared
    from wit.show import rows_as_json, show_rows

    runtime = load_runtime(runtime_file, runtime_overrides or [])
    study = load_study(study_file, overrides or [])
    with prepared(make_plan(study, runtime)) as folders:
        if as_json:
            _print_json(rows_as_json(folders, study.weights, num_rows))
        else:
            show_rows(console, folders, study.weights, num_rows, is_plain=is_plain)


@app.command()
def compare(
    study: StudyName,
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Compare the cells of a study: scores before and after DPO, with intervals."""
    from wit.display import comparison_as_json, show_comparison
    from wit.lineage import table

    scores = table(_name(study), _uri(runtime_file, runtime_overrides))
    if as_json:
        _print_json(comparison_as_json(scores))
    else:
        show_comparison(console, scores)


@app.command()
def lineage(
    artifact: Annotated[str, typer.Argument(help="Fingerprint of an artifact, or MLflow run id")],
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Show what an artifact was made of, up to the data, and what was made of it."""
    from wit.display import show_lineage
    from wit.lineage import lineage as find_lineage

    node = find_lineage(artifact, _uri(runtime_file, runtime_overrides))
    if as_json:
        _print_json(node.model_dump(mode="json"))
    else:
        show_lineage(console, node)


@app.command()
def report(
    study: StudyName,
    out: Annotated[Path | None, typer.Option(help="HTML file to write")] = None,
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
) -> None:
    """Write one self-contained HTML page about a study."""
    from wit.analysis.data_summary import DataSummary
    from wit.analysis.report import Extras, write_report
    from wit.artifacts import versions
    from wit.lineage import table
    from wit.loading import load_runtime, load_study
    from wit.outcome import REPORT, STUDY, study_folder

    name, uri = _name(study), _uri(runtime_file, runtime_overrides)
    folder = study_folder(load_runtime(runtime_file, runtime_overrides or []), name)
    as_run = load_study(folder / STUDY) if (folder / STUDY).exists() else None
    page = out or folder / REPORT
    extras = Extras(tracking_uri=uri, versions=versions(), data=DataSummary.load(folder))
    write_report(table(name, uri), as_run, extras, page)
    console.print(f"report: {page}", soft_wrap=True)


@app.command()
def doctor(
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Check versions, devices, disk, Prefect and MLflow; say how to mend what is wrong."""
    from wit.doctor import diagnose, show_findings
    from wit.loading import load_runtime

    findings = diagnose(load_runtime(runtime_file, runtime_overrides or []))
    if as_json:
        _print_json([finding._asdict() for finding in findings])
    else:
        show_findings(console, findings)
    raise typer.Exit(0 if all(finding.is_well for finding in findings) else 1)


@app.command()
def up(
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect server")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow server")] = 5000,
) -> None:
    """Start Prefect, MLflow and workers on this machine, deployments applied; Ctrl-C ends all."""
    from wit.loading import load_runtime
    from wit.servers import run_servers

    run_servers(
        console,
        load_runtime(runtime_file, runtime_overrides or []),
        prefect_port=prefect_port,
        mlflow_port=mlflow_port,
    )


@bench_app.command("sft")
def bench_sft(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each trainer")] = 3,
    as_json: AsJSON = False,
) -> None:
    """Weighted SFT against plain SFTTrainer: tokens per second on the same rows."""
    _bench_training("sft", repeats, as_json)


@bench_app.command("packing")
def bench_packing(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each trainer")] = 3,
    as_json: AsJSON = False,
) -> None:
    """Packed rows against padded ones: tokens per second of weighted SFT."""
    _bench_training("packing", repeats, as_json)


def _bench_training(contest: Literal["sft", "packing"], repeats: int, as_json: bool) -> None:
    from wit.bench.sft import measure, show_measurement

    measurement = measure(contest, repeats)
    if as_json:
        _print_json(measurement.model_dump(mode="json"))
    else:
        show_measurement(console, measurement)


@bench_app.command("data")
def bench_data(
    num_rows: Annotated[int, typer.Option("--rows", min=100, help="Synthetic rows")] = 100_000,
    num_workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; unset: one for each core")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Preparation of instructions: rows and tokens per second, and whether memory stays bounded."""
    from wit.bench.data import measure, show_measurement
    from wit.config import Runtime
    from wit.stages import data_workers

    measurement = measure(num_rows, num_workers or data_workers(Runtime()))
    if as_json:
        _print_json(measurement.model_dump(mode="json"))
    else:
        show_measurement(console, measurement)


def _name(study: str) -> str:
    """Name of a study that is given by name or by file."""
    if study.endswith((".yaml", ".yml")):
        from wit.loading import load_study

        return load_study(Path(study)).name
    return study


def _uri(runtime_file: Path | None, overrides: list[str] | None) -> str:
    from wit.lineage import tracking_uri
    from wit.loading import load_runtime

    return tracking_uri(load_runtime(runtime_file, overrides or []))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))  # noqa: T201


def main() -> None:
    """Entry point: exit code 0 done, 1 a stage failed, 2 the user's input is wrong."""
    # Nothing that we start phones home.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    os.environ.setdefault("TQDM_DISABLE", "1")  # we show progress of our own
    try:
        app()
    except WitError as error:
        if is_debugging:
            traceback.print_exc()
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
