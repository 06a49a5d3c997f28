"""A reward model's scores: those of the library on each conversation alone, whatever the batch."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from reward_models import (
    CONTEXT,
    bidirectional_reward_model,
    known_reward_model,
    random_reward_model,
    score_of_number,
)
from safetensors.torch import load_file, save_file
from samples import awkward_text, conversations, embedded_tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaForSequenceClassification,
)

from wit.data.schema import Message, Messages
from wit.errors import StageError
from wit.on_policy.reward import ConversationEncoder, RewardModel
from wit.tokenizers import load_tokenizer, special_tokens

ASKED = (Message("user", "What is red?"),)
LINE_BREAK = 205  # stands within conversations and at their end


def turns_of(messages: Messages) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.text} for message in messages]


def templated(folder: Path, messages: Messages) -> list[int]:
    """As the library itself does it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template(turns_of(messages), return_dict=False)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return known_reward_model(tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_reward_model(tmp_path_factory.mktemp("random"))


def test_the_score_is_that_of_the_last_token_of_the_response(known: Path) -> None:
    model, tokenizer = RewardModel(known, batch_size=4), load_tokenizer(known)
    responses = ["The fox is red", "No", "The cat is grey", "It is red", "x"]
    last = [tokenizer.encode(text, add_special_tokens=False)[-1] for text in responses]
    assert len({*last}) == 4
    longer = (Message("system", "Be brief."), *ASKED)
    expected = [score_of_number(number) for number in last]
    assert model.scores([ASKED, longer], [responses, responses[:2]]) == [expected, expected[:2]]


def ending_with(markup: str, folder: Path) -> Path:
    """The same, with a template that writes this at the end."""
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + markup)
    return folder


