"""Judged sets that are asked together, by one name in a study: the judged half of a suite.

A file in ``wit/judging/suites`` is a list of entries as a study has them, with paths below a folder
of the study's, and with ``sources``: where each file is to be had. None of them is shipped, and
none is fetched.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

SUITES = Path(__file__).parent / "suites"
# What a study may say of a whole suite. ``data`` is a folder of folders named like the sets.
OVERRIDES = ("data", "role", "num_prompts", "max_new_tokens")
FILES = ("path", "references")


def expand_judged(entries: Any) -> Any:
    """The judged sets of a study, with those of a suite in the place of its name.

    Args:
        entries: As the study's file has them; what is no list of mappings comes back as it is.

    Raises:
        ValueError: There is no such suite, it has no folder, or more is said of it than can be.
    """
    if not isinstance(entries, list | tuple):
        return entries
    expanded: list[Any] = []
    for entry in entries:
        is_suite = isinstance(entry, dict) and "suite" in entry
        expanded += _sets_of(entry) if is_suite else [entry]
    return expanded


def source_of(path: Path) -> str | None:
    """Where the file that a suite wants at this path is to be had; None of any other file."""
    for name in suite_names():
        for one in _read(name):
            for file, source in one["sources"].items():
                if path.parts[-len(Path(file).parts) - 1 :] == (one["name"], *Path(file).parts):
                    return source
    return None


def suite_names() -> list[str]:
    """All that there are."""
    return sorted(file.stem for file in SUITES.glob("*.yaml"))


def _sets_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    name, ours = entry["suite"], {key: value for key, value in entry.items() if key != "suite"}
    if name not in suite_names():
        raise ValueError(
            f"suite {name!r} has nothing to be judged. Those that have: {', '.join(suite_names())}"
        )
    if unknown := sorted(set(ours) - set(OVERRIDES)):
        raise ValueError(
            f"suite {name!r}: {', '.join(unknown)} cannot be said of a whole suite; allowed: "
            f"{', '.join(OVERRIDES)}"
        )
    sets = _read(name)
    if not isinstance(folder := ours.pop("data", None), str):
        wanted = [f"{one['name']}/{file} ({src})" for one in sets for file, src in _sources(one)]
        raise ValueError(
            f"suite {name!r}: give 'data', a folder with these files: {', '.join(wanted)}"
        )
    return [
        {key: value for key, value in one.items() if key != "sources"}
        | {key: str(Path(folder) / one["name"] / one[key]) for key in FILES}
        | ours
        for one in sets
    ]


def _sources(one: dict[str, Any]) -> list[tuple[str, str]]:
    return list(one["sources"].items())


@cache
def _read(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(yaml.safe_load((SUITES / f"{name}.yaml").read_text(encoding="utf-8")))
