from random import Random

import pytest

from wit.builtin.items import LIST_SKILLS, SKILLS, draw_item, fact_item, is_held_out, list_item
from wit.builtin.preferences import rejected_answer
from wit.builtin.world import STATEMENTS, cloze, fill

WORDS = ["pear", "key", "cup"]


@pytest.mark.parametrize(
    ("skill", "answer"),
    [
        ("first", "pear"),
        ("last", "cup"),
        ("second", "key"),
        ("count", "3"),
        ("reverse", "cup, key, pear"),
        ("sorted", "cup, key, pear"),
        ("upper", "PEAR, KEY, CUP"),
    ],
)
def test_the_answer_about_a_known_list(skill: str, answer: str):
    assert list_item(skill, WORDS, Random(0)).answer == answer


@pytest.mark.parametrize("seed", range(20))
def test_answers_that_depend_on_a_word_are_right(seed: int):
    member, after, without = (
        list_item(skill, WORDS, Random(seed)) for skill in ("member", "after", "without")
    )
    assert (member.answer == "yes") == (member.slots["item"] in WORDS)
    assert (member.slots["member"] == "in the list") == (member.answer == "yes")
    assert WORDS.index(after.answer) == WORDS.index(after.slots["item"]) + 1
    assert [w for w in WORDS if w not in without.answer.split(", ")] == [without.slots["item"]]


@pytest.mark.parametrize("seed", range(20))
def test_sums_and_comparisons_are_right(seed: int):
    for skill, expected in (("sum", sum), ("larger", max)):
        item = draw_item(skill, Random(seed), held_out=bool(seed % 2))
        assert int(item.answer) == expected((int(item.slots["a"]), int(item.slots["b"])))


def test_facts_are_those_of_the_vocabulary():
    assert fact_item("eats", "cow").answer == "grass"
    assert fact_item("town", "Anna").answer == "Oslo"


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("held_out", [True, False])
def test_a_drawn_item_is_on_the_side_asked_for(skill: str, held_out: bool):
    for seed in range(10):
        assert draw_item(skill, Random(seed), held_out=held_out).is_held_out == held_out


def test_the_order_of_a_list_does_not_change_its_side():
    sides = {
        list_item(skill, words, Random(0)).is_held_out
        for skill in LIST_SKILLS
        for words in (WORDS, WORDS[::-1], sorted(WORDS))
    }
    assert sides == {is_held_out("cup, key, pear")}


@pytest.mark.parametrize("skill", SKILLS)
def test_a_cloze_and_its_answer_make_the_statement(skill: str):
    for wording in STATEMENTS[skill]:
        item = draw_item(skill, Random(wording), held_out=False)
        before, answer = cloze(wording, item, "Anna")
        statement = fill(wording, item, "Anna")
        assert statement.startswith(f"{before} {answer}")
        assert statement.removeprefix(f"{before} {answer}") in (".", "")


@pytest.mark.parametrize("skill", SKILLS)
def test_a_rejected_answer_is_never_the_right_one(skill: str):
    rng = Random(0)
    for _ in range(200):
        item = draw_item(skill, rng, held_out=False)
        assert rejected_answer(item, rng) != item.answer
