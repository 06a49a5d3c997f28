"""Arguments that commands share, and what they print with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

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


def note_versions(scores: "pd.DataFrame", name: str, version: str | None, uri: str) -> None:
    """Says so if other studies share the name of the one whose scores these are."""
    from wit.lineage import study_versions

    if version is not None or scores.attrs["num_versions"] == 1:
        return
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


def print_json(value: Any) -> None:
    """To the standard output; strict JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))  # noqa: T201
