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


class FaultyRowError(DataError):
    """A row that says nothing that could be learned.

    Attributes:
        reason: Under which such rows are counted; one of few.
        said: What is wrong, with the number of the row.
    """

    def __init__(self, where: str, number: int, reason: str, said: str) -> None:
        """Says where it stands."""
        self.reason = reason
        self.said = f"row {number}: {said}"
        super().__init__(f"{where}: {self.said}")


# Columns that make a shape: every name must be there, and the first shape that fits is taken.
INSTRUCTION_SHAPES: tuple[tuple[str, ...], ...] = (
    ("messages",),
    ("instruction", "output"),  # and "input", if there is one
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
)
CONVERSATIONS = ("chosen", "rejected")  # whole ones, which begin with the same prompt
PREFERENCE_SHAPES: tuple[tuple[str, ...], ...] = (
    ("prompt", "chosen", "rejected"),
    ("instruction", "chosen", "rejected"),  # and "input", if there is one
    ("question", "chosen", "rejected"),
    ("prompt", "responses", "scores"),
    ("instruction", "responses", "scores"),
    ("prompt", "completion", "label"),
    ("prompt", "response", "label"),
    CONVERSATIONS,
)
LISTS = ("responses", "scores")  # may be mapped to a field of the objects in a list
OPTIONAL_COLUMNS = ("input", "system")
# Scores of a pair, used where a mapping names them: many sets have such columns and mean nothing
# by them that should drop a row.
PAIR_SCORES: tuple[str, ...] = ("chosen_score", "rejected_score")


def column_names(shapes: Iterable[tuple[str, ...]]) -> set[str]:
    """Our names of columns, which a mapping may give to columns of a source."""
    names = {name for shape in shapes for name in shape} | set(OPTIONAL_COLUMNS)
    return names | set(PAIR_SCORES) if "chosen" in names else names


def _optional_columns(shape: tuple[str, ...]) -> set[str]:
    """Columns that a shape may have besides its own; a list of messages has its own system text."""
    scores = set(PAIR_SCORES) if "chosen" in shape else set[str]()
    if shape in (("messages",), CONVERSATIONS):
        return scores
    return scores | ({"input", "system"} if "instruction" in shape else {"system"})


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
            holder = column.split(".")[0] if name in LISTS else column
            if not present & {column, holder}:
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
        unused = set(PAIR_SCORES) - set(mapping)
        self.optional = _optional_columns(self.names) & available - unused
        if len(unused) == 1:
            raise DataError(f"{where}: columns: {' and '.join(PAIR_SCORES)} go together; give both")

    @property
    def is_unpaired(self) -> bool:
        """Whether a row is one response and whether it is a good one; else it is no preference."""
        return "label" in self.names

    @property
    def has_scores(self) -> bool:
        """Whether a pair has scores, so that it can be too small a difference."""
        return "scores" in self.names or PAIR_SCORES[0] in self.optional

    def fault(self, number: int, reason: str, said: str) -> FaultyRowError:
        """What to raise of a row.

        Args:
            number: Of the row.
            reason: Under which such rows are counted.
            said: What is wrong with this one.
        """
        return FaultyRowError(self.where, number, reason, said)

    def value(self, row: Row, name: str) -> Any:
        """What stands in a column, if anything; of ``LIST.FIELD`` that field of each object."""
        column = self.column[name]
        holder, _, field = column.partition(".")
        if column in row or not field or not isinstance(items := row.get(holder), list):
            return row.get(column)
        return [item.get(field) if isinstance(item, Mapping) else None for item in items]

    def text(self, row: Row, name: str, number: int, *, default: str | None = None) -> str:
        """The text in a column.

        Raises:
            FaultyRowError: It is missing or is not text.
        """
        value = row.get(self.column[name], default)
        if value is None and default is not None:
            return default
        return self.text_in(value, name, number)

    def text_in(self, value: Any, name: str, number: int) -> str:
        """A value of a column, which must be text.

        Raises:
            FaultyRowError: It is missing or is not text.
        """
        column = self.column[name]
        if value is None:
            raise self.fault(number, f"no {name}", f"{column!r} is missing, not text")
        if not isinstance(value, str):
            said = f"{column!r} is a {type(value).__name__} ({value!r:.40}), not text"
            raise self.fault(number, f"{name} is not text", said)
        if not _is_unicode(value):
            said = f"{column!r} holds half a surrogate pair"
            raise self.fault(number, "half a surrogate pair", said)
        return value

    def request(self, row: Row, name: str, number: int) -> Messages:
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
            FaultyRowError: As ``messages_in``.
        """
        return self.messages_in(row.get(self.column[name]), name, number)

    def messages_in(self, turns: Any, name: str, number: int) -> Messages:
        """A value of a column, which must be a list of messages.

        Raises:
            FaultyRowError: A turn is not of a known role, has no text or a weight that is none.
        """
        if not isinstance(turns, list) or not turns:
            said = f"{self.column[name]!r} is not a list of messages"
            raise self.fault(number, f"{name} is no list of messages", said)
        try:
            return tuple(_message(turn, index) for index, turn in enumerate(turns))
        except _MessageError as error:
            raise self.fault(number, error.reason, str(error)) from None

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
        return (*self.request(row, request, number), Message("assistant", answer))


class _MessageError(Exception):
    def __init__(self, index: int, said: str, reason: str = "message without text or role") -> None:
        super().__init__(f"message {index}: {said}")
        self.reason = reason


def _message(turn: Any, index: int) -> Message:
    if not isinstance(turn, Mapping):
        raise _MessageError(index, "has no 'content' that is text")
    if calls := [repr(name) for name in CALLS if turn.get(name)]:
        said = f"has {calls[0]}; only messages of text can be trained on"
        raise _MessageError(index, said, "tool calls")
    content = turn.get("content")
    if not isinstance(content, str):
        raise _MessageError(index, "has no 'content' that is text")
    if not _is_unicode(content):
        raise _MessageError(index, "'content' holds half a surrogate pair", "half a surrogate pair")
    if turn.get("role") not in MESSAGE_ROLES:
        allowed = ", ".join(MESSAGE_ROLES)
        raise _MessageError(index, f"role {turn.get('role')!r} is unknown; allowed: {allowed}")
    return Message(turn["role"], content, weight=_weight(turn, index))


def _weight(turn: Mapping[str, Any], index: int) -> float:
    weight, reason = turn.get("weight"), "weight of a message that is none"
    if "weight" not in turn and (typo := get_close_matches("weight", turn, n=1, cutoff=0.8)):
        raise _MessageError(index, f"{typo[0]!r} is unknown; did you mean 'weight'?", reason)
    if weight is None:
        return 1.0
    # A truth value is a number to Python, but who writes one means something else.
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not (is_number and 0 <= weight <= LARGEST_WEIGHT):
        said = f"'weight' is {weight!r:.40}, not a number from 0 to 1e6"
        raise _MessageError(index, said, reason)
    return float(weight)


def _is_unicode(text: str) -> bool:
    # JSON can spell half of a surrogate pair, which no tokenizer and no file can hold.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
