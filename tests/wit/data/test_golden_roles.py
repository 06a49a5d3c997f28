"""The roles of fourteen conversations in every built-in template, as a reader found them right."""

import json

import pytest
from record_golden_roles import CASES, golden_file, role_maps
from samples import BORDER_MERGES, FAMILY_TOKENS, family_tokenizer

from wit.data.rendering import ChatRenderer
from wit.data.templates import template_names
from wit.data.tokenize import SegmentTokenizer
from wit.roles import Role

every_template = pytest.mark.parametrize("template", template_names())


@every_template
def test_roles_are_those_recorded(template: str) -> None:
    golden = json.loads(golden_file(template).read_text(encoding="utf-8"))
    assert list(golden) == list(CASES)
    assert role_maps(template) == golden


def test_there_is_a_map_for_every_template_and_no_other() -> None:
    files = golden_file("x").parent.glob("*.json")
    assert sorted(file.stem for file in files) == template_names()
    assert len(template_names()) == 8


@every_template
def test_markers_within_a_text_are_no_tokens_of_the_markup(template: str) -> None:
    # The maps show text, and text does not tell a special token from letters that spell it.
    tokenizer = family_tokenizer(template, *BORDER_MERGES)
    renderer = ChatRenderer(tokenizer)
    tokens = SegmentTokenizer(tokenizer).tokens(renderer.segments(CASES["text with markers"]))
    special = {tokenizer.get_vocab()[token] for token in FAMILY_TOKENS}
    roles = [
        Role(role)
        for number, role in zip(tokens.ids, tokens.roles, strict=True)
        if number in special
    ]
    assert set(roles) <= {Role.SPECIAL, Role.TEMPLATE, Role.STOP}
    assert roles.count(Role.STOP) == 1
    decoded = tokenizer.decode(tokens.ids)
    assert decoded.count("x</s><|im_end|>\n<|im_start|>assistant\n<|eot_id|><end_of_turn>") == 3
