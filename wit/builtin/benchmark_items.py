"""Benchmark rows: held-out content in seen wordings, in unseen ones, as a choice, and as cloze."""

from collections.abc import Callable
from random import Random

from wit.builtin.instructions import request
from wit.builtin.items import (
    LIST_SKILLS,
    SKILLS,
    TUNED_SKILLS,
    Item,
    draw_item,
)
from wit.builtin.preferences import wrong_answer
from wit.builtin.requests import SEEN, UNSEEN
from wit.builtin.world import INTRODUCTIONS, STATEMENTS, cloze, draw_name

NUM_ITEMS = 255  # a standard error of 0.03
NUM_CHOICES = 4
YES_NO = ("yes", "no")


def _different(
    make: Callable[[Item, Random], dict], seed: int, skills: tuple[str, ...] = TUNED_SKILLS
) -> list[dict]:
    """``NUM_ITEMS`` different rows on held-out content, skills as equal as their facts allow."""
    rng = Random(seed)
    rows: dict[str, dict] = {}
    while len(rows) < NUM_ITEMS:
        for skill in skills:
            item = draw_item(skill, rng, held_out=True)
            row = {"skill": skill} | make(item, rng)
            if len(rows) < NUM_ITEMS:
                rows.setdefault(row["prompt"], row)
    return list(rows.values())


def seen_rows() -> list[dict]:
    """Wordings of the training rows, new content: what tuning taught."""
    return _different(
        lambda item, rng: {"prompt": request(item, SEEN, rng), "answer": item.answer}, seed=11
    )


def unseen_rows() -> list[dict]:
    """New wordings, new content: what carries over."""
    return _different(
        lambda item, rng: {"prompt": request(item, UNSEEN, rng), "answer": item.answer}, seed=12
    )


def _choices(item: Item, rng: Random) -> list[str]:
    """The right answer among plausible wrong ones, shuffled."""
    if item.skill == "member":
        return list(YES_NO)
    choices = {item.answer}
    for _ in range(50):  # a list of two words has no four plausible answers
        wrong = wrong_answer(item, rng)
        # A shorter list is likelier, whatever it says; the right one's beginning always is.
        if len(choices) < NUM_CHOICES and wrong.count(",") == item.answer.count(","):
            choices.add(wrong)
    ordered = sorted(choices)
    rng.shuffle(ordered)
    return ordered


def choice_rows() -> list[dict]:
    """Two to four answers to rank, in unseen wordings: no credit is lost by not stopping."""

    def make(item: Item, rng: Random) -> dict:
        choices = _choices(item, rng)
        prompt = request(item, UNSEEN, rng)
        return {"prompt": prompt, "choices": choices, "label": choices.index(item.answer)}

    return _different(make, seed=13)


def cloze_rows() -> list[dict]:
    """Pretraining statements to complete, without any chat: what tuning made the model forget."""

    def make(item: Item, rng: Random) -> dict:
        before, answer = cloze(rng.choice(STATEMENTS[item.skill]), item, draw_name(rng))
        if item.skill in LIST_SKILLS:
            words, name = item.slots["words"], draw_name(rng)
            before = f"{rng.choice(INTRODUCTIONS).format(words=words, name=name)} {before}"
        return {"prompt": before, "answer": answer}

    return _different(make, seed=14, skills=SKILLS)
