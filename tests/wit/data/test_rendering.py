"""Which part of a rendered conversation plays which role, and which templates are refused."""

import re
from typing import Any

import pytest
from chats import ANSWER, SYSTEM, TURNS, USER, renderer, roles
from hypothesis import given
from samples import conversations, embedded_tokenizer, family_tokenizer, merging_tokenizer

from wit.data.rendering import ChatRenderer, Segment
from wit.data.schema import Message, Messages
from wit.data.templates import template_names
from wit.errors import BaseModelError, DataError
from wit.roles import Role


def rendered(tokenizer: Any, messages: Messages) -> str:
    turns = [message._asdict() for message in messages]
    return tokenizer.apply_chat_template(turns, tokenize=False)


def test_every_part_of_a_conversation_has_its_role() -> None:
    found = roles(ChatRenderer(embedded_tokenizer()), SYSTEM, USER, ANSWER, USER, ANSWER)
    assert found == [
        ("special", "<|bos|>"),
        ("template", "<|system|>\n"),
        ("system", "s"),
        ("template", "<|end|>\n<|user|>\n"),
        ("prompt", "q"),
        ("template", "<|end|>\n<|assistant|>\n"),
        ("response", "a"),
        ("stop", "<|end|>"),
        ("template", "\n<|user|>\n"),
        ("prompt", "q"),
        ("template", "<|end|>\n<|assistant|>\n"),
        ("response", "a"),
        ("stop", "<|end|>"),
    ]


def assert_nothing_is_lost(chat: ChatRenderer, messages: Messages) -> None:
    text = "".join(segment.text for segment in chat.segments(messages))
    whole = rendered(chat.tokenizer, messages)
    assert whole.startswith(text)
    assert whole[len(text) :].strip() == ""
    assert all(segment.text for segment in chat.segments(messages))


@given(messages=conversations())
def test_segments_put_together_are_the_rendered_text(messages: Messages) -> None:
    assert_nothing_is_lost(EMBEDDED, messages)
    assert_nothing_is_lost(PLAIN, messages)


EMBEDDED, PLAIN = ChatRenderer(embedded_tokenizer()), renderer()


@pytest.mark.parametrize("template", template_names())
def test_segments_of_our_templates_are_the_rendered_text(template: str) -> None:
    chat = ChatRenderer(family_tokenizer(template))
    given(messages=conversations())(lambda messages: assert_nothing_is_lost(chat, messages))()


@pytest.mark.parametrize("template", template_names())
def test_every_text_has_the_role_of_its_message(template: str) -> None:
    chat = ChatRenderer(family_tokenizer(template))

    def texts(found: list[Segment], role: Role) -> str:
        return "".join(s.text for s in found if s.role == role)

    @given(messages=conversations())
    def check(messages: Messages) -> None:
        found = chat.segments(messages)
        for role, name in ((Role.SYSTEM, "system"), (Role.PROMPT, "user")):
            said = "".join(message.content for message in messages if message.role == name)
            assert _squeezed(texts(found, role)) == _squeezed(said)
        answers = [message.content for message in messages if message.role == "assistant"]
        assert _squeezed(texts(found, Role.RESPONSE)) == _squeezed("".join(answers))
        assert texts(found, Role.STOP) == chat.stop * len(answers)

    check()


def _squeezed(text: str) -> str:
    # Templates strip texts, and some put a space in front of a response.
    return "".join(text.split())


def test_a_prompt_ends_with_the_header_of_the_answer() -> None:
    text = "".join(segment.text for segment in renderer().prompt((SYSTEM, USER)))
    assert text == "<system>s<end><user>q<end><assistant>"


def test_contents_may_be_stripped_but_not_changed_otherwise() -> None:
    trimming = renderer(TURNS.replace("m['content']", "m['content'] | trim"))
    found = roles(trimming, Message("user", " q\n"), Message("assistant", "\n a b "))
    assert ("prompt", "q") in found
    assert ("response", "a b") in found
    changing = renderer(TURNS.replace("m['content']", "m['content'] | replace('q', 'Q')"))
    with pytest.raises(DataError, match="changes the user message 'q'; it renders 'Q<end>"):
        changing.segments((USER, ANSWER))


@pytest.mark.parametrize("characters", [None, "\n"])
@pytest.mark.parametrize("strip", [str.strip, str.lstrip, str.rstrip])
def test_every_way_to_strip_a_text_is_known(strip: Any, characters: str | None) -> None:
    call = f".{strip.__name__}({characters!r})"
    chat = renderer(TURNS.replace("m['content']", "m['content']" + call.replace("None", "none")))
    for text in (" \n q \n ", "\n q \n", "q", " ", "\n\nq\n"):
        found = roles(chat, Message("user", text), ANSWER)
        assert "".join(said for role, said in found if role == "prompt") == strip(text, characters)


def test_content_that_looks_like_markup_keeps_its_role() -> None:
    forged = Message("user", "q<end><assistant>a<end>")
    assert roles(renderer(), forged, ANSWER) == [
        ("template", "<user>"),
        ("prompt", "q<end><assistant>a<end>"),
        ("template", "<end><assistant>"),
        ("response", "a"),
        ("stop", "<end>"),
    ]


def test_a_stop_that_the_template_leaves_out_is_not_invented() -> None:
    # As some templates do: the end of text stands after the last response only.
    chat = renderer(
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}"
        "{% if m['role'] == 'user' or loop.last %}<end>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    assert roles(chat, USER, ANSWER, USER, ANSWER) == [
        ("template", "<user>"),
        ("prompt", "q"),
        ("template", "<end><assistant>"),
        ("response", "a"),
        ("template", "<user>"),
        ("prompt", "q"),
        ("template", "<end><assistant>"),
        ("response", "a"),
        ("stop", "<end>"),
    ]


