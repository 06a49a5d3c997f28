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
    note_versions,
    print_json,
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
    from wit.lineage import tracking_uri
    from wit.loading import load_runtime
    from wit.past import kept_study, name_of, scores_of

    name, runtime = name_of(study), load_runtime(runtime_file, runtime_overrides or [])
    scores = scores_of(name, version, runtime)
    note_versions(scores, name, version, tracking_uri(runtime))
    if as_json:
        print_json(comparison_as_json(scores))
    else:
        study_as_run = kept_study(name, scores.attrs["version"], runtime)
        show_comparison(console, scores, study_as_run)


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

    runtime = load_runtime(runtime_file, runtime_overrides or [])
    uri = found_by.tracking_uri(runtime)
    if is_sync == (artifact is not None):
        raise InputError("wit lineage takes either a FINGERPRINT or --sync")
    if artifact is None:
        num_runs = found_by.sync(uri, runtime.artifact_root.resolve())
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
    from wit.lineage import tracking_uri
    from wit.loading import load_runtime
    from wit.past import name_of, rewrite_report

    name, runtime = name_of(study), load_runtime(runtime_file, runtime_overrides or [])
    done = rewrite_report(name, version, runtime, out)
    note_versions(done.scores, name, version, tracking_uri(runtime))
    console.print(f"report: {done.page}", soft_wrap=True)
