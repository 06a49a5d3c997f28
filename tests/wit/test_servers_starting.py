"""`wit up` that does not come to its end: interrupted, or refused."""

import signal
from pathlib import Path

from wit_up import PATIENCE, Up, wait_for


def test_ctrl_c_while_it_starts_ends_all(tmp_path: Path) -> None:
    up = Up(tmp_path)
    up.start()
    wait_for("the first server", (up.root / "servers" / "prefect.log").exists)
    assert up.end(signal.SIGINT) == 0
    assert up.said().strip() == "ending"
    assert up.relatives() == []


def test_an_artifact_root_that_cannot_be_written_starts_nothing(tmp_path: Path) -> None:
    up = Up(tmp_path)
    up.root = Path("/dev/null/root")
    up.start()
    assert up.process.wait(PATIENCE) == 2
    assert up.said().startswith("error: /dev/null/root: the artifact root cannot be written")
    assert up.relatives() == []