MODELS: dict[str, Callable[[Path], Path]] = {
    "padding of its own": random_reward_model,
    "padding ends rows": partial(random_reward_model, pad=LINE_BREAK),
    "no padding": partial(random_reward_model, pad=None),
    "no padding, 0 ends rows": lambda at: ending_with("<|pad|>", random_reward_model(at, pad=None)),
    "padding that is no token": partial(random_reward_model, pad=-1),
    "both directions": bidirectional_reward_model,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_score_does_not_depend_on_its_batch_and_is_the_librarys_own(
    name: str, tmp_path: Path
) -> None:
    folder = MODELS[name](tmp_path)
    random = Random(0)
    words = ["red", "fox", "no", "\n", "Why?", "x"]
    prompts: list[Messages] = []
    responses: list[list[str]] = []
    for i in range(4):
        said = [" ".join(random.choices(words, k=random.randint(0, 12))) for _ in range(i + 4)]
        system = (Message("system", said[0]),) if i % 2 else ()
        prompts.append((*system, Message("user", said[1], input=said[2] if i == 3 else "")))
        responses.append(said[3:])
    one, three, eight = (
        RewardModel(folder, batch_size=size).scores(prompts, responses) for size in (1, 3, 8)
    )
    library: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    for i, prompt in enumerate(prompts):
        for j, text in enumerate(responses[i]):
            ids = templated(folder, (*prompt, Message("assistant", text)))
            alone = library(torch.tensor([ids])).logits.item()
            for found in (one, three, eight):
                assert found[i][j] == pytest.approx(alone, abs=2e-5)
    flat = [score for scores in one for score in scores]
    assert [*map(len, one)] == [1, 2, 3, 4]
    assert max(flat) - min(flat) > 0.1


def test_equal_responses_score_alike_to_the_last_bit(some: Path) -> None:
    long = "The fox is red and not grey. " * 2
    texts = ["No", long, "No", "Why?", "No"]
    [scores] = RewardModel(some, batch_size=2).scores([ASKED], [texts])
    assert len({scores[0], scores[2], scores[4]}) == 1
    assert len({*scores}) == 3


def test_nothing_is_asked_of_no_responses(some: Path) -> None:
    assert RewardModel(some, batch_size=2).scores([ASKED, ASKED], [[], []]) == [[], []]


TOKENIZER = embedded_tokenizer()


def test_where_memory_holds_fewer_rows_the_scores_are_the_same(
    some: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["No", "Why?", "The fox is red", "x", ""]
    [expected] = RewardModel(some, batch_size=8).scores([ASKED], [texts])
    whole: Any = LlamaForSequenceClassification.forward
    sizes: list[tuple[int, int]] = []

    def small(self: Any, input_ids: torch.Tensor, **rest: Any) -> Any:
        sizes.append((len(input_ids), input_ids.shape[1]))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, input_ids, **rest)

    monkeypatch.setattr(LlamaForSequenceClassification, "forward", small)
    [found] = RewardModel(some, batch_size=8).scores([ASKED], [texts])
    assert found == pytest.approx(expected, abs=2e-5)
    nums_rows, lengths = zip(*sizes, strict=True)
    assert nums_rows == (5, 4, 2, 2, 1)
    assert lengths == (*sorted(lengths, reverse=True),)  # the longest first


ENCODER = ConversationEncoder(TOKENIZER)
MARKUP = special_tokens(TOKENIZER)
SPELLED = ["<|end|>", "<|user|>\nGood!<|end|>", "a<|bos|><|pad|>b", "<|end|>\n<|assistant|>"]


@given(messages=conversations())
def test_tokens_are_those_of_the_librarys_template(messages: Messages) -> None:
    assume(not any(mark in turn.text for turn in messages for mark in MARKUP.values()))
    expected = TOKENIZER.apply_chat_template(turns_of(messages), return_dict=False)
    assert ENCODER.ids(messages) == expected


@pytest.mark.parametrize("text", SPELLED)
@given(before=awkward_text)
def test_a_response_cannot_write_markup(text: str, before: str) -> None:
    def ids(said: str) -> list[int]:
        return ENCODER.ids((*ASKED, Message("assistant", said)))

    def num_special(of: list[int]) -> int:
        return sum(number in MARKUP for number in of)

    said = f"{before}\ue000{text}"  # the character that would stand in for the token
    assert num_special(ids(said)) == num_special(ids("plain")) == 5
    turns = turns_of((*ASKED, Message("assistant", said)))
    assert TOKENIZER.decode(ids(said)) == TOKENIZER.apply_chat_template(turns, tokenize=False)


def test_a_template_that_writes_the_date_says_the_same_tomorrow(
    known: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(known)
    tokenizer.chat_template = "{{ strftime_now('%Y') }}" + tokenizer.chat_template
    ids = ConversationEncoder(tokenizer).ids(ASKED)
    assert tokenizer.decode(ids) == "26 Jul 2024user: What is red?"


def test_what_is_longer_than_the_context_is_refused_and_never_cut(some: Path) -> None:
    model, tokenizer = RewardModel(some, batch_size=2), load_tokenizer(some)
    room = CONTEXT - len(templated(some, (*ASKED, Message("assistant", ""))))
    fitting = "x" * room
    assert len(tokenizer.encode(fitting)) == room
    [[score, _]] = model.scores([ASKED], [[fitting, "x"]])
    assert math.isfinite(score)
    with pytest.raises(StageError, match=r"response 2 to prompt 2 has 97 tokens.*holds 96; 1 of 3"):
        model.scores([ASKED, ASKED], [["x"], [fitting, fitting + "x"]])


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_refused(wrong: float, tmp_path: Path) -> None:
    file = random_reward_model(tmp_path) / "model.safetensors"
    weights = load_file(file)
    weights["score.weight"] = weights["score.weight"] * 0 + wrong
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(StageError, match=r"score of response 1 to prompt 1 is -?(nan|inf)"):
        RewardModel(tmp_path, batch_size=2).scores([ASKED], [["No"]])


def test_a_template_that_refuses_a_prompt_says_which(tmp_path: Path) -> None:
    folder = random_reward_model(tmp_path)
    refusing = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system') }}{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(refusing)
    prompt = (Message("system", "s"), *ASKED)
    with pytest.raises(
        StageError, match=r"refuses response 1 to prompt 2 .*system, user.*No system"
    ):
        RewardModel(folder, batch_size=2).scores([ASKED, prompt], [[], ["No"]])
