"""Templates that come with the program: which bases they fit, and what a base gets."""

import json
from pathlib import Path

import pytest
from samples import (
    FAMILY_TOKENS,
    embedded_tokenizer,
    family_tokenizer,
    merging_tokenizer,
    save_tokenizer,
)

from wit.data.prepare import CARD, make_tokenizer
from wit.data.rendering import ChatRenderer
from wit.data.schema import Message
from wit.data.templates import OWN_TOKENS, read_template, template_names
from wit.errors import BaseModelError, ConfigError
from wit.recipes import TokenizerRecipe
from wit.tokenizers import load_tokenizer

STOPS = {"chatml": "<|im_end|>", "gemma": "<end_of_turn>", "llama3": "<|eot_id|>"}


@pytest.mark.parametrize("name", template_names())
def test_a_base_with_its_tokens_gets_a_template_and_its_stop(tmp_path: Path, name: str) -> None:
    base = save_tokenizer(family_tokenizer("tulu"), tmp_path / "base")
    make_tokenizer(TokenizerRecipe(template=name), base, tmp_path)
    stop = STOPS.get(name, "</s>")
    assert json.loads((tmp_path / CARD).read_text())["stop_token"] == stop
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == stop
    assert (tmp_path / "chat_template.jinja").read_text() == read_template(name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ oops", ":1: is no Jinja template: unexpected end"),
        ("a\n{% for m in messages %}", ":2: is no Jinja template: "),
        ("", ": is empty"),
        (" \n", ": is empty"),
    ],
)
def test_a_file_that_is_no_template_is_refused_with_its_line(
    tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_template(str(file))
    assert str(caught.value).startswith(f"{file}{says}")
    file.write_text("{% generation %}{{ messages[0]['content'] }}{% endgeneration %}")
    assert read_template(str(file)) == file.read_text()


def test_a_base_with_a_broken_template_of_its_own_is_refused() -> None:
    tokenizer = embedded_tokenizer()
    tokenizer.chat_template = "{{ oops"
    with pytest.raises(BaseModelError, match="line 1 of the chat template: unexpected end"):
        ChatRenderer(tokenizer)


@pytest.mark.parametrize("name", template_names())
def test_every_token_that_a_template_names_is_known_to_be_one(name: str) -> None:
    text = read_template(name) or ""
    for family, tokens in OWN_TOKENS.items():
        assert all((token in text) == (family == name) for token in tokens)


@pytest.mark.parametrize(
    ("name", "missing"), [(name, token) for name, of in OWN_TOKENS.items() for token in of]
)
def test_a_base_without_a_token_of_the_template_is_refused_with_those_that_fit(
    tmp_path: Path, name: str, missing: str
) -> None:
    special = tuple(token for token in FAMILY_TOKENS if token != missing)
    tokenizer = merging_tokenizer(template=None, special=special, eos_token="</s>")
    base = save_tokenizer(tokenizer, tmp_path / "base")
    with pytest.raises(BaseModelError) as caught:
        make_tokenizer(TokenizerRecipe(template=name), base, tmp_path)
    assert str(caught.value) == (
        f"{base}: the tokenizer has no special token {missing!r}, which the template {name} "
        "needs; set base.template to one that ends a response with the base's own end of text: "
        "alpaca, mistral, plain, tulu, zephyr"
    )


def test_an_unknown_template_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'chatlm': no such template; allowed: own, alpaca, ch"):
        read_template("chatlm")


def test_a_template_that_writes_the_date_writes_one_that_never_changes(tmp_path: Path) -> None:
    """Else rows that are prepared today would differ from those of tomorrow, under one name."""
    tokenizer = embedded_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%H:%M:%S.%f') }} " + str(tokenizer.chat_template)
    make_tokenizer(TokenizerRecipe(), save_tokenizer(tokenizer, tmp_path / "base"), tmp_path)
    made = load_tokenizer(tmp_path)
    messages = (Message("user", "a"), Message("assistant", "b"))
    text = "".join(segment.text for segment in ChatRenderer(made).segments(messages))
    assert text.startswith("26 Jul 2024 ")
    turns = [{"role": message.role, "content": message.content} for message in messages]
    assert made.apply_chat_template(turns, tokenize=False).startswith(text)


def test_rows_are_rendered_as_prompts_are_at_generation() -> None:
    """Some templates write of tools where they are given a list of none."""
    tokenizer = embedded_tokenizer()
    tokenizer.chat_template = "{% if tools is not none %}Environment: ipython {% endif %}" + str(
        tokenizer.chat_template
    )
    segments = ChatRenderer(tokenizer).segments((Message("user", "a"), Message("assistant", "b")))
    assert "ipython" not in "".join(segment.text for segment in segments)
