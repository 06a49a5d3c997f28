"""Processes that end with the one that wants their result, and not before."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
from found_processes import end_marked, marked, marked_environment, what_stays

# A child of multiprocessing, and a program that starts another one as it was started itself.
PARENT = """
import multiprocessing, subprocess, sys, time
from wit.lifeline import end_with_parent
def work(name):
    end_with_parent()
    open(name, "w").close()
    time.sleep(600)
if __name__ == "__main__":
    folder = sys.argv[1]
    child = multiprocessing.get_context("spawn").Process(target=work, args=(folder + "/child",))
    child.start()
    command = [sys.executable, "-m", "wit.lifeline", "launches", folder]
    subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder).wait()
"""
LAUNCHES = """
import subprocess, sys
command = [sys.executable, "-m", "wit.lifeline", "ranks", sys.argv[1]]
subprocess.Popen(command, start_new_session=True).wait()
"""
RANKS = """
import os, sys, time
open(sys.argv[1] + "/rank", "w").close()
time.sleep(600)
"""


def test_children_and_those_that_a_launcher_starts_end_with_their_owner_though_it_is_a_zombie(
    tmp_path: Path,
) -> None:
    for name, code in {"parent": PARENT, "launches": LAUNCHES, "ranks": RANKS}.items():
        (tmp_path / f"{name}.py").write_text(code)
    command = [sys.executable, tmp_path / "parent.py", tmp_path]
    environment = marked_environment(PYTHONPATH=os.pathsep.join(sys.path))
    parent = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 60
        while not ((tmp_path / "child").exists() and (tmp_path / "rank").exists()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)
        assert len(marked(environment)) == 5, "parent, resource tracker, child, launcher and rank"
        parent.kill()
        assert what_stays(environment) == []
        assert psutil.Process(parent.pid).status() == psutil.STATUS_ZOMBIE
    finally:
        end_marked(environment)
        parent.wait()
