"""A study, whole, against the same trainings and evaluations as bare scripts, one process each."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wit.artifacts import CHECKPOINTS, Artifact
from wit.bench.kill_storm_study import clean_environment
from wit.bench.result import BenchResult, Figure, machine_name, same_work, versions_of
from wit.bench.study_script import Job, write_job
from wit.config import Runtime
from wit.errors import StageError
from wit.evaluation.results import SCORES_FILE, EvaluationResult
from wit.files import sha256_of
from wit.lineage.spool import Packed
from wit.loading import load_runtime, load_study
from wit.plan import Plan, make_plan
from wit.records import MODEL, MODELS
from wit.worker_environment import QUIET

CONFIGS = Path(__file__).parents[2] / "configs"
QUICKSTART = CONFIGS / "studies" / "quickstart.yaml"
RUNTIME = CONFIGS / "runtimes" / "cpu.yaml"
# One seed, two pairs of weights, and one epoch: what is left of 10 cells are 2.
CUT = (
    "weights=[{prompt: 0, response: 1}, {prompt: 0.5, response: 1}]",
    "seeds=[0]",
    "sft.num_epochs=1",
)
NEVER = 1e9  # seconds between checkpoints of a script
HISTORY = "history.jsonl"
WEIGHTS = "model.safetensors"


class Arm(NamedTuple):
    """One way to make a study, once."""

    seconds: float
    counts: dict[str, int]
    working_seconds: float = 0.0  # of scripts: without starting Python and importing


def measure(repeats: int, *, is_whole: bool = False, cut: Sequence[str] = CUT) -> BenchResult:
    """Makes the quickstart both ways, in turns.

    Args:
        repeats: Turns.
        is_whole: All of it; else what ``cut`` leaves, for the whole takes half an hour.
        cut: Settings of the study.

    Raises:
        StageError: One of them failed, or both did not do the same.
    """
    settings = () if is_whole else tuple(cut)
    ours, scripts, counts = [], [], {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="wit-study-") as folder:
            place = Path(folder)
            ours.append(run_study(place / "ours", settings))
            scripts.append(run_scripts(place / "scripts", settings))
            counts = same_work({"wit run": ours[-1].counts, "the scripts": scripts[-1].counts})
            check_same(
                plan_below(place / "ours", settings), plan_below(place / "scripts", settings)
            )
    runtime = load_runtime(RUNTIME, [])
    return BenchResult(
        name="study",
        ours="wit run of the quickstart" + ("" if is_whole else ", cut"),
        baseline="the same library functions as bare scripts: one for the data, one for each "
        "training, one for each model's evaluation, one after the other, one thread each",
        figures=(ratio_of(ours, scripts, runtime.num_workers),),
        sizes={
            "study": "quickstart",
            **{s.partition("=")[0]: s.partition("=")[2] for s in settings},
        },
        same_work=counts,
        machine=machine_name(),
        versions=versions_of("torch", "transformers", "trl", "lm_eval", "prefect", "mlflow"),
    )


def ratio_of(ours: Sequence[Arm], scripts: Sequence[Arm], num_workers: int) -> Figure:
    """How many studies are made in the time of one by scripts."""
    return Figure(
        quantity="studies/hour",
        ours=tuple(3600 / arm.seconds for arm in ours),
        baseline=tuple(3600 / arm.seconds for arm in scripts),
        at_least=2,
        limit=num_workers * min(arm.seconds / arm.working_seconds for arm in scripts),
        limit_is="every worker always works, and nothing is started, imported or recorded",
    )


def run_study(folder: Path, settings: Sequence[str]) -> Arm:
    """The study by ``wit run``, from the start of its process to the end.

    Raises:
        StageError: It failed.
    """
    command = run_command(folder, settings)
    seconds = run(command, folder, clean_environment(folder / "home"))
    return Arm(seconds, counts_of(plan_below(folder, settings)))


def run_command(folder: Path, settings: Sequence[str]) -> list[str]:
    """The command line of ``wit run``, with all artifacts below a folder."""
    words = [word for setting in settings for word in ("--set", setting)]
    where = ["--runtime", str(RUNTIME), "--set-runtime", f"artifact_root={folder / 'root'}"]
    return [sys.executable, "-m", "wit.cli", "run", str(QUICKSTART), *words, *where]


def run_scripts(folder: Path, settings: Sequence[str]) -> Arm:
    """The study by scripts, from the start of the first one to the end of the last.

    Raises:
        StageError: One failed.
    """
    folder.mkdir(parents=True)
    plan, runtime = plan_below(folder, settings), bare_runtime()
    working = seconds = 0.0
    for number, artifacts in enumerate(scripts_of(plan)):
        job, seconds_file = folder / f"{number}.job", folder / f"{number}.json"
        write_job(Job(packed=Packed.of(artifacts), runtime=runtime, seconds_file=seconds_file), job)
        command = [sys.executable, "-m", "wit.bench.study_script", str(job)]
        seconds += run(command, folder, script_environment(folder, runtime))
        working += sum(json.loads(seconds_file.read_text(encoding="utf-8")).values())
    return Arm(seconds, counts_of(plan), working)


def bare_runtime() -> Runtime:
    """That of the study, without checkpoints: a script that is killed is begun anew."""
    return load_runtime(RUNTIME, []).model_copy(update={"checkpoint_seconds": NEVER})


def script_environment(folder: Path, runtime: Runtime) -> dict[str, str]:
    """What a worker has: its threads, no progress bars, and nothing that is asked of a hub."""
    threads = str(runtime.threads_per_worker or os.cpu_count() or 1)
    own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    return clean_environment(folder / "home") | QUIET | own


def run(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Seconds of a process, from its start to its end.

    Raises:
        StageError: It failed; says what it said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "output.txt"
    started = time.perf_counter()
    with output.open("ab") as file:
        ended = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False)
    seconds = time.perf_counter() - started
    if ended.returncode:
        last = output.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise StageError(f"{' '.join(command)} ended with {ended.returncode}: {last}")
    return seconds


def plan_below(folder: Path, settings: Sequence[str]) -> Plan:
    """The artifacts of the study below a folder."""
    runtime = load_runtime(RUNTIME, [f"artifact_root={folder / 'root'}"])
    return make_plan(load_study(QUICKSTART, list(settings)), runtime)


def scripts_of(plan: Plan) -> list[tuple[Artifact, ...]]:
    """What each script makes: the data; of every cell each training; all of a model's evaluations.

    DPO and what it reads of the reference are one script, so that the reference is not started for
    itself; so is all that is measured on one model, which is loaded once.
    """
    shared = tuple(a for a in plan.shared if a not in plan.base_evaluations)
    scripts = [shared, plan.base_evaluations]
    for cell in plan.cells:
        scripts += [(cell.sft,), cell.sft_evaluations]
        for aligned in cell.aligned:
            scripts += [aligned.made, aligned.evaluations]
    return scripts


def counts_of(plan: Plan) -> dict[str, int]:
    """What was done, as the directories tell."""
    artifacts = [artifact for artifact, _ in plan.artifacts() if artifact.path.is_dir()]
    trained = [a for a in artifacts if a.stage in MODELS]
    results = [EvaluationResult.load(a.path) for a in artifacts if a.stage == "evaluation"]
    lines = [_last_line(artifact.path / HISTORY) for artifact in trained]
    return {
        "artifacts": len(artifacts),
        "trainings": len(trained),
        "optimizer steps": sum(line["step"] for line in lines),
        "evaluations": len(results),
        "scores": sum(len(result.scores) for result in results),
        "scored items": sum(score.num_items for result in results for score in result.scores),
    }


def _last_line(file: Path) -> dict[str, int]:
    return json.loads(file.read_text(encoding="utf-8").splitlines()[-1])


def check_same(ours: Plan, theirs: Plan) -> None:
    """Compares the weights of all models, and all scores, bit for bit.

    Raises:
        StageError: Names the first artifact that differs.
    """
    for (own, _), (other, _) in zip(ours.artifacts(), theirs.artifacts(), strict=True):
        names = {"evaluation": SCORES_FILE} | {stage: f"{MODEL}/{WEIGHTS}" for stage in MODELS}
        if own.stage not in names:
            continue
        name = names[own.stage]
        if sha256_of(own.path / name) != sha256_of(other.path / name):
            raise StageError(f"{own.path / name} and {other.path / name} differ")
        if any((other.path / CHECKPOINTS).glob("*")):
            raise StageError(f"{other.path}: a script wrote checkpoints, which takes time")
