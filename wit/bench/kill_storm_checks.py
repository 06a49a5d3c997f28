"""What must hold in a kill storm: after every kill, and at the end."""

import time
from collections import Counter
from pathlib import Path

from wit.artifacts import CHECKPOINTS, COMPLETE, Artifact, read_record, verify
from wit.bench.kill_storm_processes import found_in
from wit.errors import ArtifactError
from wit.evaluation.results import SCORES_FILE
from wit.lineage.store import open_store
from wit.plan import Plan
from wit.progress import PROGRESS, read_progress

DATA_STAGES = ("tokenizer", "items", "instructions", "preferences", "overlap")
STAGES = (*DATA_STAGES, "sft", "reference", "dpo", "evaluation")  # folders of the artifact root
END_SECONDS = 30.0  # at most until processes have ended that end by themselves
POLL_SECONDS = 0.25


def complete_artifacts(root: Path, known: dict[Path, str]) -> list[str]:
    """Compares all that claims to be complete with its record, and with what it was before.

    Args:
        root: Of the artifacts.
        known: The sum of each record, by the artifact's directory. What is not in it is read
            whole, and added; of the others only the record must be the same.

    Returns:
        What is wrong, one sentence each.
    """
    wrong = [f"{path}: was complete, and is gone" for path in known if not path.is_dir()]
    for path in _directories(root):
        try:
            if path not in known:
                verify(path)
                known[path] = read_record(path)["sha256"]
            elif known[path] != read_record(path)["sha256"]:
                wrong.append(f"{path}: was complete, and was made again")
        except ArtifactError as error:
            wrong.append(str(error))
    return wrong


def _directories(root: Path) -> list[Path]:
    """What a reader would take for a complete artifact."""
    return [
        path
        for stage in STAGES
        for path in sorted((root / stage).glob("[!.]*"))
        if path.is_dir() and path.suffix != ".partial"
    ]


def what_is_lost(artifact: Artifact, since: float) -> str:
    """What the next attempt has to make again of a stage whose process was killed.

    Args:
        artifact: Of the stage.
        since: When that process was started, in seconds since 1970.
    """
    if artifact.exists():
        return "nothing, it was complete"
    progress = read_progress(artifact.scratch)
    if progress is None:
        return "all"
    complete = artifact.scratch.glob(f"{CHECKPOINTS}/checkpoint-*/{COMPLETE}")
    kept = max((int(mark.parent.name.rpartition("-")[2]) for mark in complete), default=0)
    is_earlier = (artifact.scratch / PROGRESS).stat().st_mtime < since  # attempt's progress
    if kept >= progress.step or is_earlier:
        return f"no step of {progress.num_steps}"
    return f"steps {kept + 1} to {progress.step} of {progress.num_steps}"


def check_lineage(plan: Plan, tracking_uri: str) -> tuple[list[str], int]:
    """Every artifact must have one run in MLflow, which is finished.

    Returns:
        What is wrong, one sentence each; and the number of runs of artifacts.
    """
    found = open_store(tracking_uri).search("tags.`wit.fingerprint` LIKE '%'")
    counts = Counter(run.data.tags["wit.fingerprint"] for run in found)
    wrong = [
        f"{one.stage} {one.fingerprint}: has {counts[one.fingerprint]} runs in MLflow"
        for one, _ in plan.artifacts()
        if counts[one.fingerprint] != 1
    ]
    wrong += [
        f"run {run.info.run_name} is {run.info.status} in MLflow"
        for run in found
        if run.info.status != "FINISHED"
    ]
    return wrong, len(found)


def check_rest(plan: Plan, folder: Path) -> list[str]:
    """Nothing is missing, nothing is half made, and no process is left; ends those that are.

    Args:
        plan: Of all that was to be made.
        folder: That all processes name.

    Returns:
        What is wrong, one sentence each.
    """
    wrong = [f"{a.path}: is missing" for a, _ in plan.artifacts() if not a.exists()]
    wrong += [f"{path}: was left" for path in folder.rglob("*.partial")]
    deadline = time.monotonic() + END_SECONDS
    while (left := found_in(folder)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for one in left:
        wrong.append(f"process {one.process.pid} was left: {one.command}")
        one.process.kill()
    return wrong


def different_scores(ours: Plan, undisturbed: Plan) -> list[str]:
    """Evaluations whose scores are not bit by bit those of the undisturbed study."""
    wrong = []
    for (one, cell), (other, _) in zip(ours.artifacts(), undisturbed.artifacts(), strict=True):
        if one.stage == "evaluation":
            files = [artifact.path / SCORES_FILE for artifact in (one, other)]
            contents = [file.read_bytes() if file.is_file() else None for file in files]
            if contents[0] is None or contents[0] != contents[1]:
                wrong.append(f"scores of {one.fingerprint} ({cell or 'base'}) differ")
    return wrong


def num_equal_models(ours: Plan, undisturbed: Plan) -> tuple[int, int]:
    """How many models have bit by bit the weights of the undisturbed study, and of how many."""
    pairs = [
        (_weights(one), _weights(other))
        for (one, _), (other, _) in zip(ours.artifacts(), undisturbed.artifacts(), strict=True)
        if one.stage in ("sft", "dpo")
    ]
    return sum(one == other for one, other in pairs), len(pairs)


def _weights(model: Artifact) -> dict[str, str]:
    """Sums of the files of weights, by name."""
    files = read_record(model.path)["files"] if model.exists() else {}
    return {name: file["sha256"] for name, file in files.items() if name.endswith(".safetensors")}
