"""All files that decide what a benchmark asks and how it is scored.

* The YAML of the benchmark and what that includes; of a group those of its members, by the names
  that lm-eval knows tasks, groups and tags by, in the group's folder before its own.
* The code that they name, and what that imports from its own folder. What code reads while it runs
  is not seen.
* The rows, where they are files here: those that it names, or all below the folder that it names.
"""

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from wit.errors import ConfigError
from wit.evaluation.benchmark_files import (
    FILE_READERS,
    IN_GROUP,
    REMOTE,
    file_seen_from,
    flat,
    local_data_files,
    local_folder,
    read_benchmark,
    tasks_of_lm_eval,
    with_includes,
)

FUNCTION = re.compile(r"!function[ \t]+[\"']?([\w.]+)\.\w+")
OF_LM_EVAL = "lm_eval.tasks."  # begins the name of a module of lm-eval's benchmarks
# A key at the beginning of a line with its value, or with the list below it.
HEADER = re.compile(
    rb"^[\"']?(task|group|tag|include|class)[\"']?:[ \t]*([^\n]*(?:\n[ \t]*-[ \t][^\n]*)*)",
    re.MULTILINE,
)
Index = dict[str, list[Path]]  # by name of a task or group; by a tag all tasks that have it


def deciding_files(yaml_path: Path) -> list[Path]:
    """Every file once, in order.

    Raises:
        ConfigError: One is missing, or is not YAML.
    """
    yaml_path = yaml_path.resolve()
    files = set(_files_of_one(yaml_path))
    for member in _members_of(yaml_path):
        files |= set(_files_of_one(member))
    return sorted(files)


def folders_of_tasks(yaml_path: Path) -> list[Path]:
    """Where lm-eval finds a group and all below it, in the order in which it shall look.

    The narrowest folder of its own that has them all: in its whole index it looks for ten seconds.
    """
    yaml_path = yaml_path.resolve()
    files = [yaml_path, *_members_of(yaml_path)]
    known = [file.parent for file in files if _is_known(file)]
    ours = [] if _is_known(yaml_path) else [yaml_path.parent]
    return ([Path(os.path.commonpath(known))] if known else []) + ours


def _files_of_one(yaml_path: Path) -> Iterator[Path]:
    files = with_includes(yaml_path)
    yield from files
    for file in files:
        for module in FUNCTION.findall(file.read_text(encoding="utf-8")):
            yield from _code_of(module, file.parent)
    try:
        yield from map(Path, flat(local_data_files(yaml_path)))
        yield from _files_below(local_folder(read_benchmark(yaml_path), yaml_path))
    except ConfigError:
        if not _is_known(yaml_path):  # of lm-eval's own, some ask for files that users must bring
            raise
    config = read_benchmark(yaml_path)
    if "group" in config:
        yield from _rows_of_members(config, yaml_path)


def _rows_of_members(config: dict[str, Any], yaml_path: Path) -> Iterator[Path]:
    """Rows that a group names for its members, or for one that it defines itself."""
    for member in (config, *(entry for entry in _entries(config) if isinstance(entry, dict))):
        meant = {"dataset_path": IN_GROUP} | member
        files = flat((member.get("dataset_kwargs") or {}).get("data_files"))
        if meant["dataset_path"] in FILE_READERS:
            yield from (file_seen_from(yaml_path, file) for file in files if not REMOTE.match(file))
        yield from _files_below(local_folder(meant, yaml_path))


def _files_below(folder: Path | None) -> Iterator[Path]:
    """All but those in hidden folders, which are not read."""
    for file in folder.rglob("*") if folder else ():
        above = file.relative_to(folder).parts[:-1] if folder else ()
        if file.is_file() and not any(part.startswith(".") for part in above):
            yield file.resolve()


def _members_of(yaml_path: Path) -> list[Path]:
    """Files of the tasks and groups below a group, without its own; none of a single task."""
    if "group" not in read_benchmark(yaml_path):
        return []
    ours: Index = {} if _is_known(yaml_path) else _index_of(yaml_path.parent)
    found = [yaml_path]
    for file in found:
        for name in _names(read_benchmark(file)):
            paths = ours.get(name) or _index_of_lm_eval().get(name, [])
            found += [path for path in paths if path not in found]
    return found[1:]


