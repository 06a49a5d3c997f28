import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer

from wit.builtin import BASE_DIR, DATA_DIR
from wit.builtin.items import FACT_SKILLS, SKILLS, TUNED_SKILLS, fact_item, fact_subjects
from wit.builtin.make_data import BENCHMARK_DIR, data_files
from wit.builtin.requests import FOLLOW_UPS, SEEN, UNSEEN
from wit.builtin.vocabulary import LIST_WORDS
from wit.builtin.world import documents

BENCHMARKS = ("wit_seen", "wit_unseen", "wit_choice", "wit_cloze")
NUM_DOCUMENTS = 5_000
MAX_ROW_TOKENS = 96


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


INSTRUCTIONS = read(DATA_DIR / "instructions.jsonl")
PREFERENCES = read(DATA_DIR / "preferences.jsonl")
ROWS = {name: read(BENCHMARK_DIR / f"{name}.jsonl") for name in BENCHMARKS}

WORD = "|".join(LIST_WORDS)
LISTS = re.compile(rf"\b(?:{WORD})(?:, (?:{WORD}))+\b")
PAIRS = re.compile(r"\b(\d+) (?:\+|plus|and|or|to) (\d+)\b")


def contents(text: str) -> set[str]:
    """The word list and the pairs of numbers a text is about, in any order; found by reading it.

    The first list alone: those after it are answers, made of the first.
    """
    lists = {" ".join(sorted(found.split(", "))) for found in LISTS.findall(text)[:1]}
    pairs = {" ".join(sorted(pair, key=int)) for pair in PAIRS.findall(text)}
    return lists | pairs


def tuning_prompts() -> list[str]:
    conversations = [row["messages"] for row in INSTRUCTIONS]
    conversations += [row["prompt"] for row in PREFERENCES]
    return [m["content"] for messages in conversations for m in messages if m["role"] == "user"]


def test_every_committed_file_is_what_the_code_makes():
    for path, content in data_files().items():
        assert path.read_bytes() == content, path.name


@pytest.fixture(scope="module")
def trained() -> set[str]:
    texts = [*tuning_prompts(), *islice(documents(seed=0), NUM_DOCUMENTS)]
    return set().union(*map(contents, texts))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_benchmark_content_is_trained_on(name: str, trained: set[str]):
    tested = set().union(*(contents(row["prompt"]) for row in ROWS[name]))
    assert len(tested) > 150
    assert not trained & tested


def test_no_held_out_fact_is_asked_for_in_tuning():
    prompts = tuning_prompts()
    skills = [skill for skill in FACT_SKILLS if skill in TUNED_SKILLS]
    facts = [fact_item(skill, subject) for skill in skills for subject in fact_subjects(skill)]
    held_out = [fact for fact in facts if fact.is_held_out]
    assert len(held_out) >= 20
    asked = {
        wording.format(**fact.slots)
        for fact in held_out
        for wording in (*SEEN[fact.skill], *UNSEEN[fact.skill])
    }
    assert not asked & set(prompts)


def test_unseen_wordings_are_in_no_training_row():
    tested = {row["prompt"] for name in ("wit_unseen", "wit_choice") for row in ROWS[name]}
    assert not tested & set(tuning_prompts())
    for skill in TUNED_SKILLS:
        assert not set(SEEN[skill]) & set(UNSEEN[skill])
        assert len(SEEN[skill]) >= 4
        assert len(UNSEEN[skill]) >= 2


def test_no_request_occurs_in_pretraining():
    text = "\n".join(islice(documents(seed=0), NUM_DOCUMENTS))
    prompts = {m["content"] for row in INSTRUCTIONS for m in row["messages"] if m["role"] == "user"}
    follow_ups = {text for texts in FOLLOW_UPS.values() for text in texts}
    assert not [prompt for prompt in prompts - follow_ups if prompt in text]
    assert "<|" not in text


def test_instructions_are_conversations_in_their_committed_proportions():
    roles = Counter(tuple(message["role"][0] for message in r["messages"]) for r in INSTRUCTIONS)
    assert set(roles) == {("u", "a"), ("s", "u", "a"), ("u", "a", "u", "a"), (*"suaua",)}
    assert len(INSTRUCTIONS) == len({json.dumps(row) for row in INSTRUCTIONS}) == 1024
    assert roles["u", "a"] > 700


def test_no_preference_prefers_a_text_to_itself():
    assert all(row["chosen"] != row["rejected"] for row in PREFERENCES)
    assert all(row["prompt"][-1]["role"] == "user" for row in PREFERENCES)


def test_rows_are_short_enough_for_a_quick_start():
    tokenizer = AutoTokenizer.from_pretrained(BASE_DIR)
    for row in INSTRUCTIONS:
        assert len(tokenizer.apply_chat_template(row["messages"])["input_ids"]) <= MAX_ROW_TOKENS
    for row in PREFERENCES:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)
        longest = max(len(tokenizer(row[key])["input_ids"]) for key in ("chosen", "rejected"))
        assert len(prompt["input_ids"]) + longest + 2 <= MAX_ROW_TOKENS  # <|end|> and newline


def test_the_right_choice_is_marked_and_no_choice_begins_another():
    for row in ROWS["wit_choice"]:
        assert 0 <= row["label"] < len(row["choices"]) <= 4
        assert len(set(row["choices"])) == len(row["choices"]) >= 2
        right = row["choices"][row["label"]]
        assert not [c for c in row["choices"] if c != right and right.startswith(f"{c}, ")]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_covers_its_skills_and_names_its_data(name: str):
    declared = yaml.safe_load((BENCHMARK_DIR.parent / f"{name}.yaml").read_text(encoding="utf-8"))
    assert declared["task"] == name
    data = BENCHMARK_DIR.parent / declared["dataset_kwargs"]["data_files"]["test"]
    assert data == BENCHMARK_DIR / f"{name}.jsonl"
    skills = SKILLS if name == "wit_cloze" else TUNED_SKILLS
    assert {row["skill"] for row in ROWS[name]} == set(skills)
    assert 200 <= len(ROWS[name]) <= 300
    assert declared["metadata"]["wit"]["role"] in ("select", "report")
