"""The server that Prefect starts for a run where ``PREFECT_API_URL`` names none."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from wit.serving.commands import GUARDED_SERVER
from wit.serving.environment import NAMES_DATABASE, PREFECT_DATABASE, one_connection
from wit.serving.programs import PROJECT


@contextmanager
def started_meanwhile() -> Iterator[None]:
    """Starts the server while the block does something else; it is up when the block has ended.

    Nothing is started where ``PREFECT_API_URL`` names a server.

    Raises:
        RuntimeError: It does not come up.
    """
    if get_current_settings().api.url:
        yield
        return
    server = OwnSessionServer()
    with ThreadPoolExecutor(1) as beside:
        started = beside.submit(server.start)
        try:
            yield
        except BaseException:
            server.stop()  # or it would be waited for
            raise
        started.result()


class OwnSessionServer(SubprocessASGIServer):
    """One that Ctrl-C, or what else is sent to our whole process group, does not end before us.

    Every event that we then still report would take seconds to fail. The first that is made is
    Prefect's only server from then on; Prefect starts it, and ends it with this process. Its
    command is that of Prefect 3.8.8, which has no setting for a session.
    """

    def _run_uvicorn_command(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(PROJECT), "--factory"]
        command += [GUARDED_SERVER, "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--log-level", "error", "--lifespan", "on"]
        kind = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        environment = {**os.environ, "PREFECT_UI_ENABLED": "0", **kind, **settings}
        if NAMES_DATABASE.isdisjoint(get_current_settings().server.database.model_fields_set):
            environment[PREFECT_DATABASE] = one_connection(get_current_settings().home)
        return subprocess.Popen(command, env=environment, start_new_session=True)
