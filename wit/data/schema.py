"""The shapes in which people keep instructions and preferences, brought to one."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from wit.data.sources import Row
from wit.errors import DataError

MESSAGE_ROLES = ("system", "user", "assistant", "tool")
CALLS = ("tool_calls", "function_call")  # of an assistant's message, instead of its text
NO_TOOLS = (None, [], "", "[]")  # in a column of that name
LARGEST_WEIGHT = 1e6  # of a message, as of a role: products stay far from float32's limits


class Message(NamedTuple):
    """One turn; ``role`` is ``system``, ``user``, ``assistant`` or ``tool``."""

    role: str
    content: str
    input: str = ""  # what an instruction is about, if rows keep it apart; of the user's turns
    weight: float = 1.0  # factor on the loss weight of the turn's tokens

    @property
    def text(self) -> str:
        """All that the turn says, as templates get it that know nothing of ``input``."""
        return f"{self.content}\n\n{self.input}" if self.input else self.content


Messages = tuple[Message, ...]


class Preference(NamedTuple):
    """A conversation that ends before an answer, and two answers to it."""

    prompt: Messages
    chosen: str
    rejected: str


# Columns that make a shape: every name must be there, and the first shape that fits is taken.
INSTRUCTION_SHAPES: tuple[tuple[str, ...], ...] = (
    ("messages",),
    ("instruction", "output"),  # and "input", if there is one
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
)
PREFERENCE_SHAPES: tuple[tuple[str, ...], ...] = (
    ("prompt", "chosen", "rejected"),
    ("instruction", "chosen", "rejected"),  # and "input", if there is one
)
OPTIONAL_COLUMNS = ("input", "system")


def column_names(shapes: Iterable[tuple[str, ...]]) -> set[str]:
    """Our names of columns, which a mapping may give to columns of a source."""
    return {name for shape in shapes for name in shape} | set(OPTIONAL_COLUMNS)


def _optional_columns(shape: tuple[str, ...]) -> set[str]:
    """Columns that a shape may have besides its own; a list of messages has its own system text."""
    if shape == ("messages",):
        return set()
    return {"input", "system"} if "instruction" in shape else {"system"}


class Shape:
    """Reads rows whose columns are known; made once for a source."""

    def __init__(
        self,
        columns: Iterable[str],
        shapes: tuple[tuple[str, ...], ...],
        mapping: Mapping[str, str],
        where: str,
    ) -> None:
        """Finds the shape.

        Args:
            columns: Those of the source.
            shapes: The shapes that are allowed.
            mapping: Our name -> column of the source, for sources with names of their own.
            where: Name of the source, for messages.

        Raises:
            DataError: No shape fits, or the mapping names what is not there.
        """
        self.where = where
        present = set(columns)
        ours = column_names(shapes)
        for name, column in mapping.items():
            if name not in ours:
                raise DataError(
                    f"{where}: columns.{name}: allowed names: {', '.join(sorted(ours))}"
                )
            if column not in present:
                raise DataError(f"{where}: has no column {column!r}; it has {sorted(present)}")
        self.column = {name: mapping.get(name, name) for name in ours}
        available = set(mapping) | (present - set(mapping.values()))
        # A name that is mapped by hand must be used, or the user would be ignored in silence.
        fitting = [
            shape
            for shape in shapes
            if available >= set(shape) and set(mapping) <= {*shape, *_optional_columns(shape)}
        ]
        if not fitting:
            known = "; ".join("+".join(shape) for shape in shapes)
            raise DataError(
                f"{where}: columns {sorted(present)} are none of the known shapes ({known}); "
                "say with 'columns' which column is which, such as {prompt: question}"
            )
        self.names = fitting[0]
        self.optional = _optional_columns(self.names) & available

    def text(self, row: Row, name: str, number: int, *, default: str | None = None) -> str:
        """The text in a column.

        Raises:
            DataError: It is missing or is not text.
        """
        column = self.column[name]
        value = row.get(column, default)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            kind = "missing" if value is None else f"a {type(value).__name__} ({value!r:.40})"
            raise DataError(f"{self.where}: row {number}: {column!r} is {kind}, not text")
        if not _is_unicode(value):
            raise DataError(f"{self.where}: row {number}: {column!r} holds half a surrogate pair")
        return value

    def _request(self, row: Row, name: str, number: int) -> Messages:
        """System text, if any, and the user's turn; or a list of messages as it stands."""
        if isinstance(row.get(self.column[name]), list):
            return self.messages(row, name, number)
        content = self.text(row, name, number)
        turns = (Message("user", content),)
        if "input" in self.optional:
            given = self.text(row, "input", number, default="")
            turns = (Message("user", content, input=given if given.strip() else ""),)
        if "system" in self.optional:
            system = self.text(row, "system", number, default="")
            turns = (Message("system", system), *turns) if system.strip() else turns
        return turns

    def messages(self, row: Row, name: str, number: int) -> Messages:
        """A list of messages in a column, checked.

        Raises:
            DataError: A turn is not of a known role, has no text or a weight that is none.
        """
        turns = row.get(self.column[name])
        if not isinstance(turns, list) or not turns:
            raise DataError(
                f"{self.where}: row {number}: {self.column[name]!r} is not a list of messages"
            )
        return tuple(
            _message(turn, f"{self.where}: row {number}: message {index}")
            for index, turn in enumerate(turns)
        )

    def instruction(self, row: Row, number: int) -> Messages:
        """A row as messages that end with the assistant's.

        Raises:
            DataError: The row is not of the shape; names it.
        """
        if self.names == ("messages",):
            if row.get("tools") not in NO_TOOLS:
                raise DataError(
                    f"{self.where}: row {number}: has 'tools', which a template would write into "
                    "the prompt; only messages of text can be trained on: leave such rows out, or "
                    "the column"
                )
            turns = self.messages(row, "messages", number)
            if turns[-1].role != "assistant":
                raise DataError(f"{self.where}: row {number}: the last message is no assistant's")
            return turns
        request, response = self.names
        answer = self.text(row, response, number)
        return (*self._request(row, request, number), Message("assistant", answer))

    def preference(self, row: Row, number: int) -> Preference:
        """A row as a preference pair.

        Raises:
            DataError: The row is not of the shape; names it.
        """
        request, chosen, rejected = self.names
        prompt = self._request(row, request, number)
        if prompt[-1].role != "user":
            raise DataError(
                f"{self.where}: row {number}: the prompt does not end with a user's turn"
            )
        answers = [self._answer(row, name, number, prompt) for name in (chosen, rejected)]
        return Preference(prompt, *answers)

    def _answer(self, row: Row, name: str, number: int, prompt: Messages) -> str:
        """Text, or a list that ends with the assistant's message and may repeat the prompt."""
        column = self.column[name]
        if not isinstance(row.get(column), list):
            return self.text(row, name, number)
        *before, last = self.messages(row, name, number)
        said, asked = ([(m.role, m.text) for m in turns] for turns in (before, prompt))
        if last.role != "assistant" or said not in ([], asked):
            raise DataError(
                f"{self.where}: row {number}: {column!r} is not the assistant's message alone, "
                "nor the prompt and then that message"
            )
        return last.content


