"""Reads a table of scores that did not come from here: a CSV file, checked line by line."""

import csv
import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wit.analysis.benchmark_names import is_known_as_lower, near_duplicates
from wit.analysis.scores import STAGES, Row
from wit.errors import InputError

NEEDED = ("stage", "prompt_weight", "response_weight", "benchmark", "score")
OPTIONAL = (
    "study",
    "seed",
    "tuning",
    "alignment",
    "role",
    "stderr",
    "num_items",
    "higher_is_better",
)
ROLES = ("select", "report", "forgetting", "diagnostic", "part")
AVERAGE = "average"  # where a file has this benchmark, it is the score, and the others its parts
DIAGNOSTICS = ("POSIX", "sensitivity", "preference_accuracy")  # no benchmarks: they choose nothing
LARGEST = 1e9  # score or weight; squares of larger ones do not fit into a number
NOT_MEASURED = ("", "nan", "na", "none", "null")
PARTED_BY = {";": "semicolons", "\t": "tabs"}  # where it should be commas
STAGES_AFTER = {"tuning": ("sft", "dpo"), "alignment": ("dpo",)}  # that have one
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_scores(
    path: Path,
    *,
    benchmarks: Collection[str] = (),
    lower_is_better: Collection[str] = (),
    scales: Mapping[str, float] | None = None,
    alignment: str | None = None,
    tuning: str | None = None,
) -> pd.DataFrame:
    """A table as the analysis takes it.

    Args:
        path: A CSV file with the columns study, stage (base, sft or dpo), prompt_weight and
            response_weight (empty for the base), seed, benchmark, score; study and seed may be
            missing, and stderr, num_items, higher_is_better, role may be there. A score that is
            empty or NaN was not measured.
        benchmarks: Whose mean is the score; unset: ``average`` if it is there, else those of the
            role select, else all but diagnostics.
        lower_is_better: Names of benchmarks; nll_<role>, sensitivity and POSIX are known.
        scales: Factors on the scores of benchmarks whose unit differs, by name.
        alignment: Whose models are read, beside the base and the SFT models; unset: a study has
            one alone.
        tuning: Whose models are read, beside the base; likewise.

    Raises:
        InputError: The file cannot be read; names the line, what is wrong and what is allowed.
    """
    rows = [_checked(f"{path}:{line}", row) for line, row in _read(path)]
    rows = _of_one(path, rows, "tuning", tuning)
    rows = _of_one(path, rows, "alignment", alignment)
    _refuse_twice(path, rows)
    known = sorted({row["benchmark"] for row in rows})
    _refuse_near_duplicates(path, known)
    scales = dict(scales or {})
    _refuse_unknown(path, "--benchmark", benchmarks, known)
    _refuse_unknown(path, "--lower-is-better", lower_is_better, known)
    _refuse_unknown(path, "--scale", scales, known)
    for row in rows:
        name = row["benchmark"]
        row["role"] = _role(name, row.get("role"), known, benchmarks)
        is_lower = name in lower_is_better or is_known_as_lower(name)
        row["higher_is_better"] = not is_lower and row.get("higher_is_better", True)
        for column in ("score", "stderr"):
            row[column] = row.get(column, math.nan) * scales.get(name, 1.0)
        del row["line"]
    return pd.DataFrame(rows)


def _read(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    """Every row as text, with the number of its line."""
    form = f"its first line names the columns {', '.join(NEEDED)}, and {', '.join(OPTIONAL)} if any"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            missing = [column for column in NEEDED if column not in columns]
            other = next((mark for mark in PARTED_BY if mark in "".join(columns)), None)
            if missing and other is not None:
                raise InputError(
                    f"{path}: its columns are parted by {PARTED_BY[other]}; allowed are commas "
                    "alone, with points in numbers: save it anew as CSV with commas"
                )
            if missing:
                has = ", ".join(columns) or "none"
                raise InputError(f"{path}: has no column {missing[0]!r}, but {has}; {form}")
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); {form}") from None
    if not rows:
        raise InputError(f"{path}: has columns, but no rows")
    return rows


def _checked(place: str, texts: Mapping[Any, Any]) -> Row:
    """The row with numbers for numbers; refuses what no table of scores can hold."""
    if None in texts or None in texts.values():
        raise InputError(f"{place}: has not as many values as the first line has columns")
    row: Row = {"line": place}
    for column, text in texts.items():
        if column in READERS:
            try:
                row[column] = READERS[column](text.strip())
            except ValueError as error:
                raise InputError(f"{place}: {column} {text!r} {error}") from None
    weights = (row["prompt_weight"], row["response_weight"])
    if row["stage"] != "base":
        for column, weight in zip(("prompt_weight", "response_weight"), weights, strict=True):
            if math.isnan(weight):
                raise InputError(f"{place}: {column} is empty; {row['stage']} needs both weights")
        if weights == (0, 0):
            raise InputError(f"{place}: both weights are 0: nothing would be learned")
    return row


