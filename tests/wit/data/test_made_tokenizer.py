"""The tokenizer stage: what a base lacks is added, or is asked for."""

import json
from pathlib import Path

import pytest
from samples import STORIES, embedded_tokenizer, merging_tokenizer, needs_shared, save_tokenizer
from transformers import AutoTokenizer

from wit.builtin.tokenizer import CHAT_TEMPLATE
from wit.data.prepare import CARD, make_tokenizer
from wit.errors import BaseModelError
from wit.recipes import TokenizerRecipe


def test_generation_ends_where_responses_ended_in_training(tmp_path: Path) -> None:
    tokenizer = embedded_tokenizer()
    tokenizer.eos_token = "<|eos|>"  # as many a base calls its end of text
    out = tmp_path / "out"
    out.mkdir()
    make_tokenizer(TokenizerRecipe(), save_tokenizer(tokenizer, tmp_path / "base"), out)
    made = AutoTokenizer.from_pretrained(out)
    assert made.eos_token == "<|end|>"
    assert made.pad_token == "<|pad|>"
    assert made.chat_template == CHAT_TEMPLATE
    assert json.loads((out / CARD).read_text())["stop_token"] == "<|end|>"


@needs_shared
@pytest.mark.parametrize("template", ["alpaca", "tulu"])
def test_a_real_base_without_template_and_padding_gets_both(tmp_path: Path, template: str) -> None:
    make_tokenizer(TokenizerRecipe(template=template), STORIES, tmp_path)
    made = AutoTokenizer.from_pretrained(tmp_path)
    assert made.eos_token == "</s>"
    assert made.pad_token is not None
    assert "{%" in made.chat_template


@needs_shared
def test_a_base_without_a_template_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"set base\.template to alpaca, .*zephyr or a"):
        make_tokenizer(TokenizerRecipe(), STORIES, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_base_without_a_stop_token_is_refused(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    base = save_tokenizer(merging_tokenizer(template=template), tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token = None
    save_tokenizer(tokenizer, base)
    for name, says in (("tulu", "'eos_token' is undefined"), ("own", "which is no special token")):
        with pytest.raises(BaseModelError, match=says) as caught:
            make_tokenizer(TokenizerRecipe(template=name), base, tmp_path / name)
        assert str(base) in str(caught.value)
