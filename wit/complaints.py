"""What is wrong with a study or a runtime, in words: the key, the value, what is allowed, where."""

import difflib
import re
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from wit.config import Runtime
from wit.places import Key, Places
from wit.tuning_grid import EPOCHS
from wit.weights import PRESETS

MAX_UNHINTED = 4  # allowed values that a person sees at a glance
MAX_SHOWN = 100  # characters of a wrong value
# What pydantic's words do not say.
ALLOWED = {
    "weights": "write a list of pairs such as {prompt: 0.2, response: 1}, a grid such as "
    f"{{prompt: [0, 0.5], response: [1]}}, a search such as {{search: {{budget: 10}}}}, or a list "
    f"of names: {', '.join(PRESETS)}",
    "revision": "write the 40 hex digits of a commit, in quotes",
    "name": "write at most 80 letters, digits, '_', '.' and '-', the first a letter or digit",
}
KEY_ITSELF = "[key]"  # how pydantic says that a name is wrong, not what it names
WRONG_KINDS = ("tuple_type", "model_type", "string_type", "string_pattern_mismatch")


def complaints(
    kind: type[BaseModel], error: ValidationError, places: Places, origin: str
) -> list[str]:
    """One line for everything that is wrong.

    Args:
        kind: Of the study or the runtime that was refused.
        error: Why.
        places: Where its keys were set.
        origin: Of what has no place, such as a key that is missing.
    """
    return [_explain(kind, cause, places, origin) for cause in _causes(error, places)]


def dotted(loc: Key) -> str:
    """The key in one word, such as ``sft.num_epochs``."""
    return ".".join(str(key) for key in loc if key != KEY_ITSELF)


def _causes(error: ValidationError, places: Places) -> Iterable[Any]:
    """What is wrong, once each.

    Not that a list is too short because an item of it was refused, nor that a name is none because
    of the number of epochs in it.
    """
    found = error.errors()
    refused = {tuple(e["loc"]) for e in found}
    holders = {loc[:end] for loc in refused for end in range(len(loc))}
    numbers = refused & places.written.keys()
    causes: dict[tuple[Key, str], Any] = {}
    for e in found:
        loc: Key = tuple(e["loc"])
        is_emptied = e["type"] == "too_short" and loc in holders
        is_misnamed = loc[-1:] == (KEY_ITSELF,) and (*loc[:-1], EPOCHS) in numbers
        if not (is_emptied or is_misnamed):
            causes.setdefault((places.as_written(loc), e["type"]), e)
    return causes.values()


def _explain(kind: type[BaseModel], error: Any, places: Places, origin: str) -> str:
    loc: Key = tuple(error["loc"])
    place = places.of(loc) or origin
    key = dotted(places.as_written(loc))
    is_secret = kind is Runtime and loc[:1] == ("judge",)  # somebody may have put the key there
    if is_secret:
        place = place.partition("=")[0]
    if error["type"] == "extra_forbidden":
        allowed = _keys_at(kind, loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), allowed, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"{place}: {key}: unknown key. Allowed here: {', '.join(allowed)}.{hint}"
    if error["type"] == "missing":
        allowed = ", ".join(_keys_at(kind, loc[:-1]))
        return f"{place}: {key} is missing." + (f" Keys here: {allowed}." if allowed else "")
    if is_secret:
        return f"{place}: {key}: {_allowed(error, loc)}"
    said = _allowed(error, loc)
    if isinstance(error["input"], dict):  # it says what does not go together
        return f"{place}: {key}: {said}" if key else f"{place}: {said}"
    value = repr(error["input"])
    if error["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        is_long = len(allowed) > MAX_UNHINTED
        close = difflib.get_close_matches(str(error["input"]), allowed, n=1) if is_long else []
        said += f". Did you mean {close[0]!r}?" if close else ""
    value = value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "..."
    return f"{place}: {key} = {value}: {said}"


def _allowed(error: Any, loc: Key) -> str:
    """What pydantic says is allowed there, in words of YAML; in ours where those say more."""
    name = next((key for key in reversed(loc) if isinstance(key, str)), "")
    name = "name" if name == KEY_ITSELF else name
    if name in ALLOWED and error["type"] in WRONG_KINDS:
        return ALLOWED[name]
    message = re.sub(r"^Value error, | or instance of \w+", "", error["msg"])
    return (
        message.replace("tuple", "list").replace("Tuple", "List").replace("dictionary", "mapping")
    )


def _keys_at(kind: type[BaseModel], loc: Key) -> list[str]:
    model: Any = kind
    is_name = False  # one that the user gave, in a mapping of names
    for key in loc:
        if is_name:
            is_name = False
        elif isinstance(key, str) and key in model.model_fields:
            annotation = model.model_fields[key].annotation
            is_name = get_origin(annotation) is dict
            nested = [a for a in (annotation, *get_args(annotation)) if _is_model(a)]
            if not nested:
                return []
            model = nested[0]
    return list(model.model_fields)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
