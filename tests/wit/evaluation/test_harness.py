"""What lm-eval is made to do, on a real model and real tokenizers."""

import json
import logging
import os
import socket
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch
import yaml
from forked import run_at_once
from quiz_model import (
    CHOICE_ROWS,
    CHOICES,
    END,
    QUESTIONS,
    ROWS,
    ByHand,
    make_byte_tokenizer,
    run_one,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from wit.evaluation.catalogue import resolve_benchmark
from wit.evaluation.harness import run_benchmarks
from wit.evaluation_recipes import BenchmarkRecipe


def seen_by(model):
    """Every row that the model is given, without padding."""
    rows = []

    def record(_, args, kwargs):
        ids = args[0] if args else kwargs["input_ids"]
        mask = kwargs.get("attention_mask")
        if mask is None:
            mask = torch.ones_like(ids)
        if mask.shape == ids.shape:  # the first step of a generation; later ones see one token
            rows.extend(row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True))

    model.register_forward_pre_hook(record, with_kwargs=True)
    return rows


@pytest.mark.parametrize("writes_bos", [False, True])
@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_chat_prompt_has_the_tokens_of_the_template(model, write_benchmark, adds_bos, writes_bos):
    tokenizer = make_byte_tokenizer(adds_bos=adds_bos, writes_bos=writes_bos)
    expected = [ByHand(model, tokenizer).prompt(question) for question in QUESTIONS]
    assert all(ids.count(tokenizer.bos_token_id) == writes_bos for ids in expected)
    rows = seen_by(model)
    run_one(model, tokenizer, write_benchmark(ROWS))
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("writes_bos", [False, True])
@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_choice_stands_after_the_tokens_of_the_template(
    model, write_benchmark, adds_bos, writes_bos
):
    tokenizer = make_byte_tokenizer(adds_bos=adds_bos, writes_bos=writes_bos)
    by_hand = ByHand(model, tokenizer)
    outcome = run_one(model, tokenizer, write_benchmark(CHOICE_ROWS, **CHOICES))
    for row, sample in zip(CHOICE_ROWS, outcome.samples, strict=True):
        prompt = by_hand.prompt(row["question"])
        logps = [by_hand.logp(prompt, choice) for choice in row["choices"]]
        assert sample.logps == pytest.approx(logps, abs=1e-3)
        assert sample.score == (max(logps) == logps[row["label"]])


@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_plain_prompt_has_the_tokens_of_the_tokenizer(model, write_benchmark, adds_bos):
    tokenizer = make_byte_tokenizer(adds_bos=adds_bos)
    rows = seen_by(model)
    metadata = {"version": 1, "wit": {"chat": False}}
    outcome = run_one(model, tokenizer, write_benchmark(ROWS, metadata=metadata))
    assert sorted(rows) == sorted(tokenizer(question)["input_ids"] for question in QUESTIONS)
    assert outcome.run.is_chat is False


