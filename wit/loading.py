"""From a YAML file and ``--set`` overrides to a checked ``Study`` or ``Runtime``.

Every complaint names the key, the value, what is allowed, and the file and line where it stands.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import ValidationError

from wit.adapter_recipes import by_name
from wit.complaints import complaints, dotted
from wit.config import BUILTIN, Runtime, Settings, Study
from wit.errors import ConfigError
from wit.evaluation.suites import expand_suites, places_after
from wit.judging.suites import expand_judged
from wit.lineage.addresses import shown
from wit.places import Key, Places
from wit.tuning_grid import written_tunings
from wit.weights import PRESETS

T = TypeVar("T", bound=Settings)
OPTIONS: dict[type[Settings], str] = {Study: "--set", Runtime: "--set-runtime"}
# Lists in which a suite may stand for several.
EXPANSIONS = {"benchmarks": expand_suites, "judged": expand_judged}

# Ten times as fast, where there is one; it has other words for errors.
FAST: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Keys that hold a path; a relative one is meant from the folder of the file that names it.
PATH_KEYS = {"path", "data", "references", "artifact_root"}


class Override(NamedTuple):
    """One ``key.path=value``, and where it was given, as complaints say it."""

    text: str
    place: str


class _Document(NamedTuple):
    values: dict[str, Any]
    places: dict[Key, str]  # where a key stands: "file:line", or the override that set it


def load_study(path: Path, overrides: Iterable[str | Override] = ()) -> Study:
    """The study of a YAML file, with ``key.path=value`` overrides on top.

    Args:
        path: The file.
        overrides: In order; of a string it is said that it was given by ``--set``.

    Raises:
        ConfigError: Naming every wrong key at once, with its place and what is allowed.
    """
    return _load(Study, path, overrides)


def load_runtime(path: Path | None, overrides: Iterable[str | Override] = ()) -> Runtime:
    """The runtime of a YAML file; without a file, the defaults.

    Raises:
        ConfigError: As ``load_study``.
    """
    return _load(Runtime, path, overrides)


def _load(kind: type[T], path: Path | None, overrides: Iterable[str | Override]) -> T:
    document = _Document({}, {}) if path is None else _read_yaml(path)
    option = OPTIONS[kind]
    for given in overrides:
        override = Override(given, f"{option} {given}") if isinstance(given, str) else given
        _refuse_password(override)
        _apply(override, document)
    places = _places_in(kind, document)
    try:
        return kind.model_validate(document.values, context=places)
    except ValidationError as error:
        said = complaints(kind, error, places, str(path or option))
        raise ConfigError("\n".join(said)) from None


def _places_in(kind: type[Settings], document: _Document) -> Places:
    if kind is not Study:
        return Places(document.places)
    # A search stands under the weights that it replaces.
    written: dict[Key, Key] = {("search",): ("weights", "search")}
    written |= written_tunings(document.values)
    return Places(places_after(EXPANSIONS, document.values, document.places), written)


def _read_yaml(path: Path) -> _Document:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    try:
        root, values = _parsed(text)
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path}: must hold a mapping of keys to values")
        places = _places_of(root, path)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{path}:{line}: this is not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # A control character, an impossible date, a key that is a list, an alias of itself.
        raise ConfigError(f"{path}: this is not YAML: {str(error).splitlines()[0]}") from None
    _resolve_paths(values, path.resolve().parent)
    return _Document(values, places)


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes of a file, which know their lines, and its values."""
    with suppress(yaml.YAMLError):
        return yaml.compose(text, Loader=FAST), yaml.load(text, Loader=FAST)
    return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)


def _places_of(root: yaml.Node, path: Path) -> dict[Key, str]:
    places: dict[Key, str] = {}
    for loc, line in _lines_of(root, ()):
        if loc in places:
            raise ConfigError(f"{path}:{line}: {dotted(loc)} stands there twice; keep one")
        places[loc] = f"{path}:{line}"
    return places


def _lines_of(node: yaml.Node, loc: Key) -> Iterator[tuple[Key, int]]:
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


def _refuse_password(override: Override) -> None:
    """Overrides are parameters of a run, which Prefect keeps and shows; and others see commands."""
    key, _, value = override.text.partition("=")
    if key.strip() == "tracking_uri" and shown(value) != value:
        raise ConfigError(
            f"{override.place.partition('=')[0]}: the address holds a password, which Prefect "
            "would show; set MLFLOW_TRACKING_URI in the environment instead"
        )


def _apply(override: Override, document: _Document) -> None:
    """Set ``a.b.0.c=value`` in the document; the value is read as YAML, paths from here."""
    place = override.place
    keys, equals, text = override.text.partition("=")
    if not equals or not keys.strip():
        raise ConfigError(f"{place}: write it as key.path=value, such as sft.num_epochs=3")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        raise ConfigError(f"{place}: {text!r} is not a YAML value") from None
    loc: Key = tuple(int(k) if k.isdecimal() else k for k in keys.strip().split("."))
    holder: Any = document.values
    for end, key in enumerate(loc[:-1], start=1):
        if not _can_be_set(holder, key):
            raise ConfigError(f"{place}: there is no {key!r} to set something in")
        found = holder.get(key) if isinstance(holder, dict) else holder[key]
        # A copy, because what a name or an alias stands for may stand elsewhere too.
        holder[key] = copy(_written_out(found, loc[:end]))
        holder = holder[key]
    if not _can_be_set(holder, loc[-1]):
        raise ConfigError(f"{place}: there is no {loc[-1]!r} to set")
    wrapped = {loc[-1]: value}
    _resolve_paths(wrapped, Path.cwd())
    holder[loc[-1]] = wrapped[loc[-1]]
    for replaced in [place for place in document.places if place[: len(loc)] == loc]:
        del document.places[replaced]
    for end in range(1, len(loc) + 1):  # the holders that it made, too
        document.places.setdefault(loc[:end], place)


def _can_be_set(holder: Any, key: str | int) -> bool:
    is_item = isinstance(holder, list) and isinstance(key, int) and key < len(holder)
    return is_item or isinstance(holder, dict)


def _written_out(value: Any, loc: Key) -> Any:
    """What a short form stands for; of what is unset, a mapping without keys."""
    if loc[-1] == "adapter":
        value = by_name(value)
    if loc[:-1] == ("weights",) and isinstance(value, str):
        value = PRESETS.get(value, value)
    return {} if value is None else value
