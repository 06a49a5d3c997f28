"""What alignment changed: margins, log-ratios and drawn responses, against pencil and paper."""

import copy
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from wit.data.prepare import PREFERENCE_COLUMNS, UNPAIRED_COLUMNS
from wit.data.splits import HELD_OUT, SplitFiles
from wit.evaluation.alignment_scores import (
    alignment_scores,
    held_out_prompts,
    log_ratios_of_drawn,
    response_limit,
)
from wit.evaluation.results import Score
from wit.evaluation_recipes import AlignmentEvaluation
from wit.generation.greedy import Response
from wit.generation.sampling import sample
from wit.likelihood import preference_accuracy
from wit.score_names import ALIGNMENT, OF_SAMPLED, is_cost, is_diagnostic

RECIPE = AlignmentEvaluation(max_new_tokens=6)
NUM_PAIRS = 12
ALONE = {"logp_margin", "logp_margin_per_token", "nll_chosen", "nll_rejected"}
BESIDE = {"log_ratio_chosen", "log_ratio_rejected", "log_ratio_margin", "reward_accuracy"}
DRAWN = {"sampled_tokens", "sampled_empty", "sampled_unended", "sampled_cut"}


class Coin(nn.Module):
    """A language of two tokens, of which the second comes with the same probability always."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        logits = torch.tensor([1 - probability, probability]).log()
        self.logits = nn.Parameter(logits)

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, 2))


def random_pairs(num_pairs: int = NUM_PAIRS) -> list[dict[str, Any]]:
    """Ragged; every third prompt is that of the row before it."""
    dice = random.Random(0)

    def ids(shortest: int, longest: int) -> list[int]:
        return [dice.randrange(6, 250) for _ in range(dice.randint(shortest, longest))]

    rows: list[dict[str, Any]] = []
    for number in range(num_pairs):
        prompt = rows[-1]["prompt_ids"] if number % 3 == 2 else ids(1, 20)
        row = {"prompt_ids": prompt, "chosen_ids": ids(1, 15), "rejected_ids": ids(1, 15)}
        rows.append({**row, "row": number, "source": ""})
    return rows


def swapped(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "chosen_ids": row["rejected_ids"], "rejected_ids": row["chosen_ids"]}


def save(folder: Path, rows: list[dict[str, Any]], columns: pa.Schema = PREFERENCE_COLUMNS) -> Path:
    folder.mkdir(parents=True)
    with SplitFiles(folder, columns) as files:
        files.write(HELD_OUT, pa.RecordBatch.from_pylist(rows, schema=columns))
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return save(tmp_path / "pairs", random_pairs())


@pytest.fixture
def aligned(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The model, gone a little way."""
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    for weights in other.parameters():
        weights.data += 0.02 * torch.randn_like(weights)
    return other


@pytest.fixture
def measure(model: LlamaForCausalLM, tokenizer: Any) -> Any:
    def scores(
        one: LlamaForCausalLM,
        folder: Path,
        *,
        batch_size: int = 4,
        recipe: AlignmentEvaluation = RECIPE,
        beside: LlamaForCausalLM | None = model,
    ) -> dict[str, Score]:
        found = alignment_scores(
            recipe, one, beside, preferences=folder, tokenizer=tokenizer, batch_size=batch_size
        )
        return {score.benchmark: score for score in found}

    return scores


def logp(model: LlamaForCausalLM, prompt: list[int], response: list[int]) -> float:
    """One position at a time, in float64."""
    total = []
    for end in range(len(response)):
        ids = torch.tensor([prompt + response[:end]])
        with torch.no_grad():
            log_probs = model(ids).logits[0, -1].double().log_softmax(-1)
        total.append(log_probs[response[end]].item())
    return math.fsum(total)


def test_kl_of_two_tokens_is_that_of_pencil_and_paper() -> None:
    """Heads 3/4 against 1/4: each head says +ln 3, each tail ln (1/4 : 3/4) = -ln 3."""
    prompts, responses = [[0], [1, 0], [1]], [(1, 1, 0), (1,), (0, 0, 0, 1)]
    drawn = [Response(ids, "", stopped=False) for ids in responses]
    expected = [math.log(3) * number for number in (1, 1, -2)]
    for batch_size in (1, 2, 8):
        found = log_ratios_of_drawn(Coin(3 / 4), Coin(1 / 4), prompts, drawn, batch_size)
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_estimate_of_kl_is_unbiased(
    model: LlamaForCausalLM, aligned: LlamaForCausalLM, tokenizer: Any
) -> None:
    """Of responses of one token the KL can be summed over the vocabulary."""
    prompt = [40, 41, 42]
    with torch.no_grad():
        own, before = (
            one(torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1)
            for one in (aligned, model)
        )
    exact = (own.exp() * (own - before)).sum().item()
    ratios = []
    for seed in range(400):
        [drawn] = sample(
            aligned, tokenizer, [prompt], max_new_tokens=1, seed=f"{seed}", batch_size=1
        )
        ratios += log_ratios_of_drawn(aligned, model, [prompt], drawn, 1)
    mean, spread = torch.tensor(ratios).mean().item(), torch.tensor(ratios).std().item()
    assert exact > 0.01
    assert mean == pytest.approx(exact, abs=4 * spread / math.sqrt(len(ratios)))
    assert spread / math.sqrt(len(ratios)) < exact / 3


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


def test_every_prompt_is_answered_once_and_only_the_first_so_many(
    aligned: LlamaForCausalLM, measure: Any, pairs: Path
) -> None:
    rows = random_pairs()
    once = [row["prompt_ids"] for number, row in enumerate(rows) if number % 3 != 2]
    assert held_out_prompts(pairs, 100) == once
    found = measure(aligned, pairs, recipe=RECIPE.model_copy(update={"num_prompts": 3}))
    assert {found[name].num_items for name in OF_SAMPLED} == {3}
    assert found["logp_margin"].num_items == NUM_PAIRS


def test_responses_have_room_in_a_small_context(
    aligned: LlamaForCausalLM, measure: Any, pairs: Path
) -> None:
    aligned.config.max_position_embeddings = 40
    recipe = AlignmentEvaluation(max_new_tokens=1000)
    found = measure(aligned, pairs, recipe=recipe)
    assert 1 <= found["sampled_tokens"].value <= 20 == response_limit(recipe, aligned)
    assert response_limit(RECIPE, aligned) == 6
    assert found["sampled_cut"].value == 0, "20 tokens are the longest prompt"


def test_prompts_that_were_cut_are_counted_and_those_that_became_equal_are_one(
    aligned: LlamaForCausalLM, measure: Any, tmp_path: Path
) -> None:
    """Room for 14 tokens: the first two prompts end alike, the third ends otherwise."""
    aligned.config.max_position_embeddings = 20
    ends = ([40] * 16, [41] + [40] * 15, [40] * 15 + [41], [42] * 14)
    rows = [{**row, "prompt_ids": end} for row, end in zip(random_pairs(4), ends, strict=True)]
    found = measure(aligned, save(tmp_path / "long", rows))
    assert (found["sampled_cut"].value, found["sampled_cut"].num_items) == (3 / 4, 4)
    assert {found[name].num_items for name in OF_SAMPLED if name != "sampled_cut"} == {3}


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
