"""Benchmarks as lm-eval's YAML has them: what a file says, with those that it includes.

Imports nothing of lm-eval, and runs nothing: functions that a file names stay names.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from wit.errors import ConfigError

# Builders of the datasets library that read plain files.
FILE_READERS = frozenset({"arrow", "csv", "json", "parquet", "text"})
LM_EVAL = "lm_eval/"  # before an included file: lm-eval's folder of tasks
IN_GROUP = "json"  # the dataset of a group's member that leaves it to its own file
REMOTE = re.compile(r"^[a-z0-9]+://")

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one, ten times as fast


class _Loader(_SafeLoader):
    """Reads lm-eval's files without importing what they name."""


_Loader.add_constructor("!function", lambda _, node: str(node.value))


def read_benchmark(yaml_path: Path) -> dict[str, Any]:
    """Values of a benchmark's file and of those it includes; its functions stay names.

    Raises:
        ConfigError: A file is missing or is not YAML.
    """
    merged: dict[str, Any] = {}
    for file in reversed(with_includes(yaml_path)):  # an including file has the last word
        merged |= _read_one(file)
    return merged


def local_data_files(yaml_path: Path) -> Any:
    """The benchmark's ``dataset_kwargs.data_files`` with absolute paths, in the shape it has.

    Returns:
        None when its data are not plain files here, but for example on the hub.

    Raises:
        ConfigError: A data file is missing.
    """
    config = read_benchmark(yaml_path)
    data_files = (config.get("dataset_kwargs") or {}).get("data_files")
    if data_files is None or config.get("dataset_path") not in FILE_READERS:
        return None
    if any(REMOTE.match(file) for file in flat(data_files)):
        return None
    if isinstance(data_files, dict):
        return {split: _absolute(files, yaml_path) for split, files in data_files.items()}
    return _absolute(data_files, yaml_path)


def local_folder(config: dict[str, Any], yaml_path: Path) -> Path | None:
    """The folder here that has a benchmark's rows: its ``data_dir``, or what it names as dataset.

    As seen from the benchmark's own folder, or else from where we are. A bare name of a dataset is
    one of the hub, unless a folder of that name lies where we are: the library takes that first.

    Raises:
        ConfigError: It is missing.
    """
    dataset = config.get("dataset_path")
    is_reader = dataset in FILE_READERS
    named = (config.get("dataset_kwargs") or {}).get("data_dir") if is_reader else dataset
    if not isinstance(named, str) or REMOTE.match(named):
        return None
    place = Path(named).expanduser()
    is_of_hub = not is_reader and not named.startswith(("/", ".", "~"))
    for folder in (place,) if is_of_hub else (yaml_path.parent / place, place):
        if folder.is_dir():
            return folder.resolve()
    if is_of_hub:
        return None
    raise ConfigError(f"{yaml_path}: the folder {yaml_path.parent / place} does not exist")


def with_rows_in_place(
    config: dict[str, Any], yaml_path: Path, dataset: str | None = None
) -> dict[str, Any]:
    """A benchmark with absolute paths of its rows here, which it names as seen from its own folder.

    Of a group, those that it names for its members. What is not there stays as it is.

    Args:
        config: What the file says.
        yaml_path: The file.
        dataset: The ``dataset_path`` of one that has none.
    """
    members = config.get("task")
    if isinstance(members, list):
        dataset = IN_GROUP
        placed = [
            with_rows_in_place(member, yaml_path, dataset) if isinstance(member, dict) else member
            for member in members
        ]
        config = config | {"task": placed}
    meant = {"dataset_path": dataset} | config
    folder = None
    with suppress(ConfigError):  # of lm-eval's own, some ask for what users must bring
        folder = local_folder(meant, yaml_path)
    if meant["dataset_path"] not in FILE_READERS:
        return config | {"dataset_path": str(folder)} if folder else config
    knobs = dict(config.get("dataset_kwargs") or {})
    if folder:
        knobs["data_dir"] = str(folder)
    if "data_files" in knobs:
        knobs["data_files"] = with_each(knobs["data_files"], partial(_placed, yaml_path))
    return config | {"dataset_kwargs": knobs} if knobs else config


def with_each(data_files: Any, change: Callable[[str], str]) -> Any:
    """``data_files`` with every path changed: one, a list of them, or either by split."""
    if isinstance(data_files, dict):
        return {split: with_each(files, change) for split, files in data_files.items()}
    return change(data_files) if isinstance(data_files, str) else list(map(change, data_files))


def flat(data_files: Any) -> list[str]:
    """All paths in ``data_files``, whatever shape it has; None has none."""
    if data_files is None:
        return []
    if isinstance(data_files, dict):
        return [file for files in data_files.values() for file in flat(files)]
    return [data_files] if isinstance(data_files, str) else list(data_files)


def with_includes(yaml_path: Path) -> list[Path]:
    """The file, then those it includes, the strongest first.

    Raises:
        ConfigError: A file is missing or is not YAML.
    """
    found = [yaml_path]
    for file in found:
        found += [path for path in reversed(included_in(file)) if path not in found]
    return found


def included_in(yaml_path: Path) -> list[Path]:
    """The files that it includes itself, the weakest first.

    Raises:
        ConfigError: It is missing or is not YAML.
    """
    included = _read_one(yaml_path, keep_include=True).get("include") or []
    names = [included] if isinstance(included, str) else included
    return [
        (
            (tasks_of_lm_eval() / name.removeprefix(LM_EVAL))
            if name.startswith(LM_EVAL)
            else yaml_path.parent / name
        ).resolve()
        for name in names
    ]


def _read_one(path: Path, *, keep_include: bool = False) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: the benchmark cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: this is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be an lm-eval task: a mapping of keys to values")
    if not keep_include:
        values.pop("include", None)
    return values


def _absolute(data_files: str | list[str], yaml_path: Path) -> list[str]:
    """Paths as seen from the benchmark's own folder, so that it works from everywhere."""
    return [str(file_seen_from(yaml_path, file)) for file in flat(data_files)]


def file_seen_from(yaml_path: Path, data_file: str) -> Path:
    """A data file that a benchmark's YAML names.

    Raises:
        ConfigError: It does not exist.
    """
    path = (yaml_path.parent / data_file).resolve()
    if not path.is_file():
        raise ConfigError(f"{yaml_path}: the data file {path} does not exist")
    return path


def _placed(yaml_path: Path, data_file: str) -> str:
    with suppress(ConfigError):
        return str(file_seen_from(yaml_path, data_file))
    return data_file


@cache
def tasks_of_lm_eval() -> Path:
    """Folder of lm-eval's own benchmarks."""
    package = find_spec("lm_eval")
    assert package is not None
    assert package.submodule_search_locations
    return (Path(package.submodule_search_locations[0]) / "tasks").resolve()
