"""The instruction set: plain requests for the base's skills, in words it has not seen together."""

from collections.abc import Iterator
from random import Random

from wit.builtin.items import LIST_SKILLS, MAX_LIST_WORDS, SKILLS, Item, draw_item, list_item
from wit.builtin.requests import FOLLOW_UPS, SEEN, SYSTEM_TEXTS

Message = dict[str, str]

NUM_INSTRUCTIONS = 1024
SHARE_WITH_SYSTEM = 0.15
SHARE_WITH_TWO_TURNS = 0.15
SEED = 1


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


def conversation(item: Item, rng: Random) -> list[Message]:
    """Messages that ask for ``item`` and answer it; some with a system text, some two turns."""
    messages = turn(request(item, SEEN, rng), item.answer)
    if rng.random() < SHARE_WITH_SYSTEM:
        messages.insert(0, {"role": "system", "content": rng.choice(SYSTEM_TEXTS)})
    if item.skill in LIST_SKILLS and rng.random() < SHARE_WITH_TWO_TURNS:
        messages += _follow_up(item, rng)
    return messages


def training_items(seed: int) -> Iterator[Item]:
    """Items for training without end, all skills equally often, no content held out."""
    rng = Random(seed)
    while True:
        for skill in SKILLS:
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
