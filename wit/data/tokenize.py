"""From segments to token ids and roles, with no token across a boundary of roles.

A prompt has the ids that it gets at generation, when its text is tokenised in one piece. So a
boundary between two of its roles is moved to the end of the token that it falls into, and that
token goes to the side that matters more; see ``RANK``. The text is cut where a response begins,
because the model writes it after a prompt that was tokenised alone; where it ends; and around a
text of the row that spells a special token, which would become that token otherwise.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

from wit.data.pieces import Encoded, Encoder, Known
from wit.data.rendering import Segment
from wit.errors import DataError
from wit.roles import Role
from wit.tokenizers import Tokenizer, markup_tokens, special_tokens

TARGETS = (Role.RESPONSE, Role.STOP)  # no token reaches into these from outside
# Who gets a token that lies across a boundary within a prompt: text rather than markup, a user's
# own text rather than what all rows have. Its role then has a little of the other one's text.
RANK = {Role.PROMPT: 3, Role.SYSTEM: 2, Role.BOILERPLATE: 1}


class Tokens(NamedTuple):
    """Ids, the role of each, and a factor on the loss weight of each."""

    ids: list[int]
    roles: list[int]
    factors: list[float]


class _Mark(NamedTuple):
    """A token of the markup in the text."""

    token: int
    start: int  # of the token's own text; some swallow the white space around them
    end: int


class _Boundary(NamedTuple):
    """Where one segment ends and the next begins."""

    token: int
    character: int


class SegmentTokenizer:
    """Tokenises rendered segments; every boundary between roles is a boundary between tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Notes which tokens may stand in markup only."""
        self.tokenizer = tokenizer
        self.encoder = Encoder(tokenizer)
        self.markup = markup_tokens(tokenizer)
        self._special = special_tokens(tokenizer)

    def look_ahead(self, conversations: Iterable[list[Segment]]) -> Known:
        """Encodes the pieces that most of these conversations will need, all in one call.

        Returns:
            What ``known`` of the encoder is to be while their tokens are asked for.
        """
        cuts = (_cut(segments) for segments in conversations)
        return self.encoder.look_ahead((text, of_text) for text, _, of_text in cuts)

    def tokens(self, segments: list[Segment]) -> Tokens:
        """Ids, roles and factors of a conversation; special tokens only where it has markup.

        Raises:
            DataError: The tokens of a segment do not decode to its text, or no others than special
                tokens would.
        """
        text, starts, cuts = _cut(segments)
        quoted: set[int] = set()  # segments whose special tokens are plain text
        unknown: frozenset[str] = frozenset()
        while True:
            borders = cuts | {starts[i + side] for i in quoted for side in (0, 1)}
            encoded = self.encoder.encode(text, borders, {starts[i] for i in quoted}, unknown)
            marks = self._marks(encoded, text)
            forged, markup = self._forged(encoded, marks, segments, starts)
            if forged - quoted:
                quoted |= forged
                unknown |= markup
                continue
            boundaries, torn = self._boundaries(encoded, marks, segments, starts)
            if not torn:
                break
            cuts |= torn
        self._check(encoded, marks, segments, boundaries, text)
        for index in sorted(forged):
            raise DataError(
                f"role {segments[index].role.name.lower()}: {segments[index].text!r:.60} has a "
                "special token in it that no other tokens spell"
            )
        lengths = [b.token - a.token for a, b in pairwise(boundaries)]
        roles: list[int] = []
        factors: list[float] = []
        for segment, length in zip(segments, lengths, strict=True):
            roles += [int(segment.role)] * length
            factors += [segment.weight] * length
        return Tokens(encoded.ids, roles, factors)

    def _marks(self, encoded: Encoded, text: str) -> list[_Mark]:
        marks: list[_Mark] = []
        present = self.markup.keys() & encoded.ids
        for token in sorted(i for number in present for i in _positions(encoded.ids, number)):
            start, end = encoded.characters(token)
            own = self.markup[encoded.ids[token]]
            inside = text.find(own, start, end)
            if inside >= 0:
                start, end = inside, inside + len(own)
            marks.append(_Mark(token, start, end))
        return marks

    def _forged(
        self, encoded: Encoded, marks: list[_Mark], segments: list[Segment], starts: list[int]
    ) -> tuple[set[int], set[str]]:
        """Segments whose text of the row became markup, and the tokens that are markup here."""
        in_content: list[tuple[int, set[int]]] = []
        markup: set[int] = set()
        for mark in marks:
            number = encoded.ids[mark.token]
            first = bisect_right(starts, mark.start) - 1
            last = max(first, bisect_right(starts, mark.end - 1) - 1)
            touched = {i for i in range(first, last + 1) if segments[i].is_content}
            if touched:
                in_content.append((number, touched))
            elif segments[first].role not in TARGETS:
                markup.add(number)
        forged = {
            index
            for number, touched in in_content
            if number in self._special or number in markup
            for index in touched
        }
        return forged, {self.markup[number] for number in markup | set(self._special)}

    def _boundaries(
        self, encoded: Encoded, marks: list[_Mark], segments: list[Segment], starts: list[int]
    ) -> tuple[list[_Boundary], set[int]]:
        """Boundaries of segments, from 0 to the end, and characters where the text must be cut."""
        own_text = {mark.token: mark for mark in marks}
        found, torn = [_Boundary(0, 0)], set[int]()
        for (left, right), border in zip(pairwise(segments), starts[1:], strict=False):
            token = encoded.token_at(border)
            if token == len(encoded.ids) or encoded.characters(token)[0] >= border:
                found.append(_Boundary(token, border))
                continue
            if token in own_text:  # with white space of its neighbours
                goes_left = own_text[token].end <= border
            elif left.role != right.role and (left.role in TARGETS or right.role in TARGETS):
                torn.add(border)
                continue
            else:
                goes_left = RANK.get(left.role, 0) >= RANK.get(right.role, 0)
            # A token over several boundaries can take the one before along.
            found.append(max(found[-1], _moved(encoded, token, goes_left=goes_left)))
        return [*found, _Boundary(len(encoded.ids), starts[-1])], torn

    def _check(
        self,
        encoded: Encoded,
        marks: list[_Mark],
        segments: list[Segment],
        boundaries: list[_Boundary],
        text: str,
    ) -> None:
        """Decodes every stretch of one role and compares it with the text of that role."""
        for segment, (start, end) in zip(segments, pairwise(boundaries), strict=True):
            whole = encoded.ids[start.token : end.token]
            if self.encoder.spells(whole, text[start.character : end.character]):
                continue
            for tokens, expected in _unmarked(encoded, marks, start, end, text):
                decoded = self.encoder.decode(tokens)
                if decoded != expected and not self._same_but_for_space(decoded, expected):
                    same = max(0, _num_same(decoded, expected) - 20)
                    raise DataError(
                        f"role {segment.role.name.lower()} should read "
                        f"{expected[same:]!r:.60} but its tokens read {decoded[same:]!r:.60}"
                    )

    def _same_but_for_space(self, decoded: str, text: str) -> bool:
        # Such tokenizers add or strip one space in front of what they encode or decode.
        return self.encoder.loses_space and (
            decoded == text.removeprefix(" ") or decoded == " " + text
        )


def _cut(segments: list[Segment]) -> tuple[str, list[int], set[int]]:
    """Text, where each segment begins and the last one ends, and where responses begin."""
    starts = [0, *accumulate(len(segment.text) for segment in segments)]
    cuts = {
        starts[index]
        for index, (before, segment) in enumerate(pairwise(segments), start=1)
        if segment.role == Role.RESPONSE != before.role
    }
    return "".join(segment.text for segment in segments), starts, cuts


def _num_same(one: str, other: str) -> int:
    """How many characters two texts begin with that are the same."""
    both = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in both if a != b), min(len(one), len(other)))


def _positions(ids: list[int], number: int) -> Iterator[int]:
    """Where a number stands; many times as fast as looking at every id in a loop."""
    position = -1
    for _ in range(ids.count(number)):
        position = ids.index(number, position + 1)
        yield position


def _moved(encoded: Encoded, token: int, *, goes_left: bool) -> _Boundary:
    """The boundary behind a token, or before it, and tokens that share characters with it."""
    border = encoded.characters(token)[goes_left]
    while (token := encoded.token_at(border)) < len(encoded.ids):
        start, end = encoded.characters(token)
        if start >= border:
            break
        border = end if goes_left else start
    return _Boundary(token, border)


def _unmarked(
    encoded: Encoded, marks: list[_Mark], start: _Boundary, end: _Boundary, text: str
) -> Iterator[tuple[list[int], str]]:
    """The tokens from a boundary to another with their text, each mark by itself.

    Decoders put a space behind a mark that stands within what they decode, and have none for the
    white space that a mark swallows.
    """
    token, character = start.token, start.character
    first = bisect_left(marks, (start.token,))
    for mark in marks[first : bisect_left(marks, (end.token,))]:
        before, after = encoded.characters(mark.token)
        yield encoded.ids[token : mark.token], text[character:before]
        yield [encoded.ids[mark.token]], text[mark.start : mark.end]
        token, character = mark.token + 1, after
    yield encoded.ids[token : end.token], text[character : end.character]


def decode_runs(tokenizer: Tokenizer, tokens: Tokens) -> list[Segment]:
    """The text of every stretch of tokens that share a role."""
    changes = [i for i, (a, b) in enumerate(pairwise(tokens.roles), start=1) if a != b]
    return [
        Segment(
            tokenizer.decode(
                tokens.ids[start:end],
                skip_special_tokens=False,
                clean_up_tokenization_spaces=False,
            ),
            Role(tokens.roles[start]),
        )
        for start, end in pairwise([0, *changes, len(tokens.ids)])
        if end > start
    ]
