"""``python -m tasks.own_server FD``: Prefect's server of one run, which ends with it.

It answers at the socket that it is given, unless the settings of Prefect name another server.
"""

import gc
import os
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wit.lifeline import RARELY
from wit.serving.commands import GUARDED_SERVER
from wit.serving.environment import NAMES_DATABASE, PREFECT_DATABASE, one_connection

if TYPE_CHECKING:
    from prefect.settings import Settings

# As Prefect 3.8.8 starts one for a run.
KIND = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


def environment_of(settings: "Settings") -> Mapping[str, str]:
    """What is added to the server's environment."""
    if not NAMES_DATABASE.isdisjoint(settings.server.database.model_fields_set):
        return KIND
    return {**KIND, PREFECT_DATABASE: one_connection(settings.home)}


def main(descriptor: int) -> None:
    """Serves until it is told to end."""
    gc.set_threshold(*RARELY)
    import uvicorn
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url:
        return
    os.environ.update(environment_of(settings))
    refresh_global_settings_context()
    with socket.socket(fileno=descriptor) as listening:
        config = uvicorn.Config(GUARDED_SERVER, factory=True, log_level="error", lifespan="on")
        uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main(int(sys.argv[1]))
