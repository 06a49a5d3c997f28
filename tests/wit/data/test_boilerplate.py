"""Text that rows have in common: found, and found again in each of them."""

import random
from collections.abc import Iterable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from wit.data.boilerplate import (
    MAX_CHARACTERS,
    MAX_TEXTS,
    Boilerplate,
    TextSample,
    find_boilerplate,
)

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that completes the request.\n\n### Instruction:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that completes the request."
    "\n\n### Instruction:\n"
)
WORDS = ["apple", "bridge", "cloud", "door", "engine", "forest", "garden", "house", "jar", "kite"]


def sentences(number: int, *, seed: int = 0, num_words: int = 7) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=num_words)) + "?" for _ in range(number)]


def marked(found: Boilerplate, text: str) -> list[str]:
    return [text[start:end] for start, end in found.spans(text)]


def found_in(texts: Iterable[str]) -> set[tuple[str, ...]]:
    texts = list(texts)
    found = find_boilerplate(texts)
    return {tuple(marked(found, text)) for text in texts}


# --- how texts begin -----------------------------------------------------------------------------


def test_a_common_beginning_is_found_and_nothing_of_what_follows() -> None:
    assert found_in(f"Answer the question.\n{s}" for s in sentences(40)) == {
        ("Answer the question.\n",)
    }


def test_texts_of_their_own_have_none() -> None:
    assert found_in(sentences(200)) == {()}
    openers = ("What is", "How do", "Tell me", "Where are", "Why does")
    assert found_in(f"{openers[n % 5]} the {s}" for n, s in enumerate(sentences(200))) == {()}


def test_alpaca_with_and_without_input_has_two_beginnings_an_ending_and_a_line() -> None:
    texts = [
        f"{WITH_INPUT}{s}\n\n### Input:\n{t}\n\n### Response:"
        if n % 5 < 2
        else f"{WITHOUT_INPUT}{s}\n\n### Response:"
        for n, (s, t) in enumerate(zip(sentences(100), sentences(100, seed=1), strict=True))
    ]
    assert found_in(texts) == {
        (WITH_INPUT, "### Input:\n", "### Response:"),
        (WITHOUT_INPUT, "### Response:"),
    }


def test_a_few_rows_without_the_beginning_have_no_boilerplate() -> None:
    texts = [f"Be brief. {s}" for s in sentences(95)] + sentences(5, seed=1)
    found = find_boilerplate(texts)
    assert marked(found, texts[0]) == ["Be brief."]
    assert marked(found, texts[-1]) == []
    assert find_boilerplate(texts[:80] + sentences(20, seed=1)) == Boilerplate()


def test_a_short_branch_is_no_frame_but_what_all_share_is() -> None:
    short = [f"Please {('sort', 'count')[n % 2]} this: {s}" for n, s in enumerate(sentences(60))]
    assert found_in(short) == {("Please",)}
    long = ["which you see below in order now", "that I have written down for you"]
    texts = [f"Please take all words {long[n % 2]}: {s}" for n, s in enumerate(sentences(60))]
    assert found_in(texts) == {(f"Please take all words {words}:",) for words in long}


def test_a_rare_beginning_is_not_followed() -> None:
    texts = [f"{WITHOUT_INPUT}{s}" for s in sentences(91)]
    texts += [f"{WITH_INPUT}{s}" for s in sentences(9, seed=1)]
    assert WITH_INPUT not in find_boilerplate(texts).texts()
    assert WITHOUT_INPUT in find_boilerplate(texts).texts()


# --- how texts end, and lines in between ---------------------------------------------------------


def test_a_common_ending_is_found_without_the_line_breaks_before_it() -> None:
    texts = [f"{s}\n\nThink step by step." for s in sentences(40)]
    assert found_in(texts) == {("Think step by step.",)}
    texts = [f"{s} Think step by step." for s in sentences(40)]
    assert found_in(texts) == {(" Think step by step.",)}


