"""Templates that come with the program: which bases they fit, and what a base gets."""

import json
from pathlib import Path

import pytest
from samples import FAMILY_TOKENS, family_tokenizer, merging_tokenizer, save_tokenizer

from wit.data.prepare import CARD, make_tokenizer
from wit.data.templates import OWN_TOKENS, read_template, template_names
from wit.errors import BaseModelError, ConfigError
from wit.recipes import TokenizerRecipe

STOPS = {"chatml": "<|im_end|>", "gemma": "<end_of_turn>", "llama3": "<|eot_id|>"}


@pytest.mark.parametrize("name", template_names())
def test_a_base_with_its_tokens_gets_a_template_and_its_stop(tmp_path: Path, name: str) -> None:
    base = save_tokenizer(family_tokenizer("tulu"), tmp_path / "base")
    make_tokenizer(TokenizerRecipe(template=name), base, tmp_path)
    stop = STOPS.get(name, "</s>")
    assert json.loads((tmp_path / CARD).read_text())["stop_token"] == stop
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == stop
    assert (tmp_path / "chat_template.jinja").read_text() == read_template(name)


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
