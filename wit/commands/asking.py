"""Questions about what has run, answered from MLflow."""

from pathlib import Path
from typing import Annotated

import typer

from wit.commands.options import (
    AsJSON,
    RuntimeFile,
    RuntimeOverrides,
    StudyName,
    StudyVersion,
    console,
    kept_study,
    name_of,
    print_json,
    scores_of,
    uri_of,
)


def compare(
    study: StudyName,
    version: StudyVersion = None,
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Compare the cells of a study: scores before and after DPO, with intervals."""
    from wit.display import comparison_as_json, show_comparison

    scores = scores_of(study, version, runtime_file, runtime_overrides)
    if as_json:
        print_json(comparison_as_json(scores))
    else:
        show_comparison(console, scores)


def lineage(
    artifact: Annotated[
        str | None, typer.Argument(help="Fingerprint of an artifact or source, or MLflow run id")
    ] = None,
    is_sync: Annotated[
        bool, typer.Option("--sync", help="Send what an MLflow that was down did not take")
    ] = False,
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
    as_json: AsJSON = False,
) -> None:
    """Show what an artifact was made of, up to the data, and what was made of it."""
    from wit import lineage as found_by
    from wit.errors import InputError
    from wit.lineage.tree import show_lineage
    from wit.loading import load_runtime

    uri = uri_of(runtime_file, runtime_overrides)
    if is_sync == (artifact is not None):
        raise InputError("wit lineage takes either a FINGERPRINT or --sync")
    if artifact is None:
        root = load_runtime(runtime_file, runtime_overrides or []).artifact_root.resolve()
        num_runs = found_by.sync(uri, root)
        if as_json:
            print_json({"num_runs": num_runs})
        else:
            runs = "run" if num_runs == 1 else "runs"
            console.print(f"sent {num_runs} {runs} to MLflow", highlight=False)
        return
    node = found_by.lineage(artifact, uri)
    if as_json:
        print_json(node.model_dump(mode="json"))
    else:
        show_lineage(console, node)


def report(
    study: StudyName,
    out: Annotated[Path | None, typer.Option(help="HTML file to write")] = None,
    version: StudyVersion = None,
    runtime_file: RuntimeFile = None,
    runtime_overrides: RuntimeOverrides = None,
) -> None:
    """Write one self-contained HTML page about a study."""
    from wit.analysis.data_summary import DataSummary
    from wit.analysis.report import Extras, write_report
    from wit.artifacts import versions
    from wit.loading import load_runtime
    from wit.outcome import REPORT, study_folder

    name, uri = name_of(study), uri_of(runtime_file, runtime_overrides)
    folder = study_folder(load_runtime(runtime_file, runtime_overrides or []), name)
    scores = scores_of(study, version, runtime_file, runtime_overrides)
    as_run = kept_study(study, scores.attrs["version"], runtime_file, runtime_overrides)
    data = None if as_run is None else DataSummary.load(folder)  # of the same version
    page = out or folder / (f"report-{version}.html" if version else REPORT)
    extras = Extras(tracking_uri=uri, versions=versions(), data=data)
    write_report(scores, as_run, extras, page)
    console.print(f"report: {page}", soft_wrap=True)