def _one_of(allowed: Collection[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"is none of {', '.join(allowed)}")
        return text

    return read


def _number(text: str) -> float:
    if text.lower() in NOT_MEASURED:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise ValueError("is not a number") from None


def _weight(text: str) -> float:
    weight = _number(text)
    if weight < 0 or weight > LARGEST:
        raise ValueError(f"is not a number from 0 to {LARGEST:g}")
    if 0 < weight < 1 / LARGEST:
        raise ValueError(f"is neither 0 nor at least {1 / LARGEST:g}")
    return weight


def _score(text: str) -> float:
    score = _number(text)
    if abs(score) > LARGEST:
        raise ValueError(f"is not between -{LARGEST:g} and {LARGEST:g}")
    return score


def _measure(text: str) -> float:
    found = _number(text)
    if found < 0 or math.isinf(found):
        raise ValueError("is not a finite number from 0")
    return found


def _seed(text: str) -> float:
    seed = _number(text)
    if not math.isnan(seed) and not seed.is_integer():
        raise ValueError("is not a whole number")
    return seed


def _name(text: str) -> str:
    if not text:
        raise ValueError("is no name")
    return text


def _name_if_any(text: str) -> str:
    return "" if text.lower() in NOT_MEASURED else text


def _truth(text: str) -> bool:
    if text.lower() not in TRUTHS:
        raise ValueError(f"is none of {', '.join(TRUTHS)}")
    return TRUTHS[text.lower()]


READERS: dict[str, Callable[[str], Any]] = {
    "study": str,
    "stage": _one_of(STAGES),
    "prompt_weight": _weight,
    "response_weight": _weight,
    "seed": _seed,
    "tuning": _name_if_any,
    "alignment": _name_if_any,
    "benchmark": _name,
    "score": _score,
    "role": _one_of(ROLES),
    "stderr": _measure,
    "num_items": _measure,
    "higher_is_better": _truth,
}


def _of_one(path: Path, rows: list[Row], what: str, wanted: str | None) -> list[Row]:
    """The rows of one alignment or tuning, and of the models before it; its column is done with."""
    said = [row.pop(what, "") for row in rows]
    stages = STAGES_AFTER[what]
    names = [n if row["stage"] in stages else "" for n, row in zip(said, rows, strict=True)]
    by_study: dict[str, set[str]] = {}
    for name, row in zip(names, rows, strict=True):
        if name:
            by_study.setdefault(row.get("study", ""), set()).add(name)
    has = ", ".join(dict.fromkeys(filter(None, names)))
    if wanted is not None and wanted not in names:
        raise InputError(f"--{what} {wanted}: {path} has no such {what}, but {has or 'none'}")
    if wanted is None and max(map(len, by_study.values()), default=0) > 1:
        raise InputError(
            f"{path}: has models of several {what}s, {has}; choose one, such as "
            f"--{what} {next(filter(None, names))}"
        )
    return [row for name, row in zip(names, rows, strict=True) if name in ("", wanted or name)]


def _refuse_twice(path: Path, rows: list[Row]) -> None:
    keys = ("study", "stage", "prompt_weight", "response_weight", "seed", "benchmark")
    lines: dict[str, str] = {}
    for row in rows:
        what = ", ".join(f"{key} {row[key]}" for key in keys if key in row)
        if what in lines:
            first = lines[what].removeprefix(f"{path}:")
            raise InputError(
                f"{row['line']}: says again what line {first} says ({what}); "
                "runs of the same weights need a seed each"
            )
        lines[what] = row["line"]


def _refuse_near_duplicates(path: Path, known: list[str]) -> None:
    for one, other in near_duplicates(known):
        raise InputError(
            f"{path}: benchmarks {one!r} and {other!r} differ in case, blanks, underscores, "
            "hyphens or dots alone, and would be two; give one benchmark one name"
        )


def _refuse_unknown(path: Path, option: str, names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known)}"
            raise InputError(f"{option} {name}: {path} has no such benchmark; {hint}")


def _role(name: str, given: str | None, known: list[str], benchmarks: Collection[str]) -> str:
    """Of a benchmark: as the user says, as the file says, else by its name."""
    if name in benchmarks:
        return "select"
    if given is not None and not (benchmarks and given == "select"):
        return given
    if name in DIAGNOSTICS or name.startswith("nll_"):
        return "diagnostic"
    if benchmarks:
        return "report"
    if AVERAGE in known:
        return "select" if name == AVERAGE else "part"
    return "select"
