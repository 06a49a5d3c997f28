"""What alignment changed: margins, log-ratios and drawn responses, against pencil and paper."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from held_out_pairs import NUM_PAIRS, random_pairs, save
from torch import nn
from transformers import LlamaForCausalLM

from wit.data.prepare import PREFERENCE_COLUMNS, UNPAIRED_COLUMNS
from wit.likelihood import preference_accuracy
from wit.score_names import ALIGNMENT, is_cost, is_diagnostic

ALONE = {"logp_margin", "logp_margin_per_token", "nll_chosen", "nll_rejected"}
BESIDE = {"log_ratio_chosen", "log_ratio_rejected", "log_ratio_margin", "reward_accuracy"}
DRAWN = {"sampled_tokens", "sampled_empty", "sampled_unended", "sampled_cut"}


def swapped(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]}


def logp(model: LlamaForCausalLM, prompt: list[int], response: list[int]) -> float:
    """One position at a time, in float64."""
    total = []
    for end in range(len(response)):
        ids = torch.tensor([prompt + response[:end]])
        with torch.no_grad():
            log_probs = model(ids).logits[0, -1].double().log_softmax(-1)
        total.append(log_probs[response[end]].item())
    return math.fsum(total)


def test_a_model_beside_itself_has_not_moved(
    model: LlamaForCausalLM, measure: Any, pairs: Path
) -> None:
    found = measure(model, pairs)
    assert set(found) == ALONE | BESIDE | DRAWN | {"kl_reference"} == set(ALIGNMENT)
    for name in ("kl_reference", "log_ratio_chosen", "log_ratio_rejected", "log_ratio_margin"):
        assert (found[name].value, found[name].stderr) == (0, 0)
    assert found["reward_accuracy"].value == 0.5


def test_figures_of_pairs_are_those_of_every_response_alone(
    model: LlamaForCausalLM, aligned: LlamaForCausalLM, measure: Any, pairs: Path
) -> None:
    found = measure(aligned, pairs)
    rows = random_pairs()
    sides = ("chosen_ids", "rejected_ids")
    own, before = (
        {s: [logp(one, row["prompt_ids"], row[s]) for row in rows] for s in sides}
        for one in (aligned, model)
    )
    lengths = {side: [len(row[side]) for row in rows] for side in sides}
    margins, per_token, gains = (
        torch.tensor([one - other for one, other in zip(*both, strict=True)])
        for both in (
            [own[side] for side in sides],
            [
                [value / n for value, n in zip(own[side], lengths[side], strict=True)]
                for side in sides
            ],
            [
                [value - start for value, start in zip(own[side], before[side], strict=True)]
                for side in sides
            ],
        )
    )
    for name, values in (
        ("logp_margin", margins),
        ("logp_margin_per_token", per_token),
        ("log_ratio_margin", gains),
        ("reward_accuracy", (gains > 0).float()),
    ):
        assert found[name].value == pytest.approx(values.mean().item(), abs=1e-4)
        stderr = values.std().item() / math.sqrt(NUM_PAIRS)
        assert found[name].stderr == pytest.approx(stderr, abs=1e-4)
        assert found[name].num_items == NUM_PAIRS
    for side in sides:
        name = side.removesuffix("_ids")
        nll = -math.fsum(own[side]) / sum(lengths[side])
        assert found[f"nll_{name}"].value == pytest.approx(nll, abs=1e-5)
        ratio = (math.fsum(own[side]) - math.fsum(before[side])) / NUM_PAIRS
        assert found[f"log_ratio_{name}"].value == pytest.approx(ratio, abs=1e-4)
    share, _ = preference_accuracy(aligned, pairs, batch_size=4)
    assert (margins > 0).float().mean().item() == pytest.approx(share), "of the same responses"


def test_swapped_pairs_have_the_opposite_margins(
    aligned: LlamaForCausalLM, measure: Any, pairs: Path, tmp_path: Path
) -> None:
    found = measure(aligned, pairs)
    other = measure(aligned, save(tmp_path / "swapped", list(map(swapped, random_pairs()))))
    for name in ("logp_margin", "logp_margin_per_token", "log_ratio_margin"):
        assert other[name].value == pytest.approx(-found[name].value, abs=1e-6)
        assert found[name].value != 0
    accuracies = [of["reward_accuracy"].value for of in (found, other)]
    assert sum(accuracies) == pytest.approx(1)
    for name in ("nll", "log_ratio"):
        one, two = other[f"{name}_chosen"].value, found[f"{name}_rejected"].value
        assert one == pytest.approx(two, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_batch_size_does_not_matter(
    aligned: LlamaForCausalLM, measure: Any, pairs: Path, batch_size: int
) -> None:
    expected, found = measure(aligned, pairs), measure(aligned, pairs, batch_size=batch_size)
    assert found.keys() == expected.keys()
    for name, score in found.items():
        assert score.value == pytest.approx(expected[name].value, abs=1e-5)
        assert score.num_items == expected[name].num_items


def test_a_model_that_stops_at_once_says_nothing(
    model: LlamaForCausalLM, measure: Any, pairs: Path, tokenizer: Any
) -> None:
    model.lm_head.weight.data.zero_()
    found = measure(model, pairs, beside=None)
    assert found["sampled_unended"].value > 0.5, "all tokens are alike"
    assert set(found) == ALONE | DRAWN, "without a parent there is nothing to stand beside"
    model.model.norm.weight.data.zero_()
    model.lm_head = nn.Linear(model.config.hidden_size, len(tokenizer))
    model.lm_head.bias.data.fill_(-1e4)[tokenizer.eos_token_id] = 0
    found = measure(model, pairs, beside=None)
    assert found["sampled_tokens"].value == 1, "the stop token"
    assert (found["sampled_empty"].value, found["sampled_unended"].value) == (1, 0)


def test_single_responses_give_what_they_can(
    aligned: LlamaForCausalLM, measure: Any, pairs: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "prompt_ids": row["prompt_ids"],
            "response_ids": row[f"{side}_ids"],
            "is_desirable": side == "chosen",
            "row": row["row"],
            "source": "",
        }
        for row in random_pairs()
        for side in ("chosen", "rejected")
    ]
    found = measure(aligned, save(tmp_path / "single", rows, UNPAIRED_COLUMNS))
    of_pairs = {"logp_margin", "logp_margin_per_token", "log_ratio_margin", "reward_accuracy"}
    assert set(found) == set(ALIGNMENT) - of_pairs
    expected = measure(aligned, pairs)
    for name, score in found.items():
        assert score.value == pytest.approx(expected[name].value, abs=1e-5)


def test_without_held_out_rows_there_are_no_scores(
    aligned: LlamaForCausalLM, measure: Any, tmp_path: Path
) -> None:
    for number, columns in enumerate((PREFERENCE_COLUMNS, UNPAIRED_COLUMNS)):
        assert measure(aligned, save(tmp_path / f"none-{number}", [], columns)) == {}


def test_tables_and_scores_agree_on_what_is_better(
    aligned: LlamaForCausalLM, measure: Any, pairs: Path
) -> None:
    for name, score in measure(aligned, pairs).items():
        assert is_diagnostic(name)
        assert score.higher_is_better == (not is_cost(name))
        assert score.stderr is not None
    assert not is_cost("nll_rejected")
    assert is_cost("nll_chosen")
    assert is_cost("kl_reference")
    assert is_cost("sampled_cut")
