"""What a training on several processes does when one of them fails."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from found_processes import end_marked, kill_a_rank, marked_environment, ranks_in, what_stays

from wit.artifacts import COMPLETE
from wit.config import WORKER_GPUS, Runtime
from wit.errors import ConfigError, TrainingError, WitError, WorkerDiedError
from wit.recipes import SFTRecipe
from wit.training import ranks
from wit.training.ranks import train_sft_on_ranks
from wit.weights import TokenWeights

RUNTIME = {"device": "cpu", "num_processes": 2, "checkpoint_seconds": 0.05}


def recipe(**knobs: object) -> SFTRecipe:
    weights = TokenWeights(prompt=0.2, response=1)
    defaults = {"learning_rate": 1e-2, "num_epochs": 2, "examples_per_step": 8, "seed": 0}
    return SFTRecipe(weights=weights, **{**defaults, **knobs})


def steps_of(folder: Path) -> list[int]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "loss" in line]


def test_what_a_rank_raises_is_raised_here(
    base: Path, instructions: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    wild = recipe(learning_rate=1e30, num_epochs=4)
    with pytest.raises(TrainingError, match=r"not finite|diverged"):
        train_sft_on_ranks(
            wild,
            base,
            instructions,
            tokenizer_folder,
            tmp_path,
            Runtime(**RUNTIME),
            lambda *_: None,
        )
    assert not (tmp_path / "model").exists()


def test_a_rank_that_is_killed_ends_the_others_and_the_next_attempt_resumes(
    base: Path, instructions: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    long = recipe(num_epochs=8)
    raised: list[WitError] = []
    figures: list[int] = []

    def train() -> None:
        runtime = Runtime(**RUNTIME)

        def log(logged: dict[str, float], step: int) -> None:
            figures.append(step)

        try:
            train_sft_on_ranks(long, base, instructions, tokenizer_folder, tmp_path, runtime, log)
        except WitError as error:
            raised.append(error)

    attempt = threading.Thread(target=train)
    attempt.start()
    while not any(tmp_path.glob(f"checkpoints/checkpoint-*/{COMPLETE}")):
        assert attempt.is_alive(), "the training was over before it could be killed"
        time.sleep(0.01)
    kill_a_rank(tmp_path)
    attempt.join()
    assert [type(error) for error in raised] == [WorkerDiedError], raised
    assert ranks_in(tmp_path) == []
    assert not (tmp_path / "model").exists()

    figures.clear()
    train()
    assert len(raised) == 1
    assert (tmp_path / "model").is_dir()
    assert min(figures) > 0, "it began anew instead of resuming"
    steps = steps_of(tmp_path)
    assert steps == list(range(1, max(steps) + 1)), "history has a gap or a repetition"


# The process that wants a model; it is gone before the ranks miss what they would train.
OWNER = """
import sys
from pathlib import Path
from wit.config import Runtime
from wit.recipes import SFTRecipe
from wit.training.ranks import train_sft_on_ranks
recipe, runtime, out = sys.argv[1:]
train_sft_on_ranks(
    SFTRecipe.model_validate_json(recipe),
    *[Path(out) / name for name in ("base", "instructions", "tokenizer")],
    Path(out),
    Runtime.model_validate_json(runtime),
    print,
)
"""


def test_ranks_end_with_the_process_that_wants_their_model_even_while_they_import(
    tmp_path: Path,
) -> None:
    told = [recipe().model_dump_json(), Runtime(**RUNTIME).model_dump_json(), str(tmp_path)]
    environment = marked_environment()
    with subprocess.Popen([sys.executable, "-c", OWNER, *told], env=environment) as owner:
        try:
            deadline = time.monotonic() + 120
            while len(ranks_in(tmp_path)) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            owner.kill()
            assert what_stays(environment, 3) == []
        finally:
            end_marked(environment)


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(WORKER_GPUS, "3")
    with pytest.raises(ConfigError, match="num_processes is 2"):
        ranks._environment(Runtime(device="cuda", num_processes=2))
    monkeypatch.setenv(WORKER_GPUS, "3,5,7")
    environment = ranks._environment(Runtime(device="cuda", num_processes=2))
    assert environment["CUDA_VISIBLE_DEVICES"] == "3,5"
