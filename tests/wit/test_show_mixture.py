"""Rows of several sources as a person sees them: where they come from, and what counts there."""

import io
from typing import Any

import pytest
from rich.console import Console
from samples import embedded_tokenizer
from shown_rows import WEIGHTS, lines_of, prepare

from wit.data.card import read_card
from wit.preview import Prepared
from wit.show import rows_as_json, show_rows
from wit.weights import TokenWeights

MIXTURE = {
    "chat": [
        {
            "messages": [
                {"role": "user", "content": f"Say {number}."},
                {"role": "assistant", "content": "No.", "weight": 0.25},
            ]
        }
        for number in range(5)
    ],
    "math": [
        {"prompt": f"Work it out with care: {number} + {number}", "response": f"{2 * number}"}
        for number in range(25)
    ],
}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("mixture"), embedded_tokenizer(), "alpaca", MIXTURE)


OWN_TABLE: Any = TokenWeights.model_validate(
    {"prompt": 0, "response": 1, "sources": {"math": {"prompt": 0.5, "response": 2}}}
)


def test_rows_of_a_mixture_come_from_every_source(mixture: Prepared) -> None:
    heads = [line for line in lines_of(mixture, num_rows=3) if line.startswith("row ")]
    assert [head.partition(",")[0] for head in heads] == [
        "row 1 of chat", "row 1 of math", "row 2 of chat"
    ]  # fmt: skip
    origins = rows_as_json(mixture, (OWN_TABLE,), 2)["origins"]
    assert origins == [{"row": 1, "source": "chat"}, {"row": 1, "source": "math"}]
    assert len(rows_as_json(mixture, (OWN_TABLE,), 99)["rows"]) == 30


def test_factors_of_messages_are_shown(mixture: Prepared) -> None:
    assert "response x0.25 | No." in lines_of(mixture, num_rows=1)
    [tokens] = rows_as_json(mixture, WEIGHTS, 1)["rows"]
    factors = {token["role"]: token["factor"] for token in tokens}
    assert (factors["response"], factors["stop"], factors["prompt"]) == (0.25, 0.25, 1)
    page = io.StringIO()
    console = Console(file=page, width=100, color_system="standard", force_terminal=True)
    show_rows(console, mixture, WEIGHTS, 1)
    assert "[x0.25]" in page.getvalue()


def test_weights_of_sources_stand_below_those_of_the_cell(mixture: Prepared) -> None:
    lines = lines_of(mixture, (OWN_TABLE, TokenWeights(prompt=1, response=1)))
    table = [line.split() for line in lines]
    [head] = [words for words in table if words[:2] == ["special", "template"]]
    assert head[2:] == ["boilerplate", "prompt", "response", "stop"]
    [name] = [n for n, words in enumerate(table) if words[:1] == ["p0-r1-math(p0.5-r2)"]]
    assert table[name][1:] == ["0", "0", "0", "0", "1", "1"]
    assert table[name + 1] == ["in", "rows", "of", "math", "0", "0.5", "0.5", "0.5", "2", "2"]
    found = rows_as_json(mixture, (OWN_TABLE,), 0)
    assert found["weights_by_source"]["math"]["response"] == {str(OWN_TABLE): 2}
    assert found["weights"]["response"] == {str(OWN_TABLE): 1}


def test_the_card_is_shown_with_boilerplate_lengths_and_sources(mixture: Prepared) -> None:
    lines = lines_of(mixture)
    card = read_card(mixture.instructions)
    assert "    'Work it out with care: '" in lines
    share = f"{card['boilerplate_share']:.1%}"
    said = "1 text that nearly all rows of a source hold"
    assert f"  boilerplate: {share} of the prompt tokens: {said}" in lines
    median = str(card["lengths"]["row"]["p50"])
    words = [line.split() for line in lines]
    assert [line[4] for line in words if line[:1] == ["row"] and len(line) == 8] == [median]
    sources = [line for line in words if line[:2] in (["chat", "5"], ["math", "25"])]
    assert [line[:6] for line in sources] == [
        ["chat", "5", "0", "5", "0", "0"],
        ["math", "25", "0", "25", "0", "0"],
    ]
