"""The server that a run has for itself where ``PREFECT_API_URL`` names none."""

import atexit
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wit.serving.programs import PROJECT

HOST = "127.0.0.1"
STOP_SECONDS = 5.0  # which Prefect gives its own


@contextmanager
def started_meanwhile() -> Iterator["OwnServer | None"]:
    """Starts the server while the block does something else; it is up when the block has ended.

    Prefect, which takes seconds to import, is imported first by the server and then here: both can
    do so at the same time. It is Prefect's only server from then on, and ends with this process.

    Yields:
        The server; None where Prefect's environment names one, and nothing is started.

    Raises:
        RuntimeError: It does not come up.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield None
        return
    server = OwnServer()
    atexit.register(server.stop)
    try:
        yield server
        server.wait()
    except BaseException:
        server.stop(seconds=0)  # nobody has asked it anything
        raise


@contextmanager
def alone_with(server: "OwnServer | None") -> Iterator[None]:
    """Where that server is the one which is asked, flow runs in the block send no heartbeats.

    It ends with them, so nobody could miss one; and Prefect waits up to a second for the thread
    that sends them.
    """
    if server is None or not server.is_asked:
        yield
        return
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


class OwnServer:
    """One that Ctrl-C, or what else is sent to our whole process group, does not end before us.

    Every event that we then still report would take seconds to fail.
    """

    def __init__(self) -> None:
        """Starts it; whoever asks from now on is answered once it is up."""
        self.is_asked = False  # by Prefect, here
        with socket.create_server((HOST, 0)) as listening:
            self.port = listening.getsockname()[1]
            # Not from the folder that we are in, which may have ``tasks`` of its own.
            command = [sys.executable, "-P", "-m", "tasks.own_server", str(listening.fileno())]
            places = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )

    def wait(self) -> None:
        """Waits until it answers, and has Prefect ask it; nothing where Prefect asks another one.

        Raises:
            RuntimeError: It ended, or is not up in time.
        """
        import httpx
        from prefect.context import refresh_global_settings_context
        from prefect.settings import get_current_settings

        settings = get_current_settings()
        if settings.api.url:  # of a profile, or of a file in this folder; the server has seen it
            return
        url = f"http://{HOST}:{self.port}/api"
        seconds = settings.server.ephemeral.startup_timeout_seconds
        try:
            httpx.get(f"{url}/health", timeout=seconds, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            said = f"it ended with {self._process.poll()}" if self._has_ended() else str(error)
            raise RuntimeError(f"Prefect's server did not come up in {seconds} s: {said}") from None
        os.environ["PREFECT_API_URL"] = url
        refresh_global_settings_context()
        self.is_asked = True

    def _has_ended(self) -> bool:
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ends it; does nothing where it has ended.

        Args:
            seconds: After which it is killed.
        """
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
