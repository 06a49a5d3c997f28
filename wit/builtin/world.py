"""Pretraining text: short documents of true statements, several wordings for each skill.

No request, no turn and no chat token occurs here: the base must not know the chat format. The verbs
of requests do occur, in reported speech ("Anna asks which word is first."), so that a new wording
is made of words with a meaning. Held-out lists and numbers never occur; facts all do, for
the base is where a fact is learned.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from wit.builtin.items import (
    FACT_SKILLS,
    LIST_SKILLS,
    MAX_LIST_WORDS,
    Item,
    draw_words,
    fact_item,
    fact_subjects,
    join,
    list_item,
    number_item,
)
from wit.builtin.vocabulary import PEOPLE

INTRODUCTIONS: tuple[str, ...] = (
    "The list is {words}.",
    "Here are some words: {words}.",
    "Here is a list: {words}.",
    "{name} reads these words: {words}.",
    "{name} has a list of words: {words}.",
    "The words are {words}.",
)

REPETITIONS: tuple[str, ...] = (
    "Again: {words}.",
    "{name} says them again: {words}.",
    "The same list again is {words}.",
    "{name} hears {words}.",
)
"""The list once more. No request asks for it, but copying is the root of every list skill, and a
model of this size finds it five times sooner where it is practised alone."""

STATEMENTS: dict[str, tuple[str, ...]] = {
    "first": (
        "The first word is {answer}.",
        "The list starts with {answer}.",
        "At the beginning stands {answer}.",
        "{name} asks which word comes first. It is {answer}.",
        "If you want only the first of these, take {answer}.",
        "{name} says: Give me the first word, please. That is {answer}.",
    ),
    "last": (
        "The last word is {answer}.",
        "The list ends with {answer}.",
        "At the end stands {answer}.",
        "{name} asks which word comes last. It is {answer}.",
        "If you want only the last of these, take {answer}.",
        "Please show me the last word, {name} says. That is {answer}.",
    ),
    "second": (
        "The second word is {answer}.",
        "Word number two is {answer}.",
        "{name} wants to know which word is second. It is {answer}.",
        "In second place is {answer}.",
        "Tell me the second word, {name} says. That is {answer}.",
    ),
    "count": (
        "The number of words is {answer}.",
        "How many words are there? There are {answer}.",
        "{name} must count the words and gets {answer}.",
        "The count of all words is {answer}.",
        "{name} says: Count them all. The total is {answer}.",
    ),
    "reverse": (
        "Backwards it reads {answer}.",
        "In reverse order it is {answer}.",
        "From the end to the beginning the words are {answer}.",
        "{name} can turn the list around: {answer}.",
        "To reverse the list, write {answer}.",
        "{name} says: Read them back, please. Now they are {answer}.",
        "When we start at the end and go back, we read {answer}.",
    ),
    "sorted": (
        "In alphabetical order it is {answer}.",
        "Sorted from a to z, the list is {answer}.",
        "{name} must sort the words and gets {answer}.",
        "The order of the alphabet makes it {answer}.",
        "{name} says: Put them into alphabetical order. Then they are {answer}.",
        "{name} can sort these: {answer}.",
    ),
    "upper": (
        "In capital letters it is {answer}.",
        "In upper case the words are {answer}.",
        "{name} likes large letters and must write {answer}.",
        "With capitals the list looks like this: {answer}.",
        "Write them all in capitals, says {name}. Now they are {answer}.",
        "Large letters make it {answer}.",
    ),
    "member": (
        "The word {item} is {member}.",
        "{name} looks for {item}. It is {member}.",
        "Is {item} in the list? The answer is {answer}.",
        "Does the list contain {item}? {name} says {answer}.",
        "Can you find {item} there? {name} says {answer}.",
    ),
    "after": (
        "After {item} comes {answer}.",
        "The next word after {item} is {answer}.",
        "Behind {item} stands {answer}.",
        "{name} asks what follows {item}. It is {answer}.",
        "Which word do you read right after {item}? It is {answer}.",
    ),
    "without": (
        "Without {item} it is {answer}.",
        "If you remove {item}, the rest is {answer}.",
        "{name} can drop {item} and keep {answer}.",
        "Take {item} away and leave {answer}.",
        "Remove {item}, says {name}. What remains is {answer}.",
    ),
    "sum": (
        "{a} plus {b} is {answer}.",
        "{a} + {b} = {answer}.",
        "The sum of {a} and {b} is {answer}.",
        "{name} must add {a} and {b} and gets {answer}.",
        "How much is {a} and {b} together? It makes {answer}.",
        "Add {a} to {b}, and the total is {answer}.",
    ),
    "larger": (
        "Of {a} and {b}, the larger number is {answer}.",
        "Between {a} and {b}, the bigger one is {answer}.",
        "{name} asks which is greater, {a} or {b}. It is {answer}.",
        "The largest of {a} and {b} is {answer}.",
        "Which number is larger, {a} or {b}? It is {answer}.",
    ),
    "eats": (
        "The {subject} eats {answer}.",
        "The food of the {subject} is {answer}.",
        "What does the {subject} eat? It likes {answer}.",
        "If you want to give food to the {subject}, take {answer}.",
        "Tell me what the {subject} eats, says {name}. It eats {answer}.",
    ),
    "animal_lives": (
        "The {subject} lives here: the {answer}.",
        "The home of the {subject} is the {answer}.",
        "Where does the {subject} live? Its place is the {answer}.",
        "To find a {subject}, look in the {answer}.",
        "Which place is home to the {subject}? It is the {answer}.",
    ),
    "colour": (
        "The colour of the {subject} is {answer}.",
        "The {subject} is {answer}.",
        "What colour has the {subject}? It is {answer}.",
        "{name} says that the {subject} looks {answer}.",
        "Name the colour of the {subject}, says {name}. It is {answer}.",
    ),
    "job": (
        "The job of {subject} is {answer}.",
        "{subject} works as a {answer}.",
        "What is the work of {subject}? The answer is {answer}.",
        "{subject} is a {answer}.",
        "Who is {subject}, and what does {subject} do? The work is {answer}.",
    ),
    "town": (
        "{subject} lives in {answer}.",
        "The home town of {subject} is {answer}.",
        "Where does {subject} live? In {answer}.",
        "The name of the town of {subject} is {answer}.",
        "Which town is home to {subject}? It is {answer}.",
    ),
}
"""Wordings by skill. What is to be known stands last, so that a prefix can ask for it."""


@dataclass(frozen=True)
class Mixture:
    """How often each kind of document and of statement occurs.

    Attributes:
        num_practice_documents: Documents at the start that mostly say one list again and again.
        lists, numbers: Shares of documents; facts are the rest.
        repetitions: Share of list documents that say their list a second time.
        statements: Fewest and most statements about one list.
        emphasis: Relative frequency of list skills, where it is not 1.
    """

    num_practice_documents: int
    lists: float
    numbers: float
    repetitions: float
    statements: tuple[int, int]
    emphasis: dict[str, int]


BROAD = Mixture(
    num_practice_documents=20_000,
    lists=0.62,
    numbers=0.20,
    repetitions=0.4,
    statements=(2, 4),
    emphasis={"reverse": 3, "sorted": 3, "upper": 3},
)
"""From nothing to copying, facts, counting and sums."""

FOCUSED = Mixture(
    num_practice_documents=0,
    lists=0.72,
    numbers=0.18,
    repetitions=0.15,
    statements=(1, 3),
    emphasis={skill: 2 for skill in LIST_SKILLS if skill != "count"},
)
"""Mostly what is still hard then: places in a list."""

HARDEST = Mixture(
    num_practice_documents=0,
    lists=0.74,
    numbers=0.16,
    repetitions=0.1,
    statements=(1, 3),
    emphasis={"after": 6, "member": 5, "reverse": 4, "sorted": 4, "without": 3},
)
"""What is hard to the end."""

SHARE_OF_REPETITION_IN_PRACTICE = 0.8


def fill(wording: str, item: Item, name: str) -> str:
    """The wording about this item; ``name`` is who asks in reported speech."""
    return wording.format(**item.slots, answer=item.answer, name=name)


def cloze(wording: str, item: Item, name: str) -> tuple[str, str]:
    """The statement up to what is to be known, without the space, and what is to be known."""
    target = "{member}" if "{member}" in wording else "{answer}"
    before = wording[: wording.rindex(target)].rstrip(" ")
    return fill(before, item, name), fill(target, item, name)


def draw_name(rng: Random) -> str:
    """Someone of the world."""
    return rng.choice(list(PEOPLE))


def _state(item: Item, rng: Random) -> str:
    return fill(rng.choice(STATEMENTS[item.skill]), item, draw_name(rng))


def _list_document(rng: Random, mixture: Mixture) -> list[str]:
    words = draw_words(rng, held_out=False)
    fitting = [skill for skill in LIST_SKILLS if len(words) <= MAX_LIST_WORDS.get(skill, 6)]
    emphasis = [mixture.emphasis.get(skill, 1) for skill in fitting]
    chosen: list[str] = []
    for _ in range(rng.randint(*mixture.statements)):
        [skill] = rng.choices(fitting, emphasis)
        if skill not in chosen:
            chosen.append(skill)
    introduction = rng.choice(INTRODUCTIONS).format(words=join(words), name=draw_name(rng))
    sentences = [_state(list_item(skill, words, rng), rng) for skill in chosen]
    if rng.random() < mixture.repetitions:
        repetition = rng.choice(REPETITIONS).format(words=join(words), name=draw_name(rng))
        sentences.insert(0, repetition)
    return [introduction, *sentences]


def _repetition_document(rng: Random) -> list[str]:
    """One list, said again and again: the words before are the words to come."""
    words = join(draw_words(rng, held_out=False))
    wordings = (rng.choice(REPETITIONS) for _ in range(rng.randint(2, 5)))
    introduction = rng.choice(INTRODUCTIONS).format(words=words, name=draw_name(rng))
    return [introduction, *(w.format(words=words, name=draw_name(rng)) for w in wordings)]


def _number_document(rng: Random) -> list[str]:
    skills = [rng.choice(("sum", "sum", "sum", "larger")) for _ in range(rng.randint(2, 4))]
    return [_state(number_item(skill, rng, held_out=False), rng) for skill in skills]


def _fact_document(rng: Random) -> list[str]:
    skills = [rng.choice(FACT_SKILLS) for _ in range(rng.randint(2, 4))]
    return [_state(fact_item(skill, rng.choice(fact_subjects(skill))), rng) for skill in skills]


def documents(seed: int, mixture: Mixture = BROAD) -> Iterator[str]:
    """Documents without end, always the same ones for the same seed and mixture."""
    rng = Random(seed)
    for number in count():
        kind = rng.random()
        is_practice = number < mixture.num_practice_documents
        if is_practice and rng.random() < SHARE_OF_REPETITION_IN_PRACTICE:
            sentences = _repetition_document(rng)
        elif kind < mixture.lists:
            sentences = _list_document(rng, mixture)
        elif kind < mixture.lists + mixture.numbers:
            sentences = _number_document(rng)
        else:
            sentences = _fact_document(rng)
        yield rng.choice((" ", " ", "\n")).join(sentences)
