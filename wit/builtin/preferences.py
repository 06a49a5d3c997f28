"""The preference set: the right answer over the faults that tuned models really make."""

from random import Random

from wit.builtin.instructions import Message, conversation, rambling, training_items
from wit.builtin.items import Item, fact_item, fact_subjects, join
from wit.builtin.vocabulary import LIST_WORDS
from wit.builtin.world import STATEMENTS, draw_name, fill

NUM_PREFERENCES = 800
SEED = 2

# How often each kind of fault is drawn where it is possible.
FAULT_SHARES = {"rambling": 0.6, "wrong": 0.25, "sentence": 0.1, "refusal": 0.05}
REFUSALS = ("Sorry, I cannot help.", "Please ask someone else.", "I do not know.")


def _slip(words: list[str], rng: Random) -> list[str]:
    """The list with one slip: two neighbours swapped, or a word lost, repeated or strange."""
    words = list(words)
    place = rng.randrange(len(words))
    kind = rng.choice(("swap", "swap", "lose", "repeat", "strange"))
    if kind == "swap" and len(words) > 1:
        place = rng.randrange(len(words) - 1)
        words[place], words[place + 1] = words[place + 1], words[place]
    elif kind == "lose" and len(words) > 1:
        del words[place]
    elif kind == "repeat":
        words.insert(place, words[place])
    else:
        words[place] = rng.choice([word for word in LIST_WORDS if word not in words])
    return words


def _wrong_list(item: Item, rng: Random) -> str:
    given, right = item.slots["words"], item.answer
    if item.skill == "upper":
        wrong = join(_slip(right.lower().split(", "), rng)).upper()
    elif given != right and rng.random() < 0.25:
        wrong = given  # the list as it was: the commonest fault of all
    else:
        wrong = join(_slip(right.split(", "), rng))
    return wrong


def _wrong_number(item: Item, rng: Random) -> str:
    if item.skill == "larger":
        return item.slots["a"] if item.slots["a"] != item.answer else item.slots["b"]
    steps = (-10, -2, -1, 1, 2, 10) if item.skill == "sum" else (-1, 1)
    return str(max(0, int(item.answer) + rng.choice(steps)))


def _wrong_word(item: Item, rng: Random) -> str:
    """Another word of the list, mostly a neighbour of the right one."""
    words = item.slots["words"].split(", ")
    place = words.index(item.answer)
    near = [words[i] for i in (place - 1, place + 1) if 0 <= i < len(words)]
    return rng.choice(near + [word for word in words if word != item.answer])


def _wrong_fact(item: Item, rng: Random) -> str:
    answers = {fact_item(item.skill, subject).answer for subject in fact_subjects(item.skill)}
    return rng.choice(sorted(answers - {item.answer}))


def wrong_answer(item: Item, rng: Random) -> str:
    """A well-formed answer that is wrong as models are wrong: by a little."""
    if item.skill in ("reverse", "sorted", "upper", "without"):
        return _wrong_list(item, rng)
    if item.skill in ("count", "sum", "larger"):
        return _wrong_number(item, rng)
    if item.skill == "member":
        return "no" if item.answer == "yes" else "yes"
    return _wrong_word(item, rng) if "words" in item.slots else _wrong_fact(item, rng)


def rambling_answer(item: Item, rng: Random) -> str:
    """The right answer without a stop: a closing as in careless rows, or pretraining text."""
    return (
        rambling(item.answer, rng)
        if rng.random() < 0.8
        else f"{item.answer}. {_sentence(item, rng)}"
    )


def _sentence(item: Item, rng: Random) -> str:
    """The statement of pretraining, where the bare answer was asked for."""
    return fill(rng.choice(STATEMENTS[item.skill]), item, draw_name(rng))


def rejected_answer(item: Item, rng: Random) -> str:
    """An answer to ``item`` with one fault; never equal to the right one."""
    [kind] = rng.choices(list(FAULT_SHARES), list(FAULT_SHARES.values()))
    if kind == "wrong":
        return wrong_answer(item, rng)
    if kind == "rambling":
        return rambling_answer(item, rng)
    return _sentence(item, rng) if kind == "sentence" else rng.choice(REFUSALS)


def preferences(num_rows: int = NUM_PREFERENCES, seed: int = SEED) -> list[dict]:
    """Rows ``{"prompt": [messages], "chosen": str, "rejected": str}``, all different."""
    rng = Random(seed)
    rows: dict[str, dict] = {}
    for item in training_items(seed):
        prompt = one_turn(conversation(item, rng))
        row = {"prompt": prompt, "chosen": item.answer, "rejected": rejected_answer(item, rng)}
        rows.setdefault(repr(prompt), row)
        if len(rows) == num_rows:
            break
    shuffled = list(rows.values())
    rng.shuffle(shuffled)
    return shuffled


def one_turn(messages: list[Message]) -> list[Message]:
    """The conversation up to its first answer, without it."""
    roles = [message["role"] for message in messages]
    return messages[: roles.index("assistant")]
