"""Which benchmarks there are, and the files that decide what each of them asks.

A name is looked up as: the path given with it, then ``wit/evaluation/benchmarks/NAME.yaml``, then
lm-eval's own tasks. Imports nothing heavy: ``wit plan`` fingerprints benchmarks with this.
"""

import difflib
import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from wit.errors import ConfigError
from wit.files import digest_of_files

SHIPPED = Path(__file__).parent / "benchmarks"
# Builders of the datasets library that read plain files.
FILE_READERS = frozenset({"arrow", "csv", "json", "parquet", "text"})
REMOTE = re.compile(r"^[a-z0-9]+://")
FUNCTION = re.compile(r"!function[ \t]+[\"']?([\w.]+)\.\w+")


class ResolvedBenchmark(NamedTuple):
    """A benchmark that was found."""

    name: str
    yaml_path: Path
    files: list[Path]  # all that decide what it asks: YAML, what that includes, code, data

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits over its files and the version of lm-eval, which scores it."""
        return digest_of_files(self.files, self.name, "lm_eval " + version("lm_eval"))

    @property
    def is_chat(self) -> bool:
        """Whether the chat template is to be applied; ``metadata.wit.chat: false`` says no."""
        metadata = read_benchmark(self.yaml_path).get("metadata")
        ours = metadata.get("wit") if isinstance(metadata, dict) else None
        return ours.get("chat", True) is not False if isinstance(ours, dict) else True


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one, ten times as fast


class _Loader(_SafeLoader):
    """Reads lm-eval's files without importing what they name."""


_Loader.add_constructor("!function", lambda _, node: str(node.value))


def resolve_benchmark(name: str, path: str | Path | None = None) -> ResolvedBenchmark:
    """The benchmark of that name.

    Args:
        name: Its name in the study.
        path: Its lm-eval YAML; None looks the name up.

    Raises:
        ConfigError: There is none, or a file that it names is missing or is not YAML.
    """
    if path is not None:
        return _resolved(name, Path(path))
    if (SHIPPED / f"{name}.yaml").is_file():
        return _resolved(name, SHIPPED / f"{name}.yaml")
    found = _in_lm_eval(name)
    if name not in found:
        raise ConfigError(_unknown(name, set(found)))
    return _resolved(name, found[name])


def read_benchmark(yaml_path: Path) -> dict[str, Any]:
    """Values of a benchmark's file and of those it includes; its functions stay names.

    Raises:
        ConfigError: A file is missing or is not YAML.
    """
    merged: dict[str, Any] = {}
    for file in reversed(_with_includes(yaml_path)):  # an including file has the last word
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
    if any(REMOTE.match(file) for file in _flat(data_files)):
        return None
    if isinstance(data_files, dict):
        return {split: _absolute(files, yaml_path) for split, files in data_files.items()}
    return _absolute(data_files, yaml_path)


def _resolved(name: str, yaml_path: Path) -> ResolvedBenchmark:
    yaml_path = yaml_path.resolve()
    files = _with_includes(yaml_path)
    for file in list(files):
        for module in FUNCTION.findall(file.read_text(encoding="utf-8")):
            code = file.parent / (module.replace(".", "/") + ".py")
            files += [code] if code.is_file() else []
    files += [Path(file) for file in _flat(local_data_files(yaml_path))]
    return ResolvedBenchmark(name, yaml_path, sorted(set(files)))


def _with_includes(yaml_path: Path) -> list[Path]:
    """The file, then those it includes, the strongest first."""
    found = [yaml_path]
    for file in found:
        included = _read_one(file, keep_include=True).get("include") or []
        for name in reversed([included] if isinstance(included, str) else included):
            path = (file.parent / name).resolve()
            found += [] if path in found else [path]
    return found


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


def _flat(data_files: Any) -> list[str]:
    if data_files is None:
        return []
    if isinstance(data_files, dict):
        return [file for files in data_files.values() for file in _flat(files)]
    return [data_files] if isinstance(data_files, str) else list(data_files)


def _absolute(data_files: str | list[str], yaml_path: Path) -> list[str]:
    """Paths as seen from the benchmark's own folder, so that it works from everywhere."""
    paths = [(yaml_path.parent / file).resolve() for file in _flat(data_files)]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{yaml_path}: the data file {path} does not exist")
    return [str(path) for path in paths]


def _in_lm_eval(name: str) -> dict[str, Path]:
    """lm-eval's own tasks and groups; at once when the file is named like the task.

    Its ``TaskManager`` parses 14 thousand files for this and takes ten seconds; a search for the
    one line that matters takes half a second.
    """
    package = find_spec("lm_eval")
    if package is None or not package.submodule_search_locations:
        return {}
    root = Path(package.submodule_search_locations[0]) / "tasks"
    named = re.compile(rb"^(?:task|group):[ \t]*[\"']?([\w.\-]+)[\"']?[ \t\r]*$", re.MULTILINE)
    found: dict[str, Path] = {}
    for file in (*root.rglob(f"{name}.yaml"), *root.rglob("*.yaml")):
        for match in named.findall(file.read_bytes()):
            found.setdefault(match.decode(), file)
        if name in found:
            break
    return found


def _unknown(name: str, of_lm_eval: set[str]) -> str:
    shipped = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
    close = difflib.get_close_matches(name, [*shipped, *sorted(of_lm_eval)], n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return (
        f"benchmark {name!r} is unknown.{hint} Known are {', '.join(shipped) or 'none of ours'}, "
        f"{len(of_lm_eval)} tasks of lm-eval, and any lm-eval YAML file given by 'path'."
    )