def test_whole_lines_are_found_wherever_they_stand() -> None:
    texts = [
        f"{s}\n## Context\n" + "more text here\n" * (n % 3) + t
        for n, (s, t) in enumerate(zip(sentences(40), sentences(40, seed=1), strict=True))
    ]
    assert found_in(texts) == {("## Context\n",)}


def test_a_part_of_a_line_is_no_line() -> None:
    texts = [f"{s} or not\n{t}" for s, t in zip(sentences(40), sentences(40, seed=1), strict=True)]
    assert found_in(texts) == {()}


def test_what_is_found_twice_or_with_nothing_in_between_is_one_span() -> None:
    found = Boilerplate(
        ("One two\nthree\n",), ("End.",), {"One two\nthree\n": frozenset({"three"})}
    )
    assert found.spans("One two\nthree\nfour\nthree\n \nEnd.") == [(0, 14), (19, 31)]


# --- what is left ------------------------------------------------------------------------------


def test_where_all_ask_the_same_it_is_their_prompt() -> None:
    assert find_boilerplate(["Write a story about a cat."] * 50) == Boilerplate()


def test_a_row_that_says_nothing_else_keeps_its_prompt() -> None:
    texts = [f"Write a story. {s}" for s in sentences(40)] + ["Write a story. "] * 2
    found = find_boilerplate(texts)
    assert marked(found, texts[0]) == ["Write a story."]
    assert marked(found, texts[-1]) == []


def test_of_few_texts_nothing_is_said() -> None:
    texts = [f"Answer the question. {s}" for s in sentences(20)]
    assert find_boilerplate(texts[:19]) == Boilerplate()
    assert find_boilerplate(texts) != Boilerplate()
    assert find_boilerplate([]) == Boilerplate()


@given(
    beginning=st.text(max_size=30),
    ending=st.text(max_size=30),
    middles=st.lists(st.text(max_size=20), min_size=20, max_size=40),
)
def test_spans_are_disjoint_and_in_order_and_leave_a_prompt(
    beginning: str, ending: str, middles: list[str]
) -> None:
    texts = [beginning + middle + ending for middle in middles]
    found = find_boilerplate(texts)
    for text in [*texts, "", *middles]:
        spans = found.spans(text)
        positions = [0, *(position for span in spans for position in span), len(text)]
        assert positions == sorted(positions)
        assert all(start < end for start, end in spans)
        outside = "".join(text[a:b] for a, b in zip(positions[::2], positions[1::2], strict=True))
        assert outside.strip() or not spans


def test_long_texts_that_are_the_same_are_read_in_seconds() -> None:
    texts = ["word " * 20_000] * 25
    assert find_boilerplate(texts) == Boilerplate()


# --- the sample --------------------------------------------------------------------------------


def digest(number: int) -> bytes:
    return random.Random(number).randbytes(16)


def test_a_sample_does_not_depend_on_the_order_and_takes_no_row_twice() -> None:
    rows = [(digest(n), f"text {n}") for n in range(MAX_TEXTS + 2000)]
    expected = [text for _, text in sorted(rows)[:MAX_TEXTS]]
    for seed in (0, 1):
        sample = TextSample()
        shuffled = rows + rows[:500]
        random.Random(seed).shuffle(shuffled)
        for row in shuffled:
            sample.add(*row)
        assert sample.texts() == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_of_long_texts_is_as_large_as_its_limit_whatever_the_order(seed: int) -> None:
    rng = random.Random(0)
    rows = [(digest(n), "x" * rng.randrange(MAX_CHARACTERS // 4)) for n in range(60)]
    total, expected = 0, []
    for _, text in sorted(rows):
        total += len(text)
        if total > MAX_CHARACTERS:
            break
        expected.append(len(text))
    random.Random(seed).shuffle(rows)
    sample = TextSample()
    for row in rows:
        sample.add(*row)
    assert [len(text) for text in sample.texts()] == expected
