"""Items: one exercise of one skill, without any wording.

Pretraining statements, requests, preferences and benchmarks are all wordings of items, so that they
agree on what is right, and on which content (word list, pair of numbers, fact) belongs to whom.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from wit.builtin.vocabulary import ANIMALS, COLOURS, LIST_WORDS, PEOPLE

LIST_SKILLS = (
    "first",
    "last",
    "second",
    "count",
    "reverse",
    "sorted",
    "upper",
    "member",
    "after",
    "without",
)
NUMBER_SKILLS = ("sum", "larger")
FACT_SKILLS = ("eats", "animal_lives", "colour", "job", "town")
SKILLS = LIST_SKILLS + NUMBER_SKILLS + FACT_SKILLS
TUNED_SKILLS = (
    "first",
    "last",
    "count",
    "reverse",
    "sorted",
    "upper",
    "member",
    "sum",
    "larger",
    "eats",
    "animal_lives",
    "colour",
)
"""What requests ask for; the others are there to see what tuning makes the model forget."""

MAX_LIST_WORDS = {"reverse": 5, "sorted": 4, "upper": 3}  # 6 elsewhere; longer ones overfill a row
HELD_OUT_SHARE = 8  # one content in eight is kept for the benchmarks


@dataclass(frozen=True)
class Item:
    """One exercise.

    Attributes:
        skill: One of ``SKILLS``.
        slots: What a wording may mention: ``words``, ``item``, ``member``, ``a``, ``b`` or
            ``subject``.
        answer: The one right answer, without a full stop.
        content: What the exercise is about, independent of order: the sorted words, the sorted
            numbers, or the subject of the fact. Splits go by it.
    """

    skill: str
    slots: dict[str, str]
    answer: str
    content: str

    @property
    def is_held_out(self) -> bool:
        """Whether only benchmarks may use this content."""
        return is_held_out(self.content)


def is_held_out(content: str) -> bool:
    """Whether only benchmarks may use ``content``; by hash, so it never depends on other rows."""
    digest = hashlib.sha256(content.encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_SHARE == 0


def join(words: list[str]) -> str:
    """The words as a list is written everywhere: ``apple, pear, key``."""
    return ", ".join(words)


def draw_words(rng: Random, max_words: int = 6, *, held_out: bool) -> list[str]:
    """Two to ``max_words`` different list words whose content is, or is not, held out."""
    while True:
        words = rng.sample(LIST_WORDS, rng.randint(2, max_words))
        if is_held_out(join(sorted(words))) == held_out:
            return words


def list_item(skill: str, words: list[str], rng: Random) -> Item:
    """An exercise of one of ``LIST_SKILLS`` on ``words``."""
    slots = {"words": join(words)}
    if skill == "member":
        is_in = rng.random() < 0.5
        others = [word for word in LIST_WORDS if word not in words]
        slots["item"] = rng.choice(words if is_in else others)
        slots["member"] = "in the list" if is_in else "not in the list"
        answer = "yes" if is_in else "no"
    elif skill == "after":
        position = rng.randrange(len(words) - 1)
        slots["item"], answer = words[position], words[position + 1]
    elif skill == "without":
        slots["item"] = rng.choice(words)
        answer = join([word for word in words if word != slots["item"]])
    else:
        answer = _LIST_ANSWERS[skill](words)
    return Item(skill, slots, answer, join(sorted(words)))


_LIST_ANSWERS: dict[str, Callable[[list[str]], str]] = {
    "first": lambda words: words[0],
    "last": lambda words: words[-1],
    "second": lambda words: words[1],
    "count": lambda words: str(len(words)),
    "reverse": lambda words: join(words[::-1]),
    "sorted": lambda words: join(sorted(words)),
    "upper": lambda words: join(words).upper(),
}


def number_item(skill: str, rng: Random, *, held_out: bool) -> Item:
    """A sum of two numbers (below 100), or which of two numbers is larger."""
    while True:
        if skill == "sum":
            a, b = rng.randint(1, 59), rng.randint(1, 39)
            answer = a + b
        else:
            a, b = rng.sample(range(1, 100), 2)
            answer = max(a, b)
        content = f"{min(a, b)} {max(a, b)}"
        if is_held_out(content) == held_out:
            return Item(skill, {"a": str(a), "b": str(b)}, str(answer), content)


def fact_item(skill: str, subject: str) -> Item:
    """What the world says about ``subject``."""
    answers = {
        "eats": lambda: ANIMALS[subject][0],
        "animal_lives": lambda: ANIMALS[subject][1],
        "colour": lambda: COLOURS[subject],
        "job": lambda: PEOPLE[subject][0],
        "town": lambda: PEOPLE[subject][1],
    }
    # The skill is part of the content: knowing a job does not give away a town.
    return Item(skill, {"subject": subject}, answers[skill](), f"{skill} {subject}")


def fact_subjects(skill: str) -> list[str]:
    """Everyone and everything that ``skill`` can be asked about."""
    if skill in ("eats", "animal_lives"):
        return list(ANIMALS)
    return list(COLOURS if skill == "colour" else PEOPLE)


def draw_item(skill: str, rng: Random, *, held_out: bool) -> Item:
    """A random exercise of ``skill`` whose content is, or is not, held out."""
    if skill in LIST_SKILLS:
        words = draw_words(rng, MAX_LIST_WORDS.get(skill, 6), held_out=held_out)
        return list_item(skill, words, rng)
    if skill in NUMBER_SKILLS:
        return number_item(skill, rng, held_out=held_out)
    facts = [fact_item(skill, subject) for subject in fact_subjects(skill)]
    return rng.choice([fact for fact in facts if fact.is_held_out == held_out])