def _message(turn: Any, place: str) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(f"{place}: has no 'content' that is text")
    if calls := [repr(name) for name in CALLS if turn.get(name)]:
        raise DataError(f"{place}: has {calls[0]}; only messages of text can be trained on")
    content = turn.get("content")
    if not isinstance(content, str):
        raise DataError(f"{place}: has no 'content' that is text")
    if not _is_unicode(content):
        raise DataError(f"{place}: 'content' holds half a surrogate pair")
    if turn.get("role") not in MESSAGE_ROLES:
        allowed = ", ".join(MESSAGE_ROLES)
        raise DataError(f"{place}: role {turn.get('role')!r} is unknown; allowed: {allowed}")
    return Message(turn["role"], content, weight=_weight(turn, place))


def _weight(turn: Mapping[str, Any], place: str) -> float:
    weight = turn.get("weight")
    if "weight" not in turn and (typo := get_close_matches("weight", turn, n=1, cutoff=0.8)):
        raise DataError(f"{place}: {typo[0]!r} is unknown; did you mean 'weight'?")
    if weight is None:
        return 1.0
    # A truth value is a number to Python, but who writes one means something else.
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not (is_number and 0 <= weight <= LARGEST_WEIGHT):
        raise DataError(f"{place}: 'weight' is {weight!r:.40}, not a number from 0 to 1e6")
    return float(weight)


def _is_unicode(text: str) -> bool:
    # JSON can spell half of a surrogate pair, which no tokenizer and no file can hold.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