def test_a_model_that_knows_every_answer_scores_one(model, tokenizer, by_hand, write_benchmark):
    answers = [by_hand.answer(by_hand.prompt(question)) for question in QUESTIONS]
    assert len(set(answers)) > 3
    rows = [{"question": q, "answer": a} for q, a in zip(QUESTIONS, answers, strict=True)]
    outcome = run_one(model, tokenizer, write_benchmark(rows))
    [score] = outcome.scores
    assert (score.value, score.stderr, score.num_items, score.is_main) == (1, 0, len(rows), True)
    assert [sample.responses for sample in outcome.samples] == [(answer,) for answer in answers]
    rows[0]["answer"] = "something else"
    [score] = run_one(model, tokenizer, write_benchmark(rows)).scores
    share = (len(rows) - 1) / len(rows)
    assert score.value == share
    assert score.stderr == pytest.approx((share * (1 - share) / (len(rows) - 1)) ** 0.5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_scores_do_not_depend_on_batch_size(model, tokenizer, write_benchmark, batch_size):
    for administered in (write_benchmark(ROWS), write_benchmark(CHOICE_ROWS, **CHOICES)):
        one, other = (
            run_one(model, tokenizer, administered, batch_size=size) for size in (2, batch_size)
        )
        assert one.scores == other.scores
        assert one.run == other.run
        for a, b in zip(one.samples, other.samples, strict=True):
            assert a.responses == b.responses
            assert a.logps == (b.logps and pytest.approx(b.logps, abs=1e-4))


def test_generation_is_greedy_whatever_files_say(model, tokenizer, write_benchmark):
    expected = run_one(model, tokenizer, write_benchmark(ROWS)).samples
    knobs = {"do_sample": True, "temperature": 5.0, "top_p": 0.9, "num_beams": 2}
    wild = {"generation_kwargs": {"max_gen_toks": 12, "until": [END], **knobs}}
    model.generation_config.repetition_penalty = 3.0
    model.generation_config.no_repeat_ngram_size = 2
    assert run_one(model, tokenizer, write_benchmark(ROWS, **wild)).samples == expected
    assert model.generation_config.repetition_penalty == 3.0  # the caller's model is as it was


def test_a_response_ends_at_every_stop_token_of_the_model(model, tokenizer, write_benchmark):
    [before, *_] = run_one(model, tokenizer, write_benchmark(ROWS)).samples
    third = tokenizer(before.responses[0], add_special_tokens=False)["input_ids"][2]
    model.generation_config.eos_token_id = [third]
    [after, *_] = run_one(model, tokenizer, write_benchmark(ROWS)).samples
    assert before.responses[0].startswith(after.responses[0])
    assert len(after.responses[0]) <= 3


def test_empty_responses_are_counted(model, tokenizer, by_hand, write_benchmark):
    answers = [by_hand.answer(by_hand.prompt(question)) for question in QUESTIONS]
    stop = answers[0][0]
    num_empty = sum(not answer.split(stop)[0].strip() for answer in answers)
    assert 0 < num_empty < len(answers)
    knobs = {"max_gen_toks": 12, "until": [stop]}
    outcome = run_one(model, tokenizer, write_benchmark(ROWS, generation_kwargs=knobs))
    assert outcome.run.empty_response_share == num_empty / len(answers)
    assert outcome.samples[0].responses == ("",)
    choices = run_one(model, tokenizer, write_benchmark(CHOICE_ROWS, **CHOICES))
    assert choices.run.empty_response_share is None


def test_a_limit_takes_the_first_items_and_says_so(model, tokenizer, write_benchmark):
    whole = run_one(model, tokenizer, write_benchmark(ROWS))
    part = run_one(model, tokenizer, write_benchmark(ROWS, limit=3))
    assert (part.scores[0].num_items, part.scores[0].limit) == (3, 3)
    assert whole.scores[0].limit is None
    assert part.samples == whole.samples[:3]
    larger = run_one(model, tokenizer, write_benchmark(ROWS, limit=1000))
    assert larger.scores[0].num_items == len(ROWS)


def test_worked_examples_are_turns_and_follow_the_seed(model, tokenizer, write_benchmark):
    administered = write_benchmark(ROWS, num_fewshot=2, fewshot_split="test")
    first, again, other = (
        run_one(model, tokenizer, administered, seed=seed).samples for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first[0].prompt.count("<user>") == 3
    assert first[0].prompt.count("<assistant>") == 3


def test_changed_data_are_read_anew(model, tokenizer, write_benchmark, tmp_path):
    administered = write_benchmark(ROWS)
    before = run_one(model, tokenizer, administered)
    data = tmp_path / "quiz.jsonl"
    times = data.stat().st_atime_ns, data.stat().st_mtime_ns
    data.write_text(data.read_text().replace("Say fox!", "Say fix!"))  # same size, same time
    os.utime(data, ns=times)
    after = run_one(model, tokenizer, administered)
    assert "Say fox!" in before.samples[0].prompt
    assert "Say fix!" in after.samples[0].prompt
    assert before.run.items_hash != after.run.items_hash


def run_in_a_process(folder: Path, number: int, start: Barrier) -> None:
    """What it finds goes to a file, and all that it says to another."""
    with (folder / f"{number}.said").open("wb") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    quiz = resolve_benchmark("quiz", folder / "quiz.yaml")
    recipe = BenchmarkRecipe(name="quiz", num_fewshot=0, limit=None)
    start.wait()
    for _ in range(5):
        outcome = run_benchmarks(model, tokenizer, [(quiz, recipe)], batch_size=4, seed=1)["quiz"]
    found = f"{outcome.scores[0].model_dump_json()} {outcome.run.items_hash}"
    (folder / f"{number}.found").write_text(found)


def test_two_processes_at_once_do_not_meet(
    model, tokenizer, by_hand, write_benchmark, tmp_path, forking
):
    answers = [by_hand.answer(by_hand.prompt(question)) for question in QUESTIONS]
    rows = [{"question": q, "answer": a} for q, a in zip(QUESTIONS, answers, strict=True)]
    write_benchmark(rows)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    run_at_once(forking, run_in_a_process, (tmp_path, 0), (tmp_path, 1))
    chatter = (tmp_path / "0.said").read_text()
    assert "already-initialized model" not in chatter  # what lm-eval would warn of every time
    one, other = ((tmp_path / f"{number}.found").read_text() for number in range(2))
    assert one == other
    assert '"value":1.0' in one


def test_nothing_is_asked_of_the_network_or_the_terminal(
    model, tokenizer, write_benchmark, monkeypatch, capfd
):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    run_one(model, tokenizer, write_benchmark(ROWS))
    run_one(model, tokenizer, write_benchmark(CHOICE_ROWS, **CHOICES))
    assert capfd.readouterr() == ("", "")


def test_prompts_too_long_for_the_model_are_counted(model, tokenizer, write_benchmark, caplog):
    rows = [{"question": "Say " + "very " * 60 + "fox!", "answer": "fox"}, *ROWS]
    with caplog.at_level(logging.WARNING, "wit"):
        outcome = run_one(model, tokenizer, write_benchmark(rows))
    assert outcome.run.num_cut_prompts == 1
    assert "1 prompts" in caplog.text
    assert run_one(model, tokenizer, write_benchmark(ROWS)).run.num_cut_prompts == 0
    choices = [{**rows[0], "choices": ["a", "b"], "label": 0}, CHOICE_ROWS[0]]
    assert run_one(model, tokenizer, write_benchmark(choices, **CHOICES)).run.num_cut_prompts == 1


def test_the_caller_keeps_a_tokenizer_without_padding(model, write_benchmark):
    tokenizer = make_byte_tokenizer()
    tokenizer.pad_token = None
    run_one(model, tokenizer, write_benchmark(ROWS))
    assert tokenizer.pad_token is None
    assert tokenizer.padding_side == "right"


def test_a_metric_without_closed_form_has_no_stderr(model, tokenizer, write_benchmark, capfd):
    metrics = [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "mcc", "aggregation": "matthews_corrcoef", "higher_is_better": True},
    ]
    outcome = run_one(
        model, tokenizer, write_benchmark(CHOICE_ROWS, **{**CHOICES, "metric_list": metrics})
    )
    acc, mcc = outcome.scores
    assert (acc.metric, acc.is_main, mcc.metric, mcc.is_main) == ("acc", True, "mcc", False)
    assert acc.stderr is not None
    assert mcc.stderr is None
    assert capfd.readouterr().out == ""


def test_a_group_has_one_score_over_its_tasks(model, tokenizer, by_hand, write_benchmark, tmp_path):
    right = [{"question": q, "answer": by_hand.answer(by_hand.prompt(q))} for q in QUESTIONS[:3]]
    parts = [write_benchmark(right, name="known")[0], write_benchmark(ROWS[:5], name="not")[0]]
    members = [yaml.safe_load(part.yaml_path.read_text()) for part in parts]
    metric = {"metric": "exact_match", "aggregation": "mean", "weight_by_size": True}
    path = tmp_path / "both.yaml"
    path.write_text(
        yaml.safe_dump({"group": "both", "task": members, "aggregate_metric_list": [metric]})
    )
    recipe = BenchmarkRecipe(name="both", num_fewshot=0, limit=None)
    outcome = run_one(model, tokenizer, (resolve_benchmark("both", path), recipe))
    [score] = outcome.scores
    assert (score.num_items, score.metric, len(outcome.samples)) == (8, "exact_match", 8)
    assert score.value == 3 / 8


def test_samples_are_one_json_object_each(model, tokenizer, write_benchmark, tmp_path: Path):
    [sample, *_] = run_one(model, tokenizer, write_benchmark(CHOICE_ROWS, **CHOICES)).samples
    record = json.loads(sample.model_dump_json())
    assert record["target"] == "moon"
    assert record["responses"] == ["moon", "fox and hen", "x y"]
    assert record["item"] == 0