def _names(config: dict[str, Any]) -> Iterator[str]:
    """Of all that a group has below it, as far as its own file says."""
    if "group" not in config:
        return
    for entry in _entries(config):
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            yield from (str(entry[key]) for key in ("task", "group") if key in entry)


def _entries(config: dict[str, Any]) -> Iterator[Any]:
    """Members of a group and of the groups that it defines inside itself."""
    members = config.get("task")
    for member in members if isinstance(members, list) else []:
        yield member
        if isinstance(member, dict):
            yield from _entries(member)


def _code_of(module: str, folder: Path) -> list[Path]:
    """The file of a module that a benchmark names, and those of its folder that it imports."""
    code = folder / f"{module.replace('.', '/')}.py"
    if not code.is_file() and module.startswith(OF_LM_EVAL):
        code = tasks_of_lm_eval() / f"{module.removeprefix(OF_LM_EVAL).replace('.', '/')}.py"
    if not code.is_file():
        return []
    found = [code.resolve()]
    if _is_known(found[0]):  # what that imports is lm-eval's, whose version counts
        return found
    for file in found:
        for path in _imported(file, folder):
            found += [path] if path not in found else []
    return found


def _imported(code: Path, folder: Path) -> Iterator[Path]:
    """Modules that lie beside a file, or in the benchmark's folder, and that the file imports."""
    try:
        tree = ast.parse(code.read_bytes())
    except (SyntaxError, ValueError):  # lm-eval says so when it loads it
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names, places = [alias.name for alias in node.names], (code.parent, folder)
        elif isinstance(node, ast.ImportFrom):
            parts = [*([node.module] if node.module else [])]
            names = parts + [".".join([*parts, alias.name]) for alias in node.names]
            up = code.parents[node.level - 1] if node.level else None
            places = (code.parent, folder) if up is None else (up,)
        else:
            continue
        for name in names:
            for place in places:
                steps = name.split(".")
                below = [place.joinpath(*steps[: end + 1]) for end in range(len(steps))]
                files = (*(at / "__init__.py" for at in below), below[-1].with_suffix(".py"))
                yield from (file.resolve() for file in files if file.is_file())


def _is_known(file: Path) -> bool:
    return file.is_relative_to(tasks_of_lm_eval())


def _index_of(folder: Path) -> Index:
    """What is in a folder of the user's, as lm-eval would read it."""
    index: Index = {}
    tags: Index = {}
    for file in sorted(folder.rglob("*.yaml"), key=Path.as_posix):
        try:
            config = read_benchmark(file.resolve())
        except ConfigError:  # lm-eval passes over what it cannot read
            continue
        is_group = "group" in config and "class" not in config
        name = config.get("group" if is_group else "task")
        if isinstance(name, str) and name not in index:
            index[name] = [file.resolve()]
            if not is_group:
                for tag in flat(config.get("tag")):
                    tags.setdefault(tag, []).append(file.resolve())
    return tags | index


@cache
def _index_of_lm_eval() -> Index:
    """The same of lm-eval's own 14 thousand files, in half a second: only the lines that matter.

    To parse them all takes ten.
    """
    index: Index = {}
    tags: Index = {}
    for file in sorted(tasks_of_lm_eval().rglob("*.yaml"), key=Path.as_posix):
        said = _header(file)
        is_group = "group" in said and "class" not in said
        for name in said.get("group" if is_group else "task", [])[:1]:
            if name not in index:
                index[name] = [file]
                for tag in [] if is_group else said.get("tag", []):
                    tags.setdefault(tag, []).append(file)
    return tags | index


@cache
def _header(file: Path) -> dict[str, list[str]]:
    """Names, tags and included files that a file says, and those that it includes say for it."""
    try:
        found = HEADER.findall(file.read_bytes())
    except OSError:
        return {}
    own = {key.decode(): _words(value.decode()) for key, value in found}
    said: dict[str, list[str]] = {}
    for name in own.pop("include", []):
        said |= _header(Path(os.path.normpath(file.parent / name)))
    return said | own


def _words(value: str) -> list[str]:
    """What stands in a scalar, a list in brackets, or one below; no comments."""
    lines = (line.split(" #")[0].strip().removeprefix("- ") for line in value.splitlines())
    return [word.strip(" \t\r\"'[]") for line in lines for word in line.split(",") if word.strip()]
