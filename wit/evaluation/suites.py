"""Suites: benchmarks that are asked together, by one name in a study.

A suite is a file in ``wit/evaluation/suites``: a list of entries as a study has them. In a study
``{suite: NAME}`` stands for all of them; what else it says holds for each.
"""

import difflib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

SUITES = Path(__file__).parent / "suites"
# What a study may say of a whole suite. ``data`` is a folder of folders named like the benchmarks.
OVERRIDES = ("data", "limit", "role")
Places = Mapping[tuple[str | int, ...], str]  # by keys and numbers down to a value: where it is


def expand_suites(entries: Any) -> Any:
    """The benchmarks of a study, with those of a suite in the place of its name.

    Args:
        entries: As the study's file has them; what is no list of mappings comes back as it is.

    Raises:
        ValueError: There is no such suite, more is said of it than can be, or it has a benchmark
            that the study names elsewhere too.
    """
    if not isinstance(entries, list | tuple):
        return entries
    by_entry = [_expanded(entry) for entry in entries]
    _check_no_name_twice(list(zip(entries, by_entry, strict=True)))
    return [benchmark for benchmarks in by_entry for benchmark in benchmarks]


def places_after(
    expansions: Mapping[str, Callable[[Any], Any]], study: Mapping[str, Any], places: Places
) -> Places:
    """Where the keys of a study stand, by what they are once its suites are expanded.

    What a suite brings stands where the suite is named; what is said of a whole suite, where that
    is said.

    Args:
        expansions: By the key of a list, what expands it, such as ``expand_suites``.
        study: As its file has it.
        places: By key as the file has it.
    """
    found = dict(places)
    for name, expand in expansions.items():
        entries = study.get(name)
        with suppress(ValueError):  # which is what will be complained about
            if isinstance(entries, list):
                numbers = [old for old, entry in enumerate(entries) for _ in expand([entry])]
                found = {key: at for key, at in found.items() if key[:1] != (name,) or not key[1:]}
                for new, old in enumerate(numbers):
                    below = {key[2:]: at for key, at in places.items() if key[:2] == (name, old)}
                    found |= {(name, new, *rest): at for rest, at in below.items()}
    return found


def _expanded(entry: Any) -> list[Any]:
    return _benchmarks_of(entry) if _is_suite(entry) else [entry]


def _is_suite(entry: Any) -> bool:
    return isinstance(entry, dict) and "suite" in entry


def _check_no_name_twice(by_entry: list[tuple[Any, list[Any]]]) -> None:
    for number, (entry, benchmarks) in enumerate(by_entry):
        for other, others in by_entry[:number]:
            theirs = _names(others)
            both = [name for name in _names(benchmarks) if name in theirs]
            if both and (_is_suite(entry) or _is_suite(other)):
                raise ValueError(
                    f"{', '.join(both)}: named by {_said_of(other)} and by {_said_of(entry)}; a "
                    "name has one score in a study. In the place of one suite, name those of its "
                    "benchmarks that you want, one by one. To ask a benchmark in two ways, give "
                    "it a second 'name' with a 'path', to a file of one line such as 'include: "
                    "lm_eval/hellaswag/hellaswag.yaml'"
                )


def _names(benchmarks: list[Any]) -> list[str]:
    return [str(b["name"]) for b in benchmarks if isinstance(b, dict) and "name" in b]


def _said_of(entry: dict[str, Any]) -> str:
    return f"suite {entry['suite']!r}" if _is_suite(entry) else "an entry of its own"


def read_suite(name: str) -> list[dict[str, Any]]:
    """The entries of a suite; paths in them are absolute.

    Raises:
        ValueError: There is no such suite.
    """
    known = sorted(file.stem for file in SUITES.glob("*.yaml"))
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"suite {name!r} is unknown.{hint} Known are {', '.join(known)}.")
    entries = yaml.safe_load((SUITES / f"{name}.yaml").read_text(encoding="utf-8"))
    for entry in entries:
        if "path" in entry:
            entry["path"] = str((SUITES / entry["path"]).resolve())
    return entries


def _benchmarks_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    ours = {key: value for key, value in entry.items() if key != "suite"}
    if unknown := sorted(set(ours) - set(OVERRIDES)):
        raise ValueError(
            f"suite {entry['suite']!r}: {', '.join(unknown)} cannot be said of a whole suite; "
            f"allowed: {', '.join(OVERRIDES)}"
        )
    folder = ours.pop("data", None)
    if folder is not None and not isinstance(folder, str):
        raise ValueError(
            f"suite {entry['suite']!r}: 'data' is {folder!r}; give a folder of folders named like "
            "its benchmarks"
        )
    benchmarks = [{**benchmark, **ours} for benchmark in read_suite(entry["suite"])]
    if folder is not None:
        for benchmark in benchmarks:
            benchmark.pop("revision", None)  # of rows that are not asked
            benchmark["data"] = str(Path(folder) / benchmark["name"])
    return benchmarks
