"""All benchmarks of a model in one load, against one ``lm_eval`` process for each: same numbers."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from wit.builtin import BASE_DIR
from wit.errors import StageError, WorkerDiedError
from wit.evaluation.benchmark_files import local_data_files
from wit.evaluation.catalogue import ResolvedBenchmark, resolve_benchmark
from wit.evaluation.results import Score
from wit.evaluation.suites import read_suite
from wit.evaluation_recipes import BenchmarkRecipe
from wit.settings import Settings

BATCH_SIZE = 64  # of both
BASELINE = "one lm_eval process per benchmark"
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

    @property
    def ratio(self) -> float:
        """How many times as long the baseline takes, all processes from start to end."""
        return sum(self.baseline.values()) / self.process


class OurRun(Settings):
    """What our process found, and when."""

    load: float
    benchmarks: dict[str, float]
    scores: tuple[Score, ...]


class Measurement(Settings):
    """Seconds of both ways to the same numbers, in one run."""

    baseline: str
    ratio: float  # median of the repeats' ratios, baseline over ours
    ratios: tuple[float, ...]
    evaluation_seconds: tuple[float, ...]  # of all benchmarks after load, one per repeat
    turns: tuple[Turn, ...]
    num_items: int
    num_scores: int  # that were compared, and are equal
    machine: str
    versions: dict[str, str]


def measure(repeats: int, limit: int | None = None) -> Measurement:
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
    ratios = tuple(turn.ratio for turn in turns)
    return Measurement(
        baseline=BASELINE,
        ratio=statistics.median(ratios),
        ratios=ratios,
        evaluation_seconds=tuple(turn.evaluation for turn in turns),
        turns=tuple(turns),
        num_items=sum(score.num_items for score in scores if score.is_main),
        num_scores=len(scores),
        machine=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        versions={name: version(name) for name in ("lm_eval", "torch", "transformers")},
    )


def show_measurement(console: Console, measurement: Measurement) -> None:
    """Prints the ratio and what it rests on."""
    spread = f"{min(measurement.ratios):.1f} to {max(measurement.ratios):.1f}"
    console.print(
        f"{measurement.ratio:.1f} x as fast as {measurement.baseline} ({spread}); "
        f"all {measurement.num_scores} scores are equal"
    )
    seconds = statistics.median(measurement.evaluation_seconds)
    load = statistics.median(turn.load for turn in measurement.turns)
    console.print(
        f"{seconds:.1f} s for {measurement.num_items:,} items of "
        f"{len(measurement.turns[0].benchmarks)} benchmarks, after {load:.1f} s of loading; "
        f"{len(measurement.turns)} repeats"
    )
    console.print(measurement.machine)


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
