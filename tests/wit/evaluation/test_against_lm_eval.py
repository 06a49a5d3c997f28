"""lm-eval's own command line on the same checkpoint, files and settings: exactly our numbers.

One difference is meant. Where a chat template ends in a line break, lm-eval counts that as part of
each choice; here a choice is what a response is in training. So the templates below end without
one, and what a line break does is tested by itself.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval._cli import HarnessCLI
from lm_eval.tasks import TaskManager
from quiz_model import run_one

from wit.builtin import BASE_DIR
from wit.evaluation.catalogue import SHIPPED, resolve_benchmark
from wit.evaluation.results import Outcome
from wit.evaluation_recipes import BenchmarkRecipe
from wit.models import load_model
from wit.tokenizers import load_tokenizer

NUM_ITEMS = 40
KINDS = ("generate_until", "multiple_choice", "loglikelihood")
MEAN = {"aggregation": "mean", "higher_is_better": True}


def write_tasks(folder: Path, *, is_chat: bool) -> dict[str, Path]:
    """One task of each kind, of embedded rows; by kind."""
    found = {}
    for kind, source in zip(KINDS, ("wit_seen", "wit_choice", "wit_cloze"), strict=True):
        rows = (SHIPPED / "data" / f"{source}.jsonl").read_text().splitlines()[:NUM_ITEMS]
        data = folder / f"{kind}.jsonl"
        data.write_text("".join(row + "\n" for row in rows))
        config = yaml.safe_load((SHIPPED / f"{source}.yaml").read_text())
        config["dataset_kwargs"]["data_files"]["test"] = str(data)
        config["metadata"]["wit"]["chat"] = is_chat
        config["task"] = f"wit_proof_{kind}"
        if kind == "loglikelihood":
            config["output_type"] = kind
            config["metric_list"] = [{"metric": "acc", **MEAN}]
            for key in ("generation_kwargs", "filter_list"):
                del config[key]
            if is_chat:
                config["target_delimiter"] = ""
        elif not is_chat:
            config["target_delimiter"] = " "
        if kind == "multiple_choice":
            config["metric_list"] = [{"metric": name, **MEAN} for name in ("acc", "acc_norm")]
        found[kind] = folder / f"{config['task']}.yaml"
        found[kind].write_text(yaml.safe_dump(config))
    return found


def numbers_of(results: dict[str, Any], kind: str) -> dict[str, Any]:
    """Values and standard errors, by lm-eval's keys."""
    metrics = results["results"][f"wit_proof_{kind}"]
    return {key: value for key, value in metrics.items() if isinstance(value, float)}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The embedded base, with a chat template that does not end in a line break."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(BASE_DIR, folder)
    template = folder / "chat_template.jinja"
    text = template.read_text()
    assert text.count("<|assistant|>\n{% endif %}") == 1
    template.write_text(text.replace("<|assistant|>\n{% endif %}", "<|assistant|>{% endif %}"))
    return folder


def own_answers(checkpoint: Path, tasks: dict[str, Path]) -> None:
    """Puts the base's own response in the place of every second answer, which it then knows."""
    config = yaml.safe_load(tasks["generate_until"].read_text())
    data = Path(config["dataset_kwargs"]["data_files"]["test"])
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    samples = ours(checkpoint, tasks, "generate_until").samples
    for row, sample in list(zip(rows, samples, strict=True))[::2]:
        row["answer"] = sample.responses[0].strip() or "nothing"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))


def ours(checkpoint: Path, tasks: dict[str, Path], kind: str) -> Outcome:
    recipe = BenchmarkRecipe(name=tasks[kind].stem, num_fewshot=0, limit=None)
    model, tokenizer = load_model(checkpoint).eval(), load_tokenizer(checkpoint)
    benchmark = resolve_benchmark(tasks[kind].stem, tasks[kind])
    return run_one(model, tokenizer, (benchmark, recipe), batch_size=16)


