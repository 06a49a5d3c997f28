"""A PostgreSQL cluster of Debian's programs, which ends with the tests that asked for it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "wit"


@contextmanager
def cluster(password: str | None = None) -> Iterator[int]:
    """The loopback port of a new cluster, owned by ``wit``; skips the test where there is none.

    Args:
        password: Of that user; None: everybody is trusted.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        missing = "Debian's postgresql is not installed"
        if os.environ.get("WIT_NEEDS_ALL") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="wit-postgresql-"))
    # Its programs refuse root.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if not os.getuid() else {}
    (folder / "password").write_text(password or "")
    if user:
        shutil.chown(folder, "postgres", "postgres")
    bin_folder, data, port = programs[-1].parent, folder / "data", _free_port()
    initdb = [bin_folder / "initdb", "-D", data, "-U", USER, "-E", "UTF8", "-N"]
    initdb += ["-A", "scram-sha-256", "--pwfile=password"] if password else ["-A", "trust"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **user)
    command = [programs[-1], "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **user)
    try:
        for _ in range(240):
            assert process.poll() is None, (folder / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.25)
        yield port
    finally:
        process.send_signal(signal.SIGINT)  # ends its connections, and then itself
        process.wait(60)
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
