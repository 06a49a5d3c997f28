"""Where responses begin and end, whose weight a token has, and what of the markup is prose."""

import re
from itertools import groupby

import pytest
from chats import ANSWER, SYSTEM, TURNS, USER, renderer, roles
from samples import family_tokenizer, merging_tokenizer

from wit.data.rendering import ChatRenderer
from wit.data.schema import Message
from wit.errors import BaseModelError
from wit.roles import Role

# --- where a response begins and ends -----------------------------------------------------------

LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_V1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ m['content'] + eos_token + ' ' }}{% endif %}{% endfor %}"
)
MISTRAL_V3 = (  # which moves the system text into the last user turn
    "{% set asked = messages | selectattr('role', 'equalto', 'user') | list %}"
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% if m == asked[-1] and messages[0]['role'] == 'system' %}"
    "{{ '[INST] ' + messages[0]['content'] + '\n\n' + m['content'] + '[/INST]' }}"
    "{% else %}{{ '[INST] ' + m['content'] + '[/INST]' }}{% endif %}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + eos_token }}"
    "{% endif %}{% endfor %}"
)
THINKING = (  # as Qwen3: an empty block of thoughts in the last turn
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ '<think>\n\n</think>\n\n' if m['role'] == 'assistant' and loop.last }}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
)


def family_roles(template: str, *messages: Message) -> list[tuple[str, str]]:
    """Stretches of one role, in a template that is not ours."""
    tokenizer = family_tokenizer("tulu")
    tokenizer.chat_template = template
    found = roles(ChatRenderer(tokenizer), *messages)
    return [
        (role, "".join(text for _, text in group))
        for role, group in groupby(found, lambda item: item[0])
    ]


@pytest.mark.parametrize(
    ("template", "before", "answer", "between"),
    [
        (LLAMA_2, " [/INST]", " a ", [("special", "<s>"), ("template", "[INST] ")]),
        (MISTRAL_V1, " [/INST]", "a", [("template", " [INST] ")]),
        (MISTRAL_V3, "[/INST]", " a", [("template", "[INST] ")]),
    ],
)
def test_what_follows_the_generation_prompt_is_response(
    template: str, before: str, answer: str, between: list[tuple[str, str]]
) -> None:
    turn = [("prompt", "q"), ("template", before), ("response", answer), ("stop", "</s>")]
    found = family_roles(template, USER, ANSWER, USER, ANSWER)
    assert found == [("special", "<s>"), ("template", "[INST] "), *turn, *between, *turn]


def test_an_empty_block_of_thoughts_is_response_in_the_turn_that_has_it() -> None:
    assert family_roles(THINKING, USER, ANSWER, USER, ANSWER) == [
        ("template", "<|im_start|>user\n"),
        ("prompt", "q"),
        ("template", "<|im_end|>\n<|im_start|>assistant\n"),
        ("response", "a"),
        ("stop", "<|im_end|>"),
        ("template", "\n<|im_start|>user\n"),
        ("prompt", "q"),
        ("template", "<|im_end|>\n<|im_start|>assistant\n"),
        ("response", "<think>\n\n</think>\n\na"),
        ("stop", "<|im_end|>"),
    ]


def test_a_system_text_that_the_template_moves_keeps_its_role() -> None:
    found = family_roles(MISTRAL_V3, SYSTEM, USER, ANSWER)
    assert found[1:4] == [("template", "[INST] "), ("system", "s"), ("template", "\n\n")]
    # In an earlier turn the model would not have seen it, but in training it answers without it.
    with pytest.raises(BaseModelError, match="differently in training and in generation"):
        family_roles(MISTRAL_V3, SYSTEM, USER, ANSWER, USER, ANSWER)


def test_a_system_text_behind_the_question_keeps_its_role_too() -> None:
    template = (
        "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}"
        "{% if m['role'] == 'user' %}/{{ messages[0]['content'] }}|{% else %}<end>{% endif %}"
        "{% endfor %}"
    )
    assert roles(renderer(template), SYSTEM, USER, ANSWER) == [
        ("prompt", "q"),
        ("template", "/"),
        ("system", "s"),
        ("template", "|"),
        ("response", "a"),
        ("stop", "<end>"),
    ]


def test_a_stop_token_in_the_next_header_ends_no_response() -> None:
    chat = renderer(
        "{% for m in messages %}{{ 'Q<end>' if m['role'] == 'user' else 'A<end>' }}"
        "{{ m['content'] }}{{ '<end>' if loop.last and m['role'] == 'assistant' }}{% endfor %}"
        "{{ 'A<end>' if add_generation_prompt }}"
    )
    found = roles(chat, USER, ANSWER, USER, ANSWER)
    assert found[3:5] == [("response", "a"), ("template", "Q<end>")]
    assert [role for role, _ in found].count("stop") == 1


@pytest.mark.parametrize("end", [" <end>", "\n<end>", "</answer><end>"])
def test_text_before_the_stop_is_response_too(end: str) -> None:
    template = TURNS.replace("<end>", "{{ '" + end + "' if m['role'] == 'assistant' }}")
    found = roles(renderer(template), USER, ANSWER, USER, ANSWER)
    responses = [text for role, text in found if role == "response"]
    assert "".join(responses) == ("a" + end.removesuffix("<end>")) * 2
    assert found.count(("stop", "<end>")) == 2


