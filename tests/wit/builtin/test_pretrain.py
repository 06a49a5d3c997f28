import hashlib
import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from wit.builtin import BASE_DIR
from wit.builtin.pretrain import (
    PretrainRecipe,
    learning_rate_factor,
    make_model,
    packed_batches,
    train,
)
from wit.builtin.tokenizer import EOS, SPECIAL_TOKENS, make_tokenizer

MAX_WEIGHT_BYTES = 6_000_000
LOSS_TOLERANCE = 3e-3  # nats per token
RECORD = json.loads((BASE_DIR / "training.json").read_text(encoding="utf-8"))


RECIPE = PretrainRecipe()


def test_the_recorded_recipe_is_the_one_in_the_code():
    assert json.loads(json.dumps(asdict(RECIPE))) == RECORD["recipe"]
    num_steps = sum(phase.num_steps for phase in RECIPE.phases)
    assert RECORD["num_tokens"] == num_steps * RECIPE.rows_per_step * RECIPE.row_tokens


def test_the_committed_weights_are_the_recorded_ones():
    weights = BASE_DIR / "model.safetensors"
    assert weights.stat().st_size <= MAX_WEIGHT_BYTES
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == RECORD["sha256"]
    tensors = load_file(weights)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the recipe was run. On a machine with other work, two threads wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


NUM_STEPS = 8  # of those recorded: rounding, which depends on the machine, grows with the steps


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "precision",
    [
        "float32",
        # The same, ten times slower on a processor that has no instructions for it.
        pytest.param("bfloat16", marks=pytest.mark.slow),
    ],
)
def test_the_first_steps_have_the_recorded_losses(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if precision == "float32":
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    tokenizer = make_tokenizer()
    model = make_model(RECIPE, tokenizer)
    steps = islice(train(model, RECIPE, RECIPE.phases[0], tokenizer), NUM_STEPS)
    # bf16, in which they were recorded, keeps 8 bits, and another number of threads or another
    # processor adds in another order. A loss is a mean over 3,048 tokens, so the rounding mostly
    # averages out; what is left grows with the steps. Another seed, learning rate or text changes
    # these losses by 1e-2 and more.
    assert list(steps) == pytest.approx(RECORD["first_losses"][:NUM_STEPS], abs=LOSS_TOLERANCE)


def test_rows_follow_each_other_without_gap_and_documents_end():
    tokenizer = make_tokenizer()
    half = replace(RECIPE, rows_per_step=RECIPE.rows_per_step // 2)
    for phase in RECIPE.phases:
        whole = next(packed_batches(RECIPE, phase, tokenizer))
        halves = list(islice(packed_batches(half, phase, tokenizer), 2))
        assert torch.equal(whole, torch.cat(halves))
        assert tokenizer.decode(whole.flatten()).count(EOS) > RECIPE.rows_per_step


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing():
    for phase in RECIPE.phases:
        factors = [learning_rate_factor(step, phase) for step in range(phase.num_decay_steps + 1)]
        falling = factors[phase.num_warmup_steps :]
        assert max(factors) == falling[0] == 1
        assert falling == sorted(falling, reverse=True)
        assert falling[-1] == pytest.approx(0)


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
