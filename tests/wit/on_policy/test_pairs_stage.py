"""Pairs of a policy whose every response is known: a coin is thrown, and the answer is heads."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coins import HEADS, TAILS, coin, token_of

from wit.builtin import BASE_DIR
from wit.data.encode import PREFERENCE_COLUMNS
from wit.data.prepare import read_card
from wit.data.splits import HELD_OUT, TRAIN, SplitFiles, read_table
from wit.errors import StageError
from wit.on_policy.pairs import NO_ROOM, RESPONSES_FILE, Drawn, make_pairs
from wit.on_policy.ranking import ALL_RIGHT, NONE_RIGHT, exact_matches
from wit.on_policy.recipes import PairsRecipe
from wit.tokenizers import Tokenizer, load_tokenizer

CONTEXT = 32


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(BASE_DIR)


def preferences_in(folder: Path, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]]) -> Path:
    folder.mkdir()
    stop = tokenizer.eos_token_id
    chosen, rejected = ([token_of(tokenizer, side), stop] for side in (HEADS, TAILS))
    rows = [
        {
            "prompt_ids": [*prompt],
            "chosen_ids": chosen,
            "rejected_ids": rejected,
            "row": number,
            "source": "",
        }
        for number, prompt in enumerate(prompts, start=1)
    ]
    with SplitFiles(folder, PREFERENCE_COLUMNS) as files:
        files.write(TRAIN, pa.RecordBatch.from_pylist(rows, schema=PREFERENCE_COLUMNS))
        files.write(HELD_OUT, pa.RecordBatch.from_pylist(rows[:1], schema=PREFERENCE_COLUMNS))
    return folder


PROMPTS = [[20 + number % 40, 70 + number // 40, 30] for number in range(200)]


@pytest.fixture
def make(tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., tuple[Path, dict[str, Any]]]:
    made: list[Path] = []

    def make(
        prompts: Sequence[Sequence[int]] = PROMPTS,
        *,
        batch_size: int = 16,
        tails: float = 0.0,
        **knobs: Any,
    ) -> tuple[Path, dict[str, Any]]:
        preferences = preferences_in(tmp_path / f"preferences{len(made)}", tokenizer, prompts)
        out = tmp_path / f"out{len(made)}"
        out.mkdir()
        made.append(out)

        def score(drawn: Drawn) -> list[list[float | None]]:
            return [exact_matches(HEADS, texts, knobs.get("extract")) for texts in drawn.texts]

        recipe = {"round": 1, "seed": 0, "num_responses": 4, "max_new_tokens": 3} | knobs
        make_pairs(
            PairsRecipe.model_validate(recipe),
            coin(tokenizer, tails, CONTEXT),
            tokenizer,
            preferences,
            score,
            out,
            batch_size,
        )
        return out, read_card(out)

    return make


def rows_in(folder: Path, split: str = TRAIN) -> list[dict[str, Any]]:
    return read_table(folder, split).to_pylist()


def test_the_right_answer_stands_against_a_wrong_one(make: Any, tokenizer: Tokenizer) -> None:
    out, card = make()
    stop = tokenizer.eos_token_id
    rows = rows_in(out)
    for row in rows:
        assert row["prompt_ids"] == PROMPTS[row["row"] - 1]
        assert row["chosen_ids"] == [token_of(tokenizer, HEADS), stop]
        assert row["rejected_ids"] == [token_of(tokenizer, TAILS), stop]
    # Of four throws all are alike with probability 1/8; three standard errors of 200.
    assert card["pair_share"] == len(rows) / 200 == pytest.approx(7 / 8, abs=0.07)
    assert card["mean_score"] == pytest.approx(1 / 2, abs=0.053)
    assert rows_in(out, HELD_OUT) == []
    assert card["dropped"].keys() == {ALL_RIGHT, NONE_RIGHT}
    assert card["rows_in"] == 200 == card["rows"][TRAIN] + sum(card["dropped"].values())
    drawn = pq.read_table(out / RESPONSES_FILE).to_pylist()
    assert len(drawn) == 4 * 200
    assert all(one["score"] == (one["text"] == HEADS) for one in drawn)
    sides = Counter((one["side"], one["text"]) for one in drawn if one["side"])
    assert sides == {("chosen", HEADS): len(rows), ("rejected", TAILS): len(rows)}
    assert drawn[0]["prompt"] == tokenizer.decode(PROMPTS[0])


def test_temperature_is_that_of_the_draws(make: Any) -> None:
    """Odds of tails are e to the power of the nats by the temperature."""
    for temperature in (0.5, 2.0):
        _, card = make(tails=1.0, temperature=temperature)
        expected = 1 / (1 + 2.718281828 ** (1 / temperature))
        assert card["mean_score"] == pytest.approx(expected, abs=0.053)


def test_neither_batches_nor_neighbours_change_a_pair(make: Any) -> None:
    expected = rows_in(make()[0])
    for batch_size in (1, 7, 64):
        assert rows_in(make(batch_size=batch_size)[0]) == expected
    by_prompt = {tuple(row["prompt_ids"]): row["chosen_ids"] for row in expected}
    few = rows_in(make(PROMPTS[50:90])[0])
    assert few
    assert all(by_prompt[tuple(row["prompt_ids"])] == row["chosen_ids"] for row in few)
    first = rows_in(make(max_prompts=30)[0])
    assert first == [row for row in expected if row["row"] <= 30]


def test_another_round_and_another_seed_draw_anew(make: Any) -> None:
    texts = [
        pq.read_table(make(**knobs)[0] / RESPONSES_FILE)["text"].to_pylist()
        for knobs in ({}, {"round": 2}, {"seed": 1}, {"num_responses": 5})
    ]
    assert texts[0] != texts[1] != texts[2]
    assert texts[0] != texts[2]
    assert len(texts[3]) == 5 * 200


def test_a_prompt_is_asked_once_and_what_leaves_no_room_is_counted(make: Any) -> None:
    long = [9] * (CONTEXT - 2)
    out, card = make([*PROMPTS[:20], *PROMPTS[:20], long])
    assert card["rows_in"] == 21
    assert card["dropped"][NO_ROOM] == 1
    assert card["pair_share"] == card["rows"][TRAIN] / 21
    assert max(row["row"] for row in rows_in(out)) <= 20


def test_no_pair_at_all_is_an_error_that_says_why(make: Any, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        make(tails=3.0, temperature=1e-3)
    assert f"no prompt gives a pair (200: {NONE_RIGHT})" in str(caught.value)
    assert "on_policy.temperature" in str(caught.value)
    assert not [*tmp_path.glob("out*/*")], "nothing half-written"
    with pytest.raises(
        StageError, match=r"extract' matches nothing\).*mend on_policy.extract, 'z'"
    ):
        make(extract="z")
    with pytest.raises(StageError, match="no prompt leaves room"):
        make([[9] * (CONTEXT - 2)])
