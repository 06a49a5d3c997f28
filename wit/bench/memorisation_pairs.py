"""Pairs of UUIDs: text that follows from no rule, so that it can only be memorised."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from statistics import fmean
from typing import NamedTuple
from uuid import UUID

LENGTH = 36  # characters of a UUID
DASHES = (8, 13, 18, 23)  # their places
DIGITS = tuple(place for place in range(LENGTH) if place not in DASHES)


class Pair(NamedTuple):
    """What is asked, and what shall be answered."""

    key: str
    partner: str


def draw_pairs(num_pairs: int, seed: int) -> list[Pair]:
    """So many pairs, of which no two UUIDs are equal; the same for the same seed.

    They look as those of ``uuid4`` do: 122 bits are random, one of the 32 hex digits is a 4, and
    another one of 8, 9, a and b.
    """
    generator = Random(seed)
    drawn: dict[str, None] = {}
    while len(drawn) < 2 * num_pairs:
        drawn[str(UUID(int=generator.getrandbits(128), version=4))] = None
    uuids = iter(drawn)
    return [Pair(key, partner) for key, partner in zip(uuids, uuids, strict=True)]


def character_accuracy(responses: Sequence[str], partners: Sequence[str]) -> float:
    """Share of the partners' hex digits that stand at their place in the response.

    Dashes are no digits. What a response lacks is wrong, and what stands behind the 36th character
    is not looked at. Who knows nothing but the form has (1 + 1/4 + 30/16) / 32 = 0.098, with which
    the table of arXiv 2405.12130 begins too.

    Args:
        responses: As the model wrote them.
        partners: As they should be; at least one.
    """
    right = [
        sum(response[place : place + 1] == partner[place] for place in DIGITS) / len(DIGITS)
        for response, partner in zip(responses, partners, strict=True)
    ]
    return fmean(right)


def accuracy_without_keys(partners: Sequence[str]) -> float:
    """The most that can be had with one response to all keys: at each place the most frequent."""
    columns = ([partner[place] for partner in partners] for place in DIGITS)
    return fmean(Counter(column).most_common(1)[0][1] / len(partners) for column in columns)
