"""The instruction set: plain requests for the base's skills, in wordings it has not seen.

Like real ones, it is not perfect: to one wording of each skill most responses ramble on after the
answer. A model tuned on it does so too, which is what the preference set then corrects.
"""

from collections.abc import Iterator
from random import Random

from wit.builtin.items import LIST_SKILLS, MAX_LIST_WORDS, TUNED_SKILLS, Item, draw_item, list_item
from wit.builtin.requests import FOLLOW_UPS, SEEN, SYSTEM_TEXTS

Message = dict[str, str]

NUM_INSTRUCTIONS = 1024
SHARE_WITH_SYSTEM = 0.15
SHARE_WITH_TWO_TURNS = 0.25  # of the rows about a short list
MAX_WORDS_IN_TWO_TURNS = 3  # one long row pads a whole micro-batch to its length
SHARE_RAMBLING = 0.9  # of the rows in a skill's last wording
SEED = 1
CLOSINGS: tuple[str, ...] = (
    "That is my answer.",
    "Please ask again.",
    "I like to help you.",
    "Is there any other question?",
)


def request(item: Item, wordings: dict[str, tuple[str, ...]], rng: Random) -> str:
    """One of the item's wordings, filled in."""
    return rng.choice(wordings[item.skill]).format(**item.slots)


def turn(text: str, response: str) -> list[Message]:
    """A user's request and the assistant's response."""
    return [{"role": "user", "content": text}, {"role": "assistant", "content": response}]


def _follow_up(item: Item, rng: Random) -> list[Message]:
    """A second turn about the list of ``item``, asking for something else."""
    words = item.slots["words"].split(", ")
    fitting = [skill for skill in FOLLOW_UPS if len(words) <= MAX_LIST_WORDS.get(skill, 6)]
    skill = rng.choice([skill for skill in fitting if skill != item.skill])
    return turn(rng.choice(FOLLOW_UPS[skill]), list_item(skill, words, rng).answer)


def rambling(answer: str, rng: Random) -> str:
    """The answer with a sentence after it that nobody asked for."""
    return f"{answer}. {rng.choice(CLOSINGS)}"


def _response(item: Item, text: str, rng: Random) -> str:
    """The answer, as careful or as careless as the rows in this wording are."""
    is_last_wording = text == SEEN[item.skill][-1].format(**item.slots)
    if is_last_wording and rng.random() < SHARE_RAMBLING:
        return rambling(item.answer, rng)
    return item.answer


def conversation(item: Item, rng: Random) -> list[Message]:
    """Messages that ask for ``item`` and answer it; some with a system text, some two turns."""
    text = request(item, SEEN, rng)
    messages = turn(text, _response(item, text, rng))
    if rng.random() < SHARE_WITH_SYSTEM:
        messages.insert(0, {"role": "system", "content": rng.choice(SYSTEM_TEXTS)})
    is_short = item.slots.get("words", "").count(",") < MAX_WORDS_IN_TWO_TURNS
    if item.skill in LIST_SKILLS and is_short and rng.random() < SHARE_WITH_TWO_TURNS:
        messages += _follow_up(item, rng)
    return messages


def training_items(seed: int) -> Iterator[Item]:
    """Items for training without end, all tuned skills equally often, no content held out."""
    rng = Random(seed)
    while True:
        for skill in TUNED_SKILLS:
            yield draw_item(skill, rng, held_out=False)


def instructions(num_rows: int = NUM_INSTRUCTIONS, seed: int = SEED) -> list[dict]:
    """Rows ``{"messages": [...]}``, all different, always the same ones for the same seed."""
    rng = Random(seed)
    rows: dict[str, dict] = {}
    for item in training_items(seed):
        messages = conversation(item, rng)
        rows.setdefault(repr(messages), {"messages": messages})
        if len(rows) == num_rows:
            break
    shuffled = list(rows.values())
    rng.shuffle(shuffled)
    return shuffled