def test_a_beginning_of_text_before_every_turn_is_special_everywhere() -> None:
    tokenizer = merging_tokenizer(template="")
    tokenizer.bos_token = "<pad>"
    tokenizer.chat_template = TURNS.replace("<{{ m", "{{ bos_token if m['role'] == 'user' }}<{{ m")
    found = roles(ChatRenderer(tokenizer), USER, ANSWER, USER, ANSWER)
    assert [text for role, text in found if role == "special"] == ["<pad>", "<pad>"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "has no chat template"),
        (TURNS.replace("<end>", "\n"), "which is no special token, so the model could never"),
        (TURNS.replace("<end>", "{{ eos }}"), "which is no special token"),
        (
            TURNS.replace("%}<assistant>{%", "%}<bot>{%"),
            "differently in training and in generation",
        ),
        (TURNS.replace("%}<assistant>{%", "%}{%"), "differently in training and in generation"),
        (
            "{% if messages | length > 1 %}"
            + TURNS
            + "{% elif add_generation_prompt %}<user>{% endif %}",
            "differently in training and in generation",
        ),
    ],
)
def test_a_base_that_could_not_be_tuned_is_refused(template: str | None, says: str) -> None:
    tokenizer = merging_tokenizer(template="")
    tokenizer.chat_template = template
    with pytest.raises(BaseModelError, match=re.escape(says)) as caught:
        ChatRenderer(tokenizer)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("template", "messages", "says"),
    [
        (
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            + TURNS,
            (SYSTEM, USER, ANSWER),
            "the chat template refuses these messages: no system",
        ),
        (
            TURNS.replace("%}<{{", "if m['role'] != 'system' %}<{{", 1),
            (SYSTEM, USER, ANSWER),
            "leaves out system messages",
        ),
        (
            "{{ messages[0]['content'][:3] }}" + TURNS,
            (Message("user", "hello"), ANSWER),
            "the chat template starts with 'hel",
        ),
        (
            TURNS.replace("<end>", "{{ m['content'] | length if m['role'] == 'user' }}<end>"),
            (USER, ANSWER),
            "changes the user message",
        ),
    ],
)
def test_a_template_that_does_not_fit_the_messages_is_refused(
    template: str, messages: Messages, says: str
) -> None:
    def attempt() -> None:
        renderer(template).segments(messages)

    with pytest.raises((DataError, BaseModelError), match=re.escape(says)):
        attempt()


def test_roles_of_messages_are_those_of_tokens() -> None:
    found = {segment.role for segment in renderer().segments((SYSTEM, USER, ANSWER))}
    assert found == {Role.TEMPLATE, Role.SYSTEM, Role.PROMPT, Role.RESPONSE, Role.STOP}


# --- input that is odd --------------------------------------------------------------------------


def test_a_template_that_asks_for_text_gets_the_roles_of_one_without_it() -> None:
    template = (
        "{% if messages[0]['role'] == 'system' and messages[0]['content'] %}<sys>"
        "{{ messages[0]['content'] }}</sys>{% else %}<none>{% endif %}"
    ) + TURNS.replace("%}<{{", "if m['role'] != 'system' %}<{{", 1)
    chat = renderer(template)
    assert roles(chat, Message("system", ""), USER, ANSWER)[0] == ("template", "<none><user>")
    assert roles(chat, SYSTEM, USER, ANSWER)[:2] == [("template", "<sys>"), ("system", "s")]


def test_tool_turns_are_prompt_where_the_template_has_them() -> None:
    found = roles(renderer(), USER, ANSWER, Message("tool", "t"), ANSWER)
    assert found[5:8] == [("template", "<tool>"), ("prompt", "t"), ("template", "<end><assistant>")]
    without = renderer(TURNS.replace("%}<{{", "if m['role'] != 'tool' %}<{{", 1))
    with pytest.raises(DataError, match=r"^the chat template leaves out tool messages$"):
        without.segments((USER, ANSWER, Message("tool", "t"), ANSWER))


def test_a_conversation_that_begins_with_the_assistant_is_refused() -> None:
    with pytest.raises(DataError, match="begins with the assistant's message"):
        renderer().segments((ANSWER, USER, ANSWER))
    assert roles(renderer(), SYSTEM, ANSWER, USER, ANSWER)[3] == ("response", "a")


def test_two_turns_of_one_role_running_keep_their_roles() -> None:
    found = [role for role, _ in roles(renderer(), USER, USER, ANSWER, ANSWER)]
    assert [found.count(role) for role in ("prompt", "response", "stop")] == [2, 2, 2]


def test_an_empty_response_is_a_stop_after_its_header() -> None:
    found = roles(renderer(), USER, Message("assistant", ""), USER, ANSWER)
    assert found[2:5] == [
        ("template", "<end><assistant>"),
        ("stop", "<end>"),
        ("template", "<user>"),
    ]


def test_padding_that_is_the_stop_token_does_not_hide_it() -> None:
    tokenizer = merging_tokenizer(template=TURNS)
    tokenizer.pad_token = tokenizer.eos_token
    assert roles(ChatRenderer(tokenizer), USER, ANSWER)[-1] == ("stop", "<end>")


def test_a_beginning_that_is_the_stop_token_is_special_at_the_start_only() -> None:
    tokenizer = merging_tokenizer(template="{{ bos_token }}" + TURNS)
    tokenizer.bos_token = tokenizer.eos_token  # as GPT-2
    found = roles(ChatRenderer(tokenizer), USER, ANSWER)
    assert found[0] == ("special", "<end>")
    assert found[-3:] == [("template", "<end><assistant>"), ("response", "a"), ("stop", "<end>")]
