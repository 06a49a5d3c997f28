"""From a YAML file and ``--set`` overrides to a checked ``Study`` or ``Runtime``.

Every complaint names the key, the value, what is allowed, and the file and line where it stands.
"""

import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from wit.config import BUILTIN, Runtime, Settings, Study
from wit.errors import ConfigError

Loc = tuple[str | int, ...]
T = TypeVar("T", bound=Settings)

# Keys that hold a path; a relative one is meant from the folder of the file that names it.
PATH_KEYS = {"path", "artifact_root"}


class _Document(NamedTuple):
    values: dict[str, Any]
    places: dict[Loc, str]  # where a key stands: "file:line", or the override that set it


def load_study(path: Path, overrides: Iterable[str] = ()) -> Study:
    """The study of a YAML file, with ``key.path=value`` overrides on top.

    Raises:
        ConfigError: Naming every wrong key at once, with its place and what is allowed.
    """
    return _load(Study, path, overrides)


def load_runtime(path: Path | None, overrides: Iterable[str] = ()) -> Runtime:
    """The runtime of a YAML file; without a file, the defaults.

    Raises:
        ConfigError: As ``load_study``.
    """
    return _load(Runtime, path, overrides)


def _load(kind: type[T], path: Path | None, overrides: Iterable[str]) -> T:
    document = _Document({}, {}) if path is None else _read_yaml(path)
    for override in overrides:
        _apply(override, document)
    try:
        return kind.model_validate(document.values)
    except ValidationError as error:
        complaints = [_explain(kind, e, document, path) for e in error.errors()]
        raise ConfigError("\n".join(complaints)) from None


def _read_yaml(path: Path) -> _Document:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{path}:{line}: this is not YAML: {error.problem}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: must hold a mapping of keys to values")
    places: dict[Loc, str] = {}
    for loc, line in _lines_of(root, ()):
        if loc in places:
            raise ConfigError(f"{path}:{line}: {_dotted(loc)} stands there twice; keep one")
        places[loc] = f"{path}:{line}"
    values = yaml.safe_load(text)
    _resolve_paths(values, path.resolve().parent)
    return _Document(values, places)


def _lines_of(node: yaml.Node, loc: Loc) -> Iterator[tuple[Loc, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*loc, key.value), key.start_mark.line + 1
            yield from _lines_of(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*loc, index), item.start_mark.line + 1
            yield from _lines_of(item, (*loc, index))


def _resolve_paths(values: Any, folder: Path) -> None:
    """Make relative paths absolute, in place; ``~`` and ``$NAME`` are expanded first."""
    if isinstance(values, list):
        for item in values:
            _resolve_paths(item, folder)
    elif isinstance(values, dict):
        for key, value in values.items():
            is_path = key in PATH_KEYS or (key == "template" and str(value).endswith(".jinja"))
            if is_path and isinstance(value, str) and value != BUILTIN:
                expanded = Path(os.path.expandvars(value)).expanduser()
                values[key] = str((folder / expanded).resolve())
            else:
                _resolve_paths(value, folder)


def _apply(override: str, document: _Document) -> None:
    """Set ``a.b.0.c=value`` in the document; the value is read as YAML, paths from here."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise ConfigError(f"--set {override}: write it as key.path=value, such as sft.num_epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value") from None
    loc: Loc = tuple(int(k) if k.isdecimal() else k for k in dotted.strip().split("."))
    holder: Any = document.values
    for key in loc[:-1]:
        if isinstance(holder, dict):
            holder = holder.setdefault(key, {})
        elif isinstance(holder, list) and isinstance(key, int) and key < len(holder):
            holder = holder[key]
        else:
            raise ConfigError(f"--set {override}: there is no {key!r} to set something in")
    wrapped = {loc[-1]: value}
    _resolve_paths(wrapped, Path.cwd())
    try:
        holder[loc[-1]] = wrapped[loc[-1]]
    except (TypeError, IndexError):
        raise ConfigError(f"--set {override}: there is no {loc[-1]!r} to set") from None
    document.places[loc] = f"--set {override}"


def _explain(kind: type[BaseModel], error: Any, document: _Document, path: Path | None) -> str:
    loc: Loc = tuple(error["loc"])
    place = _place(loc, document) or str(path or "--set")
    key = _dotted(loc)
    if error["type"] == "extra_forbidden":
        allowed = _keys_at(kind, loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), allowed, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"{place}: {key}: unknown key. Allowed here: {', '.join(allowed)}.{hint}"
    if error["type"] == "missing":
        allowed = ", ".join(_keys_at(kind, loc[:-1]))
        return f"{place}: {key} is missing. Keys here: {allowed}."
    message = error["msg"].removeprefix("Value error, ")
    return f"{place}: {key} = {error['input']!r}: {message}"


def _place(loc: Loc, document: _Document) -> str | None:
    """Where the key stands, or its nearest holder."""
    for end in range(len(loc), 0, -1):
        if loc[:end] in document.places:
            return document.places[loc[:end]]
    return None


def _keys_at(kind: type[BaseModel], loc: Loc) -> list[str]:
    model: Any = kind
    for key in loc:
        if isinstance(key, str) and key in model.model_fields:
            annotation = model.model_fields[key].annotation
            nested = [a for a in (annotation, *get_args(annotation)) if _is_model(a)]
            if not nested:
                return []
            model = nested[0]
    return list(model.model_fields)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _dotted(loc: Loc) -> str:
    return ".".join(str(key) for key in loc)
