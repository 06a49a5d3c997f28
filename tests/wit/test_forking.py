"""Workers that are forked from a process that has imported what stages need."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wit.serving.programs import PROJECT

SCRIPT = """
import json, os, signal, sys, this
from multiprocessing import forkserver
from pathlib import Path
from wit import forking
from wit.config import Runtime
from wit.worker_environment import read_when_loaded
from wit.workers import import_early, workers_for

SEEN = '''dict(
    parent=__import__("os").getppid(),
    modules=sorted(__import__("sys").modules),
    threads=__import__("torch").get_num_threads(),
    drawn=[__import__("numpy").random.rand(), __import__("random").random()],
    named=__import__("datasets").fingerprint.generate_random_fingerprint(),
    later=__import__("os").environ.get("LATER"),
    has_device=__import__("torch").cuda.is_initialized(),
)'''
if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"
    one = Runtime(artifact_root=Path(sys.argv[1]), num_workers=2, threads_per_worker=1)
    import_early(one)
    begun_with_a_gpu = bool(forking._begun)
    del os.environ["CUDA_VISIBLE_DEVICES"]
    cpu = one.model_copy(update={"device": "cpu"})
    import_early(cpu)
    os.environ["LATER"] = "told"
    with workers_for("x", cpu) as workers:
        forked = [workers._start(number).submit(eval, SEEN).result() for number in (0, 1)]
        tasks = Path(f"/proc/{forked[0]['parent']}/task").glob("*/comm")
        names = [task.read_text().strip() for task in tasks]
    with workers_for("y", cpu.model_copy(update={"threads_per_worker": 2})) as workers:
        parent = workers._start(0).submit(os.getppid).result()
    os.kill(forked[0]["parent"], signal.SIGKILL)
    os.waitid(os.P_PID, forked[0]["parent"], os.WEXITED | os.WNOWAIT)
    forking.process_context(read_when_loaded(cpu, []))
    again = forkserver._forkserver._forkserver_pid
    while not (given := Path(f"/proc/{again}/environ").read_text()):
        pass  # it has not begun
    found = dict(forked=forked, names=names, own=os.getpid(), parent_of_two_threads=parent)
    found |= dict(again=again, given=given, left=os.environ.get("OMP_NUM_THREADS"))
    print(json.dumps({**found, "begun_with_a_gpu": begun_with_a_gpu}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")
def test_forked_workers_are_as_spawned_ones_but_have_imported_all(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        environment.pop(name, None)
    here = tmp_path / "here"
    here.mkdir()
    (here / "trl.py").write_text("raise SystemExit('not the library')")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "root"],
        env=environment,
        cwd=here,
        capture_output=True,
        text=True,
    )
    assert done.stderr == "", "the terminal of a run shows it"
    found = json.loads(done.stdout.splitlines()[-1])
    first, second = found["forked"]
    assert first["parent"] == second["parent"] != found["own"]
    stages = {"wit.training.sft", "wit.training.dpo", "wit.evaluation.harness"}
    assert stages <= set(first["modules"]) & set(second["modules"])
    assert not {"this", "prefect"} & set(first["modules"]), "our main module has run"
    assert "torch._inductor.lowering" not in first["modules"], (
        "it takes a second, and no one compiles"
    )
    for worker in (first, second):
        assert (worker["threads"], worker["later"]) == (1, "told")
        assert not worker["has_device"]
    assert first["named"] != second["named"]
    assert not set(first["drawn"]) & set(second["drawn"])
    # A fork takes one thread along. pyarrow's allocator has one that minds forks.
    assert len(set(found["names"]) - {"jemalloc_bg_thd"}) == 1
    assert len(found["names"]) <= 2
    assert found["parent_of_two_threads"] == found["own"], "its libraries have read another number"
    assert not found["begun_with_a_gpu"], "drivers do not outlive a fork"
    assert found["again"] != first["parent"]
    assert "OMP_NUM_THREADS=1" in found["given"].split("\0"), "one that was killed is as before"
    assert found["left"] is None, "it is not for us"


INTERRUPTED = """
import os, signal
from multiprocessing import forkserver
from wit.forking import begin_importing

begin_importing({})
process = forkserver._forkserver._forkserver_pid
os.kill(process, signal.SIGINT)
print(os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT).si_status)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")
def test_ctrl_c_ends_the_process_that_imports_without_a_word() -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    # As of a terminal's foreground, whatever runs the tests.
    command = ["env", "--default-signal=INT", sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert int(done.stdout) == signal.SIGINT