def assert_equal(outcome: Outcome, results: dict[str, Any], kind: str) -> None:
    found = {f"{s.metric},{s.filter}": s.value for s in outcome.scores}
    found |= {f"{s.metric}_stderr,{s.filter}": s.stderr for s in outcome.scores}
    assert found == numbers_of(results, kind)
    assert 0 < outcome.scores[0].value < 1 or kind == "loglikelihood"
    counts = results["n-samples"][f"wit_proof_{kind}"]
    assert counts == {"original": NUM_ITEMS, "effective": NUM_ITEMS}


def by_lm_eval(checkpoint: Path, folder: Path, tasks: list[str]) -> Any:
    """lm-eval's own evaluation with a chat template; unlike its file it has the items."""
    return lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(checkpoint), "dtype": "float32"},
        tasks=tasks,
        task_manager=TaskManager(include_path=folder, include_defaults=False),
        batch_size=16,
        device="cpu",
        apply_chat_template=True,
        fewshot_as_multiturn=True,
    )


def command_line(checkpoint: Path, tasks: dict[str, Path], *, is_chat: bool) -> list[str]:
    """What stands after the program's name: all three kinds in one call."""
    folder = tasks[KINDS[0]].parent
    words = ["run", "--model", "hf", "--device", "cpu", "--batch_size", "16"]
    words += ["--model_args", f"pretrained={checkpoint},dtype=float32"]
    words += ["--tasks", ",".join(path.stem for path in tasks.values())]
    words += ["--include_path", str(folder), "--output_path", str(folder / "out")]
    return words + (["--apply_chat_template"] if is_chat else [])


def assert_all_equal(checkpoint: Path, tasks: dict[str, Path]) -> None:
    """What the command line wrote is what we find."""
    [file] = (tasks[KINDS[0]].parent / "out").rglob("results_*.json")
    results = json.loads(file.read_text())
    for kind in KINDS:
        assert_equal(ours(checkpoint, tasks, kind), results, kind)


class _WithoutDefaults(TaskManager):
    """Knows what its folder has; to index lm-eval's own 14 thousand files takes ten seconds."""

    def __init__(self, **knobs: Any) -> None:
        super().__init__(**{**knobs, "include_defaults": False})


@pytest.mark.parametrize("is_chat", [False, True], ids=["plain", "chat"])
def test_lm_evals_command_line_gives_our_numbers(checkpoint, tmp_path, monkeypatch, is_chat):
    """All of its own code from the words of a command to the file; in this process."""
    tasks = write_tasks(tmp_path, is_chat=is_chat)
    own_answers(checkpoint, tasks)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", _WithoutDefaults)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # as it sets it itself, for good
    monkeypatch.setattr(sys, "argv", ["lm_eval", *command_line(checkpoint, tasks, is_chat=is_chat)])
    program = HarnessCLI()
    program.execute(program.parse_args())
    assert_all_equal(checkpoint, tasks)


@pytest.mark.slow  # half a minute of a core: imports, and the index of lm-eval's own files
@pytest.mark.parametrize("is_chat", [False, True], ids=["plain", "chat"])
def test_a_process_of_lm_eval_gives_our_numbers(checkpoint, tmp_path, is_chat):
    tasks = write_tasks(tmp_path, is_chat=is_chat)
    own_answers(checkpoint, tasks)
    command = [sys.executable, "-m", "lm_eval", *command_line(checkpoint, tasks, is_chat=is_chat)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **offline}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_all_equal(checkpoint, tasks)


def test_a_line_break_before_a_choice_is_what_lm_eval_counts_too(tmp_path):
    """One term more in each logp, the same for all choices of an item: the same ``acc``."""
    tasks = write_tasks(tmp_path, is_chat=True)
    name = tasks["multiple_choice"].stem
    results = by_lm_eval(BASE_DIR, tmp_path, [name])
    outcome = ours(BASE_DIR, tasks, "multiple_choice")
    assert results["results"][name]["acc,none"] == outcome.scores[0].value
    for theirs, sample in zip(results["samples"][name], outcome.samples, strict=True):
        assert sample.logps is not None
        [first, *others] = [
            response[0][0] - logp
            for response, logp in zip(theirs["resps"], sample.logps, strict=True)
        ]
        assert first < 0
        assert others == pytest.approx([first] * len(others), abs=1e-3)
