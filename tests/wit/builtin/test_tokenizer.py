from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from wit.builtin import BASE_DIR
from wit.builtin.tokenizer import SPECIAL_TOKENS, VOCABULARY_SIZE, make_tokenizer, whole_pieces
from wit.builtin.vocabulary import LIST_WORDS

COMMITTED: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(BASE_DIR)


def ids(text: str) -> list[int]:
    return COMMITTED(text)["input_ids"]


def test_the_committed_tokenizer_is_the_one_the_code_makes(tmp_path: Path):
    make_tokenizer().save_pretrained(tmp_path)
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (BASE_DIR / made.name).read_bytes(), made.name


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.text(alphabet=" \t\n\r,.apple "),
        st.lists(st.sampled_from([*whole_pieces(), *SPECIAL_TOKENS, " ", "\n", ".", "é"])).map(
            "".join
        ),
    )
)
def test_decoding_gives_any_text_back(text: str):
    assert COMMITTED.decode(ids(text)) == text


@pytest.mark.parametrize("word", [*LIST_WORDS, *(word.upper() for word in LIST_WORDS)])
def test_a_word_is_the_same_single_token_everywhere(word: str):
    [token] = ids(word)
    for before, after in (("", "\n"), ("The ", "."), ("a\n", ", key"), ("<|user|>\n", "<|end|>")):
        assert ids(before + word + after) == [*ids(before), token, *ids(after)]


def test_the_vocabulary_is_full_and_special_tokens_come_first():
    assert len(COMMITTED) == VOCABULARY_SIZE
    assert COMMITTED.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(SPECIAL_TOKENS)))


def test_only_the_template_adds_special_tokens():
    assert ids("apple") == COMMITTED("apple", add_special_tokens=False)["input_ids"]
    assert (COMMITTED.eos_token, COMMITTED.pad_token) == ("<|end|>", "<|pad|>")


CONTENTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=20)


@settings(max_examples=100, deadline=None)
@given(system=st.none() | CONTENTS, turns=st.lists(st.tuples(CONTENTS, CONTENTS), min_size=1))
def test_a_prefix_of_the_conversation_renders_to_a_prefix(
    system: str | None, turns: list[tuple[str, str]]
):
    messages = [] if system is None else [{"role": "system", "content": system}]
    for request, response in turns:
        messages += [
            {"role": "user", "content": request},
            {"role": "assistant", "content": response},
        ]
    whole = COMMITTED.apply_chat_template(messages, tokenize=False)
    for end, message in enumerate(messages[1:], start=1):
        is_response = message["role"] == "assistant"
        prefix = COMMITTED.apply_chat_template(
            messages[:end], tokenize=False, add_generation_prompt=is_response
        )
        assert whole.startswith(prefix)
        if is_response:
            assert whole.removeprefix(prefix).startswith(message["content"] + "<|end|>\n")


def test_a_conversation_is_rendered_as_documented():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name the first: key, cup"},
        {"role": "assistant", "content": "key"},
    ]
    rendered = COMMITTED.apply_chat_template(messages, tokenize=False)
    assert rendered == (
        "<|bos|><|system|>\nBe brief.<|end|>\n<|user|>\nName the first: key, cup<|end|>\n"
        "<|assistant|>\nkey<|end|>\n"
    )
    assert COMMITTED.decode(ids(rendered)) == rendered
    assert ids(rendered).count(COMMITTED.bos_token_id) == 1