def test_only_the_last_response_counts_if_asked_for() -> None:
    chat = renderer()
    whole = chat.segments((USER, ANSWER, USER, ANSWER))
    last = chat.segments((USER, ANSWER, USER, ANSWER), num_prompt=3)
    assert [segment.text for segment in last] == [segment.text for segment in whole]
    changed = [(a.role, b.role) for a, b in zip(whole, last, strict=True) if a.role != b.role]
    assert changed == [(Role.RESPONSE, Role.PROMPT), (Role.STOP, Role.TEMPLATE)]
    assert last[-2:] == whole[-2:]


def test_a_prompt_after_earlier_answers_keeps_them() -> None:
    segments = renderer().prompt((USER, ANSWER, USER))
    assert (
        "".join(s.text for s in segments) == "<user>q<end><assistant>a<end><user>q<end><assistant>"
    )
    assert [s.role for s in segments].count(Role.RESPONSE) == 1


# --- inputs, weights, boilerplate ---------------------------------------------------------------

WITH_INPUT = TURNS.replace(
    "{{ m['content'] }}", "{{ m['content'] }}{{ '<about>' + m['input'] if m['input'] }}"
)


def test_an_input_stands_apart_where_the_template_has_a_place_for_it() -> None:
    asked = Message("user", "q", input="i")
    assert roles(renderer(WITH_INPUT), asked, ANSWER)[1:4] == [
        ("prompt", "q"),
        ("template", "<about>"),
        ("prompt", "i"),
    ]
    assert roles(renderer(WITH_INPUT), USER, ANSWER) == roles(renderer(), USER, ANSWER)
    assert roles(renderer(), asked, ANSWER)[1] == ("prompt", "q\n\ni")


def test_alpaca_has_one_preamble_with_input_and_one_without() -> None:
    alpaca = ChatRenderer(family_tokenizer("alpaca"))
    with_input = roles(alpaca, Message("user", "q", input="i"), ANSWER)
    assert "paired with an input" in with_input[1][1]
    assert ("template", "\n\n### Input:\n") in with_input
    assert "paired with an input" not in roles(alpaca, USER, ANSWER)[1][1]


def weights(chat: ChatRenderer, *messages: Message) -> list[tuple[str, float]]:
    return [(segment.text, segment.weight) for segment in chat.segments(messages)]


def test_a_weight_is_that_of_the_text_and_of_its_stop() -> None:
    found = weights(renderer(), USER._replace(weight=3), ANSWER._replace(weight=0.5), USER, ANSWER)
    assert found[:5] == [
        ("<user>", 1),
        ("q", 3),
        ("<end><assistant>", 1),
        ("a", 0.5),
        ("<end>", 0.5),
    ]
    assert {weight for _, weight in found[5:]} == {1}


def test_of_a_message_of_no_weight_the_header_is_not_learned_either() -> None:
    found = weights(renderer(), USER, ANSWER._replace(weight=0), USER._replace(weight=0), ANSWER)
    assert found == [
        ("<user>", 1),
        ("q", 1),
        ("<end><assistant>", 0),
        ("a", 0),
        ("<end>", 0),
        ("<user>", 0),
        ("q", 0),
        ("<end><assistant>", 1),
        ("a", 1),
        ("<end>", 1),
    ]


@pytest.mark.parametrize(
    ("markup", "found"),
    [
        ("Answer as well as you can.\n\n", [("boilerplate", "Answer as well as you can.\n\n")]),
        ("### Instruction:\n", [("template", "### Instruction:\n")]),
        ("### Your answer here:\n", [("template", "### Your answer here:\n")]),
        ("You answer all questions.\n", [("boilerplate", "You answer all questions.\n")]),
        ("- - - -\n", [("template", "- - - -\n")]),
        (
            "# Task\nAnswer as well as you can.\nBe brief and kind, please.\n# Go\n",
            [
                ("template", "# Task\n"),
                ("boilerplate", "Answer as well as you can.\nBe brief and kind, please.\n"),
                ("template", "# Go\n"),
            ],
        ),
        (
            "<end>system\nYou are a helpful assistant.<end>",
            [
                ("template", "<end>system\n"),
                ("boilerplate", "You are a helpful assistant."),
                ("template", "<end>"),
            ],
        ),
    ],
)
def test_prose_of_the_template_is_boilerplate(markup: str, found: list[tuple[str, str]]) -> None:
    template = TURNS.replace("<{{ m", "{{ lead if loop.first }}<{{ m", 1)
    template = "{% set lead = " + repr(markup) + " %}" + template
    merged = roles(renderer(template), USER, ANSWER)
    expected = [*found, ("template", "<user>")]
    if found[-1][0] == "template":
        expected[-2:] = [("template", found[-1][1] + "<user>")]
    assert merged[: len(expected)] == expected


class Phrase:
    """Finds one phrase."""

    def __init__(self, phrase: str) -> None:
        self.phrase = phrase

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(self.phrase, text)]


def test_boilerplate_of_the_rows_is_found_in_what_users_wrote() -> None:
    chat = ChatRenderer(merging_tokenizer(template=TURNS), Phrase("Do it: |!"))
    messages = (
        Message("system", "Do it: s"),
        Message("user", "Do it: now! or not!", weight=2),
        Message("assistant", "Do it: a"),
        Message("tool", "Do it: t"),
        ANSWER,
    )
    found = [(s.role.name.lower(), s.text, s.weight) for s in chat.segments(messages)]
    assert found[3:8] == [
        ("boilerplate", "Do it: ", 2),
        ("prompt", "now", 2),
        ("boilerplate", "!", 2),
        ("prompt", " or not", 2),
        ("boilerplate", "!", 2),
    ]
    assert ("system", "Do it: s", 1) in found
    assert ("response", "Do it: a", 1) in found
    assert ("prompt", "Do it: t", 1) in found
