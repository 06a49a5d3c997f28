import hashlib
import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from wit.builtin import BASE_DIR
from wit.builtin.pretrain import (
    NUM_RECORDED_STEPS,
    PretrainRecipe,
    learning_rate_factor,
    make_model,
    packed_batches,
    train,
)
from wit.builtin.tokenizer import EOS, SPECIAL_TOKENS, make_tokenizer

MAX_WEIGHT_BYTES = 6_000_000
RECORD = json.loads((BASE_DIR / "training.json").read_text(encoding="utf-8"))


def recorded_recipe() -> PretrainRecipe:
    return PretrainRecipe(**RECORD["recipe"] | {"betas": tuple(RECORD["recipe"]["betas"])})


def test_the_recorded_recipe_is_the_one_in_the_code():
    assert recorded_recipe() == PretrainRecipe()
    recipe = recorded_recipe()
    assert RECORD["num_tokens"] == recipe.num_steps * recipe.rows_per_step * recipe.row_tokens


def test_the_committed_weights_are_the_recorded_ones():
    weights = BASE_DIR / "model.safetensors"
    assert weights.stat().st_size <= MAX_WEIGHT_BYTES
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == RECORD["sha256"]
    tensors = load_file(weights)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.timeout(120)
def test_the_first_steps_have_the_recorded_losses():
    tokenizer = make_tokenizer()
    model = make_model(recorded_recipe(), tokenizer)
    steps = islice(train(model, recorded_recipe(), tokenizer), NUM_RECORDED_STEPS)
    # bf16 keeps 8 bits, and another number of threads or another processor adds in another order.
    # A loss is a mean over 6,096 tokens, so the rounding mostly averages out; what is left grows
    # with the steps. Another seed, learning rate or text changes these losses by 1e-2 and more.
    assert list(steps) == pytest.approx(RECORD["first_losses"], abs=LOSS_TOLERANCE)


LOSS_TOLERANCE = 2e-3  # nats per token


def test_rows_follow_each_other_without_gap_and_documents_end():
    tokenizer = make_tokenizer()
    recipe = PretrainRecipe()
    small = replace(recipe, rows_per_step=recipe.rows_per_step // 2)
    whole = next(packed_batches(recipe, tokenizer))
    halves = list(islice(packed_batches(small, tokenizer), 2))
    assert torch.equal(whole, torch.cat(halves))
    assert tokenizer.decode(whole.flatten()).count(EOS) > recipe.rows_per_step


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing():
    recipe = PretrainRecipe()
    factors = [learning_rate_factor(step, recipe) for step in range(recipe.num_steps + 1)]
    assert max(factors) == factors[recipe.num_warmup_steps] == 1
    assert factors[-1] == pytest.approx(0)
    assert factors[recipe.num_warmup_steps :] == sorted(
        factors[recipe.num_warmup_steps :], reverse=True
    )


def test_the_base_completes_statements_but_knows_no_chat():
    tokenizer = AutoTokenizer.from_pretrained(BASE_DIR)
    model = AutoModelForCausalLM.from_pretrained(BASE_DIR)

    def continued(text: str) -> str:
        inputs = tokenizer(text, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0]
        return tokenizer.decode(ids[inputs["input_ids"].shape[1] :])

    assert continued("The words are stone, cup, tree. The first word is").startswith(" stone.")
    assert continued("The cow eats").startswith(" grass.")
    chat = [{"role": "user", "content": "What is the first word of stone, cup, tree?"}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert not continued(prompt).startswith("stone<|end|>")


def test_chat_tokens_are_near_the_words_and_apart_from_each_other():
    tokenizer = AutoTokenizer.from_pretrained(BASE_DIR)
    embeddings = load_file(BASE_DIR / "model.safetensors")["model.embed_tokens.weight"]
    chat = embeddings[tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS[3:]))]
    words = embeddings[tokenizer("apple, key the is 1 2")["input_ids"]]
    assert chat.norm(dim=1).max() <= words.norm(dim=1).max()
    assert torch.pdist(chat).min() > 0
