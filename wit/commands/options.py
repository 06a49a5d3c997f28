"""Arguments that commands share, and what they print with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

    from wit.config import Study

console = Console()
notes = Console(stderr=True)  # JSON stays alone on the standard output

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
StudyVersion = Annotated[
    str | None,
    typer.Option("--version", help="Of several studies of one name; unset: started last"),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON")]


def name_of(study: str) -> str:
    """Name of a study that is given by name or by file."""
    if study.endswith((".yaml", ".yml")):
        from wit.loading import load_study

        return load_study(Path(study)).name
    return study


def uri_of(runtime_file: Path | None, overrides: list[str] | None) -> str:
    """Where the runs are that the runtime means."""
    from wit.lineage import tracking_uri
    from wit.loading import load_runtime

    return tracking_uri(load_runtime(runtime_file, overrides or []))


def kept_study(
    study: str, version: str, runtime_file: Path | None, overrides: list[str] | None
) -> "Study | None":
    """The study as it was run on this machine; None: another version was last, or it was elsewhere.

    Args:
        study: Name or file.
        version: Of the study that is meant, as MLflow knows it.
        runtime_file: Says where the artifact root is.
        overrides: Over the runtime file.
    """
    from wit.loading import load_runtime, load_study
    from wit.outcome import STUDY, kept_version, study_folder

    folder = study_folder(load_runtime(runtime_file, overrides or []), name_of(study))
    return load_study(folder / STUDY) if kept_version(folder) == version else None


def scores_of(
    study: str, version: str | None, runtime_file: Path | None, overrides: list[str] | None
) -> "pd.DataFrame":
    """Every score of a study, and on which ray each cell is; says so if others share its name."""
    from wit.analysis.scores import with_objectives
    from wit.lineage import study_versions, table

    name, uri = name_of(study), uri_of(runtime_file, overrides)
    scores = table(name, uri, version=version)
    if version is None and scores.attrs["num_versions"] > 1:
        first, *rest = study_versions(name, uri)
        others = ", ".join(other.version for other in rest)
        notes.print(
            f"note: {len(rest) + 1} studies are called {name!r}; this is {first.version}, "
            f"started last. --version takes another: {others}",
            style="yellow",
            markup=False,
            soft_wrap=True,
            highlight=False,
        )
    shown_version = scores.attrs["version"]
    return with_objectives(scores, kept_study(study, shown_version, runtime_file, overrides))


def print_json(value: Any) -> None:
    """To the standard output; strict JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))  # noqa: T201
