"""A conversation that goes on: what the model is asked, and what the user sees of it."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
import torch

from wit.errors import ConfigError, DataError, InputError
from wit.generation.answers import answer
from wit.generation.chat import Chat, ShownAnswer
from wit.generation.greedy import max_tokens_of
from wit.generation.questions import Question

MAX = 12  # new tokens
SAID = ("What is the first word of pear, key?", "And the last?", "How many?")


def ask(chat: Chat, text: str) -> str:
    pieces: list[str] = []
    chat.ask(text, pieces.append)
    return "".join(pieces)


@pytest.fixture
def new_chat(model, tokenizer) -> Callable[..., Chat]:
    def begin(system: str | None = None, max_new_tokens: int = MAX) -> Chat:
        return Chat(model, tokenizer, system=system, max_new_tokens=max_new_tokens)

    return begin


def test_answers_are_those_of_the_whole_conversation(new_chat, model, tokenizer):
    whole = answer(
        model, tokenizer, [Question("1", None, SAID)], max_new_tokens=MAX, batch_size=1
    ).rows[0]
    chat = new_chat()
    assert tuple(ask(chat, text) for text in SAID) == whole.responses


def test_a_reset_forgets_the_turns_and_keeps_the_system_text(new_chat):
    plain, chat = new_chat(), new_chat("Be brief. " * 3)
    first = ask(chat, SAID[0])
    ask(chat, SAID[1])
    chat.reset()
    assert ask(chat, SAID[0]) == first != ask(plain, SAID[0])


def test_pieces_come_one_by_one_and_are_whole_characters(random_model, tokenizer):
    pieces: list[str] = []
    chat = Chat(random_model, tokenizer, system=None, max_new_tokens=MAX)
    chat.ask(SAID[0], pieces.append)
    assert len(pieces) > MAX // 3
    ids = tokenizer("naïve 狐狸!", add_special_tokens=False)["input_ids"]
    assert len(ids) > len("naïve 狐狸!") - 4  # several tokens a character
    shown: list[str] = []
    streamer = ShownAnswer(tokenizer, shown.append)
    streamer.put(torch.tensor([[1, 2, 3]]))
    for token in ids:
        streamer.put(torch.tensor([token]))
    streamer.finish()
    assert "".join(shown) == "naïve 狐狸!"
    assert "\ufffd" not in "".join(shown)


def test_the_oldest_turns_make_room(new_chat):
    chat, long = new_chat(), "Tell me of the fox and the hen."
    said = []
    for number in range(24):
        num_turns = len(chat.turns) // 2
        left_out = chat.ask(f"{number} {long}", lambda _: None).num_left_out
        said.append(f"{number} {long}")
        assert len(chat.turns) // 2 == num_turns - left_out + 1
        assert [m.content for m in chat.turns[::2]] == said[-len(chat.turns) // 2 :]
    assert 1 < len(chat.turns) // 2 < 24
    fresh = new_chat()  # with what is left as all that was ever said
    fresh.turns = chat.turns
    assert ask(chat, SAID[0]) == ask(fresh, SAID[0])


def test_what_alone_is_too_long_is_refused_and_changes_nothing(new_chat, model):
    chat, other = new_chat(), new_chat()
    for one in (chat, other):
        ask(one, SAID[0])
    with pytest.raises(InputError, match="say less, or lower --max-tokens"):
        ask(chat, "word " * max_tokens_of(model))
    assert ask(chat, SAID[1]) == ask(other, SAID[1])


def test_answers_that_leave_no_room_are_refused_at_the_door(new_chat, model):
    context = max_tokens_of(model)
    with pytest.raises(ConfigError, match=f"--max-tokens {context}: .* give a smaller number"):
        new_chat(max_new_tokens=context)
    with pytest.raises(ConfigError, match="--max-tokens"):
        new_chat("Be brief. " * 200)


def test_a_template_without_a_place_for_system_text_says_so(random_model, tokenizer):
    own = tokenizer.chat_template
    refusal = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    tokenizer.chat_template = refusal + own
    try:
        Chat(random_model, tokenizer, system=None, max_new_tokens=MAX)
        with pytest.raises(DataError, match=r"--system: .*leave it out"):
            Chat(random_model, tokenizer, system="Be brief.", max_new_tokens=MAX)
    finally:
        tokenizer.chat_template = own


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Who is started in the background of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_an_interrupted_answer_ends_and_stays_in_the_history(random_model, tokenizer):
    chat, pieces = Chat(random_model, tokenizer, system=None, max_new_tokens=100), []

    def interrupt(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    reply = chat.ask(SAID[0], interrupt)
    assert reply.is_interrupted
    assert 3 <= len(pieces) < 20
    whole = Chat(random_model, tokenizer, system=None, max_new_tokens=100)
    assert ask(whole, SAID[0]).startswith("".join(pieces))
    assert [m.content for m in chat.turns] == [SAID[0], "".join(pieces)]
