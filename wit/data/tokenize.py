"""From segments to token ids and roles, with no token across a boundary of roles."""

import copy
from itertools import accumulate, pairwise
from typing import NamedTuple

from wit.data.rendering import Segment
from wit.errors import DataError
from wit.roles import Role
from wit.tokenizers import Tokenizer


class Tokens(NamedTuple):
    """Ids, and the role of each."""

    ids: list[int]
    roles: list[int]


class SegmentTokenizer:
    """Tokenises rendered segments; every boundary between roles is a boundary between tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Notes whether the tokenizer adds a space in front of a text, as Llama's first did."""
        self.tokenizer = tokenizer
        # Bare: many a post-processor takes white space out of the offsets that roles rest on.
        self._bare = copy.deepcopy(tokenizer.backend_tokenizer)
        self._bare.post_processor = None
        self._bare.no_truncation()
        self._bare.no_padding()
        self._adds_space = self._encode("a\nb")[0] != self._encode("a\n")[0] + self._encode("b")[0]

    def tokens(self, segments: list[Segment]) -> Tokens:
        """Ids and roles of a conversation; special tokens only where the template wrote them.

        A prompt gets the ids that it gets at generation, when it is tokenised without its
        response. Only where a token would reach across a change of role is the text cut there.

        Raises:
            DataError: The tokens of a segment do not decode to its text.
        """
        text = "".join(segment.text for segment in segments)
        ends = list(accumulate(len(segment.text) for segment in segments))
        starts = [0, *ends[:-1]]
        # The model generates a response after a prompt that was tokenised alone.
        cuts = {s for s, seg in zip(starts, segments, strict=True) if seg.role == Role.RESPONSE}
        ids, offsets = self._encode_pieces(text, cuts)
        while straddled := self._boundaries_inside_tokens(offsets, ends) - cuts:
            cuts |= straddled
            ids, offsets = self._encode_pieces(text, cuts)
        tokens = Tokens(ids, self._roles(offsets, segments, ends))
        self._check(tokens, segments)
        return tokens

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = self._bare.encode(text, add_special_tokens=False)
        return encoded.ids, encoded.offsets

    def _encode_pieces(self, text: str, cuts: set[int]) -> tuple[list[int], list[tuple[int, int]]]:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, end in pairwise(sorted({0, len(text)} | cuts)):
            piece_ids, piece_offsets = self._encode_piece(text[start:end], is_first=start == 0)
            ids += piece_ids
            offsets += [(start + a, start + b) for a, b in piece_offsets]
        return ids, offsets

    def _encode_piece(
        self, text: str, *, is_first: bool
    ) -> tuple[list[int], list[tuple[int, int]]]:
        if is_first or not self._adds_space:
            return self._encode(text)
        # The space is added in front of a line break that is taken off again.
        ids, offsets = self._encode("\n" + text)
        kept = [i for i, (_, end) in enumerate(offsets) if end > 1]
        if kept and offsets[kept[0]][0] < 1:  # the line break became one token with the text
            return self._encode(text)
        return [ids[i] for i in kept], [(offsets[i][0] - 1, offsets[i][1] - 1) for i in kept]

    @staticmethod
    def _boundaries_inside_tokens(offsets: list[tuple[int, int]], ends: list[int]) -> set[int]:
        inside: set[int] = set()
        boundaries = iter(ends)
        boundary = next(boundaries)
        for start, end in offsets:
            while boundary <= start:
                boundary = next(boundaries)
            if start < boundary < end:
                inside.add(boundary)
        return inside

    @staticmethod
    def _roles(
        offsets: list[tuple[int, int]], segments: list[Segment], ends: list[int]
    ) -> list[int]:
        roles, index = [], 0
        for start, _ in offsets:
            while ends[index] <= start:
                index += 1
            roles.append(int(segments[index].role))
        return roles

    def _check(self, tokens: Tokens, segments: list[Segment]) -> None:
        """Decodes every run of one role and compares it with the text of that role."""
        expected: list[Segment] = []
        for segment in segments:
            if expected and expected[-1].role == segment.role:
                expected[-1] = Segment(expected[-1].text + segment.text, segment.role)
            else:
                expected.append(segment)
        runs = decode_runs(self.tokenizer, tokens)
        for run, segment in zip(runs, expected, strict=False):
            if run.role != segment.role or not _same_text(run.text, segment.text):
                raise DataError(
                    f"role {segment.role.name.lower()} should read {segment.text!r:.60} "
                    f"but its tokens read {run.text!r:.60} ({run.role.name.lower()})"
                )
        if len(runs) != len(expected):
            raise DataError(f"{len(expected)} stretches of roles became {len(runs)} when tokenised")


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


def _same_text(decoded: str, text: str) -> bool:
    # Tokenizers of the first Llama's kind add or strip one space at the start of what they decode.
    return decoded == text or decoded == text.removeprefix(" ") or decoded == " " + text
