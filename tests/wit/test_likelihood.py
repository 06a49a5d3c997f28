"""Law 10: likelihoods are those of each row alone, whatever the batch."""

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from wit import likelihood
from wit.data.prepare import INSTRUCTION_COLUMNS, PREFERENCE_COLUMNS
from wit.data.splits import HELD_OUT, SplitFiles
from wit.likelihood import held_out_nll, preference_accuracy, token_log_probs
from wit.roles import Role

VOCABULARY = 11  # tokens


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaForCausalLM]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,  # wide, so that no two tokens are nearly as likely
    )
    yield LlamaForCausalLM(config).eval()
    torch.set_num_threads(threads)


def random_rows(num_rows: int) -> list[dict[str, Any]]:
    """Ragged, one of a single token; the last role only in one row."""
    dice = random.Random(0)
    rows = []
    for number in range(1, num_rows + 1):
        length = dice.randint(2, 14) if number > 1 else 1
        roles = [Role.SPECIAL, *sorted(dice.choices(list(Role)[1:6], k=length - 1))]
        rows.append(
            {
                "input_ids": [dice.randrange(VOCABULARY) for _ in roles],
                "roles": roles,
                "row": number,
            }
        )
    rows[-1]["roles"][-1] = Role.STOP
    return rows


def save(folder: Path, rows: list[dict[str, Any]], columns: pa.Schema) -> Path:
    folder.mkdir(exist_ok=True)
    with SplitFiles(folder, columns) as files:
        files.write(HELD_OUT, pa.RecordBatch.from_pylist(rows, schema=columns))
    return folder


def log_probs_by_hand(model: LlamaForCausalLM, ids: list[int]) -> list[float]:
    """Of every token but the first: one row, one position at a time, in float64."""
    found = []
    for end in range(1, len(ids)):
        with torch.no_grad():
            logits = model(torch.tensor([ids[:end]])).logits[0, -1].double().tolist()
        normaliser = math.log(math.fsum(math.exp(logit) for logit in logits))
        found.append(logits[ids[end]] - normaliser)
    return found


def test_nll_by_role_is_that_of_every_row_alone(model: LlamaForCausalLM, tmp_path: Path) -> None:
    rows = random_rows(12)
    nll: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        values = log_probs_by_hand(model, row["input_ids"])
        for role, value in zip(row["roles"][1:], values, strict=True):
            nll[role.name.lower()].append(-value)
    found = held_out_nll(model, save(tmp_path, rows, INSTRUCTION_COLUMNS), batch_size=5)
    assert set(found) == set(nll)
    assert found["stop"].num_tokens == 1
    for role, values in nll.items():
        assert found[role].num_tokens == len(values)
        assert found[role].nll == pytest.approx(math.fsum(values) / len(values), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_nll_depends_neither_on_batches_nor_on_the_order_of_rows(
    model: LlamaForCausalLM, tmp_path: Path, batch_size: int
) -> None:
    rows = random_rows(20)
    ordered = save(tmp_path / "a", rows, INSTRUCTION_COLUMNS)
    shuffled = save(tmp_path / "b", random.Random(1).sample(rows, len(rows)), INSTRUCTION_COLUMNS)
    expected = held_out_nll(model, ordered, batch_size=20)
    for folder in (ordered, shuffled):
        found = held_out_nll(model, folder, batch_size=batch_size)
        assert found.keys() == expected.keys()
        for role, figure in found.items():
            assert figure.num_tokens == expected[role].num_tokens
            assert figure.nll == pytest.approx(expected[role].nll, abs=1e-6)


def test_a_set_without_held_out_rows_has_no_likelihoods(
    model: LlamaForCausalLM, tmp_path: Path
) -> None:
    assert held_out_nll(model, save(tmp_path, [], INSTRUCTION_COLUMNS), batch_size=4) == {}
    empty = save(tmp_path, [], PREFERENCE_COLUMNS)
    assert preference_accuracy(model, empty, batch_size=4) == (0.0, 0)


def test_log_probs_of_a_row_do_not_depend_on_its_neighbours(model: LlamaForCausalLM) -> None:
    rows = [torch.tensor(row["input_ids"]) for row in random_rows(6)]
    together = token_log_probs(model, rows)
    for row, values in zip(rows, together, strict=True):
        assert values.tolist() == pytest.approx(log_probs_by_hand(model, row.tolist()), abs=1e-5)


def test_a_large_vocabulary_takes_fewer_rows_at_once_and_gives_the_same(
    model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [torch.tensor(row["input_ids"]) for row in random_rows(9)]
    expected = token_log_probs(model, rows)
    widest = max(map(len, rows)) * VOCABULARY
    for num_at_once in (1, 2, 4):
        seen: list[int] = []
        keep = partial(_keep_size, seen)
        hook = model.lm_head.register_forward_hook(keep)
        monkeypatch.setattr(likelihood, "MOST_LOGITS", num_at_once * widest)
        found = token_log_probs(model, rows)
        hook.remove()
        assert max(seen) <= num_at_once * widest
        assert len(seen) == -(-len(rows) // num_at_once)
        for values, others in zip(found, expected, strict=True):
            torch.testing.assert_close(values, others)
    assert token_log_probs(model, []) == []


def _keep_size(seen: list[int], *of_head: Any) -> None:
    seen.append(of_head[-1].numel())


def test_preference_accuracy_compares_sums_over_the_answers(
    model: LlamaForCausalLM, tmp_path: Path
) -> None:
    dice = random.Random(2)

    def ids(longest: int) -> list[int]:
        return [dice.randrange(VOCABULARY) for _ in range(dice.randint(1, longest))]

    rows = [
        {"prompt_ids": ids(8), "chosen_ids": ids(9), "rejected_ids": ids(9), "row": number}
        for number in range(30)
    ]
    right = 0
    for row in rows:
        prompt = row["prompt_ids"]
        sums = {
            side: math.fsum(log_probs_by_hand(model, prompt + row[side])[len(prompt) - 1 :])
            for side in ("chosen_ids", "rejected_ids")
        }
        right += sums["chosen_ids"] > sums["rejected_ids"]
    assert 0 < right < 30
    folder = save(tmp_path, rows, PREFERENCE_COLUMNS)
    for batch_size in (1, 7, 64):
        assert preference_accuracy(model, folder, batch_size=batch_size) == (right / 30, 30)
