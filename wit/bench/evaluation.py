"""All benchmarks of a model in one load, against one ``lm_eval`` process for each: same numbers."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

from wit.bench.result import BenchResult, Figure, machine_name, versions_of
from wit.builtin import BASE_DIR
from wit.errors import StageError, WorkerDiedError
from wit.evaluation.benchmark_files import local_data_files
from wit.evaluation.catalogue import ResolvedBenchmark, resolve_benchmark
from wit.evaluation.results import Score
from wit.evaluation.suites import read_suite
from wit.evaluation_recipes import BenchmarkRecipe
from wit.settings import Settings

BATCH_SIZE = 64  # of both
SUITE = "embedded"


class Turn(Settings):
    """Both ways of one repeat, in seconds."""

    process: float  # from start to end of ours
    load: float  # of that, the model and its tokenizer, once
    benchmarks: dict[str, float]  # of that, after load, by benchmark
    baseline: dict[str, float]  # from start to end of a process, by benchmark

    @property
    def evaluation(self) -> float:
        """All benchmarks, after load."""
        return sum(self.benchmarks.values())


class OurRun(Settings):
    """What our process found, and when."""

    load: float
    benchmarks: dict[str, float]
    scores: tuple[Score, ...]


def measure(repeats: int, limit: int | None = None) -> BenchResult:
    """Evaluates the embedded base both ways, in turns.

    Args:
        repeats: Turns.
        limit: First items of each benchmark; None: all.

    Raises:
        StageError: The two do not find the same numbers, or a process fails.
    """
    turns, scores = [], ()
    for _ in range(repeats):
        turn, scores = _turn(limit)
        turns.append(turn)
    num_items = sum(score.num_items for score in scores if score.is_main)
    return BenchResult(
        name="eval",
        ours="all benchmarks of a model in one load",
        baseline="one lm_eval process per benchmark",
        figures=figures_of(turns, num_items),
        sizes={"model": "embedded", "benchmarks": len(turns[0].benchmarks), "batch": BATCH_SIZE},
        # Every score is compared, and is equal.
        same_work={"items": num_items, "scores": len(scores)},
        machine=machine_name(),
        versions=versions_of("lm_eval", "torch", "transformers"),
    )


def figures_of(turns: Sequence[Turn], num_items: int) -> tuple[Figure, ...]:
    """What the turns say: of whole processes, and of ours after it has loaded the model."""
    return (
        Figure(
            quantity="items/s, processes from start to end",
            ours=tuple(num_items / turn.process for turn in turns),
            baseline=tuple(num_items / sum(turn.baseline.values()) for turn in turns),
            at_least=3,
            limit=statistics.median(
                sum(turn.baseline.values()) / (turn.process - turn.evaluation) for turn in turns
            ),
            limit_is="starting and loading once, and then evaluation in no time",
        ),
        Figure(
            quantity="seconds of all benchmarks, after load",
            ours=tuple(turn.evaluation for turn in turns),
        ),
    )


def _turn(limit: int | None) -> tuple[Turn, tuple[Score, ...]]:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "run.json"
        started = time.perf_counter()
        process = get_context("spawn").Process(target=_run_ours, args=(limit, file))
        process.start()
        process.join()
        seconds = time.perf_counter() - started
        if process.exitcode:
            raise WorkerDiedError("the process that evaluated the embedded base died")
        ours = OurRun.model_validate_json(file.read_text(encoding="utf-8"))
    baseline = {}
    for name in ours.benchmarks:
        started = time.perf_counter()
        found = _run_process(resolve_benchmark(name), limit)
        baseline[name] = time.perf_counter() - started
        _check_equal([score for score in ours.scores if score.benchmark == name], found)
    turn = Turn(process=seconds, load=ours.load, benchmarks=ours.benchmarks, baseline=baseline)
    return turn, ours.scores


def _run_ours(limit: int | None, out: Path) -> None:
    from wit.evaluation.harness import run_benchmarks
    from wit.models import load_model
    from wit.tokenizers import load_tokenizer

    started = time.perf_counter()
    model, tokenizer = load_model(BASE_DIR), load_tokenizer(BASE_DIR)
    load = time.perf_counter() - started
    seconds, scores = {}, []
    for name in (entry["name"] for entry in read_suite(SUITE)):
        started = time.perf_counter()
        asked = resolve_benchmark(name), BenchmarkRecipe(name=name, num_fewshot=0, limit=limit)
        [outcome] = run_benchmarks(
            model, tokenizer, [asked], batch_size=BATCH_SIZE, seed=0
        ).values()
        seconds[name] = time.perf_counter() - started
        scores += outcome.scores
    run = OurRun(load=load, benchmarks=seconds, scores=tuple(scores))
    out.write_text(run.model_dump_json(), encoding="utf-8")


def _run_process(benchmark: ResolvedBenchmark, limit: int | None) -> dict[str, Any]:
    """lm-eval's metrics of one benchmark, by its own command line."""
    with tempfile.TemporaryDirectory() as scratch:
        config = yaml.safe_load(benchmark.yaml_path.read_text(encoding="utf-8"))
        # lm-eval looks for data files in the folder where it is started.
        config["dataset_kwargs"]["data_files"] = local_data_files(benchmark.yaml_path)
        (Path(scratch) / "task.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"]
        command += ["--model_args", f"pretrained={BASE_DIR},dtype=float32"]
        command += ["--tasks", benchmark.name, "--include_path", scratch]
        command += ["--batch_size", str(BATCH_SIZE), "--output_path", f"{scratch}/out"]
        command += ["--apply_chat_template"] if benchmark.is_chat else []
        command += ["--limit", str(limit)] if limit is not None else []
        cache = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": f"{scratch}/cache"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **cache}
        )
        if done.returncode:
            raise StageError(f"lm_eval on {benchmark.name} failed: {done.stderr[-2000:]}")
        [file] = Path(scratch, "out").rglob("results_*.json")
        return json.loads(file.read_text(encoding="utf-8"))["results"][benchmark.name]


def _check_equal(scores: list[Score], found: dict[str, Any]) -> None:
    for score in scores:
        theirs = found[f"{score.metric},{score.filter}"]
        if theirs != score.value:
            raise StageError(
                f"{score.benchmark}: {score.metric} is {score.value} here and {theirs} by lm_eval"
            )
