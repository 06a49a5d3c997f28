"""Arguments that commands share, and what they print with."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console()

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


def print_json(value: Any) -> None:
    """To the standard output; strict JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))  # noqa: T201
